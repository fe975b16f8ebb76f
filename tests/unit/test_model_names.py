"""Which models a job may name: hub ids by their form, and folders below a root, links followed."""

from __future__ import annotations

from pathlib import Path

import pytest

from training_cluster.domain.errors import ModelNotAllowed
from training_cluster.services.model_names import ModelNames


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A model root with a model, beside a folder with another one."""
    for place in ("root/tiny", "elsewhere/other", "root-2/x"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "config.json").write_text("{}")
    return tmp_path / "root"


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-1.5B-Instruct", "a/b", "A1/x_y.z-1"])
def test_a_hub_id_is_taken_as_it_is(root, name):
    assert ModelNames([root]).resolve(name) == name


def test_a_folder_below_a_root_is_taken_with_its_links_resolved(root):
    (root / "alias").symlink_to("tiny")
    for name in ("tiny", "alias", "./tiny/../tiny", "alias/"):
        assert ModelNames([root]).resolve(f"{root}/{name}") == str(root / "tiny")


@pytest.mark.parametrize(
    "name",
    [
        "../../etc", "owner/..", "../owner", "owner/../x", "a/b/c", "owner/", "/owner", "a//b",
        "-x/y", "x/-y", ".x/y", "x/.y", "a/b\n", "\na/b", "a/b\r", "a/b ", "a /b", "a/b\x00",
        "a\\b", "file:///etc", "FILE:///etc", "File://x/y", "hf://a/b", "http://a/b",
        "s3://a/b", "~/x", "${oc.env:HOME}/x", "a/${x}", "\u0430/\u0431", "a/b?x", "a/b#x",
        "a/b@main", "x" * 97 + "/y", "", ".", "..", "/", "//", "/etc", "/etc/passwd",
        "/proc/self/root", "/dev/null", "/\x00",
    ],
)  # fmt: skip
def test_whatever_else_a_name_says_is_refused(root, name):
    with pytest.raises(ModelNotAllowed) as refusal:
        ModelNames([root]).resolve(name)
    assert refusal.value.problems[0].field == "model_name"


@pytest.mark.parametrize(
    "path",
    [
        "a" * 300,
        "a/" * 2000,
        "tiny/config.json",
        "../elsewhere/other",
        "tiny/../../elsewhere/other",
        "out",
        "deep/out",
        "../root-2/x",
    ],
)
def test_no_path_and_no_link_leads_out_of_a_root(root, path):
    (root / "out").symlink_to("../elsewhere/other")
    (root / "deep").mkdir()
    (root / "deep" / "out").symlink_to(root.parent / "elsewhere" / "other")
    with pytest.raises(ModelNotAllowed):
        ModelNames([root]).resolve(f"{root}/{path}")


def test_a_root_that_is_a_link_is_a_root(root):
    (root.parent / "models").symlink_to("root")
    named = f"{root.parent}/models/tiny"
    assert ModelNames([root.parent / "models"]).resolve(named) == str(root / "tiny")
