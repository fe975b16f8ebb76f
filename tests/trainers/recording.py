"""A trainer that records how it was started, takes each of its devices, and runs for a while.

usage: recording.py FOLDER SECONDS EXIT_CODE train CONFIG
Writes one line per launch to FOLDER/launches; a device taken twice at a time is written to
FOLDER/conflicts.
"""

import fcntl
import json
import os
import sys
import time

folder, seconds, code = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
devices = os.environ.get("CUDA_VISIBLE_DEVICES", "unset")


def append(name, value):
    file = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, (json.dumps(value) + "\n").encode())
    os.close(file)


append(
    "launches",
    {
        "attempt": os.getcwd().split("/")[-2:],
        "devices": devices,
        "order": os.environ.get("CUDA_DEVICE_ORDER"),
        "words": sys.argv[4:],
        "master_port": os.environ.get("MASTER_PORT"),
        "time": time.time(),
    },
)
for device in devices.split(",") if devices else []:
    lock = os.open(f"{folder}/device-{device}", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        append("conflicts", {"device": device, "attempt": os.getcwd()})
print("trained for", seconds, "seconds", flush=True)
deadline = time.monotonic() + seconds
while time.monotonic() < deadline and not os.path.exists(f"{folder}/release"):
    time.sleep(0.01)
sys.exit(code)
