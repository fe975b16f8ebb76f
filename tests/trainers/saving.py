"""A trainer that saves and resumes as LLaMA-Factory does: checkpoints in its output folder, a log
whose steps go on behind the checkpoint it is told of, a checkpoint when it is told to stop.

usage: saving.py STEPS SECONDS_PER_STEP SAVE_EVERY train CONFIG
A job that sets max_steps has so many instead of STEPS.
As the real one mostly does, it saves in the middle of a step when told to, then finishes that step.
"""

import json
import os
import signal
import sys
import time

steps, pause, save_every = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
with open(sys.argv[-1]) as file:
    config = json.load(file)
steps = config.get("max_steps", steps)
output = config["output_dir"]
os.makedirs(output, exist_ok=True)
history, begin = [], 0
if origin := config.get("resume_from_checkpoint"):
    with open(f"{origin}/trainer_state.json") as file:
        state = json.load(file)
    history, begin = state["log_history"], state["global_step"]


def weights(folder):
    os.makedirs(folder, exist_ok=True)
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    with open(f"{folder}/adapter_config.json", "w") as file:
        file.write("{}")
    with open(f"{folder}/adapter_model.safetensors", "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header + bytes(4))


def save(step):
    folder = f"{output}/checkpoint-{step}"
    os.makedirs(folder, exist_ok=True)
    marker = f"{folder}/checkpoint-is-incomplete.txt"
    with open(marker, "w") as file:
        file.write("saving")
    weights(folder)
    tokens = 100 * step
    state = {"global_step": step, "log_history": history, "num_input_tokens_seen": tokens}
    with open(f"{folder}/trainer_state.json", "w") as file:
        json.dump(state, file)
    os.unlink(marker)


def clock(seconds):
    return f"0:{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"


def log(step, loss):
    elapsed = time.monotonic() - began
    history.append({"step": step, "loss": loss})
    line = {
        "current_steps": step,
        "total_steps": steps,
        "loss": loss,
        "epoch": step / steps,
        "elapsed_time": clock(elapsed),
        "remaining_time": clock(elapsed / step * (steps - step)),
        "throughput": 100 * step / elapsed,
        "total_tokens": 100 * step,
    }
    with open(f"{output}/trainer_log.jsonl", "a") as file:
        file.write(json.dumps(line) + "\n")


began = time.monotonic()
for step in range(begin + 1, steps + 1):
    time.sleep(pause)
    told = bool(stopped)
    if told:
        save(step - 1)
    log(step, 4.0 / step)
    if told:
        sys.exit(0)
    if step % save_every == 0:
        save(step)
weights(output)
