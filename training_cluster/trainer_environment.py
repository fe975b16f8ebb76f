"""The trainer's own Python environment: LLaMA-Factory, PyTorch; not for the daemon."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from training_cluster.pinned_environment import (
    Check,
    PinnedEnvironment,
    PinnedEnvironmentError,
    python,
)

__all__ = [
    "TRAINER",
    "Check",
    "TrainerEnvironmentError",
    "check",
    "command",
    "environment_path",
    "install",
    "is_complete",
    "python",
]

_PROBE = """
import json, platform
def say(name, ok, detail): print(json.dumps([name, ok, detail]), flush=True)
say("python", True, platform.python_version())
for name in ("torch", "transformers", "llamafactory"):
    try:
        module = __import__(name)
        if name == "llamafactory":
            import llamafactory.train.tuner
        say(name, True, module.__version__)
    except BaseException as error:
        say(name, False, f"{type(error).__name__}: {error}"[:500])
try:
    import torch
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    say("cuda", bool(names), ", ".join(names))
except BaseException as error:
    say("cuda", False, f"{type(error).__name__}: {error}"[:500])
"""

TRAINER = PinnedEnvironment(
    title="trainer environment",
    folder="trainers",
    requirements="configs/trainer-requirements.txt",
    needed_bytes=8 * 1024**3,
    install_command="training-cluster trainer install",
    modules=("llamafactory",),
    probe=_PROBE,
)

TrainerEnvironmentError = PinnedEnvironmentError
environment_path = TRAINER.path
install = TRAINER.install
is_complete = TRAINER.is_complete


def command(path: Path) -> tuple[str, ...]:
    """The words that start LLaMA-Factory's command line in this environment."""
    script = path / "bin" / "llamafactory-cli"
    if script.is_file():
        return (str(script),)
    return (str(python(path)), "-m", "llamafactory.cli")


def check(path: Path) -> list[Check]:
    """Import torch and LLaMA-Factory in the environment and report; takes some seconds."""
    findings = [_with_reason(finding) for finding in TRAINER.check(path)]
    return [*findings, _path_finding(path)] if findings[0].ok else findings


def _with_reason(finding: Check) -> Check:
    if finding.name != "cuda" or finding.ok:
        return finding
    if Path("/proc/driver/nvidia/version").exists():
        why = finding.detail or "torch finds no device; torch 2.11 wants NVIDIA driver 580 or newer"
        return replace(finding, detail=why)
    return Check("cuda", True, "no NVIDIA driver here: trainers run on the CPU")


def _path_finding(path: Path) -> Check:
    # LLaMA-Factory splits its torchrun command line at blanks (launcher.py).
    if re.search(r"\s", str(path)):
        return Check("path", False, f"{path} has a blank: jobs on several GPUs cannot start")
    return Check("path", True, str(path))
