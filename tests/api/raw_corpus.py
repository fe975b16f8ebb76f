"""Requests as bytes that no client library would send: a corpus made by hand, and mutants of it.

schemathesis speaks through an HTTP library and valid JSON; what comes here is what scanners,
broken proxies and people with time send."""

# ruff: noqa: E501, RUF001 - the odd characters are meant

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Iterator

Case = tuple[str, bytes]

HOST = b"Host: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"
CLOSE = b"Connection: close\r\n"

READS = [
    "/",
    "/train",
    "/train/1",
    "/train/1/logs",
    "/train/1/metrics",
    "/queue",
    "/devices",
    "/webhooks",
    "/events",
    "/healthz",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/train/1/logs/stream",
    "/train/1/metrics/stream",
    "/tokens",
    "/models",
    "/models/x",
    "/base-models",
    "/models/x/download",
    "/models/x/files/y",
    "/models/x/card",
    "/train/1/evaluation",
    "/login",
    "/api/v1/environments",
    "/api/v1/environments/x",
    "/api/v1/runs",
    "/api/v1/runs/x",
    "/api/v1/training",
    "/api/v1/training/names",
    "/api/v1/training/job/1",
    "/api/v1/training/x",
    "/api/v1/training/x/runs",
    "/api/v1/training/x/url",
    "/api/v1/training/x/upload-url",
    "/events/stream",
    "/webhooks/x",
    "/webhooks/x/deliveries",
    "/webhooks/x/deliveries/1",
    "/v1/fine_tuning/jobs",
    "/v1/files",
    "/v1/files/x",
    "/v1/files/x/content",
    "/v1/models",
    "/v1/models/x",
    "/v1/fine_tuning/jobs/1",
    "/v1/fine_tuning/jobs/1/events",
    "/v1/fine_tuning/jobs/1/checkpoints",
    "/datasets",
    "/datasets/1",
    "/datasets/1/preview",
    "/datasets/1/content",
    "/uploads",
    "/uploads/x",
    "/v1/version",
    "/v1/get-upload-base-path",
    "/v1/train/jobs",
    "/v1/train/jobs/1",
    "/v1/train/jobs/1/eval",
    "/tune/1",
    "/v1alpha/downloaded_models",
]
WRITES = [
    "POST /train",
    "DELETE /train/1",
    "PUT /devices/cpu:0/hold",
    "DELETE /devices/cpu:0/hold",
    "POST /webhooks",
    "DELETE /webhooks/x",
    "POST /webhooks/x/rotate",
    "POST /webhooks/x/test",
    "POST /webhooks/x/replay",
    "POST /webhooks/x/deliveries/1/replay",
    "POST /webhooks/x/enable",
    "POST /train/1/pause",
    "POST /train/1/resume",
    "POST /train/1/retry",
    "POST /devices/x/quarantine",
    "DELETE /devices/x/quarantine",
    "PUT /devices/x/tolerance",
    "DELETE /devices/x/tolerance",
    "POST /tokens",
    "DELETE /tokens/x",
    "POST /login",
    "POST /api/v1/runs",
    "POST /api/v1/training",
    "POST /api/v1/training/x/add",
    "POST /api/v1/training/x/build",
    "POST /api/v1/training/x/dataset",
    "POST /api/v1/training/x/start",
    "POST /api/v1/training/x/cancel",
    "POST /logout",
    "POST /prune",
    "POST /v1/fine_tuning/jobs",
    "POST /v1/files",
    "DELETE /v1/files/x",
    "POST /v1/uploads",
    "POST /v1/uploads/x/parts",
    "POST /v1/uploads/x/complete",
    "POST /v1/uploads/x/cancel",
    "DELETE /v1/models/x",
    "POST /v1/fine_tuning/jobs/1/cancel",
    "POST /v1/fine_tuning/jobs/1/pause",
    "POST /v1/fine_tuning/jobs/1/resume",
    "PATCH /models/x",
    "POST /base-models",
    "POST /models/x/export",
    "POST /models/x/evaluate",
    "DELETE /models/x",
    "PUT /models/x/aliases/y",
    "DELETE /models/x/aliases/y",
    "POST /datasets",
    "POST /datasets/import",
    "DELETE /datasets/1",
    "PATCH /datasets/1",
    "POST /uploads",
    "PUT /uploads/x",
    "DELETE /uploads/x",
    "HEAD /uploads/x",
    "POST /v1/train",
    "POST /v1/train/jobs/cancel",
    "POST /v1/train/jobs/1/cancel",
    "POST /v1/train/jobs/1/resume",
    "POST /v1/local-data",
    "POST /v1/existing-data",
    "POST /v1/data",
    "POST /v1/data/num-datapoints",
    "PUT /v1/data/1",
    "POST /v1alpha/downloaded_models",
]

