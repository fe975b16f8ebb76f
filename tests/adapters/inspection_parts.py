"""Has bytes inspected as the worker would inspect a file that was handed in."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from training_cluster.adapters.dataset_directory.inspection.checking import inspect
from training_cluster.ports import Findings, InspectionTask


def lines(*rows: object) -> bytes:
    """As jsonl."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def table(*rows: dict[str, object]) -> bytes:
    """As csv."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()


def inspected(
    tmp_path: Path, content: bytes, filename: str = "rows.jsonl", **asked: object
) -> Findings:
    """What the worker finds; what it makes lies in `made`."""
    file, folder = tmp_path / "file", tmp_path / "made"
    file.write_bytes(content)
    folder.mkdir(exist_ok=True)
    task = InspectionTask(file=file, filename=filename, folder=folder, **asked)  # type: ignore[arg-type]
    return Findings(**inspect(task))


def rows_of(tmp_path: Path, name: str | None) -> list[dict]:
    """The rows of a file that was made."""
    assert name is not None
    return [json.loads(line) for line in (tmp_path / "made" / name).read_text().splitlines()]
