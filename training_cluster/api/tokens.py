"""The native API's tokens: make, list, revoke."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body, Path, Query, Response
from pydantic import Field

from training_cluster.api.auth import Caller, Submitter
from training_cluster.api.examples import STARTED_AT, shown
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.problems import documented
from training_cluster.api.schemas import Name
from training_cluster.api.services import Daemon, answer
from training_cluster.api.shape import Shape
from training_cluster.api.strict_json import StrictJsonRoute
from training_cluster.api.strict_model import Strict
from training_cluster.api.webhook_views import Remark
from training_cluster.domain.errors import Conflict, TokenNotFound
from training_cluster.domain.principal import Role
from training_cluster.domain.token import Token
from training_cluster.services.tokens import NewToken

router = LateRouter(route_class=StrictJsonRoute, tags=["access"])

_YEARS = 10 * 366 * 24 * 3600.0

TokenId = Annotated[str, Path(max_length=64)]


class TokenRequest(Strict):
    """A token somebody asks for."""

    user: Name | None = Field(None, description="Whose it becomes; for others only by admins.")
    role: Role | None = Field(None, description="Not above one's own; left out: submitter.")
    label: Remark = Field("", description="What it is for.")
    expires_in_seconds: float | None = Field(
        None, gt=0, le=_YEARS, description="Left out: valid until it is revoked."
    )


class TokenView(Shape):
    """A token without its secret. Times are Unix seconds; `last_used_at` is up to a minute
    behind."""

    token_id: str
    user: str
    role: Role
    label: str
    made_by: str
    created_at: float
    expires_at: float | None
    last_used_at: float | None
    revoked_at: float | None


class IssuedView(TokenView):
    """A new token; `token` is shown this once."""

    token: str


class TokensView(Shape):
    """The tokens one may see, oldest first."""

    tokens: list[TokenView]


_TOKEN: dict[str, Any] = {
    "token_id": "5f0c9d3a71be",
    "user": "alice",
    "role": "submitter",
    "label": "laptop",
    "made_by": "root",
    "created_at": STARTED_AT,
    "expires_at": None,
    "last_used_at": STARTED_AT + 60,
    "revoked_at": None,
}
_ISSUED = {**_TOKEN, "last_used_at": None, "token": "tq_5f0c9d3a71be_<48 secret characters>"}
_REVOKED = {**_TOKEN, "revoked_at": STARTED_AT + 120}
_REQUESTS: dict[str, Any] = {
    "for somebody's laptop": {"value": {"user": "alice", "label": "laptop"}},
    "to look only, for a day": {"value": {"role": "viewer", "expires_in_seconds": 86400}},
}
_CREATED = {"model": IssuedView, "content": {"application/json": {"example": _ISSUED}}}


@router.post(
    "/tokens",
    status_code=201,
    summary="Make a token",
    responses={201: _CREATED, **documented(Conflict)},
)
async def create_token(
    body: Annotated[TokenRequest, Body(openapi_examples=_REQUESTS)],
    daemon: Daemon,
    caller: Submitter,
) -> Response:
    """Its text is in this answer and in no other. One made with a token does not outlive that."""
    wanted = NewToken(
        user=body.user, role=body.role, label=body.label, seconds=body.expires_in_seconds
    )
    issued = await daemon.tokens.create(wanted, caller)
    headers = {"Cache-Control": "no-store"}
    return answer({**_token(issued.token), "token": issued.text}, 201, headers)


@router.get("/tokens", summary="List tokens", responses=shown(TokensView, {"tokens": [_TOKEN]}))
async def list_tokens(
    daemon: Daemon,
    caller: Caller,
    revoked: Annotated[bool, Query(description="Those that are revoked, too.")] = False,
) -> Response:
    """One's own, oldest first; admins see everybody's."""
    found = daemon.tokens.visible(caller, revoked=revoked)
    return answer({"tokens": [_token(token) for token in found]})


@router.delete(
    "/tokens/{token_id}",
    summary="Revoke a token",
    responses=shown(TokenView, _REVOKED, TokenNotFound),
)
async def revoke_token(token_id: TokenId, daemon: Daemon, caller: Submitter) -> Response:
    """From now on it opens nothing; its logins and open streams end with it."""
    return answer(_token(await daemon.tokens.revoke(token_id, caller)))


def _token(token: Token) -> dict[str, Any]:
    return {
        "token_id": token.id,
        "user": token.user,
        "role": token.role.value,
        "label": token.label,
        "made_by": token.made_by,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "last_used_at": token.last_used_at,
        "revoked_at": token.revoked_at,
    }
