"""Which of two forms of an answer a client prefers, by the Accept header (RFC 9110, 12.5.1)."""

from __future__ import annotations


def wants_csv(accept: str) -> bool:
    """True when text/csv is more welcome than JSON."""
    weights = _weights(accept)
    return _quality(weights, "text/csv") > _quality(weights, "application/json")


def _weights(accept: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in accept.split(","):
        kind, *parameters = (word.strip().lower() for word in part.split(";"))
        found[kind] = next((_number(word[2:]) for word in parameters if word[:2] == "q="), 1.0)
    return found


def _quality(weights: dict[str, float], kind: str) -> float:
    """The weight of the most specific range that covers a media type."""
    for name in (kind, f"{kind.partition('/')[0]}/*", "*/*"):
        if name in weights:
            return weights[name]
    return 0.0


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0 <= value <= 1 else 0.0
