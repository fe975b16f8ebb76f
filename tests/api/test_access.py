"""Who gets in: this machine's users without a token, nobody through a proxy or another site."""

from __future__ import annotations

import getpass

import pytest

from tests.daemon_process import running_daemon


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "yt036afigd5k.share.zrok.io", "X-Proxy": "zrok"},
        {"X-Proxy": "zrok"},
        {"X-Forwarded-For": "10.0.0.1"},
        {"Forwarded": "for=10.0.0.1"},
        {"Via": "1.1 proxy"},
        {"X-Real-IP": "10.0.0.1"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
    ids=str,
)
def test_what_speaks_of_a_proxy_or_another_site_is_refused(shared_daemon, headers):
    for method, path in (("GET", "/train"), ("POST", "/train"), ("GET", "/"), ("GET", "/queue")):
        response = shared_daemon.client.request(method, path, headers=headers)
        assert response.status_code == 401
        assert response.json()["code"] == "access_denied"
    assert shared_daemon.client.get("/train").json()["jobs"] == []


def test_liveness_needs_no_identity(shared_daemon):
    assert shared_daemon.client.get("/healthz", headers={"X-Proxy": "zrok"}).status_code == 200


def test_the_kernel_says_who_submitted(quick_daemon):
    job = quick_daemon.submit()
    assert quick_daemon.job(job["job_id"])["user"] == getpass.getuser()


def test_an_open_daemon_asks_nobody(tmp_path):
    environment = {
        "TRAINING_CLUSTER_AUTH": "open",
        "TRAINING_CLUSTER_TRAINER__COMMAND": "/bin/true",
    }
    with running_daemon(tmp_path / "state", environment) as daemon:
        assert daemon.client.get("/train", headers={"X-Proxy": "zrok"}).status_code == 200