ODD_PATHS = (
    "", "*", "//", "/.", "/..", "/../../etc/passwd", "/train/..%2f..%2fetc", "/train/%2e%2e/%2e%2e",
    "/train/%00", "/train/1%00", "/train/%ff%fe", "/train/%c0%ae%c0%ae", "/train/%ed%a0%80",
    "/train/%u0031", "/train/%", "/train/%1", "/train/%zz", "/train/%0d%0aX:%20y", "/train/1%2flogs",
    "/train/%252e%252e", "/train/" + "9" * 400, "/train/-1", "/train/1e9", "/train/１",
    "/train/" + "a" * 4000, "/train/1;x=y", "/train/1?", "/train/1#x", "/train/\\..\\..",
    "/train/~root", "/train/$HOME", "/train/${7*7}", "/train/{{7*7}}", "/train/%s%n%x",
    "/train/'%20OR%201=1--", "/train/1'%3bDROP%20TABLE%20jobs%3b--", "/train/<script>",
    "/train/1/logs/../../..", "/train/1/logs%3fraw=1", "/static/../../etc/passwd", "/.git/config",
    "/.env", "/wp-login.php", "/cgi-bin/.%2e/.%2e/bin/sh", "/devices/..%2f/hold",
    "/devices/%00/hold", "/webhooks/..%2f..%2fqueue.db", "/webhooks/%00", "/webhooks/wh_" + "0" * 20,
    "http://localhost/train", "http://127.0.0.1:1/train", "https://169.254.169.254/latest/meta-data",
    "http://", "http:///train", "localhost:80", "//evil.example/train", "/train//1", "/TRAIN",
    "ftp://localhost/train", "file:///etc/passwd", "/train/1/logs/stream/x", "/docs/../queue",
)  # fmt: skip

ODD_VALUES = (
    "", "-1", "0", "1e999", "NaN", "Infinity", "9" * 30, "9" * 5000, "1.5", "true", "null", "%00",
    "%ff", "%ed%a0%80", "a" * 3000, "%0d%0a", "1,2", "[]", "{}", "..%2f..", "'", "%25s", "１２",
    "0x10", "+1", "%2b1", "%201", "1%20", "1_000", "-0", "18446744073709551616",
    "4611686018427387905",
)  # fmt: skip
QUERIES = [
    "/train?status=",
    "/train?user=",
    "/train?limit=",
    "/train?cursor=",
    "/train/1/logs?tail=",
    "/train/1/logs?offset=",
    "/train/1/logs?attempt=",
    "/train/1/logs?raw=",
    "/train/1/metrics?names=",
    "/train/1/metrics?points=",
    "/train/1/metrics?full=",
    "/train/1/metrics?after=",
    "/train/1/metrics?limit=",
    "/train/1/metrics?cursor=",
    "/events?after=",
    "/events?limit=",
    "/events?job=",
    "/events?type=",
    "/events?latest=",
    "/train/1/logs/stream?offset=",
    "/train/1/logs/stream?tail=",
    "/train/1/metrics/stream?after=",
    "/webhooks/x/deliveries?limit=",
    "/webhooks/x/deliveries?state=",
    "/train?kind=",
    "/models?name=",
    "/models?user=",
    "/models?kind=",
    "/models?deleted=",
    "/models?limit=",
    "/models?cursor=",
    "/api/v1/training?limit=",
    "/api/v1/training?offset=",
    "/api/v1/training?status=",
    "/api/v1/training/names?limit=",
    "/api/v1/training/x/runs?offset=",
    "/api/v1/training/job/1?sync=",
    "/api/v1/runs?tag=",
    "/api/v1/runs?status=",
    "/datasets/x/content?expires=1&user=x&token=&signature=",
    "/train?unknown=",
    "/train?limit=1&limit=",
    "/train?",
]

