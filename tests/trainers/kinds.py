"""A trainer for jobs of every kind: leaves after a while what each kind is to leave.

usage: kinds.py FOLDER SECONDS train|export|evaluate|download CONFIG
Writes one line per launch to FOLDER/launches. An export ends at once when FOLDER/release is there.
"""

import json
import os
import sys
import time

folder, seconds, kind, name = sys.argv[1], float(sys.argv[2]), sys.argv[3], sys.argv[4]
with open(name) as file:
    config = json.load(file)


def weights(directory, model):
    os.makedirs(directory, exist_ok=True)
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    with open(f"{directory}/{model}.safetensors", "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header + bytes(4))
    card = "config.json" if model == "model" else "adapter_config.json"
    with open(f"{directory}/{card}", "w") as file:
        file.write("{}")


def wait(longest):
    deadline = time.monotonic() + longest
    while time.monotonic() < deadline and not os.path.exists(f"{folder}/release"):
        time.sleep(0.01)


launch = {"job": os.getcwd().split("/")[-2], "kind": kind, "config": config}
launch["devices"] = os.environ.get("CUDA_VISIBLE_DEVICES")
launches = os.open(f"{folder}/launches", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.write(launches, (json.dumps(launch) + "\n").encode())
if kind == "train":
    weights(config["output_dir"], "adapter_model")
elif kind == "export":
    wait(seconds)
    weights(config["export_dir"], "model")
elif kind == "evaluate":
    wait(seconds)
    prompts = config["prompts"] or ["of the dataset"]
    said = [{"model_name": model["name"], "output": "yes"} for model in config["models"]]
    with open(config["answers"], "w") as file:
        json.dump({"answers": [{"input": text, "outputs": said} for text in prompts]}, file)
else:
    wait(seconds)
    with open(config["fetched"], "w") as file:
        told = {"path": "/hub/x", "revision": "abc", "size_bytes": 1, "files": ["config.json"]}
        json.dump(told, file)
