"""What a dialect remembers, and how it writes our ids."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from training_cluster.domain.dialect import DialectRequest, native_id, short_id
from training_cluster.domain.ids import new_job_id

WORDS = st.dictionaries(st.text(max_size=20), st.none() | st.text(max_size=20) | st.integers())


@given(WORDS)
def test_a_request_comes_back_from_the_store_as_it_was(data):
    request = DialectRequest("openai", data)
    assert DialectRequest.from_json(request.to_json()) == request


@given(st.floats(0, 4e9))
def test_an_id_of_a_dialect_leads_back_to_the_native_one(now):
    ours = new_job_id(now)
    theirs = short_id("ftjob-", ours)
    assert len(theirs) == len("ftjob-") + 32
    assert native_id("ftjob-", theirs) == ours


def test_what_is_no_id_of_the_dialect_stays_what_it_is():
    for text in ("", "ftjob-", "ftjob-xyz", "file-" + "0" * 32, "7", "ftjob-" + "0" * 31):
        assert native_id("ftjob-", text) == text
