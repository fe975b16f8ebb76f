"""An environment is made once, whole or not at all; with real venvs and a real pip that installs
small wheels made here, without an index."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.small_wheels import make_wheel, write_pins
from training_cluster.pinned_environment import (
    Check,
    PinnedEnvironment,
    PinnedEnvironmentError,
    python,
)

_PROBE = """
import json
print("a library may print this")
print(json.dumps(["alpha", True, __import__("alpha").__version__]), flush=True)
import beta
"""

THINGS = PinnedEnvironment(
    title="thing environment",
    folder="things",
    requirements="configs/trainer-requirements.txt",
    needed_bytes=2**20,
    install_command="install-things",
    modules=("alpha",),
    probe=_PROBE,
)


def _install_quietly(data_dir: Path, pins: Path) -> None:
    THINGS.install(data_dir, lambda _line: None, requirements=pins)


def test_an_environment_holds_what_was_pinned_and_is_made_only_once(
    tmp_path: Path, wheels: Path
) -> None:
    for name in ("alpha", "beta"):
        make_wheel(wheels, name)
    pins, said = write_pins(tmp_path, "alpha==1.0", "beta==1.0"), list[str]()
    path = THINGS.install(tmp_path / "data", said.append, requirements=pins)
    assert path == THINGS.path(tmp_path / "data", pins)
    assert THINGS.is_complete(path)
    versions = json.loads((path / "complete.json").read_text())["versions"]
    assert (versions["alpha"], versions["beta"]) == ("1.0", "1.0")
    assert any("1 to 2 of 2" in line for line in said)
    assert not (path / "installing").exists()
    shutil.rmtree(wheels)
    again: list[str] = []
    THINGS.install(tmp_path / "data", again.append, requirements=pins)
    assert again == [f"thing environment is complete: {path}"]


def test_a_broken_install_is_not_used_and_the_next_one_goes_on(
    tmp_path: Path, wheels: Path
) -> None:
    make_wheel(wheels, "alpha")
    pins = write_pins(tmp_path, "alpha==1.0", "beta==1.0")
    path = THINGS.path(tmp_path, pins)
    with pytest.raises(PinnedEnvironmentError, match=r"beta==1\.0.*Run the same again"):
        _install_quietly(tmp_path, pins)
    assert not THINGS.is_complete(path)
    make_wheel(wheels, "beta")
    _install_quietly(tmp_path, pins)
    assert THINGS.is_complete(path)


def test_a_half_made_environment_is_not_used_even_if_the_modules_are_there(
    tmp_path: Path, wheels: Path
) -> None:
    make_wheel(wheels, "alpha")
    pins = write_pins(tmp_path, "alpha==1.0", "missing==1.0")
    with pytest.raises(PinnedEnvironmentError):
        _install_quietly(tmp_path, pins)
    path = THINGS.path(tmp_path, pins)
    os.system(f"{python(path)} -I -m pip install -q --no-deps alpha==1.0")
    assert list(path.glob("lib/*/site-packages/alpha.py"))
    assert not THINGS.is_complete(path)


def test_a_package_that_was_cut_off_in_the_middle_is_installed_again(
    tmp_path: Path, wheels: Path
) -> None:
    for name in ("alpha", "beta"):
        make_wheel(wheels, name)
    pins = write_pins(tmp_path, "alpha==1.0", "beta==1.0")
    path = THINGS.path(tmp_path, pins)
    _install_quietly(tmp_path, pins)
    (path / "complete.json").unlink()
    (path / "installing").touch()
    packages = next(path.glob("lib/*/site-packages"))
    (packages / "alpha.py").unlink()
    (packages / "alpha-1.0.dist-info" / "RECORD").unlink()
    _install_quietly(tmp_path, pins)
    assert (packages / "alpha.py").is_file()


def test_an_environment_that_lost_its_interpreter_is_mended(tmp_path: Path, wheels: Path) -> None:
    make_wheel(wheels, "alpha")
    pins = write_pins(tmp_path, "alpha==1.0")
    path = THINGS.install(tmp_path, lambda _line: None, requirements=pins)
    for link in path.glob("bin/python*"):
        link.unlink()
        link.symlink_to("/nowhere/python")
    assert not THINGS.is_complete(path)
    _install_quietly(tmp_path, pins)
    assert THINGS.is_complete(path)


def test_clones_that_install_at_once_share_one_environment(tmp_path: Path, wheels: Path) -> None:
    make_wheel(wheels, "alpha")
    pins = write_pins(tmp_path, "alpha==1.0")
    context = multiprocessing.get_context("spawn")
    clones = [context.Process(target=_install_quietly, args=(tmp_path, pins)) for _ in range(3)]
    for clone in clones:
        clone.start()
    for clone in clones:
        clone.join(120)
    assert [clone.exitcode for clone in clones] == [0, 0, 0]
    path = THINGS.path(tmp_path, pins)
    log = (path / "install.log").read_text()
    assert log.count("Successfully installed alpha-1.0") == 1
    assert [folder.name for folder in (tmp_path / "things").iterdir() if folder.is_dir()] == [
        path.name
    ]


def test_pip_that_leaves_another_version_is_no_success(tmp_path: Path, wheels: Path) -> None:
    make_wheel(wheels, "alpha")
    make_wheel(wheels, "alpha", "1.0.post1")
    pins = write_pins(tmp_path, "alpha===1.0.post1")
    with pytest.raises(PinnedEnvironmentError, match="did not leave what was pinned"):
        _install_quietly(tmp_path, pins)


def test_too_small_a_disk_is_said_before_anything_is_made(
    tmp_path: Path,
) -> None:
    pins, large = write_pins(tmp_path, "alpha==1.0"), replace(THINGS, needed_bytes=2**60)
    with pytest.raises(PinnedEnvironmentError, match=r"GiB are free: make room"):
        large.install(tmp_path, lambda _line: None, requirements=pins)
    assert not (THINGS.path(tmp_path, pins) / "bin").exists()


def test_a_python_without_venv_is_told_the_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    with pytest.raises(PinnedEnvironmentError, match=f"apt-get install python{version}-venv"):
        _install_quietly(tmp_path, write_pins(tmp_path, "alpha==1.0"))


def test_the_path_follows_the_pins_and_not_their_comments(tmp_path: Path) -> None:
    file = write_pins(tmp_path, "alpha==1.0", "beta==1.0")
    first = THINGS.path(tmp_path, file)
    file.write_text("# another comment\nbeta==1.0\nalpha==1.0  # why\n")
    assert THINGS.path(tmp_path, file) == first
    file.write_text("alpha==1.1\nbeta==1.0\n")
    assert THINGS.path(tmp_path, file) != first
    assert len(first.name) == 12


def test_somebody_elses_environment_is_used_when_it_has_the_modules(
    tmp_path: Path, wheels: Path
) -> None:
    make_wheel(wheels, "alpha")
    path = THINGS.install(
        tmp_path, lambda _line: None, requirements=write_pins(tmp_path, "alpha==1.0")
    )
    (path / "complete.json").unlink()  # now nothing tells it from one made by hand
    assert THINGS.is_complete(path)
    for file in path.glob("lib/*/site-packages/alpha.py"):
        file.unlink()
    assert not THINGS.is_complete(path)
    assert not THINGS.is_complete(tmp_path / "nowhere")


def test_somebody_elses_environment_must_have_every_module(tmp_path: Path, wheels: Path) -> None:
    make_wheel(wheels, "alpha")
    pins = write_pins(tmp_path, "alpha==1.0")
    path = THINGS.install(tmp_path, lambda _line: None, requirements=pins)
    (path / "complete.json").unlink()
    both = replace(THINGS, modules=("alpha", "beta"))
    assert not both.is_complete(path)
    make_wheel(wheels, "beta")
    os.system(f"{python(path)} -I -m pip install -q --no-deps beta==1.0")
    assert both.is_complete(path)


def test_kinds_of_environment_do_not_meet_even_with_the_same_pins(tmp_path: Path) -> None:
    pins = write_pins(tmp_path, "alpha==1.0")
    other = replace(THINGS, folder="others").path(tmp_path, pins)
    assert other != THINGS.path(tmp_path, pins)
    assert other == tmp_path / "others" / THINGS.path(tmp_path, pins).name


def test_a_check_tells_what_was_found_before_the_probe_broke(tmp_path: Path, wheels: Path) -> None:
    make_wheel(wheels, "alpha")
    pins = write_pins(tmp_path, "alpha==1.0")
    path = THINGS.install(tmp_path, lambda _line: None, requirements=pins)
    found = THINGS.check(path)
    assert found[0] == Check("alpha", True, "1.0")
    assert (found[1].name, found[1].ok) == ("imports", False)
    assert "ModuleNotFoundError" in found[1].detail
    silent = replace(THINGS, probe="")
    assert not silent.check(path)[0].ok
    absent = THINGS.check(tmp_path / "nowhere")
    assert not absent[0].ok
    assert "install-things" in absent[0].detail
