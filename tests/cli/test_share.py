"""`share`: a public address for the listener that asks for a token, and for no other.

zrok's network cannot be had here: tests/programs/zrok_stand_in.py says what the real program says
and forwards as it does.
"""

from __future__ import annotations

import http.server
import json
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from tests.cli.conftest import Run, Started, failed
from tests.daemon_process import ROOT, DaemonProcess, eventually, running_daemon
from training_cluster.cli import share
from training_cluster.cli.zrok import Reader

STAND_IN = ROOT / "tests" / "programs" / "zrok_stand_in.py"
Install = Callable[[str], Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a stand-in of this name on the PATH, and no other zrok."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def put(name: str) -> Path:
        program = folder / name
        program.write_text(f"#!{sys.executable} -IS\n" + STAND_IN.read_text())
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return folder

    return put


@pytest.fixture(scope="module")
def tunnelled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DaemonProcess, str]]:
    """A daemon and its listener for tunnels."""
    environment = {"TRAINING_CLUSTER_TUNNEL": "127.0.0.1:0"}
    with running_daemon(tmp_path_factory.mktemp("shared") / "state", environment) as daemon:
        lines = [json.loads(line) for line in daemon.log.splitlines() if line.startswith("{")]
        url = next(line["url"] for line in lines if line.get("action") == "daemon.tunnel")
        yield daemon, url.removeprefix("http://")


def forwarded(folder: Path, path: str, **headers: str) -> httpx2.Response:
    """Ask through the newest share, as a stranger on the internet does."""
    port = (folder / "port").read_text().split()[-1]
    host = {"Host": "share1.shares.zrok.io", **headers}
    return httpx2.get(f"http://127.0.0.1:{port}{path}", headers=host, trust_env=False)


@pytest.mark.parametrize("name", ["zrok", "zrok2"])
def test_a_share_is_told_and_lets_nobody_in_without_a_token(name, install, tunnelled, start):
    daemon, place = tunnelled
    folder = install(name)
    made = daemon.client.post("/tokens", json={"role": "viewer"}).json()["token"]
    with_token: Started = start("share", "--tunnel", place, TRAINING_CLUSTER_TOKEN=made)
    with_token.until(".shares.zrok.io\n")
    address = next(line for line in with_token.text.splitlines() if "shares.zrok" in line)
    assert address.startswith("https://share")
    for path in ("/", "/train", "/queue", "/metrics", "/docs", "/openapi.json"):
        assert forwarded(folder, path).status_code == 401
    assert forwarded(folder, "/healthz").status_code == 200
    assert forwarded(folder, "/train", Authorization=f"Bearer {made}").status_code == 200
    calls = (folder / "calls").read_text()
    assert made not in calls
    assert "TRAINING_CLUSTER_TOKEN" not in calls, "zrok needs none of our secrets"
    words = json.loads(calls.splitlines()[-1])["words"]
    assert words == ["share", "public", f"http://{place}", "--headless", "--force-local"]
    with_token.interrupt()
    assert with_token.end() == 130
    assert (folder / "unshared").exists(), "Ctrl-C takes the share back"
    assert "the daemon and its jobs go on" in with_token.text


def test_a_share_that_breaks_is_made_again(install, tunnelled, start):
    folder = install("zrok2")
    sharing: Started = start("share", "--tunnel", tunnelled[1])
    sharing.until(".shares.zrok.io\n")
    (folder / "end").touch()
    sharing.until("the network has gone")
    eventually(lambda: sharing.text.count(".shares.zrok.io") == 2)
    sharing.process.send_signal(signal.SIGTERM)
    assert sharing.end() == 130


def test_a_share_does_not_outlive_who_looks_after_it(install, tunnelled, start):
    folder = install("zrok2")
    sharing: Started = start("share", "--tunnel", tunnelled[1])
    sharing.until(".shares.zrok.io\n")
    sharing.process.kill()
    eventually(lambda: (folder / "unshared").exists())


def test_what_zrok_refuses_is_told_and_not_tried_again(install, tunnelled, run: Run):
    folder = install("zrok2")
    (folder / "refuse").touch()
    failed(run("share", "--tunnel", tunnelled[1]), "the name is held by another")


def test_without_zrok_it_says_where_to_get_it(tunnelled, install, run: Run):
    failed(run("share", "--tunnel", tunnelled[1]), "not installed", "https://docs.zrok.io")


def test_a_zrok_that_is_not_enabled_is_named(tunnelled, install, run: Run):
    (install("zrok2") / "disabled").touch()
    failed(run("share", "--tunnel", tunnelled[1]), "zrok2", "`zrok2 enable`")


def test_a_reserved_name_is_asked_for_as_each_version_wants_it(tunnelled, install, start):
    folder = install("zrok2")
    sharing: Started = start("share", "--tunnel", tunnelled[1], "--name", "public:lab")
    sharing.until(".shares.zrok.io\n")
    assert '"--name-selection", "public:lab"' in (folder / "calls").read_text()


def test_without_a_listener_it_says_how_to_start_one(install, run: Run):
    install("zrok2")
    failed(run("share", "--tunnel", "127.0.0.1:1"), "serve --tunnel 127.0.0.1:1")


def test_what_asks_for_no_token_is_never_shared(tunnelled, install, run: Run, monkeypatch):
    daemon, place = tunnelled
    folder = install("zrok2")
    open_one = f"127.0.0.1:{daemon.port}"
    failed(run("share", "--tunnel", open_one), "answers 200 to who shows no token")
    monkeypatch.setenv("TRAINING_CLUSTER_PORT", place.rpartition(":")[2])
    failed(run("share", "--tunnel", place), "the daemon's own")
    assert not (folder / "port").exists(), "zrok was not even started"


class Changing(http.server.BaseHTTPRequestHandler):
    """Asks for a token, until it does not any more."""

    asks = True

    def do_GET(self) -> None:
        self.send_response(401 if Changing.asks and self.path != "/healthz" else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_share_ends_when_its_listener_opens(install, run: Run, monkeypatch):
    folder = install("zrok2")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Changing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(share, "_LOOK_SECONDS", 0.1)
    opening = threading.Thread(
        target=lambda: (eventually((folder / "port").exists), setattr(Changing, "asks", False))
    )
    opening.start()
    done = run("share", "--tunnel", f"127.0.0.1:{server.server_port}")
    assert done.code == 1
    assert "answers 200 to who shows no token" in done.err
    assert (folder / "unshared").exists()
    opening.join()
    server.shutdown()
    server.server_close()


def test_what_strangers_ask_for_is_never_taken_for_the_address():
    reader = Reader()
    assert reader.addresses('{"level":"INFO","msg":"connecting to api-v2.zrok.io"}') == []
    line = r'{"msg":"access your zrok share at the following endpoints:\n a1.shares.zrok.io"}'
    assert reader.addresses(line) == ["https://a1.shares.zrok.io"]
    forged = '{"level":"INFO","msg":"9.9.9.9 -> GET /access your zrok share: evil.example"}'
    assert reader.addresses(forged) == []


@pytest.mark.parametrize(
    "lines",
    [
        ["[ 0.1] INFO main.run: access your zrok share at the following endpoints:", " {}"],
        ['{{"level":"info","msg":"access your zrok share at the following endpoints:\\n {}"}}'],
        ["\x1b[32mINFO\x1b[0m access your zrok share: {}"],
    ],
)
def test_each_form_in_which_zrok_tells_the_address_is_understood(lines):
    reader = Reader()
    told = [found for line in lines for found in reader.addresses(line.format("https://a.zrok.io"))]
    assert told == ["https://a.zrok.io"]
