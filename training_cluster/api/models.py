"""The native API's models: list, look, name, open to others, delete."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body, Path, Query, Response
from pydantic import Field, StringConstraints

from training_cluster.api import render
from training_cluster.api.auth import Caller, Submitter
from training_cluster.api.examples import shown
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.model_views import (
    DELETED,
    DETAIL,
    SUMMARY,
    ModelPage,
    ModelView,
    detail,
    summary,
)
from training_cluster.api.services import Daemon, answer
from training_cluster.api.strict_json import StrictJsonRoute
from training_cluster.api.strict_model import Strict
from training_cluster.domain.errors import Conflict, ModelInUse, ModelNotFound, Pruned
from training_cluster.domain.model import ModelKind
from training_cluster.services.models import LAST

router = LateRouter(route_class=StrictJsonRoute, tags=["models"])

ModelKey = Annotated[
    str,
    Path(
        max_length=256,
        description="Its id, number, `name@version` or `name@alias`, or its name: the newest.",
    ),
]
Alias = Annotated[str, Path(max_length=96)]
_ALIASES: dict[str, Any] = {"the second": {"value": {"version": "v2"}}}
_SHARED: dict[str, Any] = {"for everybody": {"value": {"is_public": True}}}


class AliasRequest(Strict):
    """What an alias is to mean."""

    version: Annotated[str, StringConstraints(min_length=1, max_length=96)] = Field(
        description="A version of the model, or another alias of it."
    )


class ModelChange(Strict):
    """What can be changed about a model."""

    is_public: bool = Field(description="Whether everybody may download it and train on it.")


@router.get(
    "/models",
    summary="List models, newest first",
    responses=shown(ModelPage, {"models": [SUMMARY], "next_cursor": None}),
)
async def list_models(
    daemon: Daemon,
    _: Caller,
    name: Annotated[str | None, Query(max_length=96, description="Its versions.")] = None,
    user: Annotated[str | None, Query(max_length=128, description="Only this user's.")] = None,
    kind: Annotated[ModelKind | None, Query(description="Only of this kind.")] = None,
    deleted: Annotated[bool, Query(description="Those that were deleted, too.")] = False,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    cursor: Annotated[
        str | None, Query(max_length=64, description="next_cursor of the page before.")
    ] = None,
) -> Response:
    """What jobs left when they completed, everybody's. Pages stay stable while models are added."""
    found = await daemon.models.page(
        name=name,
        user=user,
        kind=kind,
        with_deleted=deleted,
        before=LAST if cursor is None else render.decode_cursor(cursor, "model"),
        limit=limit + 1,
    )
    more = render.encode_cursor(found[limit - 1].number, "model") if len(found) > limit else None
    return answer({"models": [summary(each) for each in found[:limit]], "next_cursor": more})


@router.get(
    "/models/{key}",
    summary="Look at one model",
    responses=shown(ModelView, DETAIL, ModelNotFound),
)
async def get_model(key: ModelKey, daemon: Daemon, caller: Caller) -> Response:
    """Where it comes from and what it consists of; of a deleted one what is known of it."""
    return answer(detail(await daemon.models.get(key, with_deleted=True), caller))


@router.patch(
    "/models/{key}",
    summary="Open a model to others, or close it",
    responses=shown(ModelView, {**DETAIL, "is_public": True}, ModelNotFound, Pruned),
)
async def change_model(
    key: ModelKey,
    body: Annotated[ModelChange, Body(openapi_examples=_SHARED)],
    daemon: Daemon,
    caller: Submitter,
) -> Response:
    """Everybody sees that a model is there; its files are for its owner and admins unless it is
    public."""
    model = await daemon.models.set_public(key, caller, is_public=body.is_public)
    return answer(detail(model, caller))


@router.delete(
    "/models/{key}",
    summary="Delete a model's files",
    responses=shown(ModelView, DELETED, ModelNotFound, ModelInUse, Pruned),
)
async def delete_model(key: ModelKey, daemon: Daemon, caller: Submitter) -> Response:
    """Its files go, with the checkpoints on the way to it; the record of it stays, and its version
    is not used again. Refused while a job that is not over uses it."""
    return answer(detail(await daemon.models.delete(key, caller), caller))


@router.put(
    "/models/{name}/aliases/{alias}",
    summary="Give a version another name",
    responses=shown(ModelView, DETAIL, ModelNotFound, Conflict, Pruned),
)
async def set_alias(
    name: ModelKey,
    alias: Alias,
    body: Annotated[AliasRequest, Body(openapi_examples=_ALIASES)],
    daemon: Daemon,
    caller: Submitter,
) -> Response:
    """From now on `name@alias` means this version, whatever it meant before."""
    return answer(detail(await daemon.models.set_alias(name, alias, body.version, caller), caller))


@router.delete(
    "/models/{name}/aliases/{alias}",
    summary="Forget an alias",
    responses=shown(ModelView, {**DETAIL, "aliases": []}, ModelNotFound),
)
async def drop_alias(name: ModelKey, alias: Alias, daemon: Daemon, caller: Submitter) -> Response:
    """The model itself stays as it is."""
    return answer(detail(await daemon.models.drop_alias(name, alias, caller), caller))
