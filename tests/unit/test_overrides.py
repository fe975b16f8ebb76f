"""The allow-list of overrides: one list in the API, in the adapter and in the documentation."""

from __future__ import annotations

import pytest

from tests.overrides_page import PAGE, page
from training_cluster.adapters.llamafactory import config
from training_cluster.adapters.llamafactory.recipes import SECRETS, RecipeDirectory
from training_cluster.api.overrides import Overrides
from training_cluster.domain.errors import InvalidRequest


def test_the_page_shows_every_override_with_type_and_bounds():
    assert PAGE.read_text("utf-8") == page(), "python -m tests.overrides_page writes it"


def test_the_adapter_allows_what_the_api_takes_and_nothing_else():
    assert Overrides.model_fields.keys() == config.ALLOWED


def test_no_override_is_what_the_daemon_or_a_field_of_the_job_sets():
    set_otherwise = {*config.FIXED, *config.PLACES, *config.FIELDS.values(), *config.LORA_FIELDS}
    assert not config.ALLOWED & set_otherwise


@pytest.mark.parametrize("key", sorted(SECRETS))
def test_a_recipe_with_a_secret_is_refused(tmp_path, key):
    (tmp_path / "mine.yaml").write_text(f"stage: sft\n{key}: hf_secret\n")
    with pytest.raises(InvalidRequest) as refusal:
        RecipeDirectory(tmp_path).load("mine")
    assert key in refusal.value.message
    assert "hf_secret" not in f"{refusal.value.message}{refusal.value.problems}{refusal.value.hint}"