ODD_HEADERS = (
    b"Content-Length: 5\r\nContent-Length: 6\r\n",
    b"Content-Length: 5, 6\r\n",
    b"Content-Length: +5\r\n",
    b"Content-Length: 0x5\r\n",
    b"Content-Length: 99999999999999999999999\r\n",
    b"Content-Length: 18446744073709551615\r\n",
    b"Content-Length: 5 5\r\n",
    b"Content-Length:\r\n",
    b"Content-Length: \xc2\xb2\r\n",
    b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked, identity\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding: xchunked\r\n",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding :chunked\r\n",
    b"Transfer-Encoding:\x0bchunked\r\n",
    b"X: a\r\n b\r\n",
    b"X: a\r\n\tb\r\n",
    b" X: leading\r\n",
    b"X\x00: y\r\n",
    b"X: \x00\r\n",
    b"X: \x01\x7f\xff\r\n",
    b"X : y\r\n",
    b": y\r\n",
    b"no colon\r\n",
    b"X: a\rY: b\r\n",
    b"X: a\nY: b\n",
    b"Host: evil.example\r\n",
    b"Host: localhost:99999\r\nHost: localhost\r\n",
    b"Host: [::1\r\n",
    b"Host: [x]y\r\n",
    b"Host: [::1%25lo]\r\n",
    b"Host: \xff\r\n",
    b"Origin: http://[::1\r\n",
    b"Origin: null\r\n",
    b"Origin: \xff\xfe\r\n",
    b"Sec-Fetch-Site: cross-site\r\n",
    b"Accept: */*;q=x\r\n",
    b"Accept: text/csv;q=9e999\r\n",
    b"Accept: " + b"text/html," * 500 + b"\r\n",
    b"Accept: \xff\r\n",
    b"Accept-Encoding: gzip, br, zstd, \x80\r\n",
    b"Authorization: Bearer \xff\r\n",
    b"Authorization: Bearer tq_\r\n",
    b"Authorization: Basic %%%\r\n",
    b"Authorization: Digest " + b"x" * 9000 + b"\r\n",
    b"Cookie: " + b"a=b; " * 1000 + b"\r\n",
    b'Cookie: a="\\400\\777"; \xff=\xfe\r\n',
    b"Range: bytes=0-0,1-1\r\n",
    b"Range: bytes=-0\r\n",
    b"Range: bytes=99999999999999999999-\r\n",
    b"Range: bytes=" + b"0-1," * 2000 + b"\r\n",
    b"Range: lines=\xff\r\n",
    b"If-None-Match: \xff\r\n",
    b"Last-Event-ID: \xff\r\n",
    b"Last-Event-ID: 1:99999999999999999999\r\n",
    b"Last-Event-ID: -1\r\n",
    b"Last-Event-ID: \xef\xbc\x91\r\n",
    b"Idempotency-Key: \xff\x80\r\n",
    b"Idempotency-Key: \r\n",
    b"Idempotency-Key: " + b"k" * 256 + b"\r\n",
    b"Idempotency-Key: ../../x\r\n",
    b"Content-Type: application/json; charset=utf-16\r\n",
    b"Content-Type: application/json; charset=\xff\r\n",
    b"Content-Type: multipart/form-data\r\n",
    b"Content-Type: multipart/form-data; boundary=" + b"-" * 300 + b"\r\n",
    b"Content-Type: application/x-www-form-urlencoded\r\n",
    b"Content-Type: application/;\r\n",
    b"Content-Type: \r\n",
    b"Content-Type: \xff\r\n",
    b"Expect: 100-continue\r\n",
    b"Expect: 200-ok\r\n",
    b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n",
    b"Connection: upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
    b"Connection: Content-Type, Host\r\n",
    b"Keep-Alive: timeout=99999999999\r\nConnection: keep-alive\r\n",
    b"X-Forwarded-For: 127.0.0.1, \xff\r\nForwarded: for=_\r\n",
    b"X-HTTP-Method-Override: DELETE\r\n",
    b"Trailer: Content-Length\r\nTE: trailers\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Content-Encoding: br, \xff\r\n",
)

