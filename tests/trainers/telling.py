"""A trainer that tells how it was called and which variables it has, by name; cutoff_len 9 fails.

usage: telling.py FOLDER train CONFIG
It goes on until FOLDER holds the file `release`.
"""

import json
import os
import sys
import time

print("called as", sys.argv, flush=True)
print("variables", sorted(os.environ), flush=True)
with open(sys.argv[3]) as file:
    config = json.load(file)
os.makedirs(config["output_dir"], exist_ok=True)
with open(os.path.join(config["output_dir"], "trainer_log.jsonl"), "a") as log:
    for step in range(1, 6):
        print(json.dumps({"current_steps": step, "total_steps": 5, "loss": 1 / step}), file=log)
while not os.path.exists(os.path.join(sys.argv[1], "release")):
    time.sleep(0.05)
if config["cutoff_len"] == 9:
    raise SystemExit("CUDA error: nothing of the kind")
