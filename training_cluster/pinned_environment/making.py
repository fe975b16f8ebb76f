"""Makes an environment step by step; each step can be repeated after one that broke."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from training_cluster.pinned_environment.pins import canonical, missing, read_pins
from training_cluster.pinned_environment.pip import PinnedEnvironmentError, run_pip, run_quietly

GIB = 1024**3
_BATCH = 16

_LIST_VERSIONS = """
import json, importlib.metadata as m
print(json.dumps({d.metadata["Name"]: d.version for d in m.distributions()}))
"""


def make(
    path: Path, requirements: Path, say: Callable[[str], None], *, title: str, needed_bytes: int
) -> None:
    """Make or finish the environment in `path`, which exists and is nobody else's now.

    `needed_bytes` is what a whole one takes on disk. Raises PinnedEnvironmentError and OSError.
    """
    started = time.monotonic()
    _require_space(path, title, needed_bytes)
    marker(path).touch()
    say(f"making the {title} in {path}")
    _make_venv(path)
    _remove_half_installed(path)
    log = path / "install.log"
    run_pip(python(path), log, say, "--upgrade", "pip")
    _install_pins(path, requirements, log, say)
    versions = _installed_versions(path)
    _require_pins(versions, requirements)
    _write_complete(path, versions)
    say(f"{title} is complete after {time.monotonic() - started:.0f} s: {path}")


def marker(path: Path) -> Path:
    """The file that stands in an environment of ours from its first step to its last."""
    return path / "installing"


def python(path: Path) -> Path:
    """The interpreter of the environment in this directory."""
    return path / "bin" / "python"


def _install_pins(path: Path, requirements: Path, log: Path, say: Callable[[str], None]) -> None:
    # In batches, so that a broken download costs one batch and not three gigabytes: pip keeps
    # nothing of a failed run but what its HTTP cache was allowed to store.
    pins, versions = read_pins(requirements), _installed_versions(path)
    wanted = missing(pins, versions)
    has_raw = int(versions.get("pip", "0").split(".")[0]) >= 25  # an index may be without a new pip
    bar = ("--progress-bar", "raw" if has_raw else "off")
    done = len(pins) - len(wanted)
    for batch in (wanted[i : i + _BATCH] for i in range(0, len(wanted), _BATCH)):
        say(f"packages {done + 1} to {done + len(batch)} of {len(pins)}; the log is {log}")
        run_pip(python(path), log, say, *bar, "--no-deps", *batch)
        done += len(batch)
    # What the pins' own machine did not need (another Python or processor) comes with this one.
    run_pip(python(path), log, say, *bar, "--requirement", str(requirements))


def _require_space(path: Path, title: str, needed_bytes: int) -> None:
    present = sum(f.lstat().st_size for f in path.rglob("*") if f.is_file()) if path.exists() else 0
    needed = needed_bytes - present
    free = shutil.disk_usage(path).free
    if free < needed:
        raise PinnedEnvironmentError(
            f"the {title} needs {needed / GIB:.1f} GiB in {path.parent}, "
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
            raise PinnedEnvironmentError(f"cannot make a virtual environment in {path}: {said}")
    package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    raise PinnedEnvironmentError(
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
        raise PinnedEnvironmentError(f"{python(path)} does not run: {done.stderr.strip()}")
    versions: dict[str, str] = json.loads(done.stdout)
    return {canonical(name): version for name, version in versions.items()}


def _require_pins(versions: dict[str, str], requirements: Path) -> None:
    plain = (pin for pin in read_pins(requirements) if ";" not in pin)
    if wrong := missing(plain, versions):
        raise PinnedEnvironmentError(f"pip did not leave what was pinned: {', '.join(wrong)}")


def _write_complete(path: Path, versions: dict[str, str]) -> None:
    document = {"completed_at": int(time.time()), "versions": dict(sorted(versions.items()))}
    part = path / "complete.json.part"
    with part.open("w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path / "complete.json")
    marker(path).unlink(missing_ok=True)