_DEEP = 100_000
ODD_BODIES = (
    b"",
    b" ",
    b"\x00",
    b"null",
    b"true",
    b"0",
    b"-",
    b'""',
    b"[]",
    b"[{}]",
    b"{",
    b"}",
    b"{]",
    b"{}{}",
    b"{},",
    b"\xef\xbb\xbf{}",
    b"\xff\xfe{\x00}\x00",
    b"\x00\x00\x00{",
    b"{'a': 1}",
    b"{a: 1}",
    b'{"a": 1,}',
    b'{"lora_name": "\xff"}',
    b'{"lora_name": "\xed\xa0\x80"}',
    b'{"lora_name": "\\ud800"}',
    b'{"lora_name": "\\ud83d\\ud83d"}',
    b'{"lora_name": "\\u0000"}',
    b'{"\\u0000": 1}',
    b'{"\\ud800": 1}',
    b'{"lora_name": "a\\nb"}',
    b'{"lora_name": "\xe2\x80\xae"}',
    b'{"lora_name": "' + b"a" * 900_000 + b'"}',
    b'{"lora_name": 1e400}',
    b'{"lora_name": ' + b"9" * 5000 + b"}",
    b'{"lora_version": ' + b"9" * 4301 + b"}",
    b'{"lora_version": -1e308}',
    b'{"cutoff_len": ' + b"9" * 100_000 + b"}",
    b'{"cutoff_len": -9223372036854775809}',
    b'{"cutoff_len": 1e300}',
    b'{"num_epochs": NaN}',
    b'{"num_epochs": -Infinity}',
    b'{"num_epochs": 1e999}',
    b'{"num_epochs": 0.' + b"0" * 50_000 + b"1}",
    b'{"num_epochs": "1e999"}',
    b'{"num_epochs": "nan"}',
    b'{"learning_rate": "0x1p3"}',
    b'{"learning_rate": "\\u0661"}',
    b'{"priority": 1, "priority": 2}',
    b'{"overrides": {"seed": 1, "seed": 2}}',
    b'{"overrides": {"seed": 18446744073709551616}}',
    b'{"overrides": {"": 1}}',
    b'{"overrides": {"__class__": 1, "__proto__": {}}}',
    b'{"overrides": {"' + b"k" * 100_000 + b'": 1}}',
    b'{"depends_on": [' + b'"1",' * 1000 + b'"1"]}',
    b'{"depends_on": [' + b"[" * 150 + b"]" * 150 + b"]}",
    b'{"depends_on": ["' + b"9" * 64 + b'"]}',
    b'{"tracking": {"tags": [' + b'"t",' * 40 + b'"t"]}}',
    b'{"tracking_backend": [[], {}, null]}',
    b'{"tracking_backend": [["wandb"]]}',
    b'{"model_name": "~/x"}',
    b'{"model_name": "/proc/self/environ"}',
    b'{"model_name": "file:///etc"}',
    b'{"model_name": "-x/y"}',
    b'{"model_name": "a/b\\n"}',
    b'{"model_name": "\\u0000/etc"}',
    b'{"model_name": "/' + b"a/" * 500 + b'"}',
    b'{"model_name": "/' + b"a" * 1000 + b'"}',
    b'{"webhook_url": "https://[::1"}',
    b'{"webhook_url": "https://\\u0000"}',
    b'{"webhook_url": "https://' + b"a" * 2000 + b'/"}',
    b'{"webhook_url": "slack://"}',
    b'{"url": "https://[::1"}',
    b'{"url": "https://webhook.invalid/", "events": ["job.queued", "x"]}',
    b'{"url": "https://webhook.invalid/", "description": "' + b"d" * 5000 + b'"}',
    b'{"url": "https://webhook.invalid/", "only_user": "\\u202e"}',
    b'{"reason": "x", "seconds": 1e308}',
    b'{"reason": "\\u2028", "seconds": 1}',
    b'{"reason": null}',
    b'{"gpus": 1, ' + b" " * 500_000 + b"}",
    b'{"a":' * _DEEP + b"1" + b"}" * _DEEP,
    b"[" * _DEEP,
    b"[" * _DEEP + b"]" * _DEEP,
    b'{"overrides":' * 190 + b"{}" + b"}" * 190,
    b'{"overrides":' * 300 + b"{}" + b"}" * 300,
    b"{" + b",".join(b'"k%d": %d' % (number, number) for number in range(20_000)) + b"}",
)  # fmt: skip

