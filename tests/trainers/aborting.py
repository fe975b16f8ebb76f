"""A trainer that does its work, saves all of it and is aborted when it exits, as happens to
processes with threads of native libraries.

usage: aborting.py train CONFIG
"""

import json
import os
import sys

STEPS = 3
with open(sys.argv[-1]) as file:
    output = json.load(file)["output_dir"]
os.makedirs(output, exist_ok=True)


def write(name, content):
    with open(f"{output}/{name}", "w") as file:
        file.write(content)


lines = ({"current_steps": n, "total_steps": STEPS, "loss": 4.0 - n} for n in range(1, STEPS + 1))
write("trainer_log.jsonl", "".join(f"{json.dumps(line)}\n" for line in lines))
header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
with open(f"{output}/adapter_model.safetensors", "wb") as file:
    file.write(len(header).to_bytes(8, "little") + header + bytes(4))
for name in ("adapter_config", "train_results", "eval_results", "all_results"):
    write(f"{name}.json", "{}")
write("trainer_state.json", json.dumps({"global_step": STEPS}))
print("terminate called without an active exception", flush=True)
os.abort()
