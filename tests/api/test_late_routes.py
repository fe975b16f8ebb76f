"""The table of late routes finds what a list of routes finds, and builds what is asked for."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys

import pytest
from fastapi import FastAPI
from starlette.routing import Match

from training_cluster.api.app import create_app
from training_cluster.api.auth import Access
from training_cluster.api.late_routes import LateApp, LateRouter

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


async def never(*_):
    raise AssertionError


def whole_app() -> LateApp:
    app = create_app(never, Access("local", never))
    assert isinstance(app, LateApp)
    return app


def paths(app: FastAPI) -> list[str]:
    """Of every route one that fits, and some beside it."""
    templates = {route.path for route in app.routes}
    fitting = {re.sub(r"\{[^}]*\}", word, path) for path in templates for word in ("x", "names")}
    nearly = {
        changed
        for path in fitting
        for changed in (f"{path}/", f"{path}/x", f"{path}//x", path.rpartition("/")[0], path[1:])
    }
    return sorted(fitting | nearly | {"", "/", "//", "/v1/models/a/b/c", "/v1/models/"})


def by_list(routes, scope):
    """The first full match, else the first partial one, as Starlette's router looks."""
    found = [(route, *route.matches(scope)) for route in routes]
    for wanted in (Match.FULL, Match.PARTIAL):
        for route, match, child in found:
            if match is wanted:
                return match, route.path, child["path_params"]
    return Match.NONE, None, None


def by_table(app: LateApp, scope):
    match, child = app.table.matches(scope)
    if match is Match.NONE:
        return match, None, None
    return match, child["route"].path, child["path_params"]


def test_the_table_finds_what_a_list_of_the_same_routes_finds() -> None:
    app = whole_app()
    routes = list(app.table.documented())
    found = 0
    for path in paths(app):
        for method in METHODS:
            scope = {"type": "http", "method": method, "path": path, "root_path": ""}
            expected = by_list(routes, scope)
            assert by_table(app, scope) == expected, (method, path)
            found += expected[0] is Match.FULL
    assert found > len(routes)


def test_a_prefix_that_a_proxy_has_taken_away_is_no_part_of_the_path() -> None:
    app = whole_app()
    scope = {"type": "http", "method": "GET", "path": "/queue/train", "root_path": "/queue"}
    assert by_table(app, scope) == (Match.FULL, "/train", {})


def test_a_line_break_at_the_end_of_a_path_is_a_part_of_it() -> None:
    # to the regex of a route it is not, to the gate and to counters it is
    scope = {"type": "http", "method": "GET", "path": "/healthz\n", "root_path": ""}
    assert by_table(whole_app(), scope) == (Match.NONE, None, None)


def test_a_route_is_built_when_it_is_first_asked_for() -> None:
    router, built = LateRouter(prefix="/things"), []

    class Seen(router.route_class):
        def __init__(self, *arguments, **named) -> None:
            built.append(arguments[0])
            super().__init__(*arguments, **named)

    router.route_class = Seen

    @router.get("/{key}")
    async def look(key: str) -> str:
        return key

    @router.get("/{key}/inside")
    async def look_inside(key: str) -> str:
        return key

    app = LateApp()
    app.table.take([router])
    assert built == []
    scope = {"type": "http", "method": "GET", "path": "/things/7", "root_path": ""}
    for _ in range(2):
        assert by_table(app, scope) == (Match.FULL, "/things/{key}", {"key": "7"})
    assert built == ["/things/{key}"]


@pytest.mark.parametrize("path", ["/things", "/things/{key}"])
def test_what_a_route_may_answer_is_in_the_document(path: str) -> None:
    router = LateRouter(tags=["things"], responses={409: {"description": "of the router"}})

    @router.get(path, responses={404: {"description": "of the route"}})
    async def look() -> str:
        return ""

    app = LateApp()
    app.table.take([router], {409: {"description": "hidden"}, 503: {"description": "of any"}})
    answers = app.openapi()["paths"][path]["get"]["responses"]
    said = {status: answers[status]["description"] for status in ("404", "409", "503")}
    assert said == {"404": "of the route", "409": "of the router", "503": "of any"}


async def answered(app: LateApp, method: str, path: str) -> tuple[int, bytes]:
    """Ask the app itself, without a server."""
    said: list[dict] = []

    async def send(message) -> None:
        said.append(message)

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
        "root_path": "",
        "scheme": "http",
        "server": ("localhost", 80),
        "client": ("localhost", 1),
        "http_version": "1.1",
    }
    await app(scope, receive, send)
    return said[0]["status"], b"".join(message.get("body", b"") for message in said)


def app_with_a_far_router() -> tuple[LateApp, list[str]]:
    router, loaded = LateRouter(prefix="/far"), []

    @router.get("/{key}")
    async def look(key: str) -> str:
        return key

    def load() -> list[LateRouter]:
        loaded.append("far")
        return [router]

    app = LateApp()
    app.table.take_later(["far"], load)
    return app, loaded


async def test_routes_are_loaded_with_the_first_request_below_their_segment() -> None:
    app, loaded = app_with_a_far_router()
    assert (await answered(app, "GET", "/near/7"))[0] == 404
    assert loaded == []
    both = await asyncio.gather(*(answered(app, "GET", f"/far/{key}") for key in "78"))
    assert both == [(200, b'"7"'), (200, b'"8"')]
    before = list(loaded)
    assert await answered(app, "GET", "/far/9") == (200, b'"9"')
    assert loaded == before
    assert len(list(app.table.documented())) == 1


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/far/7", 405), ("GET", "/far/7/8", 404), ("GET", "/far/7/", 307)],
)
async def test_the_first_request_may_be_wrong(method: str, path: str, status: int) -> None:
    app, _ = app_with_a_far_router()
    assert (await answered(app, method, path))[0] == status


def test_the_document_has_what_was_not_loaded_yet() -> None:
    app, _ = app_with_a_far_router()
    assert list(app.openapi()["paths"]) == ["/far/{key}"]


def test_the_daemon_loads_no_dialect_before_it_is_asked_for() -> None:
    code = "import sys, training_cluster.daemon; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    dialects = {name for name in told.stdout.split() if name.count("dialects.") == 1}
    assert {name.split("dialects.")[1] for name in dialects} == {"errors"}
