"""Builds the fake `libnvidia-ml.so.1` once for each state of its sources."""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

import platformdirs

SONAME = "libnvidia-ml.so.1"
_SOURCES = Path(__file__).parent / "src"
_FLAGS = ("-O1", "-shared", "-fPIC", "-pthread", "-fvisibility=hidden", f"-Wl,-soname,{SONAME}")


@functools.cache
def library_directory() -> Path:
    """The folder that holds the built library; for LD_LIBRARY_PATH."""
    folder = platformdirs.user_cache_path("training-cluster-tests") / f"fake-nvml-{_fingerprint()}"
    if not (folder / SONAME).exists():
        folder.mkdir(parents=True, exist_ok=True)
        _build(folder)
    return folder


def _fingerprint() -> str:
    digest = hashlib.sha256(" ".join((_compiler(), *_FLAGS)).encode())
    for source in sorted(_SOURCES.iterdir()):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:16]


def _compiler() -> str:
    return os.environ.get("CC", "gcc")


def _build(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        built = Path(scratch) / SONAME
        command = [_compiler(), *_FLAGS, "-o", str(built), *map(str, _SOURCES.glob("*.c"))]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except FileNotFoundError:
            raise RuntimeError(
                f"the fake NVML is built with a C compiler and {command[0]} is not installed; "
                "install gcc or set CC"
            ) from None
        except subprocess.CalledProcessError as error:
            raise RuntimeError(f"building the fake NVML failed:\n{error.stderr}") from None
        built.replace(folder / SONAME)
