"""Draws curves into the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence

_MOST_WIDE, _HEIGHT = 100, 16


def draw(title: str, steps: Sequence[int], values: Sequence[float], width: int) -> str:
    """A curve by step as lines of text, at most `width` characters wide. Needs a point."""
    import plotext

    figure = plotext.figure
    figure.clear()
    figure.theme("colorless")
    figure.plot_size(min(width, _MOST_WIDE), _HEIGHT)
    figure.title(title)
    curve = figure.signal(list(steps), list(values), marker="braille" if _is_utf8() else "x")
    curve.lines()
    figure.draw(curve)
    return str(plotext.uncolorize(str(figure.build())))


def _is_utf8() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
