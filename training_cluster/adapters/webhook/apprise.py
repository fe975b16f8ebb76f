"""Hands notifications to the apprise library, in a process of its own.

apprise finds its hosts by itself, so the guard of addresses cannot hold it: nothing is sent this
way until an admin says so. It also takes 26 MB and may hang, which a process can be rid of.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import sys
import time
from urllib.parse import unquote

from training_cluster.adapters.webhook import wording
from training_cluster.adapters.webhook.addresses import check_characters, refusal
from training_cluster.adapters.webhook.wording import Document
from training_cluster.ports import Receipt

PREFIX = "apprise+"
SWITCH = "apprise"

_SCHEME = re.compile(r"[a-z0-9][a-z0-9+-]*(?=://)", re.IGNORECASE)
_WORKER = "training_cluster.adapters.webhook.apprise_worker"
_MOST_AT_ONCE = 4
_MOST_BODY = 3000

# services and mail; not what works on this machine (syslog, dbus) or posts anything anywhere
_WELL_KNOWN = frozenset(
    """
    bark barks dingtalk discord feishu gchat gotify gotifys lark mailgun mailto mailtos matrix
    matrixs mmost mmosts msteams ntfy ntfys opsgenie pagerduty pbul pover rocket rockets
    sendgrid ses signal signals slack sns tgram twilio wecombot webex workflow workflows
    wxteams zulip
    """.split()  # noqa: SIM905 - forty lines otherwise
)
# these name files of this machine that would be read and sent
_FILE_PARAMETER = re.compile(r"\b(attach|file|keyfile|pgpkey|subfile|template)\s*=")
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
_KINDS = {"job.completed": "success", "job.failed": "failure", "device.quarantined": "warning"}


def is_apprise(url: str) -> bool:
    """True for an address that is neither http nor https: `mailto://...`, `apprise+json://...`."""
    scheme = _SCHEME.match(url)
    return scheme is not None and scheme.group().lower() not in ("http", "https")


class AppriseSender:
    """Sends by apprise. `allow` are the admin's entries: `apprise` opens mail and the well-known
    services, `apprise+<scheme>` one scheme more."""

    def __init__(self, allow: tuple[str, ...], timeout_seconds: float) -> None:
        self._opened = {entry.removeprefix(PREFIX) for entry in allow if entry.startswith(PREFIX)}
        if SWITCH in allow:
            self._opened |= _WELL_KNOWN
        self._timeout_seconds = timeout_seconds
        self._free = asyncio.Semaphore(_MOST_AT_ONCE)

    def check(self, url: str) -> None:
        """Raises InvalidRequest unless the address may be handed to apprise."""
        check_characters(url)
        address = _bare(url)
        scheme = address.partition("://")[0].lower()
        if scheme not in self._opened:
            raise refusal(
                f"{scheme}:// is not open here",
                "an https:// address, or one the administrator opened: webhooks.allow_hosts with "
                f"{SWITCH!r} (mail and well-known services) or '{PREFIX}{scheme}'",
            )
        if importlib.util.find_spec("apprise") is None:
            raise refusal(
                f"{scheme}:// needs the apprise package, which is not installed",
                "pip install 'training-cluster[apprise]' by the administrator",
            )
        _check_parameters(address)

    async def send(self, url: str, body: bytes) -> Receipt:
        """Try once, within the deadline. Never raises."""
        started = time.monotonic()
        order = json.dumps({**json.loads(body), "url": _bare(url)}).encode()
        try:
            async with asyncio.timeout(self._timeout_seconds), self._free:
                error = await _work(order)
        except TimeoutError:
            error = f"not delivered: apprise did not finish within {self._timeout_seconds:g} s"
        except OSError as failure:
            error = f"not delivered: {failure.strerror}"
        return Receipt(None if error else 200, error, None, time.monotonic() - started)


def render(document: Document) -> bytes:
    """Title, text and kind of the message, as JSON for the worker."""
    lines = [f"{label}: {value}" for label, value in wording.facts(document)]
    failure = wording.failure(document)
    if failure:
        lines += [f"Reason: {failure.code}", failure.message, failure.hint, *failure.lines]
    lines.append(wording.reason(document))
    curve = wording.sparkline(document)
    lines.append(f"Loss curve: {curve}" if curve else "")
    lines += [f"{label}: {url}" for label, url in wording.links(document)]
    lines.append(wording.footnote(document))
    message = {
        "title": f"{wording.emoji(document)} {wording.headline(document)}"[:200],
        "body": "\n".join(line for line in lines if line)[:_MOST_BODY],
        "kind": _KINDS.get(str(document.get("type")), "info"),
    }
    return json.dumps(message).encode()


def _bare(url: str) -> str:
    return url[len(PREFIX) :] if url.lower().startswith(PREFIX) else url


def _check_parameters(address: str) -> None:
    """In plain and in percent-encoded form, as apprise decodes what it reads."""
    found = _FILE_PARAMETER.search(unquote(unquote(address)).lower())
    if found:
        name = found[1]
        raise refusal(f"its parameter {name} may name a file", f"the address without {name}=")


async def _work(order: bytes) -> str | None:
    """Have a fresh process send; its error, None when it was sent. The process never outlives
    this call. The address goes by its standard input, as other users can read arguments."""
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-m", _WORKER),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )
    try:
        answer, _ = await process.communicate(order)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == 0:
        return None
    return f"not delivered: {answer.decode(errors='replace').strip()[:200] or 'apprise failed'}"
