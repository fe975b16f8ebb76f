"""The trainer environment is made once, whole or not at all; with real venvs and a real pip that
installs small wheels made here, without an index."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from training_cluster import trainer_environment as environments
from training_cluster.resources import shipped
from training_cluster.trainer_environment import TrainerEnvironmentError


def _wheel(folder: Path, name: str, version: str = "1.0") -> None:
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


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that pip takes everything from."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def _pins(tmp_path: Path, *pins: str) -> Path:
    file = tmp_path / "pins.txt"
    file.write_text("# a comment\n" + "\n".join(pins) + "\n")
    return file


def _install_quietly(data_dir: Path, pins: Path) -> None:
    environments.install(data_dir, lambda _line: None, requirements=pins)


def test_an_environment_holds_what_was_pinned_and_is_made_only_once(
    tmp_path: Path, wheels: Path
) -> None:
    for name in ("alpha", "beta"):
        _wheel(wheels, name)
    pins, said = _pins(tmp_path, "alpha==1.0", "beta==1.0"), list[str]()
    path = environments.install(tmp_path / "data", said.append, requirements=pins)
    assert path == environments.environment_path(tmp_path / "data", pins)
    assert environments.is_complete(path)
    versions = json.loads((path / "complete.json").read_text())["versions"]
    assert (versions["alpha"], versions["beta"]) == ("1.0", "1.0")
    assert any("1 to 2 of 2" in line for line in said)
    assert not (path / "installing").exists()
    shutil.rmtree(wheels)
    again: list[str] = []
    environments.install(tmp_path / "data", again.append, requirements=pins)
    assert again == [f"trainer environment is complete: {path}"]


def test_a_broken_install_is_not_used_and_the_next_one_goes_on(
    tmp_path: Path, wheels: Path
) -> None:
    _wheel(wheels, "alpha")
    pins = _pins(tmp_path, "alpha==1.0", "beta==1.0")
    path = environments.environment_path(tmp_path, pins)
    with pytest.raises(TrainerEnvironmentError, match=r"beta==1\.0.*Run the same again"):
        _install_quietly(tmp_path, pins)
    assert not environments.is_complete(path)
    _wheel(wheels, "beta")
    _install_quietly(tmp_path, pins)
    assert environments.is_complete(path)


def test_a_half_made_environment_is_not_used_even_if_llamafactory_is_there(
    tmp_path: Path, wheels: Path
) -> None:
    _wheel(wheels, "llamafactory")
    pins = _pins(tmp_path, "llamafactory==1.0", "missing==1.0")
    with pytest.raises(TrainerEnvironmentError):
        _install_quietly(tmp_path, pins)
    path = environments.environment_path(tmp_path, pins)
    python = environments.python(path)
    os.system(f"{python} -I -m pip install -q --no-deps llamafactory==1.0")
    assert list(path.glob("lib/*/site-packages/llamafactory.py"))
    assert not environments.is_complete(path)


def test_a_package_that_was_cut_off_in_the_middle_is_installed_again(
    tmp_path: Path, wheels: Path
) -> None:
    for name in ("alpha", "beta"):
        _wheel(wheels, name)
    pins = _pins(tmp_path, "alpha==1.0", "beta==1.0")
    path = environments.environment_path(tmp_path, pins)
    _install_quietly(tmp_path, pins)
    (path / "complete.json").unlink()
    (path / "installing").touch()
    packages = next(path.glob("lib/*/site-packages"))
    (packages / "alpha.py").unlink()
    (packages / "alpha-1.0.dist-info" / "RECORD").unlink()
    _install_quietly(tmp_path, pins)
    assert (packages / "alpha.py").is_file()


def test_an_environment_that_lost_its_interpreter_is_mended(tmp_path: Path, wheels: Path) -> None:
    _wheel(wheels, "alpha")
    pins = _pins(tmp_path, "alpha==1.0")
    path = environments.install(tmp_path, lambda _line: None, requirements=pins)
    for link in path.glob("bin/python*"):
        link.unlink()
        link.symlink_to("/nowhere/python")
    assert not environments.is_complete(path)
    _install_quietly(tmp_path, pins)
    assert environments.is_complete(path)


def test_clones_that_install_at_once_share_one_environment(tmp_path: Path, wheels: Path) -> None:
    _wheel(wheels, "alpha")
    pins = _pins(tmp_path, "alpha==1.0")
    context = multiprocessing.get_context("spawn")
    clones = [context.Process(target=_install_quietly, args=(tmp_path, pins)) for _ in range(3)]
    for clone in clones:
        clone.start()
    for clone in clones:
        clone.join(120)
    assert [clone.exitcode for clone in clones] == [0, 0, 0]
    path = environments.environment_path(tmp_path, pins)
    log = (path / "install.log").read_text()
    assert log.count("Successfully installed alpha-1.0") == 1
    assert [folder.name for folder in (tmp_path / "trainers").iterdir() if folder.is_dir()] == [
        path.name
    ]


def test_pip_that_leaves_another_version_is_no_success(tmp_path: Path, wheels: Path) -> None:
    _wheel(wheels, "alpha")
    _wheel(wheels, "alpha", "1.0.post1")
    pins = _pins(tmp_path, "alpha===1.0.post1")
    with pytest.raises(TrainerEnvironmentError, match="did not leave what was pinned"):
        _install_quietly(tmp_path, pins)


def test_too_small_a_disk_is_said_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "NEEDED_BYTES", 2**60)
    pins = _pins(tmp_path, "alpha==1.0")
    with pytest.raises(TrainerEnvironmentError, match=r"GiB are free: make room"):
        _install_quietly(tmp_path, pins)
    assert not (environments.environment_path(tmp_path, pins) / "bin").exists()


def test_a_python_without_venv_is_told_the_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    with pytest.raises(TrainerEnvironmentError, match=f"apt-get install python{version}-venv"):
        _install_quietly(tmp_path, _pins(tmp_path, "alpha==1.0"))


def test_the_path_follows_the_pins_and_not_their_comments(tmp_path: Path) -> None:
    file = _pins(tmp_path, "alpha==1.0", "beta==1.0")
    first = environments.environment_path(tmp_path, file)
    file.write_text("# another comment\nbeta==1.0\nalpha==1.0  # why\n")
    assert environments.environment_path(tmp_path, file) == first
    file.write_text("alpha==1.1\nbeta==1.0\n")
    assert environments.environment_path(tmp_path, file) != first
    assert len(first.name) == 12


def test_somebody_elses_environment_is_used_when_it_has_llamafactory(
    tmp_path: Path, wheels: Path
) -> None:
    _wheel(wheels, "llamafactory")
    path = environments.install(
        tmp_path, lambda _line: None, requirements=_pins(tmp_path, "llamafactory==1.0")
    )
    (path / "complete.json").unlink()  # now nothing tells it from one made by hand
    assert environments.is_complete(path)
    for file in path.glob("lib/*/site-packages/llamafactory.py"):
        file.unlink()
    assert not environments.is_complete(path)
    assert not environments.is_complete(tmp_path / "nowhere")


def test_the_command_is_the_script_or_else_the_module(tmp_path: Path) -> None:
    assert environments.command(tmp_path)[1:] == ("-m", "llamafactory.cli")
    script = tmp_path / "bin" / "llamafactory-cli"
    script.parent.mkdir()
    script.touch()
    assert environments.command(tmp_path) == (str(script),)


def test_a_check_says_which_import_fails(tmp_path: Path, wheels: Path) -> None:
    _wheel(wheels, "torch", "2.11.0")
    path = environments.install(
        tmp_path, lambda _line: None, requirements=_pins(tmp_path, "torch==2.11.0")
    )
    findings = {finding.name: finding for finding in environments.check(path)}
    assert findings["python"].ok
    assert findings["torch"] == environments.Check("torch", True, "2.11.0")
    assert not findings["llamafactory"].ok
    assert "ModuleNotFoundError" in findings["llamafactory"].detail
    assert not environments.check(tmp_path / "nowhere")[0].ok


def test_the_shipped_pins_are_exact_and_name_no_address() -> None:
    lines = shipped("configs/trainer-requirements.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert {"torch==2.11.0", "torchaudio==2.11.0", "llamafactory==0.9.5"} <= set(pins)
    for pin in pins:
        name, _, version = pin.partition("==")
        assert name.replace("-", "").replace("_", "").replace(".", "").isalnum(), pin
        assert version, pin
        assert version.replace(".", "").isalnum(), pin
