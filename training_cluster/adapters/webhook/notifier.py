"""The `Notifier` that reaches receivers over the network."""

from __future__ import annotations

import json
import math
import socket
import ssl
from collections.abc import Mapping
from typing import Any

from training_cluster import __version__
from training_cluster.adapters.webhook import apprise, signing, slack
from training_cluster.adapters.webhook.addresses import Guard, Target
from training_cluster.adapters.webhook.sender import Message, Resolve, Sender
from training_cluster.domain.errors import InvalidRequest
from training_cluster.ports import Endpoint, EndpointFormat, Receipt

_SLACK_PREFIX = "slack+"


class WebhookNotifier:
    """Signed JSON for most, messages for Slack, and apprise for what an admin opened.

    `allow_hosts` are names, addresses and networks that may be called although they are not
    public, and `apprise`. `slack+https://...` is another receiver that takes Slack's messages.
    Raises CannotStart for an entry of `allow_hosts` that is none of these."""

    def __init__(
        self,
        allow_hosts: tuple[str, ...],
        timeout_seconds: float,
        resolve: Resolve | None = None,
        *,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        entries = tuple(entry.strip().lower() for entry in allow_hosts)
        for_apprise = tuple(
            entry
            for entry in entries
            if entry == apprise.SWITCH or entry.startswith(apprise.PREFIX)
        )
        self._guard = Guard(tuple(entry for entry in entries if entry not in for_apprise))
        self._sender = Sender(self._guard, timeout_seconds, resolve or look_up, ssl_context)
        self._apprise = apprise.AppriseSender(for_apprise, timeout_seconds)

    def check(self, url: str) -> EndpointFormat:
        """The format of the receiver at this address. Raises InvalidRequest."""
        if _is_slack_like(url):
            self._guard.target(_bare(url))
            return EndpointFormat.SLACK
        if apprise.is_apprise(url):
            self._apprise.check(url)
            return EndpointFormat.APPRISE
        target = self._guard.target(url)
        return EndpointFormat.SLACK if slack.is_slack(target) else EndpointFormat.STANDARD

    def render(self, format: EndpointFormat, document: Mapping[str, Any]) -> bytes:  # noqa: A002
        """The body for a receiver of this format."""
        if format is EndpointFormat.SLACK:
            return slack.render(document)
        if format is EndpointFormat.APPRISE:
            return apprise.render(document)
        return json.dumps(_finite(document), separators=(",", ":"), default=str).encode()

    async def send(
        self, endpoint: Endpoint, message_id: str, timestamp: float, body: bytes
    ) -> Receipt:
        """Try once, within the deadline. Never raises."""
        try:
            self.check(endpoint.url)
            if endpoint.format is EndpointFormat.APPRISE:
                return await self._apprise.send(endpoint.url, body)
            target = self._guard.target(_bare(endpoint.url))
            headers = _headers(endpoint, message_id, timestamp, body)
        except InvalidRequest as error:
            return Receipt(None, f"refused: {error.message}")
        except (ValueError, TypeError) as error:
            return Receipt(None, f"not delivered: {error}")
        is_slack = endpoint.format is EndpointFormat.SLACK and _is_slacks_own(target)
        return await self._sender.post(Message(target, headers, body, is_slack))

    async def close(self) -> None:
        """Nothing is kept open between two tries."""


def look_up(host: str, port: int) -> list[str]:
    """The addresses of a name by the system's resolver. Blocks; raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def _headers(endpoint: Endpoint, message_id: str, timestamp: float, body: bytes) -> dict[str, str]:
    common = {
        "content-type": "application/json",
        "user-agent": f"training-cluster/{__version__}",
        "accept-encoding": "identity",
    }
    if endpoint.format is not EndpointFormat.STANDARD:
        return common
    return common | signing.headers(endpoint.secrets, message_id, timestamp, body)


def _is_slack_like(url: str) -> bool:
    return url.lower().startswith((f"{_SLACK_PREFIX}https://", f"{_SLACK_PREFIX}http://"))


def _bare(url: str) -> str:
    return url[len(_SLACK_PREFIX) :] if _is_slack_like(url) else url


def _is_slacks_own(target: Target) -> bool:
    return target.host in slack.HOSTS


def _finite(value: object) -> object:
    """JSON knows neither NaN nor infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
