"""Removal frees what it says and never leaves the folder it was given."""

from __future__ import annotations

import os
import shutil
from pathlib import Path, PurePath

import pytest

from training_cluster.services.removal import measure, remove


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "precious").write_text("keep me")
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "job" / "output" / "checkpoint-5").mkdir(parents=True)
    (folder / "job" / "output" / "checkpoint-5" / "weights").write_bytes(bytes(1 << 20))
    return folder


def test_python_removes_trees_by_descriptor_here():
    assert shutil.rmtree.avoids_symlink_attacks


def test_a_folder_goes_and_its_size_is_told(root):
    size = measure(root / "job" / "output" / "checkpoint-5")
    assert size >= 1 << 20
    assert remove(root, PurePath("job/output/checkpoint-5")) == size
    assert not (root / "job" / "output" / "checkpoint-5").exists()
    assert remove(root, PurePath("job/output/checkpoint-5")) == 0


def test_a_link_in_a_folder_goes_and_what_it_names_stays(root, outside):
    (root / "job" / "output" / "checkpoint-5" / "link").symlink_to(outside)
    remove(root, PurePath("job/output/checkpoint-5"))
    assert (outside / "precious").read_text() == "keep me"


def test_a_link_in_place_of_what_is_to_go_is_removed_itself(root, outside):
    (root / "job" / "linked").symlink_to(outside)
    remove(root, PurePath("job/linked"))
    assert not (root / "job" / "linked").is_symlink()
    assert (outside / "precious").exists()


def test_a_link_on_the_way_is_refused(root, outside):
    shutil.rmtree(root / "job" / "output")
    (root / "job" / "output").symlink_to(outside)
    with pytest.raises(OSError, match=r"directory|symbolic"):
        remove(root, PurePath("job/output/precious"))
    assert (outside / "precious").exists()


@pytest.mark.parametrize("name", ["..", "../outside", "job/../../outside", "/etc", "."])
def test_a_name_that_leads_out_is_refused(root, outside, name):
    with pytest.raises((ValueError, OSError)):
        remove(root, PurePath(name))
    assert (outside / "precious").exists()


def test_measuring_counts_links_as_links(root, outside):
    (outside / "large").write_bytes(bytes(4 << 20))
    before = measure(root)
    (root / "job" / "link").symlink_to(outside)
    os.link(outside / "precious", root / "job" / "hard")
    assert measure(root) < before + (1 << 20)
