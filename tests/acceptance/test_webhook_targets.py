"""However a webhook's address is written, whatever its name leads to and wherever it redirects:
the daemon makes no connection to what is inside. Nothing here leaves loopback: the daemon under
test asks a stub for names."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapters.hostile_addresses import HOSTILE, LEADS_INSIDE
from tests.daemon_process import ROOT, DaemonProcess, eventually, running_daemon
from tests.trust import Promise

OPENED, CLOSED = "127.0.88.1", "127.0.88.2"
INSIDE = ("127.0.0.1", "127.0.0.2", "127.255.255.254", CLOSED, "::1")
PORTS = (443, 8443, 80)
STATUSES = (301, 302, 303, 307, 308)


class Listener:
    """Counts connections to an address; answers each with what it was given."""

    def __init__(self, host: str, port: int, says: bytes = b"") -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family)
        self._says = says
        self.port = self._socket.getsockname()[1]
        self.heard: list[bytes] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.heard.append(b"")
                with connection, contextlib.suppress(OSError):
                    self.heard[-1] = connection.recv(65536)
                    connection.sendall(self._says)

    @property
    def connections(self) -> int:
        return len(self.heard)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture
def inside() -> Iterator[list[Listener]]:
    """Listeners on whatever a webhook must not reach, at the ports that may be called."""
    listeners = []
    for host in INSIDE:
        for port in PORTS:
            with contextlib.suppress(PermissionError):
                listeners.append(Listener(host, port))
    assert any(listener.port == 8443 for listener in listeners)
    yield listeners
    for listener in listeners:
        listener.close()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    """A daemon whose names come from a stub; its admin opened one address."""
    names = {f"n{place}.example.com": [[address]] for place, address in enumerate(LEADS_INSIDE)}
    names["mixed.example.com"] = [["93.184.216.34", "127.0.0.1"]]
    names["rebinds.example.com"] = [[OPENED], ["127.0.0.1"], [CLOSED], [OPENED, CLOSED]]
    file = tmp_path / "names.json"
    file.write_text(json.dumps(names))
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": "/bin/true",
        "TRAINING_CLUSTER_WEBHOOKS__ALLOW_HOSTS": OPENED,
        "TRAINING_CLUSTER_WEBHOOKS__TIMEOUT_SECONDS": "5",
        "PYTHONPATH": f"{ROOT / 'tests' / 'watched'}{os.pathsep}{ROOT}",
        "STUB_RESOLVER": str(file),
    }
    with running_daemon(tmp_path / "state", environment) as process:
        yield process


def refused(daemon: DaemonProcess, url: str) -> None:
    """Neither a webhook nor a job may have this address, and the answer says which field."""
    hook = daemon.client.post("/webhooks", json={"url": url})
    job = daemon.client.post("/train", json={"webhook_url": url})
    for answer, field in ((hook, "url"), (job, "webhook_url")):
        assert answer.status_code == 422, url
        named = "body" if "\0" in url else field  # JSON with NUL is refused as a whole
        assert named in [error["field"] for error in answer.json()["errors"]]


def told(daemon: DaemonProcess, url: str, tries: int = 1) -> list[dict]:
    """Have the daemon call an address; what became of each try."""
    made = daemon.client.post("/webhooks", json={"url": url})
    assert made.status_code < 300, made.text
    path = f"/webhooks/{made.json()['webhook_id']}"
    found = []
    for _ in range(tries):
        number = daemon.client.post(f"{path}/test").json()["delivery"]
        found.append(eventually(lambda number=number: _tried(daemon, path, number)))
    daemon.client.delete(path)
    return found


def _tried(daemon: DaemonProcess, path: str, number: int) -> dict | None:
    delivery = daemon.client.get(f"{path}/deliveries/{number}").json()
    return delivery if delivery["tries"] else None


def check_written(daemon: DaemonProcess, urls: list[str]) -> None:
    """Addresses that are refused when they are given."""
    for url in urls:
        refused(daemon, url)
    assert daemon.client.get("/train").json()["jobs"] == []


def check_names(daemon: DaemonProcess, places: list[int]) -> None:
    """Names that lead inside are refused when they are looked up."""
    for name in ("mixed", *(f"n{place}" for place in places)):
        (delivery,) = told(daemon, f"https://{name}.example.com:8443/x")
        assert delivery["last_error"].startswith("refused: "), delivery
        assert delivery["last_status"] is None


def check_rebinding(daemon: DaemonProcess) -> None:
    """A name that changes its address reaches only what was checked for that very try."""
    with contextlib.closing(Listener(OPENED, 8443)) as opened:
        tries = told(daemon, "https://rebinds.example.com:8443/x", tries=4)
        assert opened.connections == 1
    outcomes = [delivery["last_error"].partition(":")[0] for delivery in tries]
    assert outcomes == ["not delivered", "refused", "refused", "refused"]


def check_redirects(daemon: DaemonProcess) -> None:
    """What redirects is a failure and is not followed."""
    for status in STATUSES:
        for target in ("http://127.0.0.1/", f"https://{CLOSED}:8443/", "//[::1]:8443/"):
            says = f"HTTP/1.1 {status} X\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n"
            with contextlib.closing(Listener(OPENED, 0, says.encode())) as opened:
                (delivery,) = told(daemon, f"http://{OPENED}:{opened.port}/x")
                assert (delivery["last_status"], opened.connections) == (status, 1)


def check(daemon: DaemonProcess, inside: list[Listener], step: int) -> str:
    """Each `step`th address; the figure in words."""
    urls, places = HOSTILE[::step], list(range(0, len(LEADS_INSIDE), step))
    check_written(daemon, urls)
    check_names(daemon, places)
    check_rebinding(daemon)
    check_redirects(daemon)
    heard = [(listener.port, listener.heard) for listener in inside if listener.heard]
    assert heard == []
    redirects = len(STATUSES) * 3
    return (
        f"{len(urls)} URLs through both routes, {len(places) + 1} names that lead inside, 4 tries "
        f"of a rebinding name, {redirects} redirects: {len(heard)} internal connections"
    )


def test_no_webhook_reaches_what_is_inside(daemon, inside, trust):
    trust(Promise.SSRF, check(daemon, inside, 4), form="short")


@pytest.mark.slow
def test_no_webhook_of_all_hostile_addresses_reaches_what_is_inside(daemon, inside, trust):
    assert len(HOSTILE) > 200
    trust(Promise.SSRF, check(daemon, inside, 1), form="full")
