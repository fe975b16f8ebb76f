"""An absolute address begins with what the client has asked for, whatever stands between."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from training_cluster.api.own_address import told_by

PUBLIC = "https://box.lab.example"


@pytest.mark.parametrize(
    ("headers", "public", "address"),
    [
        ({"host": "localhost:23478"}, None, "http://localhost:23478"),
        ({"host": "[::1]:23478"}, None, "http://[::1]:23478"),
        ({"host": "gpubox.lab.example"}, PUBLIC, "http://gpubox.lab.example"),
        # zrok keeps the Host and says who it is; others say what they were asked for
        ({"host": "a1.shares.zrok.io", "x-proxy": "zrok"}, None, "https://a1.shares.zrok.io"),
        (
            {"host": "127.0.0.1:1", "x-forwarded-host": "a.ts.net", "x-forwarded-proto": "https"},
            None,
            "https://a.ts.net",
        ),
        (
            {"host": "a.example", "x-forwarded-proto": "https, http"},
            None,
            "https://a.example",
        ),
        (
            {"host": "b:2", "x-forwarded-host": "a.example, b:2", "x-forwarded-proto": "ftp"},
            None,
            "http://a.example",
        ),
        # a tunnel that hides what it was asked for: the operator has said it
        ({"host": "localhost:23479"}, PUBLIC, PUBLIC),
        ({"host": "127.0.0.1"}, PUBLIC, PUBLIC),
        ({"host": "evil.example/x?"}, None, None),
        ({"host": "a b"}, PUBLIC, PUBLIC),
        ({}, None, None),
    ],
)
def test_the_address_is_what_the_client_has_asked_for(headers, public, address):
    assert told_by(Headers(headers), public) == address
