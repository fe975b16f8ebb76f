"""The answers to connections that are closed before the app has seen a request."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus

MOST_URL_BYTES = 8 << 10
MOST_HEAD_BYTES = 64 << 10
MOST_HEADERS = 100


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer in the form of all problems; `detail` says what is right."""

    status: HTTPStatus
    code: str
    detail: str

    def to_wire(self) -> bytes:
        """A whole response with a problem as its body."""
        status = int(self.status)
        content = {"type": self.code, "title": self.status.phrase, "status": status}
        body = json.dumps({**content, "detail": self.detail, "code": self.code}).encode()
        head = (
            f"HTTP/1.1 {status} {self.status.phrase}\r\n"
            f"content-type: application/problem+json\r\ncontent-length: {len(body)}\r\n"
            "connection: close\r\n\r\n"
        )
        return head.encode() + body


NOT_HTTP = Refusal(HTTPStatus.BAD_REQUEST, "bad_request", "this is not a request of HTTP/1.1")
LONG_URL = Refusal(
    HTTPStatus.REQUEST_URI_TOO_LONG,
    "url_too_long",
    f"the address is longer than {MOST_URL_BYTES} bytes",
)
LARGE_HEAD = Refusal(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "headers_too_large",
    f"the headers are more than {MOST_HEADERS} or larger than {MOST_HEAD_BYTES} bytes",
)
ODD_BODY = Refusal(
    HTTPStatus.BAD_REQUEST, "bad_request", "the chunks of the body are more frame than content"
)
SLOW = Refusal(
    HTTPStatus.REQUEST_TIMEOUT, "request_timeout", "the request did not become complete in time"
)
FULL = Refusal(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "too_many_connections",
    "there are as many connections as limits.connections allows",
)
