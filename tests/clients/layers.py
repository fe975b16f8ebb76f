"""Makes what real clients are installed from: pinned packages of pip or npm in own folders.

A layer lies in the user's data directory under the hash of its pins, so that all checkouts share
it. `complete.json` is written last: what lacks it is removed and made anew. Pins are names and
versions, nothing else; where they come from is for pip and npm to know.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import platformdirs
from filelock import FileLock

from training_cluster.pinned_environment import clean_environment
from training_cluster.pinned_environment.pins import canonical, identity, missing, read_pins

PINS = Path(__file__).parent / "pins"
MAKING_SECONDS = 900
TRIES = 3


class ClientNotMade(RuntimeError):
    """A client cannot be installed; the message says what pip or npm said."""


def home() -> Path:
    """Where all layers lie."""
    return platformdirs.user_data_path("training-cluster") / "clients"


def pins_file(name: str) -> Path:
    """The pins of a layer."""
    return PINS / f"{name}.txt"


def whole(path: Path, make: Callable[[Path], Mapping[str, object]]) -> Path:
    """`path` as `make` leaves it: made by one process at a time, whole or not there.

    `make` fills the empty folder and returns what is worth remembering of it.
    """
    if (path / "complete.json").is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(path.name + ".lock")):
        if (path / "complete.json").is_file():
            return path
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        began = time.monotonic()
        document = {**make(path), "seconds": round(time.monotonic() - began, 1)}
        part = path / "complete.json.part"
        part.write_text(json.dumps(document))
        part.rename(path / "complete.json")
    return path


def pip_layer(name: str, root: Path | None = None) -> Path:
    """The folder with a layer's Python packages."""
    pins = pins_file(name)

    def make(path: Path) -> Mapping[str, object]:
        _run("pip", [
            sys.executable, "-I", "-m", "pip", "install", "--no-input", "--progress-bar", "off",
            "--no-deps", "--no-compile", "--target", str(path), "--requirement", str(pins),
        ])  # fmt: skip
        found = {
            canonical(each.name): each.version
            for each in importlib.metadata.distributions(path=[str(path)])
        }
        if wrong := missing(read_pins(pins), found):
            raise ClientNotMade(f"pip did not leave what was pinned: {', '.join(wrong)}")
        return {"versions": found}

    return whole((root or home()) / f"{name}-{identity(pins)}", make)


def npm_layer(name: str, npm: tuple[str, ...], root: Path | None = None) -> Path:
    """The folder whose `node_modules` holds a layer's packages; `npm` is how npm is called."""
    pins = read_pins(pins_file(name))

    def make(path: Path) -> Mapping[str, object]:
        (path / "package.json").write_text('{"private": true}\n')
        words = ("install", "--no-package-lock", "--no-save", "--no-audit", "--no-fund",
                 "--ignore-scripts", "--omit=optional", "--omit=peer")  # fmt: skip
        _run("npm", [*npm, *words, "--prefix", str(path), *pins])
        found = dict(_npm_versions(path / "node_modules"))
        if found != dict(pin.rsplit("@", 1) for pin in pins):
            raise ClientNotMade(f"npm left {found}, pinned was {pins}")
        return {"versions": found}

    digest = hashlib.sha256("\n".join(pins).encode()).hexdigest()[:12]
    return whole((root or home()) / f"{name}-{digest}", make)


def versions(path: Path) -> dict[str, str]:
    """What was installed into a layer: version by name."""
    document = json.loads((path / "complete.json").read_text())
    return dict(document["versions"])


def _npm_versions(modules: Path) -> Iterator[tuple[str, str]]:
    """Every package of a `node_modules`, those that lie inside others too."""
    for folder in (*modules.glob("[!.@]*"), *modules.glob("@*/*")):
        document = json.loads((folder / "package.json").read_text())
        yield document["name"], document["version"]
        yield from _npm_versions(folder / "node_modules")


def _run(title: str, words: list[str]) -> None:
    """Run an installer, again when it fails: most of what breaks here is the network."""
    for _ in range(TRIES):
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=MAKING_SECONDS,
            env=clean_environment() | {"PATH": _path(words[0])},
        )  # fmt: skip
        if done.returncode == 0:
            return
    said = (done.stderr + done.stdout).strip()[-2000:]
    raise ClientNotMade(f"{title} failed {TRIES} times:\n{said}")


def _path(program: str) -> str:
    # npm's own helpers look for `node`
    return f"{Path(program).parent}{os.pathsep}{os.environ['PATH']}"
