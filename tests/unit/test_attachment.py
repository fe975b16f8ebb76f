"""Under which name a download is kept: plain for every client, exact for those that can."""

from __future__ import annotations

import pytest

from training_cluster.api.attachment import disposition


@pytest.mark.parametrize(
    ("filename", "value"),
    [
        ("chat-v1.zip", 'attachment; filename="chat-v1.zip"'),
        ("my rows (2).csv", 'attachment; filename="my rows (2).csv"'),
        ("schön.jsonl",
         "attachment; filename=\"schon.jsonl\"; filename*=utf-8''sch%C3%B6n.jsonl"),
        ("日本", "attachment; filename=\"download\"; filename*=utf-8''%E6%97%A5%E6%9C%AC"),
        ('a"\r\nb/c', "attachment; filename=\"a_b_c\"; filename*=utf-8''a%22%0D%0Ab/c"),
    ],
)  # fmt: skip
def test_the_plain_name_is_always_there(filename, value):
    assert disposition(filename) == value
