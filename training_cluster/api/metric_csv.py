"""A job's lines as one wide table (RFC 4180): a row a step, a column a metric."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence

from training_cluster.domain.metric import LineSource, MetricLine

COLUMNS = ("step", "time", "attempt", "source")
_PAGE = 1000

ReadLines = Callable[[int, int], Awaitable[list[MetricLine]]]
"""From a sequence number and a limit to the lines behind it."""


async def table(read: ReadLines, names: Sequence[str], *, merge: bool) -> AsyncIterator[bytes]:
    """The table, piece by piece. With `merge` the lines of one step are one row, in which the
    last value of each metric wins; without it every line that was logged is a row."""
    yield _text([[*COLUMNS, *names]])
    rows = _Rows(names, merge=merge)
    after, is_last = 0, False
    while not is_last:
        lines = await read(after, _PAGE)
        is_last = len(lines) < _PAGE
        after = lines[-1].sequence if lines else after
        yield await asyncio.to_thread(rows.text, lines, is_last)


class _Rows:
    """Turns lines into rows; the latest step of each source waits for further lines of it."""

    def __init__(self, names: Sequence[str], *, merge: bool) -> None:
        self._names = names
        self._known = frozenset(names)
        self._merge = merge
        self._open: dict[LineSource, MetricLine] = {}
        self._values: dict[LineSource, dict[str, float]] = {}

    def text(self, lines: Iterable[MetricLine], is_last: bool) -> bytes:
        """The rows that are complete."""
        return _text(self._rows(lines, is_last))

    def _rows(self, lines: Iterable[MetricLine], is_last: bool) -> Iterator[list[object]]:
        for line in lines:
            if self._known.isdisjoint(line.values):
                continue
            earlier = self._open.get(line.source)
            if earlier is not None and not (self._merge and earlier.step == line.step):
                yield self._close(line.source)
            self._open[line.source] = line
            self._values.setdefault(line.source, {}).update(line.values)
        if is_last:
            for source in list(self._open):
                yield self._close(source)

    def _close(self, source: LineSource) -> list[object]:
        line, values = self._open.pop(source), self._values.pop(source)
        row: list[object] = [line.step, line.time, line.attempt_number, source.value]
        return row + [values.get(name) for name in self._names]


def _text(rows: Iterable[list[object]]) -> bytes:
    paper = io.StringIO()
    csv.writer(paper).writerows(rows)
    return paper.getvalue().encode()