FORMS = (
    b"token=x",
    b"token=tq_a_b&token=",
    b"&".join([b"a=b"] * 500),
    b"token=%ff%00",
    b"token",
    b"&&&",
    b"%",
    b"\xff=\xfe",
    b"token=" + b"t" * 100_000,
)
CHUNKS = (
    b"0\r\n\r\n",
    b"2\r\n{}\r\n0\r\n\r\n",
    b"2;ext=1\r\n{}\r\n0\r\n\r\n",
    b"02\r\n{}\r\n000\r\n\r\n",
    b"2\n{}\n0\n\n",
    b"2\r\n{}0\r\n\r\n",
    b"3\r\n{}\r\n0\r\n\r\n",
    b"-2\r\n{}\r\n0\r\n\r\n",
    b"0x2\r\n{}\r\n0\r\n\r\n",
    b"+2\r\n{}\r\n0\r\n\r\n",
    b"2 \r\n{}\r\n0\r\n\r\n",
    b"ffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    b"fffffffffffffffff\r\n{}\r\n",
    b"7fffffffffffffff\r\n{}\r\n",
    b"\r\n{}\r\n0\r\n\r\n",
    b"g\r\n{}\r\n0\r\n\r\n",
    b"2\r\n{}\r\n0\r\nTrailer: x\r\n\r\n",
    b"2\r\n{}\r\n0\r\nContent-Length: 5\r\n\r\n",
    b"2\r\n{}\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"2\r\n{}\r\n0\r\n: x\r\n\r\n",
    b"2;" + b"e" * 60_000 + b"\r\n{}\r\n0\r\n\r\n",
    b"1\r\n{\r\n" * 1 + b"1\r\n}\r\n0\r\n\r\n",
    b"1\r\n \r\n" * 5000 + b"2\r\n{}\r\n0\r\n\r\n",
)
BOMBS = (
    ("gzip", gzip.compress(b"\0" * (10 << 20))),
    ("gzip", gzip.compress(b"{}")),
    ("deflate", zlib.compress(b" " * (10 << 20))),
    ("br", b"\x0b\x00\x80\x7b\x7d\x03"),
    ("gzip, gzip", gzip.compress(gzip.compress(b"\0" * (10 << 20)))),
)
NO_HTTP = (
    b"\r\n" * 100 + b"GET / HTTP/1.1\r\n\r\n",
    b"\n\n\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    b"SSH-2.0-OpenSSH_9.6\r\n",
    b"*1\r\n$4\r\nPING\r\n",
    b"\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x03\x00\x00\x00",
    b"GET /\r\n\r\n",
    b"GET / HTTP/0.9\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET / HTTP/2.0\r\n\r\n",
    b"GET / HTTP/1.1.1\r\n\r\n",
    b"GET / http/1.1\r\n\r\n",
    b"GET  /  HTTP/1.1\r\n\r\n",
    b"GET\t/\tHTTP/1.1\r\n\r\n",
    b" GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\r\n\r\n",
    b"GET / HTTP/1.1\n\n",
    b"GET / HTTP/1.1 extra\r\n\r\n",
    b"get / HTTP/1.1\r\n\r\n",
    b"G\x00T / HTTP/1.1\r\n\r\n",
    b"GET /\x00 HTTP/1.1\r\n\r\n",
    b"GET /\xff\xfe HTTP/1.1\r\n\r\n",
    b"GET /train/\xc3\xa9 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"CONNECT localhost:22 HTTP/1.1\r\nHost: localhost:22\r\n\r\n",
    b"CONNECT /train HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"SOURCE / ICE/1.0\r\n\r\n",
    b"DESCRIBE rtsp://localhost/ RTSP/1.0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    bytes(range(256)) * 4,
    b"\xff" * 5000,
    b"\x00" * 5000,
)
METHODS = [
    "OPTIONS",
    "HEAD",
    "TRACE",
    "PATCH",
    "PUT",
    "POST",
    "DELETE",
    "GET",
    "CONNECT",
    "PROPFIND",
    "MKCOL",
    "COPY",
    "MOVE",
    "LOCK",
    "SEARCH",
    "PURGE",
    "SUBSCRIBE",
    "M-SEARCH",
    "LINK",
    "QUERY",
    "FOO",
    "get",
    "P",
]


def request(method: str, path: str, headers: bytes = b"", body: bytes | None = None) -> bytes:
    """A whole request; with a body it has its length."""
    head = f"{method} {path} HTTP/1.1\r\n".encode("utf-8", "surrogatepass") + HOST + CLOSE + headers
    if body is None:
        return head + b"\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def hand_made() -> Iterator[Case]:
    """The corpus, each with a word on what it is."""
    yield from ((f"no http {data[:20]!r}", data) for data in NO_HTTP)
    for path in (*READS, *ODD_PATHS):
        yield from ((f"{method} {path}", request(method, path)) for method in METHODS)
    for query in QUERIES:
        yield from ((query + value, request("GET", query + value)) for value in ODD_VALUES)
    for write in WRITES:
        method, path = write.split()
        yield from _writes(method, path)
    for path in READS:
        for headers in ODD_HEADERS:
            yield f"GET {path} with {headers[:40]!r}", request("GET", path, headers)
    yield from _several()


