"""Routes that are found by a table, and loaded and built when they are first asked for.

FastAPI builds the parameters and models of a route when it is declared, and again when its router
is included. A daemon has some 130 routes, and most are never asked for in its life: here a
declaration is only remembered, and what a route may answer is built for the OpenAPI document alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, cast

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from training_cluster.api.heads import send_head

Answers = Mapping[int | str, dict[str, Any]]
"""OpenAPI's `responses`."""


class LateRoute:
    """A declared route, and whether a path may be its own: an answer that costs no regex."""

    def __init__(self, path: str, build: Callable[[Answers | None], APIRoute]) -> None:
        self._build = build
        self._is_deep = path.endswith(":path}")
        self.segments = tuple(None if "{" in part else part for part in path.split("/"))

    def may_match(self, segments: list[str]) -> bool:
        """Whether literal segments and their number fit."""
        mine = self.segments
        if len(segments) < len(mine) if self._is_deep else len(segments) != len(mine):
            return False
        return all(a is None or a == b for a, b in zip(mine, segments, strict=False))

    @cached_property
    def serving(self) -> APIRoute:
        """The route that answers."""
        return self._build(None)

    def documented(self, everywhere: Answers) -> APIRoute:
        """The route with everything it may answer, beside what any may."""
        return self._build(everywhere)


class LateRouter(APIRouter):
    """Declares routes as APIRouter does, and builds none of them."""

    def __init__(self, *, responses: Answers | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self._answers = responses or {}
        self.declared: list[LateRoute] = []

    def add_api_route(self, path: str, endpoint: Callable[..., Any], **settings: Any) -> None:
        """Remember a route."""

        def build(everywhere: Answers | None) -> APIRoute:
            answers = {**(everywhere or {}), **self._answers, **(settings.get("responses") or {})}
            said = {**settings, "responses": None if everywhere is None else answers}
            return self._built(path, endpoint, said)

        self.declared.append(LateRoute(self.prefix + path, build))

    def _built(self, path: str, endpoint: Callable[..., Any], settings: dict[str, Any]) -> APIRoute:
        super().add_api_route(path, endpoint, **settings)
        return cast(APIRoute, self.routes.pop())


Load = Callable[[], Iterable[LateRouter]]
"""Brings routers whose modules are not needed before."""


class RouteTable(BaseRoute):
    """All late routes of an app, by the first segment of their paths."""

    def __init__(self) -> None:
        self._declared: list[tuple[LateRoute, Answers]] = []
        self._places: dict[str, list[LateRoute]] = {}
        self._missing: dict[str, Load] = {}

    def take(self, routers: Iterable[LateRouter], everywhere: Answers | None = None) -> None:
        """Add the routes of some routers; `everywhere` is what each of them may answer."""
        for route in (route for router in routers for route in router.declared):
            self._declared.append((route, everywhere or {}))
            first = route.segments[1]
            assert first is not None, "a path begins with a word"
            self._places.setdefault(first, []).append(route)

    def take_later(self, firsts: Iterable[str], load: Load) -> None:
        """Add the routes below these first segments when one of them is first asked for."""
        self._missing.update(dict.fromkeys(firsts, load))

    def _take_missing(self, load: Load, routers: Iterable[LateRouter]) -> None:
        firsts = {first for first, each in self._missing.items() if each == load}
        if firsts:  # else another request was first
            self._missing = {f: each for f, each in self._missing.items() if f not in firsts}
            before = set(self._places)
            self.take(routers)
            assert set(self._places) - before <= firsts, "a route is found below its first segment"

    def documented(self) -> Iterator[APIRoute]:
        """The routes as the OpenAPI document shows them, in the order of their declaration."""
        for load in list(self._missing.values()):
            self._take_missing(load, load())
        return (route.documented(everywhere) for route, everywhere in self._declared)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As a list of the routes would match, one after another."""
        segments = _segments(scope)
        if segments[1] in self._missing:
            return Match.FULL, {}
        partial: tuple[Match, Scope] = (Match.NONE, {})
        for route in self._places.get(segments[1], ()):
            if route.may_match(segments):
                match, child = route.serving.matches(scope)
                if match is Match.FULL:
                    return match, child
                if match is Match.PARTIAL and partial[0] is Match.NONE:
                    partial = (match, child)
        return partial

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the route answer that matched; routes that are missing are loaded beside the event
        loop, and looked at then. HEAD is taken where GET is."""
        if load := self._missing.get(_segments(scope)[1]):
            self._take_missing(load, await asyncio.to_thread(load))
            await scope["router"](scope, receive, send)
        elif asked := self._as_get(scope):
            await send_head(asked["route"].handle, asked, receive, send)
        else:
            await scope["route"].handle(scope, receive, send)

    def _as_get(self, scope: Scope) -> Scope | None:
        """What to ask a route for that takes GET but not HEAD; None for every other request. The
        server keeps its own scope, which tells it to send no body."""
        if scope["method"] != "HEAD" or "HEAD" in scope["route"].methods:
            return None
        asked = {**scope, "method": "GET"}
        match, child = self.matches(asked)
        return {**asked, **child} if match is Match.FULL else None


def _segments(scope: Scope) -> list[str]:
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return path.split("/") if "/" in path else ["", path]


class LateApp(FastAPI):
    """An app whose routes are in a table."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.table = RouteTable()
        self.router.routes.append(self.table)

    @property
    def routes(self) -> list[BaseRoute]:
        """What the OpenAPI document is made of."""
        others = [route for route in super().routes if route is not self.table]
        return [*others, *self.table.documented()]
