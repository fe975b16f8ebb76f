"""Values as plain dicts, for what is written as JSON at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def plain(value: DataclassInstance) -> dict[str, Any]:
    """What dataclasses.asdict says of a value without values in it, in a tenth of the time: it
    copies nothing, so what is in the dict is shared with the value."""
    return {name: getattr(value, name) for name in value.__dataclass_fields__}