def _writes(method: str, path: str) -> Iterator[Case]:
    name = f"{method} {path}"
    for body in ODD_BODIES:
        yield f"{name} {body[:40]!r}", request(method, path, JSON, body)
    for headers in ODD_HEADERS:
        yield f"{name} with {headers[:40]!r}", request(method, path, headers, b"{}")
        plain = request(method, path, JSON + headers)
        yield f"{name} with {headers[:40]!r} and 5 bytes", plain + b"{   }"
    for chunks in CHUNKS:
        headers = JSON + b"Transfer-Encoding: chunked\r\n"
        yield f"{name} in chunks {chunks[:20]!r}", request(method, path, headers) + chunks
    for encoding, body in BOMBS:
        headers = JSON + f"Content-Encoding: {encoding}\r\n".encode()
        yield f"{name} in {encoding}", request(method, path, headers, body)
    for body in FORMS:
        headers = b"Content-Type: application/x-www-form-urlencoded\r\n"
        yield f"{name} as a form {body[:30]!r}", request(method, path, headers, body)
    for kind in (b"text/plain", b"application/xml", b"multipart/form-data; boundary=x", b"a"):
        headers = b"Content-Type: " + kind + b"\r\n"
        yield f"{name} as {kind!r}", request(method, path, headers, b'{"gpus": 1}')


def _several() -> Iterator[Case]:
    """More than one request in one go."""
    get = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
    yield "many in one go", get * 200 + request("GET", "/train")
    smuggled = b"POST /train HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 4\r\n"
    yield "smuggled", smuggled + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + get
    yield "smuggled the other way", smuggled + b"\r\n{}\r\nGET /train HTTP/1.1\r\n" + HOST + b"\r\n"
    yield "garbage behind", get + b"\x00\xff" * 100
    yield "half a head behind", get + b"GET /train HT"
    yield "a body that never comes", smuggled + b"\r\n"
    yield "a stream and more", request("GET", "/events/stream") + get


def mutants(seed: int) -> Iterator[Case]:
    """The corpus with bytes changed, without end; the same for the same seed."""
    chance = random.Random(seed)
    originals = [case for case in hand_made() if len(case[1]) < 20_000]
    while True:
        name, data = chance.choice(originals)
        for _ in range(chance.choice((1, 1, 2, 5))):
            data = chance.choice(_MUTATIONS)(chance, data)
        yield f"a mutant of {name}", data


def _flip(chance: random.Random, data: bytes) -> bytes:
    place = chance.randrange(len(data) or 1)
    return data[:place] + bytes([chance.randrange(256)]) + data[place + 1 :]


def _cut(chance: random.Random, data: bytes) -> bytes:
    start = chance.randrange(len(data) or 1)
    return data[:start] + data[start + chance.randrange(1, 30) :]


def _end_early(chance: random.Random, data: bytes) -> bytes:
    return data[: chance.randrange(len(data) or 1)]


def _repeat(chance: random.Random, data: bytes) -> bytes:
    start = chance.randrange(len(data) or 1)
    end = start + chance.randrange(1, 60)
    return data[:end] + data[start:end] * chance.choice((1, 2, 50)) + data[end:]


def _insert(chance: random.Random, data: bytes) -> bytes:
    place = chance.randrange(len(data) or 1)
    return data[:place] + chance.choice(_MORSELS) + data[place:]


def _splice(chance: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\r\n")
    lines.insert(chance.randrange(len(lines) + 1), chance.choice(ODD_HEADERS).rstrip(b"\r\n"))
    return b"\r\n".join(lines)


_MORSELS = (
    b"\x00", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"%00", b"%ff", b"../", b"\xff", b"\xed\xa0\x80",
    b'"', b"{", b"[", b"\\ud800", b"1e999", b"NaN", b"-", b"9" * 400, b":", b" ", b"\t", b"?", b"#",
    b"&limit=", b"%2f", b"${", b"\x80", b"; q=1", b"chunked", b"null", b"\xe2\x80\xa8",
)  # fmt: skip
_MUTATIONS = (_flip, _flip, _cut, _end_early, _repeat, _insert, _insert, _splice)
