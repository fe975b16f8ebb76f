"""Prints what W&B's offline files hold, as JSON; run by the tracker environment's Python.

usage: wandb_reading.py FOLDER
One entry a file, in the order in which they began: rows, config, summary, exit code. W&B counts the
steps of each file from 0, and so adds to a run that exists: here each file goes on from the last.
"""

import json
import struct
import sys
from pathlib import Path

from wandb.proto.wandb_internal_pb2 import Record

BLOCK = 32768


def records(path):
    data, whole = path.read_bytes(), b""
    for start in range(0, len(data), BLOCK):
        block = data[start : start + BLOCK]
        at = 7 if start == 0 else 0
        while at + 7 <= len(block):
            _, length, kind = struct.unpack("<IHB", block[at : at + 7])
            if kind == 0 or at + 7 + length > len(block):
                break
            whole = (b"" if kind in (1, 2) else whole) + block[at + 7 : at + 7 + length]
            at += 7 + length
            if kind in (1, 4):
                yield Record.FromString(whole)


def pairs(items):
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def read(path):
    found = {"rows": [], "config": {}, "summary": {}, "exit_code": None, "files": []}
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "history":
            found["rows"].append([record.history.step.num, pairs(record.history.item)])
        elif kind == "run":
            found.setdefault("began", record.run.start_time.ToNanoseconds())
            found["config"].update(pairs(record.run.config.update))
            found["name"], found["project"] = record.run.display_name, record.run.project
            found["run_id"], found["tags"] = record.run.run_id, list(record.run.tags)
            found["entity"] = record.run.entity
        elif kind == "summary":
            found["summary"].update(pairs(record.summary.update))
        elif kind == "exit":
            found["exit_code"] = record.exit.exit_code
        elif kind == "files":
            found["files"] += [file.path for file in record.files.files]
    return found


def joined(documents):
    rows = {}
    for document in sorted(documents, key=lambda document: document.get("began", 0)):
        before = rows.get(document.get("run_id"), 0)
        document["rows"] = [[before + step, row] for step, row in document["rows"]]
        rows[document.get("run_id")] = before + len(document["rows"])
        yield document


folder = Path(sys.argv[1])
print(json.dumps(list(joined(map(read, folder.glob("wandb/offline-run-*/run-*.wandb"))))))
