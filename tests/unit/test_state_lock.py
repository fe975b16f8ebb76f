"""A state directory that cannot be written is refused in words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from training_cluster.domain.errors import StateDirectoryInUse, StateDirectoryUnusable
from training_cluster.state_lock import sole_owner

NOBODY = 65534


def refusal(state_dir: Path) -> str:
    with pytest.raises(StateDirectoryUnusable) as refused, sole_owner(state_dir):
        pass
    assert refused.value.hint
    return refused.value.message


def test_a_place_where_nothing_can_be_made_is_named_with_the_reason():
    assert "/proc/no-such-place" in refusal(Path("/proc/no-such-place"))


def test_a_file_in_its_place_is_named(tmp_path: Path):
    (tmp_path / "state").write_text("a file")
    assert "File exists" in refusal(tmp_path / "state")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_the_directory_of_somebody_else_is_named_with_its_owner(tmp_path: Path):
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 0o001:
            folder.chmod(0o711)  # pytest keeps its folders to their owner
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    try:
        os.seteuid(NOBODY)
        message = refusal(state)
    finally:
        os.seteuid(0)
    assert "which belongs to root: Permission denied" in message
    assert list(state.iterdir()) == []


def test_a_directory_is_locked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("training_cluster.state_lock._PATIENCE_SECONDS", 0.1)
    with sole_owner(tmp_path), pytest.raises(StateDirectoryInUse) as refused, sole_owner(tmp_path):
        pass
    assert f"pid {os.getpid()}" in refused.value.message
