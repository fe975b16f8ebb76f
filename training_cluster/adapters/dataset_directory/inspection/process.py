"""The daemon's side of an inspection: starts the worker, asks it once, reads its answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog

import training_cluster
from training_cluster.domain.dataset_errors import InspectorDied, InspectorUnavailable
from training_cluster.domain.errors import InvalidDataset
from training_cluster.ports import Findings, InspectionTask

log = structlog.get_logger(__name__)

_MODULE = "training_cluster.adapters.dataset_directory.inspection"
# not the daemon's: modules there could hide those that are meant
_PLACE = Path(training_cluster.__file__).parents[1]
# of tokenizers and of pyarrow: one each for every processor would be too many beside trainers
_FEW_THREADS = {"RAYON_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}
_MOST_ANSWER_BYTES = 64 << 20
_MOST_TOLD = 2000


class ProcessInspector:
    """Implements `ports.DatasetInspector`; a process a request, ended with the daemon."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = {**environment, **_FEW_THREADS}

    async def inspect(self, task: InspectionTask) -> Findings:
        """Check a file, make what is to be made of it. Raises InspectorUnavailable, and
        InspectorDied."""
        answer = await self._ask({"op": "inspect", "task": _encoded(asdict(task))})
        if "unavailable" in answer:
            raise InspectorUnavailable(answer["unavailable"])
        if "overflow" in answer:
            raise InspectorDied(answer["overflow"])
        return Findings(**answer["findings"])

    async def first_rows(self, file: Path, most: int) -> Sequence[Mapping[str, Any]]:
        """The first rows of a file. Raises InvalidDataset, InspectorUnavailable, and
        FileNotFoundError."""
        answer = await self._ask({"op": "first_rows", "file": str(file), "most": most})
        if "refused" in answer:
            raise InvalidDataset(answer["refused"])
        if "missing" in answer:
            raise FileNotFoundError(answer["missing"])
        rows: list[dict[str, Any]] = answer["rows"]
        return rows

    async def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        process = await self._start()
        try:
            said, told = await _exchange(process, json.dumps(request).encode() + b"\n")
        finally:
            await _end(process)
        try:
            answer: dict[str, Any] = json.loads(said)
        except ValueError:
            why = told.decode(errors="replace").strip()[-_MOST_TOLD:]
            code = process.returncode
            log.warning("the worker died", action="inspection.died", code=code, said=why)
            last = why.splitlines()[-1] if why else f"exit status {code}"
            raise InspectorDied(f"the worker that reads datasets died: {last}") from None
        return answer

    async def _start(self) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        try:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", _MODULE),
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                env=self._environment,
                cwd=_PLACE,
                start_new_session=True,
            )
        except OSError as error:
            raise InspectorUnavailable(f"the worker cannot be started: {error}") from error


async def _exchange(process: asyncio.subprocess.Process, request: bytes) -> tuple[bytes, bytes]:
    """Send the request and read all; its stdin stays open: its end tells it that we have gone."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with contextlib.suppress(ConnectionError):
        process.stdin.write(request)
        await process.stdin.drain()
    said, told = await asyncio.gather(
        _read(process.stdout, _MOST_ANSWER_BYTES), _read(process.stderr, _MOST_ANSWER_BYTES)
    )
    await process.wait()
    return said, told


async def _read(stream: asyncio.StreamReader, most: int) -> bytes:
    """The end of what is written, `most` bytes of it."""
    kept = b""
    while data := await stream.read(1 << 16):
        kept = (kept + data)[-most:]
    return kept


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _encoded(value: Any) -> Any:
    """Paths as text."""
    if isinstance(value, dict):
        return {key: _encoded(each) for key, each in value.items()}
    return os.fspath(value) if isinstance(value, Path) else value
