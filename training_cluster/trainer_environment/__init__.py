"""Keeps the trainer's own Python environment: where it lives, how it is made, whether it works.

The environment's directory is named by the hash of its pins, so that every clone with the same
pins shares one copy. `complete.json` is written last; without it the environment is never used.
Only the standard library and filelock are needed here: the daemon itself never imports torch.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from training_cluster.resources import shipped
from training_cluster.trainer_environment.pip import (
    TrainerEnvironmentError,
    clean_environment,
    run_pip,
    run_quietly,
)

__all__ = [
    "Check",
    "TrainerEnvironmentError",
    "check",
    "command",
    "environment_path",
    "install",
    "is_complete",
    "python",
]

GIB = 1024**3
NEEDED_BYTES = 8 * GIB
_BATCH = 16
_CHECK_TIMEOUT_SECONDS = 600

_LIST_VERSIONS = """
import json, importlib.metadata as m
print(json.dumps({d.metadata["Name"]: d.version for d in m.distributions()}))
"""

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


@dataclass(frozen=True, slots=True)
class Check:
    """One finding about the environment."""

    name: str
    ok: bool
    detail: str


def environment_path(data_dir: Path, requirements: Path | None = None) -> Path:
    """Where the environment of these pins belongs, made or not."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    identity = "\n".join([*_pins(requirements), version])
    return data_dir / "trainers" / hashlib.sha256(identity.encode()).hexdigest()[:12]


def python(path: Path) -> Path:
    """The environment's interpreter."""
    return path / "bin" / "python"


def command(path: Path) -> tuple[str, ...]:
    """The words that start LLaMA-Factory's command line in this environment."""
    script = path / "bin" / "llamafactory-cli"
    if script.is_file():
        return (str(script),)
    return (str(python(path)), "-m", "llamafactory.cli")


def is_complete(path: Path) -> bool:
    """Whether trainers may be started from here: an environment that `install` finished, or one
    somebody else made that has llamafactory."""
    if not os.access(python(path), os.X_OK):
        return False
    if (path / "complete.json").is_file():
        return True
    return not _marker(path).exists() and _has_llamafactory(path)


def install(
    data_dir: Path, say: Callable[[str], None], *, requirements: Path | None = None
) -> Path:
    """Make the environment unless it is complete already; returns its path.

    Safe to call at once from several processes and again after a failure: what was downloaded
    and installed is kept. Raises TrainerEnvironmentError.
    """
    path = environment_path(data_dir, requirements)
    if is_complete(path):
        say(f"trainer environment is complete: {path}")
        return path
    path.mkdir(parents=True, exist_ok=True)
    with _only_installer(path, say):
        if not is_complete(path):
            _make(path, requirements or shipped("configs/trainer-requirements.txt"), say)
    return path


