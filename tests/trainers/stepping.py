"""A trainer that logs steps as LLaMA-Factory does and stops with a checkpoint when told to.

usage: stepping.py STEPS SECONDS_PER_STEP train CONFIG
"""

import json
import os
import signal
import sys
import time

steps, pause = int(sys.argv[1]), float(sys.argv[2])
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
with open(sys.argv[-1]) as file:
    output = json.load(file)["output_dir"]
os.makedirs(output, exist_ok=True)
began = time.monotonic()
for step in range(1, steps + 1):
    time.sleep(pause)
    with open(f"{output}/trainer_log.jsonl", "a") as log:
        elapsed = time.monotonic() - began
        log.write(
            json.dumps(
                {
                    "current_steps": step,
                    "total_steps": steps,
                    "loss": 4.0 / step,
                    "lr": 0.001,
                    "epoch": step / steps,
                    "percentage": 100 * step / steps,
                    "elapsed_time": f"0:00:{int(elapsed):02d}",
                    "remaining_time": f"0:00:{int(elapsed / step * (steps - step)):02d}",
                }
            )
            + "\n"
        )
    print("step", step, flush=True)
    if stopped:
        break
