"""A token for the hub is there while its download goes on, and no longer."""

from __future__ import annotations

from tests.factories import ALICE
from training_cluster.domain.job import JobState
from training_cluster.services.base_models import BaseModels
from training_cluster.services.download_tokens import DownloadTokens


async def test_a_download_that_is_over_before_its_token_is_known_leaves_none(
    household, tmp_path, monkeypatch
):
    folder = tmp_path / "tokens"
    tokens = DownloadTokens(folder)
    household.database.listen(tokens.notice)
    models = BaseModels(household.database, household.jobs, tokens, hub=tmp_path / "hub", roots=())
    submit = household.jobs.submit

    async def submit_and_be_over(submission):
        assert len(list(folder.iterdir())) == 1, "the download finds it"
        made = await submit(submission)
        await household.jobs.cancel(made.job.id, ALICE)
        await household.reaches(made.job.number, JobState.CANCELLED)
        return made

    monkeypatch.setattr(household.jobs, "submit", submit_and_be_over)
    await models.fetch("owner/gated", ALICE, token="hf_secret")
    assert list(folder.iterdir()) == []
