"""Logging in and out at the page: a token given once becomes a cookie that no script can read."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from training_cluster.api import examples
from training_cluster.api.asking import SESSION_COOKIE, Asking
from training_cluster.api.auth import HINT, BadCredential, Caller
from training_cluster.api.examples import shown
from training_cluster.api.gate import Door
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.pages import PAGE_HEADERS, is_browser
from training_cluster.api.problems import documented
from training_cluster.api.services import Daemon, answer
from training_cluster.api.shape import Shape
from training_cluster.domain.errors import AccessDenied, TooManyFailures
from training_cluster.domain.principal import Principal, Role
from training_cluster.services.sessions import LoggedIn
from training_cluster.ui.login import login_page

router = LateRouter(tags=["access"])

_MOST_BODY_BYTES = 4096
_FORM = "application/x-www-form-urlencoded"
_EXAMPLE = {"user": "alice", "role": "submitter"}


class LoginView(Shape):
    """Who is logged in; `expires_at` is when the cookie ends at the latest, in Unix seconds."""

    user: str
    role: Role
    expires_at: float | None = None


class LogoutView(Shape):
    """The cookie is void."""

    logged_out: bool


_LOGIN_BODY = {
    "required": True,
    "content": {
        media: {
            "schema": {
                "type": "object",
                "properties": {"token": {"type": "string", "maxLength": 128}},
                "required": ["token"],
            },
            "example": {"token": "tq_5f0c9d3a71be_<48 secret characters>"},
        }
        for media in ("application/json", _FORM)
    },
}


@router.get("/login", summary="Who am I", responses=shown(LoginView, _EXAMPLE))
async def show_login(request: Request, caller: Caller) -> Response:
    """Who asks; for a browser the page to log in, which without a token comes with status 401."""
    if is_browser(request.headers):
        return _page(request, 200, who=caller)
    return answer({"user": caller.name, "role": caller.role.value, "expires_at": None})


@router.post(
    "/login",
    summary="Log in with a token",
    responses={
        **shown(LoginView, {**_EXAMPLE, "expires_at": examples.STARTED_AT}),
        303: {"description": "For browsers: on to the front page."},
        **documented(TooManyFailures),
    },
    openapi_extra={"requestBody": _LOGIN_BODY},
)
async def log_in(request: Request, daemon: Daemon) -> Response:
    """Sets a cookie that lives for a week at most, and no longer than the token. Requests that
    change something by cookie must come from our own page (Origin)."""
    asked: Asking = request.state.asking
    door: Door = request.app.state.door
    wants_page = is_browser(request.headers)
    try:
        if not door.access.is_own_site(asked):
            raise AccessDenied("another web site may not log anybody in")
        token = daemon.tokens.verify(await _token_text(request))
        if token is None:
            raise BadCredential(hint=HINT)
    except AccessDenied as error:
        refusal = door.failed(asked, error, daemon)
        if not wants_page:
            raise refusal from None
        status = 429 if isinstance(refusal, TooManyFailures) else 401
        return _page(request, status, said=refusal.message)
    made = await daemon.sessions.log_in(token)
    return _welcome(request, made, wants_page)


@router.post("/logout", summary="Log out", responses=shown(LogoutView, {"logged_out": True}))
async def log_out(request: Request, daemon: Daemon, _: Caller) -> Response:
    """Ends the session of the cookie that is sent along; harmless without one."""
    asked: Asking = request.state.asking
    if asked.session is not None:
        await daemon.sessions.log_out(asked.session)
    if is_browser(request.headers):
        response: Response = RedirectResponse("./login", 303)
    else:
        response = answer({"logged_out": True})
    response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="strict")
    return response


async def _token_text(request: Request) -> str:
    """The token in a form or in JSON; empty for whatever else was sent."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MOST_BODY_BYTES:
            return ""
    text = body.decode("utf-8", "replace")
    is_form = request.headers.get("content-type", "").startswith(_FORM)
    return _form_token(text) if is_form else _json_token(text)


def _form_token(text: str) -> str:
    try:
        return parse_qs(text, max_num_fields=8).get("token", [""])[0].strip()
    except ValueError:  # more fields than that
        return ""


def _json_token(text: str) -> str:
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    token = found.get("token") if isinstance(found, dict) else None
    return token.strip() if isinstance(token, str) else ""


def _welcome(request: Request, made: LoggedIn, wants_page: bool) -> Response:
    session, token = made.session, made.token
    if wants_page:
        response: Response = RedirectResponse("./", 303)
    else:
        content = {"user": token.user, "role": token.role.value, "expires_at": session.expires_at}
        response = answer(content)
    response.set_cookie(
        SESSION_COOKIE,
        made.secret,
        max_age=int(session.expires_at - session.created_at),
        secure=_came_by_https(request),
        httponly=True,
        samesite="strict",
    )
    return response


def _came_by_https(request: Request) -> bool:
    """Whether the browser's own connection is encrypted; a tunnel says so in a header."""
    forwarded = request.headers.get("x-forwarded-proto", "").split(",")[0].strip().lower()
    return "https" in (request.url.scheme, forwarded)


def _page(
    request: Request, status: int, *, said: str = "", who: Principal | None = None
) -> Response:
    name = f"{who.name}, {who.role}" if who else None
    return HTMLResponse(login_page("/login", said=said, who=name), status, PAGE_HEADERS)
