"""What Vertesia's clients send, and what of it we can honour.

Fields we do not know are taken and named in the answer's `warnings`: their server has many that say
how an interaction is executed, and here it is only recorded.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from training_cluster.api.dialects.vertesia.to_spec import checked
from training_cluster.api.schemas import LABEL_PATTERN
from training_cluster.domain.interaction import InteractionStatus, Message
from training_cluster.domain.training_session import LOCAL
from training_cluster.services.interaction_runs import NewRun
from training_cluster.services.training_sessions import NewSession

Line = Annotated[str, Field(min_length=1, max_length=256, pattern=LABEL_PATTERN)]
_MOST_RUNS = 10_000


class _Told(BaseModel):
    """Takes fields it does not know, and tells which."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    def left_out(self) -> tuple[str, ...]:
        """A sentence for each field that is not known here."""
        names = [name[:64] for name in self.model_extra or {}]
        return tuple(f"{name!r} means nothing here and was left out" for name in names[:32])


class SessionRequest(_Told):
    """A session to begin."""

    name: Line
    env: Line | None = Field(
        default=None,
        description="Where to train, an id of GET /api/v1/environments, `local` if it is left out; "
        "an id that only another server knows means `local`, too, and the answer says so.",
    )
    model: Line = Field(description="The base model: a hub id, or a path below a model root.")
    training_cluster: dict[str, Any] | None = Field(
        default=None, description="Native fields of POST /train for the session's jobs."
    )

    def to_session(self) -> NewSession:
        """What the service takes. Raises InvalidRequest for native fields that cannot be."""
        return NewSession(
            name=self.name,
            environment=self.env or LOCAL.id,
            model=self.model,
            options=checked(self.training_cluster or {}),
            warnings=self.left_out(),
        )


class AddRequest(BaseModel):
    """Runs to put into a session."""

    runs: list[Annotated[str, Field(max_length=64)]] = Field(min_length=1, max_length=_MOST_RUNS)


class DatasetRequest(BaseModel):
    """The dataset to train on."""

    dataset: str | None = Field(
        default=None,
        min_length=1,
        max_length=160,
        description="`default`, also if it is left out, is what `build` made last; else a dataset "
        "by id, name or `name@version`.",
    )


class MessageBody(BaseModel):
    """A turn of a conversation, as in OpenAI's chat completions."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    role: Literal["system", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None

    @field_validator("content")
    @classmethod
    def _only_text(cls, value: str | list[dict[str, Any]] | None) -> str | None:
        """Parts of a content become one text."""
        if not isinstance(value, list):
            return value
        if any(not isinstance(part.get("text"), str) for part in value):
            raise ValueError("only parts of text: {type: text, text: ...}")
        return "\n".join(part["text"] for part in value)

    def to_message(self) -> Message:
        """The turn as it is kept."""
        return self.model_dump(exclude_none=True)


class TokenUse(BaseModel):
    """Tokens in and out."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    prompt: int = Field(default=0, ge=0)
    completion: int = Field(default=0, ge=0)


class RunRequest(_Told):
    """An interaction to record: what was asked (`messages`, or `prompt`, or `data`) and what came
    back (`output` or `result`, or a last turn of the assistant)."""

    interaction: Line = "recorded"
    messages: list[MessageBody] | None = None
    prompt: str | list[MessageBody] | None = None
    data: Any = Field(default=None, description="The interaction's parameters.")
    output: Any = None
    result: Any = Field(
        default=None, description="Text, JSON, or a list of `{type: text | json, value}`."
    )
    model: Line | None = None
    modelId: Line | None = None  # their name for it
    environment: Line | None = None
    config: dict[str, Any] | None = None
    status: InteractionStatus | None = None
    tags: list[Line] | Line | None = None
    token_use: TokenUse | None = None
    execution_time: float | None = Field(default=None, ge=0)
    ttl: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _says_enough(self) -> RunRequest:
        if not self._turns()[0]:
            raise ValueError("`messages` (or `prompt`, or `data`): what the model was asked")
        if self._status() is InteractionStatus.COMPLETED and not self._answer():
            raise ValueError(
                "`output`: what the model answered. A run is recorded here, it is not executed"
            )
        return self

    def to_run(self, where: str, warnings: tuple[str, ...] = (), **source: Any) -> NewRun:
        """What the service takes; it ran in `where`, `source` is who says so, `warnings` are about
        that."""
        messages, _ = self._turns()
        config = self.config or {}
        return NewRun(
            interaction=self.interaction,
            environment=where,
            model=self.model or self.modelId or _text(config.get("model")),
            status=self._status(),
            messages=[message.to_message() for message in messages],
            output=self._answer() or None,
            details={
                "config": config,
                "source": source,
                "warnings": [*warnings, *self.left_out()],
                **self._details(),
            },
        )

    @property
    def asked_environment(self) -> str | None:
        """Where it ran, as the client says it."""
        return self.environment or _text((self.config or {}).get("environment"))

    def _details(self) -> dict[str, Any]:
        use = self.token_use or TokenUse()
        found = {
            "tags": [self.tags] if isinstance(self.tags, str) else self.tags,
            "token_use": use.model_dump(),
            "execution_time": self.execution_time,
            "ttl": self.ttl,
            "parameters": self.data,
            "result": _results(self._said()),
        }
        return {name: value for name, value in found.items() if value is not None}

    def _turns(self) -> tuple[list[MessageBody], MessageBody | None]:
        """What came in, and the assistant's last turn where that is how the answer is told."""
        found = self._asked()
        if self._given() is None and found and found[-1].role == "assistant":
            return found[:-1], found[-1]
        return found, None

    def _asked(self) -> list[MessageBody]:
        said = self.messages if self.messages is not None else self.prompt
        if isinstance(said, list):
            return said
        said = self.data if said is None else said
        if said is None or said == "":
            return []
        return [MessageBody(role="user", content=_as_text(said))]

    def _given(self) -> Any:
        return self.result if self.output is None else self.output

    def _said(self) -> Any:
        _, last = self._turns()
        return last.content if last else self._given()

    def _answer(self) -> str:
        return "\n".join(_as_text(each["value"]) for each in _results(self._said()) or ())

    def _status(self) -> InteractionStatus:
        return self.status or InteractionStatus.COMPLETED


def _results(said: Any) -> list[dict[str, Any]] | None:
    """An answer as the list of results that their clients read; thoughts are no part of it."""
    if said is None:
        return None
    if isinstance(said, list) and all(_is_result(part) for part in said):
        return [dict(part) for part in said if part["type"] != "thoughts"]
    return [{"type": "text" if isinstance(said, str) else "json", "value": said}]


def _is_result(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("type"), str) and "value" in part


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _one_or_many(said: object) -> str:
    return "runs" if isinstance(said, list) else "run"


_Many = Annotated[list[RunRequest], Field(min_length=1, max_length=_MOST_RUNS)]
RunsRequest = Annotated[
    Annotated[RunRequest, Tag("run")] | Annotated[_Many, Tag("runs")], Discriminator(_one_or_many)
]
"""One interaction or many; what is wrong is told of the one or the other."""
