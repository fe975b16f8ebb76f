"""A trainer that goes as far as it is led, saves when it is told to stop, and goes on from there.

usage: led.py FOLDER train CONFIG
It does so many of its four steps as FOLDER/steps says. Told to stop it saves, and goes once
FOLDER/may-stop is there; when all steps are done it goes once FOLDER/may-end is there, with the
exit code written in it.
"""

import json
import os
import signal
import sys
import time

STEPS = 4
lead = sys.argv[1]
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
with open(sys.argv[-1]) as file:
    config = json.load(file)
output = config["output_dir"]
os.makedirs(output, exist_ok=True)
history = []
if origin := config.get("resume_from_checkpoint"):
    with open(f"{origin}/trainer_state.json") as file:
        history = json.load(file)["log_history"]


def read(name):
    try:
        with open(f"{lead}/{name}") as file:
            return file.read()
    except FileNotFoundError:
        return None


def weights(folder):
    os.makedirs(folder, exist_ok=True)
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    with open(f"{folder}/adapter_config.json", "w") as file:
        file.write("{}")
    with open(f"{folder}/adapter_model.safetensors", "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header + bytes(4))


def save():
    folder = f"{output}/checkpoint-{len(history)}"
    weights(folder)
    with open(f"{folder}/trainer_state.json", "w") as file:
        json.dump({"global_step": len(history), "log_history": history}, file)


def step():
    history.append({"step": len(history) + 1, "loss": 4.0 / (len(history) + 1)})
    line = {"current_steps": len(history), "total_steps": STEPS, **history[-1]}
    with open(f"{output}/trainer_log.jsonl", "a") as file:
        file.write(json.dumps(line) + "\n")


while not stopped and len(history) < STEPS:
    if len(history) < int(read("steps") or 0):
        step()
    time.sleep(0.02)
while not stopped and read("may-end") is None:
    time.sleep(0.02)
if stopped:
    if history:
        save()
    while read("may-stop") is None:
        time.sleep(0.02)
    sys.exit(0)
if read("may-end") == "0":
    weights(output)
sys.exit(int(read("may-end")))
