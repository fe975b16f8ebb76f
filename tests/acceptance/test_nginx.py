"""The nginx of the sharing guide, as it is shown there: page, login, documentation and streams work
below a prefix, and nobody gets in without a token."""

from __future__ import annotations

import json
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
import trustme

from tests.daemon_process import ROOT, DaemonProcess, eventually, running_daemon, trainer
from training_cluster.client import Client

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
_FRAME = """
daemon off; error_log stderr; pid {folder}/nginx.pid;
events {{}}
http {{ access_log off; client_body_temp_path {folder}; proxy_temp_path {folder};
fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
{server} }}
"""


@dataclass
class Shared:
    """A daemon behind nginx: `browser` asks nginx, as from elsewhere."""

    daemon: DaemonProcess
    browser: httpx2.Client
    plain: str
    token: str

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def guided(folder: Path, port: int, plain: int, tunnel: str) -> Path:
    """The guide's server, with our ports and certificate; on `plain` it does without TLS."""
    page = (ROOT / "docs" / "sharing.md").read_text()
    found = re.search(r"```nginx\n(.*?)```", page, re.DOTALL)
    assert found is not None
    server = found[1]
    for said, ours in {
        "listen 443 ssl": f"listen 127.0.0.1:{plain}; listen 127.0.0.1:{port} ssl",
        "127.0.0.1:23479": tunnel,
        "/etc/ssl/gpubox.pem": f"{folder}/cert.pem",
        "/etc/ssl/private/gpubox.key": f"{folder}/key.pem",
    }.items():
        assert server.count(said) == 1
        server = server.replace(said, ours)
    file = folder / "nginx.conf"
    file.write_text(_FRAME.format(folder=folder, server=server))
    return file


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    folder = tmp_path_factory.mktemp("nginx")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    environment = {
        "TRAINING_CLUSTER_TUNNEL": "127.0.0.1:0",
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("stepping", 5, 0.3),
    }
    with running_daemon(folder / "state", environment) as daemon:
        lines = [json.loads(line) for line in daemon.log.splitlines() if line.startswith("{")]
        tunnel = next(line["url"] for line in lines if line.get("action") == "daemon.tunnel")
        port, plain = free_port(), free_port()
        file = guided(folder, port, plain, tunnel.removeprefix("http://"))
        assert NGINX is not None
        process = subprocess.Popen([NGINX, "-p", str(folder), "-c", str(file)])
        browser = httpx2.Client(
            base_url=f"https://localhost:{port}", verify=trusted, trust_env=False, timeout=120
        )
        made = daemon.client.post("/tokens", json={"role": "submitter"}).json()["token"]
        try:
            eventually(lambda: _answers(browser))
            yield Shared(daemon, browser, f"http://127.0.0.1:{plain}/cluster", made)
        finally:
            process.terminate()
            process.wait()
            browser.close()


def _answers(browser: httpx2.Client) -> bool:
    try:
        return browser.get("/cluster/healthz").status_code == 200
    except httpx2.TransportError:
        return False


def test_nobody_gets_in_without_a_token(shared: Shared):
    for path in ("", "train", "queue", "docs", "metrics", "no/such/path"):
        assert shared.browser.get(f"/cluster/{path}").status_code == 401
    assert shared.browser.get("/cluster").headers["location"].endswith("/cluster/")


def test_a_browser_logs_in_and_out_below_the_prefix(shared: Shared):
    browser, html = shared.browser, {"Accept": "text/html"}
    origin = {**html, "Origin": str(browser.base_url).rstrip("/")}
    form = re.search(r"action='([^']*login)'", browser.get("/cluster/", headers=html).text)
    assert form is not None
    assert httpx2.URL("https://localhost/cluster/").join(form[1]).path == "/cluster/login"
    entered = browser.post("/cluster/login", data={"token": shared.token}, headers=origin)
    assert entered.status_code == 303
    assert "secure" in entered.headers["set-cookie"].lower()
    home = entered.url.join(entered.headers["location"])
    assert home.path == "/cluster/"
    page = browser.get(home, headers=html)
    assert page.status_code == 200
    for link in re.findall(r"href=[\"']([^\"']+)", page.text):
        assert browser.get(home.join(link)).status_code == 200, link
    docs = browser.get(home.join("docs"), headers=html).text
    described = re.search(r"url: '([^']+)'", docs)
    assert described is not None
    document = browser.get(home.join("docs").join(described[1]))
    begin = document.url.join(document.json()["servers"][0]["url"])  # as Swagger UI joins them
    assert begin.path == home.path
    assert browser.post("/cluster/logout", headers=origin).status_code == 303
    browser.cookies.clear()
    assert browser.get(home).status_code == 401


def test_a_stream_arrives_as_it_happens(shared: Shared):
    job = shared.daemon.submit()["job_id"]
    path = f"/cluster/train/{job}/metrics/stream"
    with shared.browser.stream("GET", path, headers=shared.bearer) as stream:
        lines = stream.iter_lines()
        arrived = [time.monotonic() for line in lines if line.startswith("data:")]
    assert len(arrived) >= 5
    assert arrived[-1] - arrived[0] > 0.8, "not all at once at the end"


def test_links_in_answers_can_be_followed(shared: Shared):
    about = shared.browser.get("/cluster/", headers=shared.bearer).json()
    job = shared.browser.post("/cluster/train", headers=shared.bearer, json={}).json()
    for link in (*about["links"].values(), job["links"]["self"], job["links"]["events"]):
        assert link.startswith("/cluster/")
        assert shared.browser.get(link, headers=shared.bearer).status_code == 200, link
    direct = shared.daemon.client.get(f"/train/{job['job_id']}").json()
    assert direct["links"]["self"] == f"/train/{job['job_id']}"


def test_data_comes_in_by_addresses_that_lead_back_below_the_prefix(shared: Shared):
    browser, bearer = shared.browser, shared.bearer
    rows = b"".join(b'{"input": "%d", "output": "%s"}\n' % (n, b"x" * 1000) for n in range(3000))
    file = {"file": ("large.jsonl", rows)}
    sent = browser.post("/cluster/datasets", files=file, headers=bearer)
    assert (sent.status_code, sent.json()["bytes"]) == (201, len(rows)), sent.text
    place = browser.get("/cluster/v1/get-upload-base-path", headers=bearer).json()
    begin = f"{str(browser.base_url).rstrip('/')}/cluster"
    assert place == {"upload_base_path": f"{begin}/v1/data"}
    put = browser.put(f"{place['upload_base_path']}/rows", content=rows, headers=bearer)
    assert put.status_code == 200, put.text
    body = {"name": "a", "env": "local", "model": "Qwen/Qwen2.5-1.5B-Instruct"}
    session = browser.post("/cluster/api/v1/training", json=body, headers=bearer).json()["id"]
    asked = browser.get(f"/cluster/api/v1/training/{session}/upload-url", headers=bearer).json()
    assert asked["url"].startswith(f"{begin}/")
    assert browser.put(asked["url"], content=rows).status_code == 201, "it is signed"


def test_the_python_client_takes_the_prefix_as_part_of_the_address(shared: Shared):
    with Client(shared.plain, token=shared.token) as client:
        job = client.submit(lora_name="behind-nginx")
        assert client.wait(job.job_id).status == "completed"
