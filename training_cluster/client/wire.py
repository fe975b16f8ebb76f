"""Sends requests to the daemon and turns what goes wrong into ClientErrors."""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx2

from training_cluster import __version__
from training_cluster.client.errors import ApiError, CannotConnect, ClientError

_PAUSES_SECONDS = (0.1, 0.5, 2.0)
# the connection broke after it stood: the request may or may not have been carried out
_BROKEN = (httpx2.ReadError, httpx2.WriteError, httpx2.CloseError, httpx2.RemoteProtocolError)

_JSON = {"Content-Type": "application/json"}
# a stream without news is kept alive every 15 seconds
_SILENCE_SECONDS = 45.0


class Wire:
    """One daemon's address, and how to talk to it."""

    def __init__(self, base_url: str, token: str | None, timeout: float) -> None:
        self.url, host = _address(base_url)
        headers = {"User-Agent": f"training-cluster/{__version__}", "Accept": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        self._timeout = timeout
        self._http = httpx2.Client(
            base_url=self.url,
            headers=headers,
            timeout=timeout,
            # plain HTTP shows no certificates: loading the authorities took 30 ms of a command
            verify=self.url.startswith("https:"),
            # a proxy of the environment has another loopback than we do
            trust_env=not _is_loopback(host),
        )

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def document(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """The JSON object a request is answered with."""
        return self.parse(self.send(method, path, **options))

    def send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = True,
        accept_status: int | None = None,
    ) -> httpx2.Response:
        """Send a request; one that may be repeated is sent again when the connection breaks.

        Raises ApiError unless the status is 2xx or `accept_status`, and CannotConnect.
        """
        request = self._http.build_request(
            method,
            path,
            params=_given(params or {}),
            content=None if body is None else _encode(body),
            headers={**(headers or {}), **({} if body is None else _JSON)},
        )
        response = self._deliver(request, _PAUSES_SECONDS if repeatable else ())
        if response.is_success or response.status_code == accept_status:
            return response
        raise self._refusal(response)

    def upload(
        self, path: str, content: Iterator[bytes], headers: Mapping[str, str]
    ) -> httpx2.Response:
        """PUT bytes as they come; how long that takes is up to the network. Raises as `send`."""
        request = self._http.build_request(
            "PUT",
            path,
            content=content,
            headers=headers,
            timeout=httpx2.Timeout(self._timeout, read=None, write=_SILENCE_SECONDS),
        )
        response = self._deliver(request, ())
        if response.is_success:
            return response
        raise self._refusal(response)

    @contextmanager
    def open(
        self, path: str, *, params: Mapping[str, Any], headers: Mapping[str, str]
    ) -> Iterator[httpx2.Response]:
        """The answer to a GET, its body still to be read piece by piece. Raises as `send`, also
        while it is read."""
        request = self._http.build_request(
            "GET",
            path,
            params=_given(params),
            headers=headers,
            timeout=httpx2.Timeout(self._timeout, read=max(self._timeout, _SILENCE_SECONDS)),
        )
        try:
            response = self._http.send(request, stream=True)
            try:
                if not response.is_success:
                    response.read()
                    raise self._refusal(response)
                yield response
            finally:
                response.close()
        except httpx2.TransportError as error:
            raise self._nobody(error, was_sent=True) from error

    @contextmanager
    def events(
        self, path: str, *, params: Mapping[str, Any], headers: Mapping[str, str]
    ) -> Iterator[httpx2.EventSource]:
        """The server-sent events that answer a GET. Raises as `open`."""
        wanted = {**headers, "Accept": "text/event-stream", "Cache-Control": "no-store"}
        with self.open(path, params=params, headers=wanted) as response:
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                raise self._stranger()
            yield httpx2.EventSource(response)

    def parse(self, response: httpx2.Response) -> dict[str, Any]:
        """The JSON object in a response."""
        found = _json_object(response)
        if found is None:
            raise self._stranger()
        return found

    def number(self, response: httpx2.Response, header: str) -> int:
        """The number in a header of ours."""
        text = response.headers.get(header, "")
        if not text.isdecimal():
            raise self._stranger()
        return int(text)

    def _deliver(self, request: httpx2.Request, pauses: tuple[float, ...]) -> httpx2.Response:
        was_sent = False
        for pause in (*pauses, None):
            try:
                return self._http.send(request)
            except httpx2.ConnectError as error:
                if pause is None or not was_sent:
                    raise self._nobody(error, was_sent) from error
            except _BROKEN as error:
                was_sent = True
                if pause is None:
                    raise self._nobody(error, was_sent) from error
            except httpx2.TransportError as error:
                raise self._nobody(error, not isinstance(error, httpx2.ConnectTimeout)) from error
            time.sleep(pause)
        raise AssertionError("the last round returns or raises")

    def _nobody(self, error: httpx2.TransportError, was_sent: bool) -> CannotConnect:
        if isinstance(error, httpx2.TimeoutException):
            message = f"{self.url} did not answer within {self._timeout:g} s"
            hint = "the daemon may be busy or stopped: its log says more"
        elif isinstance(error, _BROKEN):
            message = f"{self.url} broke off the connection: {error or type(error).__name__}"
            hint = "the daemon may have been stopped: its log says more"
        else:
            message = f"no daemon answers at {self.url}: {error}"
            hint = "start one with `training-cluster serve`, or name another with --url"
        return CannotConnect(message, hint=hint, was_sent=was_sent)

    def _refusal(self, response: httpx2.Response) -> ClientError:
        body = _json_object(response)
        if body is None:
            return self._stranger(response.status_code)
        retry_after = response.headers.get("retry-after", "")
        return ApiError.from_body(response.status_code, body, retry_after)

    def _stranger(self, status: int | None = None) -> ClientError:
        what = "" if status is None else f" (status {status})"
        message = f"{self.url} answers{what}, but not as a training-cluster daemon does"
        return ClientError(message, hint="another program may have this port: check the URL")


def _address(base_url: str) -> tuple[str, str]:
    """The URL in full and its host. Raises ClientError."""
    text = base_url if "://" in base_url else f"http://{base_url}"
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL:
        url = httpx2.URL("")
    if url.scheme not in ("http", "https") or not url.host:
        raise ClientError(
            f"{base_url!r} is not the URL of a daemon", hint="write it like http://127.0.0.1:23478"
        )
    return text.rstrip("/"), url.host


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _given(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def _encode(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(body, default=str, allow_nan=False).encode()
    except ValueError as error:
        raise ClientError(
            f"the request cannot be written as JSON: {error}",
            hint="NaN and infinity are not numbers of JSON",
        ) from error


def _json_object(response: httpx2.Response) -> dict[str, Any] | None:
    try:
        found = response.json()
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def path_of(kind: str, name: str | int, *more: str) -> str:
    """The path of a job or device; raises ClientError for a name that names nothing."""
    text = str(name)
    if text.strip(". ") == "":
        raise ClientError(f"{text!r} names nothing", hint="jobs and devices have numbers and ids")
    return "/".join(("", kind, quote(text, safe=""), *more))
