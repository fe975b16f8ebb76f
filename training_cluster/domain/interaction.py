"""A recorded interaction: what a model was asked and what it answered. Vertesia calls it a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Message = Mapping[str, Any]
"""A turn of a conversation in OpenAI's form: `role` and `content`, perhaps `tool_calls`."""


class InteractionStatus(StrEnum):
    """How far an interaction had come when it was recorded."""

    CREATED = "created"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class InteractionRun:
    """One interaction of `user`'s. `messages` came in, `output` came out, None unless something
    did; `details` is what else the recorder said, shown as it came. `created_at` is Unix
    seconds."""

    id: str
    user: str
    interaction: str
    environment: str
    model: str | None
    status: InteractionStatus
    messages: Sequence[Message]
    output: str | None
    created_at: float
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def row(self) -> dict[str, Any] | None:
        """What a model can learn of it: the conversation with the answer as its last turn. None
        for an interaction that did not complete."""
        if self.status is not InteractionStatus.COMPLETED:
            return None
        answer = {"role": "assistant", "content": self.output}
        return {"messages": [*(dict(message) for message in self.messages), answer]}
