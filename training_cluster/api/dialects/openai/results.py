"""The result file of a job: its metrics as the CSV that OpenAI's clients read, a row a step.

It is made from the metrics whenever somebody asks, so nothing has to be kept in step with them.
Every value is a number or nothing: the W&B sync cannot read anything else.
"""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

from training_cluster.api.dialects.openai import metrics, names
from training_cluster.domain.job import Job
from training_cluster.domain.metric import LineSource, MetricLine
from training_cluster.services.curves import Curves

PURPOSE = "fine-tune-results"
_PAGE = 1000


async def content(curves: Curves, job: Job) -> AsyncIterator[bytes]:
    """The file, piece by piece. Raises JobNotFound before the first one."""
    measured = await curves.measured(job.id)
    return _pieces(curves, job, metrics.columns(measured.names))


async def _pieces(curves: Curves, job: Job, columns: Sequence[str]) -> AsyncIterator[bytes]:
    yield _text([columns])
    rows, after, is_last = _Rows(columns), 0, False
    while not is_last:
        lines = await curves.lines(job, after, _PAGE)
        is_last = len(lines) < _PAGE
        after = lines[-1].sequence if lines else after
        yield await asyncio.to_thread(rows.text, lines, is_last)


async def view(curves: Curves, job: Job) -> dict[str, object]:
    """The file as OpenAI's clients see it. Its size is counted by making it. Raises JobNotFound."""
    size = 0
    async for piece in await content(curves, job):
        size += len(piece)
    return {
        "id": names.results_id(job),
        "object": "file",
        "bytes": size,
        "created_at": int(job.finished_at or job.created_at),
        "expires_at": None,
        "filename": "step_metrics.csv",
        "purpose": PURPOSE,
        "status": "processed",
        "status_details": None,
    }


class _Rows:
    """Turns lines into rows: what was measured at one step is one row."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns
        self._step: int | None = None
        self._values: dict[str, float] = {}

    def text(self, lines: Iterable[MetricLine], is_last: bool) -> bytes:
        """The rows that are complete."""
        return _text(self._rows(lines, is_last))

    def _rows(self, lines: Iterable[MetricLine], is_last: bool) -> Iterator[Sequence[object]]:
        for line in lines:
            if line.source is not LineSource.TRAINER:
                continue
            if self._step not in (None, line.step):
                yield self._close()
            self._step = line.step
            self._values.update(metrics.named(line.values))
        if is_last and self._step is not None:
            yield self._close()

    def _close(self) -> Sequence[object]:
        values, self._values = {**self._values, "step": self._step}, {}
        return [values.get(column) for column in self._columns]


def _text(rows: Iterable[Sequence[object]]) -> bytes:
    paper = io.StringIO()
    csv.writer(paper, lineterminator="\n").writerows(rows)
    return paper.getvalue().encode()
