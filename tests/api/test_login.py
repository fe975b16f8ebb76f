"""The page's login: a cookie no script can read, that other sites cannot use, and that ends."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.daemon_process import DaemonProcess, running_daemon

HOST = "box.share.example"
BROWSER = {"Accept": "text/html,application/xhtml+xml", "Host": HOST, "X-Proxy": "zrok"}
OURS = {"Origin": f"https://{HOST}"}
COOKIE = "training_cluster_session"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": "/bin/true",
        "TRAINING_CLUSTER_TUNNEL": "127.0.0.1:0",
        "TRAINING_CLUSTER_WEBHOOKS__PUBLIC_URL": "https://gpu.lab.example/queue",
    }
    with running_daemon(tmp_path_factory.mktemp("login") / "state", environment) as started:
        yield started


@pytest.fixture
def token(daemon) -> dict[str, Any]:
    daemon.client.cookies.clear()
    return dict(daemon.client.post("/tokens", json={"user": "alice"}).json())


def browse(daemon: DaemonProcess, method: str, path: str, **options: Any) -> Any:
    """A request of a browser, by the tunnel; cookies are given by hand."""
    headers = {**BROWSER, **options.pop("headers", {})}
    cookie = options.pop("cookie", None)
    if cookie:
        headers["Cookie"] = f"other=1; {COOKIE}={cookie}"
    response = daemon.client.request(method, daemon.tunnel + path, headers=headers, **options)
    daemon.client.cookies.clear()
    return response


def log_in(daemon: DaemonProcess, token: dict[str, Any], **headers: str) -> tuple[Any, str]:
    form = {"token": token["token"]}
    response = browse(daemon, "POST", "/login", data=form, headers={**OURS, **headers})
    found = re.match(rf"{COOKIE}=([0-9a-f]+);", response.headers.get("set-cookie", ""))
    return response, found[1] if found else ""


def is_strict(response: Any) -> bool:
    policy = response.headers["content-security-policy"]
    return (
        "default-src 'none'" in policy
        and "frame-ancestors 'none'" in policy
        and "script" not in policy
        and response.headers["x-content-type-options"] == "nosniff"
        and response.headers["referrer-policy"] == "same-origin"
    )


@pytest.mark.parametrize("path", ["/", "/login", "/train/7", "/docs", "/nothing/here"])
def test_a_browser_nobody_knows_gets_the_login_page_wherever_it_goes(daemon, path):
    response = browse(daemon, "GET", path)
    assert response.status_code == 401
    assert "text/html" in response.headers["content-type"]
    assert is_strict(response)
    up = "../" * (path.count("/") - 1)
    assert f"action='{up}login'" in response.text
    assert "alice" not in response.text


def test_a_login_sets_a_cookie_that_gets_in_and_leads_to_the_front_page(daemon, token):
    response, cookie = log_in(daemon, token, **{"X-Forwarded-Proto": "https"})
    assert (response.status_code, response.headers["location"]) == (303, "./")
    said = response.headers["set-cookie"].lower()
    for word in ("httponly", "samesite=strict", "secure", "path=/", "max-age=604800"):
        assert word in said
    page = browse(daemon, "GET", "/", cookie=cookie)
    assert page.status_code == 200
    assert is_strict(page)
    assert "alice" in browse(daemon, "GET", "/login", cookie=cookie).text
    assert token["token"] not in cookie


def test_over_plain_http_the_cookie_is_not_marked_secure(daemon, token):
    response, _ = log_in(daemon, token)
    assert "secure" not in response.headers["set-cookie"].lower()


def test_programs_log_in_with_json(daemon, token):
    response = daemon.client.post(f"{daemon.tunnel}/login", json={"token": token["token"]})
    assert response.json()["user"] == "alice"
    assert COOKIE in response.headers["set-cookie"]


@pytest.mark.parametrize(
    "body",
    [
        {"data": {"token": "tq_nonsense"}},
        {"data": {}},
        {"json": {"token": 7}},
        {"json": []},
        {"content": b"\xff{"},
        {"content": b"x" * 5000},
        {"content": b"[" * 4000},
    ],
    ids=str,
)
def test_what_is_no_token_is_answered_with_the_page_and_401(daemon, body):
    response = browse(daemon, "POST", "/login", headers=OURS, **body)
    assert response.status_code in (401, 429)
    assert "set-cookie" not in response.headers
    assert "<form" in response.text


def test_a_change_by_cookie_needs_our_origin(daemon, token):
    _, cookie = log_in(daemon, token)
    for origin in (OURS, {"Origin": "https://gpu.lab.example"}):
        change = browse(daemon, "POST", "/train", json={}, cookie=cookie, headers=origin)
        assert change.status_code == 200
    for foreign in (
        {},
        {"Origin": "null"},
        {"Origin": "https://evil.example"},
        {"Origin": f"https://{HOST}.evil.example"},
        {**OURS, "Sec-Fetch-Site": "cross-site"},
        {**OURS, "Sec-Fetch-Site": "same-site"},
    ):
        refused = browse(daemon, "POST", "/train", json={}, cookie=cookie, headers=foreign)
        assert refused.status_code == 403, foreign
    seen = browse(daemon, "GET", "/train", cookie=cookie, headers={"Sec-Fetch-Site": "cross-site"})
    assert seen.status_code == 403


def test_another_site_cannot_log_anybody_in(daemon, token):
    for foreign in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        response, cookie = log_in(daemon, token, **foreign)
        assert (response.status_code, cookie) == (401, "")


def test_after_logging_out_the_cookie_opens_nothing(daemon, token):
    _, cookie = log_in(daemon, token)
    response = browse(daemon, "POST", "/logout", cookie=cookie, headers=OURS)
    assert (response.status_code, response.headers["location"]) == (303, "./login")
    assert browse(daemon, "GET", "/train", cookie=cookie).status_code == 401


def test_revoking_the_token_ends_its_logins_at_once(daemon, token):
    _, cookie = log_in(daemon, token)
    daemon.client.delete(f"/tokens/{token['token_id']}")
    assert browse(daemon, "GET", "/train", cookie=cookie).status_code == 401


def test_a_login_survives_a_restart_and_only_hashes_of_it_are_kept(tmp_path):
    environment = {"TRAINING_CLUSTER_TUNNEL": "127.0.0.1:0"}
    with running_daemon(tmp_path / "state", environment) as daemon:
        token = daemon.client.post("/tokens", json={"user": "alice"}).json()
        _, cookie = log_in(daemon, token)
        for file in daemon.state.glob("queue.db*"):
            assert cookie.encode() not in file.read_bytes()
        daemon.stop()
        daemon.start()
        assert browse(daemon, "GET", "/train", cookie=cookie).status_code == 200
        kinds = [e["type"] for e in daemon.client.get("/events").json()["events"]]
        assert "access.login" in kinds


def test_the_audit_trail_is_for_admins(daemon, token):
    shown = {"Authorization": f"Bearer {token['token']}"}
    log_in(daemon, token)
    mine = daemon.client.get("/events", params={"limit": 1000}, headers=shown).json()["events"]
    assert not [e for e in mine if e["type"].startswith(("token.", "access."))]
    alls = daemon.client.get("/events", params={"limit": 1000}).json()["events"]
    assert {"token.created", "access.login"} <= {e["type"] for e in alls}
    for path in ("/events", "/events/stream"):
        asked = {"type": "access.denied"}
        assert daemon.client.get(path, params=asked, headers=shown).status_code == 403


def test_a_stale_cookie_does_not_lock_out_who_is_local(daemon):
    headers = {"Cookie": f"{COOKIE}=0123"}
    assert daemon.client.get("/train", headers=headers).status_code == 200


def test_swagger_runs_its_own_scripts_and_no_others(daemon):
    response = daemon.client.get("/docs")
    policy = response.headers["content-security-policy"]
    assert "'sha256-" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script-src https://cdn.jsdelivr.net 'sha256-" in policy
