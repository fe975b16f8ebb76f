"""A trainer whose attempts run for a while, log steps and end as their names decide.

usage: fated.py FOLDER SLOTS train CONFIG
Writes one line per launch to FOLDER/launches, and to FOLDER/conflicts when more than SLOTS of them
live at a time. One that ends well leaves a LoRA adapter.
"""

import fcntl
import hashlib
import json
import os
import sys
import time


def fate(job_id, attempt):
    """Seconds to run, steps to log and exit code of an attempt."""
    lot = int.from_bytes(hashlib.sha256(f"{job_id}/{attempt}".encode()).digest()[:6], "big")
    return (lot % 50) / 100, (lot >> 8) % 5, (lot >> 16) % 100 if (lot >> 24) % 2 else 0


def append(path, line):
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, (line + "\n").encode())
    os.close(file)


def take_slot(folder, slots):
    """The lock of a slot, held until this process is gone; None when all are taken."""
    for slot in range(slots):
        lock = os.open(f"{folder}/slot-{slot}", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return lock
    return None


def log_steps(output, steps):
    for step in range(1, steps + 1):
        line = {"current_steps": step, "total_steps": steps, "loss": 4.0 / step, "lr": 0.001}
        append(f"{output}/trainer_log.jsonl", json.dumps(line))


def leave_model(output):
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    with open(f"{output}/adapter_model.safetensors", "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header + bytes(4))
    with open(f"{output}/adapter_config.json", "w") as file:
        file.write("{}")


def main(folder, slots, config):
    job_id, attempt = os.getcwd().split("/")[-2:]
    append(f"{folder}/launches", f"{job_id}/{attempt.removeprefix('attempt-')}")
    if take_slot(folder, int(slots)) is None:
        append(f"{folder}/conflicts", f"{job_id}/{attempt}")
    seconds, steps, code = fate(job_id, attempt.removeprefix("attempt-"))
    with open(config) as file:
        output = json.load(file)["output_dir"]
    os.makedirs(output, exist_ok=True)
    log_steps(output, steps)
    time.sleep(seconds)
    if code == 0:
        leave_model(output)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[-1]))
