"""Checks a dataset row by row, rewrites what must be, splits what shall be, and reports."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from training_cluster.adapters.dataset_directory.formats import RowChecker
from training_cluster.adapters.dataset_directory.inspection.conversion import convert
from training_cluster.adapters.dataset_directory.inspection.detection import (
    CONVERTED,
    Guess,
    Misdescribed,
    for_tools,
    resolve,
)
from training_cluster.adapters.dataset_directory.inspection.fetching import fetch
from training_cluster.adapters.dataset_directory.inspection.reading import (
    LARGEST_ARRAY_BYTES,
    Nothing,
    Source,
    hash_of,
)
from training_cluster.adapters.dataset_directory.inspection.remarks import Remarks
from training_cluster.adapters.dataset_directory.inspection.statistics import Statistics
from training_cluster.adapters.dataset_directory.inspection.writing import RowFile
from training_cluster.adapters.dataset_directory.refusal import refuse
from training_cluster.adapters.dataset_directory.rows import Row, read_rows
from training_cluster.domain.dataset import Split
from training_cluster.domain.errors import InvalidDataset
from training_cluster.ports import InspectionTask

_MOST_TOLD = 20
_TABLES = ("csv", "parquet")


def inspect(task: InspectionTask) -> dict[str, Any]:
    """The findings, as `ports.Findings` has them. Raises NoRoom and Overflow."""
    try:
        fetch(task)
    except InvalidDataset as flaw:
        missing = {"bytes": 0, "sha256": "", "original": None}
        return {**missing, "error": flaw.message, "report": {}}
    try:
        source = Source(task.file, task.filename)
    except InvalidDataset as flaw:
        sha256 = hash_of(task.file).hexdigest()
        return _findings(task, f"{sha256}.bin", sha256, error=flaw.message, report={})
    return Inspection(task, source).run()


class Inspection:
    """One reading of a file from its beginning to its end."""

    def __init__(self, task: InspectionTask, source: Source) -> None:
        self._task = task
        self._source = source
        self._guess: Guess | None = None
        self._checker: RowChecker | None = None
        self._rewritten: RowFile | None = None
        self._statistics = Statistics(task.tokenizer)
        self._remarks = Remarks()
        self._flaws: list[InvalidDataset] = []
        self._bad_rows = 0
        self._wrong: Misdescribed | None = None

    def run(self) -> dict[str, Any]:
        """Read all, then say what was found."""
        for row in self._source.rows():
            if self._wrong is None:
                self._take(row)
        sha256 = self._source.sha256
        original = f"{sha256}.{self._source.kind}"
        made: dict[str, Any] = {}
        error = self._error()
        if error is None:
            try:
                made = self._make(original)
            except InvalidDataset as flaw:
                error = flaw.message
        elif self._rewritten is not None:
            self._rewritten.give_up()
        return _findings(self._task, original, sha256, error=error, report=self._report(), **made)

    def _take(self, row: Row | InvalidDataset) -> None:
        try:
            if isinstance(row, InvalidDataset):
                raise row
            self._take_good(row)
        except Misdescribed as wrong:
            self._wrong = wrong
        except InvalidDataset as flaw:
            self._bad_rows += 1
            if len(self._flaws) < _MOST_TOLD:
                self._flaws.append(flaw)

    def _take_good(self, row: Row) -> None:
        guess, checker = self._begin(row)
        record: dict[str, object] = row.record
        if guess.format in CONVERTED:
            record = convert(guess.format, row.record, row.where)
        rewritten = self._rewritten
        offset = rewritten.size_bytes if rewritten is not None else row.offset
        checker.check(Row(row.where, offset, record))
        if rewritten is not None:
            rewritten.add(record)
        self._statistics.add(record, checker.names())
        self._remarks.add(row.record, guess.format)

    def _begin(self, row: Row) -> tuple[Guess, RowChecker]:
        """Decide by the first row that can be read what all are held against."""
        if self._guess is None or self._checker is None:
            task = self._task
            guess = resolve(row.record, row.where, task.format, task.columns)
            self._guess = guess = for_tools(guess, mentions_tools=self._source.mentions_tools())
            target = CONVERTED.get(guess.format, guess.format)
            self._checker = RowChecker("the file", target, guess.columns, "columns")
            if guess.format in CONVERTED or self._source.kind in _TABLES or self._source.marked:
                self._rewritten = RowFile(task.folder / "rewritten", task.keep_free_bytes)
        return self._guess, self._checker

    def _error(self) -> str | None:
        if self._wrong is not None:
            return self._wrong.message
        if self._bad_rows:
            more = f" (and {self._bad_rows - 1} more bad rows)" if self._bad_rows > 1 else ""
            return f"{self._flaws[0].message}{more}"
        if self._checker is None:
            return "the file has no rows; expected at least one"
        return None

    def _make(self, original: str) -> dict[str, Any]:
        """The files to train on. Raises InvalidDataset."""
        assert self._checker is not None
        columns, rows = self._checker.columns(), self._checker.rows
        train, held_out, held_rows = original, None, None
        if self._rewritten is not None:
            train = self._rewritten.close()
        if self._task.split is not None:
            file = self._task.folder / train if self._rewritten else self._task.file
            train, held_out, held_rows = self._split(file, rows, self._task.split)
            rows -= held_rows
        return {
            "format": self._checker.format_name,
            "columns": columns,
            "rows": rows,
            "validation_rows": held_rows,
            "train_file": train,
            "validation_file": held_out,
        }

    def _split(self, file: Path, rows: int, split: Split) -> tuple[str, str, int]:
        if rows < 2:
            raise refuse("the file", "has one row", "two or more, to hold some back")
        count = min(max(1, round(rows * split.fraction)), rows - 1)
        held = set(random.Random(split.seed).sample(range(rows), count))
        folder, kept = self._task.folder, self._task.keep_free_bytes
        train, validation = RowFile(folder / "train", kept), RowFile(folder / "validation", kept)
        for index, record in enumerate(_records(file)):
            (validation if index in held else train).add(record)
        return train.close(), validation.close(), count

    def _report(self) -> dict[str, Any]:
        report = {**self._statistics.told(), "kind": self._source.kind}
        if self._checker is not None and self._guess is not None:
            report["columns"] = self._checker.kinds()
            report["detected_format"] = self._guess.format
        report["remarks"] = self._remarks.told()
        report["bad_rows"] = {
            "count": self._bad_rows,
            "first": [flaw.message for flaw in self._flaws],
        }
        return report


def _records(file: Path) -> Iterator[Mapping[str, object]]:
    with file.open("rb") as stream:
        most = LARGEST_ARRAY_BYTES
        for row in read_rows(stream, "the file", Nothing(), largest_array_bytes=most):
            yield row.record


def _findings(task: InspectionTask, original: str, sha256: str, **others: Any) -> dict[str, Any]:
    size = task.file.stat().st_size
    return {"bytes": size, "sha256": sha256, "original": original, **others}
