"""The steps of scripts/quickstart after the setup: model, daemon, job, result.

Each step that fails names itself, the log to read and the likely cure, and ends with exit code 1.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from training_cluster import trainer_environment
from training_cluster.cli.metrics import LOSS
from training_cluster.cli.plot import draw
from training_cluster.client import Client, ClientError
from training_cluster.daemon import trainer_path
from training_cluster.settings import Settings, load_settings

ROOT = Path(__file__).resolve().parents[1]
SAMPLER = ROOT / "training_cluster" / "trainer_tools" / "sample_model.py"
DOCUMENTED_PORT = 23478
REQUEST = {
    "model_name": "",
    "lora_name": "quickstart",
    "dataset_version": "v1.0",
    "template": "qwen",
    "cutoff_len": 256,
    "max_samples": 64,
    "batch_size": 4,
    "gradient_accumulation_steps": 1,
    "learning_rate": "1.0e-2",
    "num_epochs": 20,
    "additional_target": "embed_tokens,lm_head",
    "tracking_backend": "mlflow",
}
MLFLOW_SECONDS = 60
DATASET = ROOT / "datasets" / "v1.0" / "train.json"

console = Console(highlight=False)


class StepFailed(Exception):
    """A step that did not work: its name, where to read on, what to do."""

    def __init__(self, step: str, why: str, log: Path | None, cure: str) -> None:
        super().__init__(why)
        self.step, self.why, self.log, self.cure = step, why, log, cure


def main() -> int:
    folder = Path(os.environ.get("QUICKSTART_DIR", ROOT / ".quickstart")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        settings = load_settings(state_dir=free_state_dir(folder))
        model = tiny_model(settings)
        with daemon(settings, folder, model.parent) as url, Client(url) as client:
            job = train(client, url, settings, model, folder / "daemon.log")
            show_result(client, job, settings, model)
    except StepFailed as failure:
        console.print(f"[bold red]error:[/] step '{failure.step}' failed: {failure.why}")
        if failure.log is not None:
            console.print(f"[bold]log:[/]   {failure.log}", soft_wrap=True)
        console.print(f"[bold]cure:[/]  {failure.cure}", soft_wrap=True)
        return 1
    return 0


def free_state_dir(folder: Path) -> Path:
    """The state directory of earlier quickstarts, or another one while that is in use."""
    number = 1
    while True:
        state = folder / ("state" if number == 1 else f"state-{number}")
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            with FileLock(state / "daemon.lock", timeout=0):
                return state
        except Timeout:
            number += 1


def title(text: str) -> None:
    console.print(f"\n[bold]== {text}[/]")


def tiny_model(settings: Settings) -> Path:
    """Make the tiny model once; it is shared by all checkouts."""
    title("a tiny model")
    model = settings.data_dir / "models" / "tiny-qwen2-v1.0"
    if not (model / "config.json").is_file():
        command = [sys.executable, "-m", "training_cluster", "tiny-model", str(model)]
        command += ["--corpus", str(DATASET)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode != 0:
            why = (made.stderr.strip().splitlines() or ["no message"])[-1]
            cure = "run `.venv/bin/training-cluster trainer check`"
            raise StepFailed("tiny model", why, None, cure)
    size = sum(file.stat().st_size for file in model.iterdir())
    console.print(f"{model} ({size / 1024:.0f} KiB)", soft_wrap=True)
    return model


def free_port() -> int:
    """The documented port when it is free, any other one otherwise."""
    for port in (DOCUMENTED_PORT, 0):
        try:
            with socket.create_server(("127.0.0.1", port)) as listener:
                return int(listener.getsockname()[1])
        except OSError:
            continue
    raise StepFailed("daemon", "no port is free", None, "stop a server and try again")


@contextmanager
def daemon(settings: Settings, folder: Path, model_root: Path) -> Iterator[str]:
    """A daemon for as long as the quickstart takes."""
    title("the daemon")
    port, log = free_port(), folder / "daemon.log"
    command = [sys.executable, "-m", "training_cluster", "serve", "--port", str(port)]
    command += ["--state-dir", str(settings.state_dir)]
    environment = {
        **os.environ,
        "TRAINING_CLUSTER_MODEL_ROOTS": str(model_root),
        "HF_HUB_OFFLINE": "1",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(url, process, log)
        console.print(f"listening on {url}, log in {log}", soft_wrap=True)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    with Client(url) as client:
        while True:
            try:
                about = client.about()
                break
            except ClientError as error:
                if process.poll() is None and time.monotonic() < deadline:
                    time.sleep(0.05)
                    continue
                said = log.read_text().strip().splitlines() or [str(error)]
                cure = "another quickstart may be running; see `training-cluster doctor`"
                raise StepFailed("daemon", said[-1], log, cure) from error
    if about.device_note:
        console.print(about.device_note)


def train(client: Client, url: str, settings: Settings, model: Path, log: Path) -> dict[str, Any]:
    """Submit with the documented curl and follow the job to its end."""
    title("a training job")
    job_id = submit({**REQUEST, "model_name": str(model)}, url, log)
    try:
        job = follow(client, job_id)
    except ClientError as error:
        raise StepFailed("training", str(error), log, "see the daemon's log") from error
    if job["status"] != "completed":
        error = job["error"] or {"message": f"the job is {job['status']}", "hint": "submit again"}
        attempt = settings.state_dir / "jobs" / job_id / "attempt-1" / "trainer.log"
        raise StepFailed("training", error["message"], attempt, error["hint"])
    return job


def submit(request: dict[str, Any], url: str, log: Path) -> str:
    words = ["curl", "-sS", "-X", "POST", f"{url}/train"]
    words += ["-H", "Content-Type: application/json", "-d", json.dumps(request)]
    console.print(f"$ {shlex.join(words)}", soft_wrap=True, markup=False)
    if shutil.which("curl"):
        answer = subprocess.run(words, capture_output=True, text=True, check=False)
        text = answer.stdout or answer.stderr
    else:
        with Client(url) as client:
            text = json.dumps(client.submit(request).raw)
    console.print(text, soft_wrap=True, markup=False)
    try:
        return str(json.loads(text)["job_id"])
    except (ValueError, KeyError) as error:
        raise StepFailed("submit", text.strip(), log, "see the daemon's log") from error


def follow(client: Client, job_id: str) -> dict[str, Any]:
    """Live progress: state, step, loss, time left."""
    columns = (
        TextColumn("{task.fields[state]:<10}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} steps"),
        TextColumn("loss {task.fields[loss]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[eta]}"),
    )
    with Progress(*columns, console=console, refresh_per_second=4) as progress:
        bar = progress.add_task("job", total=1, state="", loss="-", eta="")
        while True:
            job = client.job(job_id).raw
            step = job["progress"] or {"step": 0, "total_steps": 1, "remaining_seconds": None}
            loss = (job["metrics"] or {}).get("train/loss")
            left = step["remaining_seconds"]
            progress.update(
                bar,
                completed=step["step"],
                total=step["total_steps"],
                state=job["status"],
                loss="-" if loss is None else f"{loss:.3f}",
                eta="" if left is None else f"{left:.0f} s left",
            )
            if job["status"] in ("completed", "failed", "cancelled"):
                return dict(job)
            time.sleep(0.25)


def show_result(client: Client, job: dict[str, Any], settings: Settings, model: Path) -> None:
    """Loss before and after, the curve, where the adapter is, and what the model says now."""
    title("the result")
    result = job["result"]
    output = Path(result["path"])
    losses = client.metrics(job["job_id"], [LOSS])[LOSS]
    picture = draw("training loss by step", losses.steps, losses.values, min(console.width, 76))
    console.print(picture, markup=False)
    first, last = losses.values[0], losses.values[-1]
    console.print(f"loss    {first:.3f} before, {last:.3f} after ({last / first:.0%} of it)")
    console.print(f"adapter {output} ({result['size_bytes'] / 1024:.0f} KiB)", soft_wrap=True)
    title("what the tuned model says")
    question, answer = example()
    console.print(f"asked      {question}", markup=False, soft_wrap=True)
    console.print(f"it says    {sample(settings, model, output, question)}", markup=False)
    console.print(f"dataset    {answer}", markup=False, soft_wrap=True)
    console.print("[dim](so small a model can only learn by heart, and not all of it)[/]")
    show_run(client, job["job_id"], settings)
    if last >= first / 2:
        cure = "run it again; if it stays so, report it with the trainer's log"
        raise StepFailed("result", "the loss did not fall to half", output, cure)
    console.print("\n[bold green]done.[/] Next: `training-cluster serve`, then README.md's tour.")


def show_run(client: Client, job_id: str, settings: Settings) -> None:
    """The run in MLflow, as soon as MLflow has all of it: no training waits for that."""
    title("the run in MLflow")
    deadline = time.monotonic() + MLFLOW_SECONDS
    while True:
        [run] = client.job(job_id).runs
        if run.state == "ended" or time.monotonic() > deadline:
            break
        time.sleep(0.25)
    store = settings.state_dir / "mlflow.db"
    console.print(f"{run.lines} lines of metrics in {store}", soft_wrap=True)
    if run.state != "ended":
        console.print(f"MLflow is {run.state}: {run.message or 'the rest follows later'}")
    state = shlex.quote(str(settings.state_dir))
    words = f"TRAINING_CLUSTER_STATE_DIR={state} training-cluster mlflow"
    console.print(f"see it    {words}", markup=False, soft_wrap=True)


def example() -> tuple[str, str]:
    """The shortest exchange the model has seen."""
    rows = json.loads(DATASET.read_text())[: int(str(REQUEST["max_samples"]))]
    row = min((row for row in rows if not row.get("input")), key=lambda row: len(row["output"]))
    return row["instruction"], row["output"]


def sample(settings: Settings, model: Path, adapter: Path, prompt: str) -> str:
    python = trainer_environment.python(trainer_path(settings))
    command = [str(python), "-I", str(SAMPLER), "--model", str(model), "--adapter", str(adapter)]
    command += ["--template", "qwen", "--prompt", prompt]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    said = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if said.returncode != 0:
        why = (said.stderr.strip().splitlines() or ["no message"])[-1]
        raise StepFailed("sample", why, adapter, "run `training-cluster trainer check`")
    return str(json.loads(said.stdout.splitlines()[-1])["text"])


if __name__ == "__main__":
    sys.exit(main())