def check(path: Path) -> list[Check]:
    """Import torch and LLaMA-Factory in the environment and report; takes some seconds."""
    interpreter = python(path)
    if not os.access(interpreter, os.X_OK):
        return [Check("python", False, f"{interpreter} is not there; trainer install makes it")]
    try:
        done = subprocess.run(
            [interpreter, "-I", "-W", "ignore", "-c", _PROBE],
            capture_output=True, text=True, timeout=_CHECK_TIMEOUT_SECONDS, check=False,
            env=clean_environment(),
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return [Check("python", False, str(error))]
    findings = [_finding(line) for line in done.stdout.splitlines() if line.startswith("[")]
    if not any(finding.name == "cuda" for finding in findings):
        findings.append(Check("imports", False, done.stderr.strip()[-500:] or "python crashed"))
    return [*findings, _path_finding(path)]


def _finding(line: str) -> Check:
    name, ok, detail = json.loads(line)
    if name != "cuda" or ok:
        return Check(name, ok, detail)
    if Path("/proc/driver/nvidia/version").exists():
        why = detail or "torch finds no device; torch 2.11 wants NVIDIA driver 580 or newer"
        return Check("cuda", False, why)
    return Check("cuda", True, "no NVIDIA driver here: trainers run on the CPU")


def _path_finding(path: Path) -> Check:
    # LLaMA-Factory splits its torchrun command line at blanks (launcher.py).
    if re.search(r"\s", str(path)):
        return Check("path", False, f"{path} has a blank: jobs on several GPUs cannot start")
    return Check("path", True, str(path))


def _pins(requirements: Path | None) -> list[str]:
    file = requirements or shipped("configs/trainer-requirements.txt")
    lines = (line.split("#")[0].strip() for line in file.read_text("utf-8").splitlines())
    return sorted(line for line in lines if line)


def _marker(path: Path) -> Path:
    return path / "installing"


@contextmanager
def _only_installer(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    lock = FileLock(path.with_name(path.name + ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say("somebody else is installing the trainer environment: waiting for that")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _make(path: Path, requirements: Path, say: Callable[[str], None]) -> None:
    started = time.monotonic()
    _require_space(path)
    _marker(path).touch()
    say(f"making the trainer environment in {path}")
    _make_venv(path)
    _remove_half_installed(path)
    log = path / "install.log"
    run_pip(python(path), log, say, "--upgrade", "pip")
    _install_pins(path, requirements, log, say)
    versions = _installed_versions(path)
    _require_pins(versions, requirements)
    _write_complete(path, versions)
    say(f"trainer environment is complete after {time.monotonic() - started:.0f} s: {path}")


def _install_pins(path: Path, requirements: Path, log: Path, say: Callable[[str], None]) -> None:
    # In batches, so that a broken download costs one batch and not three gigabytes: pip keeps
    # nothing of a failed run but what its HTTP cache was allowed to store.
    pins, versions = _pins(requirements), _installed_versions(path)
    missing = [pin for pin in pins if not _is_met(pin, versions)]
    has_raw = int(versions.get("pip", "0").split(".")[0]) >= 25  # an index may be without a new pip
    bar = ("--progress-bar", "raw" if has_raw else "off")
    done = len(pins) - len(missing)
    for batch in (missing[i : i + _BATCH] for i in range(0, len(missing), _BATCH)):
        say(f"packages {done + 1} to {done + len(batch)} of {len(pins)}; the log is {log}")
        run_pip(python(path), log, say, *bar, "--no-deps", *batch)
        done += len(batch)
    # What the pins' own machine did not need (another Python or processor) comes with this one.
    run_pip(python(path), log, say, *bar, "--requirement", str(requirements))


def _require_space(path: Path) -> None:
    present = sum(f.lstat().st_size for f in path.rglob("*") if f.is_file()) if path.exists() else 0
    needed = NEEDED_BYTES - present
    free = shutil.disk_usage(path).free
    if free < needed:
        raise TrainerEnvironmentError(
            f"the trainer environment needs {needed / GIB:.1f} GiB in {path.parent}, "
            f"{free / GIB:.1f} GiB are free: make room, or set data_dir to a larger disk"
        )


def _make_venv(path: Path) -> None:
    for link in path.glob("bin/python*"):
        if not link.exists():  # the interpreter it was made with is gone
            link.unlink()
    if importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip"):
        done = run_quietly([sys.executable, "-I", "-m", "venv", str(path)])
        if done.returncode == 0:
            return
        said = (done.stdout + done.stderr).strip()
        if "ensurepip" not in said:
            raise TrainerEnvironmentError(f"cannot make a virtual environment in {path}: {said}")
    package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    raise TrainerEnvironmentError(
        f"{sys.executable} lacks Python's venv module; on Debian and Ubuntu run: "
        f"apt-get install {package}"
    )


def _remove_half_installed(path: Path) -> None:
    # pip writes RECORD last; without it a package counts as installed but may lack files.
    for info in path.glob("lib/python*/site-packages/*.dist-info"):
        if not (info / "RECORD").is_file():
            shutil.rmtree(info)


def _installed_versions(path: Path) -> dict[str, str]:
    done = run_quietly([str(python(path)), "-I", "-c", _LIST_VERSIONS])
    if done.returncode:
        raise TrainerEnvironmentError(f"{python(path)} does not run: {done.stderr.strip()}")
    versions: dict[str, str] = json.loads(done.stdout)
    return {_canonical(name): version for name, version in versions.items()}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _is_met(pin: str, versions: dict[str, str]) -> bool:
    name, _, wanted = pin.split(";")[0].strip().partition("==")
    return versions.get(_canonical(name)) == wanted


def _require_pins(versions: dict[str, str], requirements: Path) -> None:
    wrong = [pin for pin in _pins(requirements) if ";" not in pin and not _is_met(pin, versions)]
    if wrong:
        raise TrainerEnvironmentError(f"pip did not leave what was pinned: {', '.join(wrong)}")


def _write_complete(path: Path, versions: dict[str, str]) -> None:
    document = {"completed_at": int(time.time()), "versions": dict(sorted(versions.items()))}
    part = path / "complete.json.part"
    with part.open("w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path / "complete.json")
    _marker(path).unlink(missing_ok=True)


def _has_llamafactory(path: Path) -> bool:
    code = "import importlib.util as u; raise SystemExit(u.find_spec('llamafactory') is None)"
    try:
        return run_quietly([str(python(path)), "-I", "-c", code]).returncode == 0
    except OSError:
        return False
