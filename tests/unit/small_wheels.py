"""Wheels of one small module, and files of pins: what the tests of environments install."""

from __future__ import annotations

import zipfile
from pathlib import Path


def make_wheel(folder: Path, name: str, version: str = "1.0") -> None:
    """Put a wheel of one module, which knows its version, into `folder`."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"__version__ = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{file},,\n" for file in (*files, f"{info}/RECORD"))
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for file, content in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(file, content)


def write_pins(folder: Path, *pins: str) -> Path:
    """A requirements file in `folder`; the same call with other pins replaces it."""
    file = folder / "pins.txt"
    file.write_text("# a comment\n" + "\n".join(pins) + "\n")
    return file
