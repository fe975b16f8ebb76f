"""One life of a worker process: started, asked, ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

from training_cluster.tracker_worker.leftovers import kill_marked

MARKER = "TRAINING_CLUSTER_TRACKER"  # the worker looks for it, too
END_SECONDS = 1.0
MOST_LOG_BYTES = 5_000_000
TOLD_LOG_BYTES = 2000
TOLD_LOG_LINES = 4
MOST_ANSWER_BYTES = 1 << 20


class WorkerGone(Exception):
    """The worker has died; says what it last wrote to its log."""


class WorkerHung(Exception):
    """The worker did not answer in time."""


class WorkerProcess:
    """A running worker. `ask` may be called many times at once."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, marker: str) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin, self._stdout = process.stdin, process.stdout
        self._log = log
        self._log_start = log.stat().st_size
        self._marker = marker
        self._pending: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._last_id = 0
        self._gone: str | None = None
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(
        cls, command: tuple[str, ...], environment: Mapping[str, str], folder: Path, name: str
    ) -> Self:
        """Start a worker in a folder, which is made. Raises OSError when there is no such program
        or folder."""
        log, mark = folder / f"{name}-worker.log", f"{folder}/{name}"
        with _opened_log(log) as stderr:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                env={**environment, MARKER: mark},
                cwd=folder,
                start_new_session=True,
                limit=MOST_ANSWER_BYTES,
            )
        return cls(process, log, f"{MARKER}={mark}")

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """False once the worker has closed its end of the pipe, by dying as a rule."""
        return self._gone is None

    @property
    def is_busy(self) -> bool:
        """Whether there are requests without an answer."""
        return bool(self._pending)

    async def ask(self, op: str, timeout_seconds: float, **fields: Any) -> dict[str, Any]:
        """The worker's answer to a request. Raises WorkerGone, or WorkerHung after the timeout."""
        self._last_id += 1
        number = self._last_id
        answer = self._pending[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._send({"id": number, "op": op, **fields})
                result: dict[str, Any] = await answer
                return result
        except TimeoutError:
            raise WorkerHung(f"no answer to {op} within {timeout_seconds:g} s") from None
        finally:
            del self._pending[number]

    async def end(self) -> None:
        """Close the worker's stdin, which ends it; kill it if it does not, and all it started."""
        with contextlib.suppress(OSError):
            self._stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await self._process.wait()
        await self.kill()

    async def kill(self) -> None:
        """Kill the worker and all it started; returns when nothing of it is left."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        await asyncio.to_thread(kill_marked, self._marker)  # before the wait: it may hold a pipe
        await self._process.wait()
        await self._reading
        self._stdin.close()

    async def _send(self, request: dict[str, Any]) -> None:
        if self._gone is not None:
            raise WorkerGone(self._gone)
        with contextlib.suppress(ConnectionError):  # the reader tells what the worker died of
            self._stdin.write(json.dumps(request, allow_nan=False).encode() + b"\n")
            await self._stdin.drain()

    async def _read(self) -> None:
        # a line that is no answer, or too long, ends it like an end of the pipe
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            while line := await self._stdout.readline():
                answer = json.loads(line)
                future = self._pending.get(answer["id"])
                if future is not None and not future.done():
                    future.set_result(answer)
        self._gone = await asyncio.to_thread(self._last_words)
        for future in self._pending.values():
            if not future.done():
                future.set_exception(WorkerGone(self._gone))

    def _last_words(self) -> str:
        with contextlib.suppress(OSError), self._log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self._log_start, size - TOLD_LOG_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
            told = [line.strip() for line in lines if line.strip()][-TOLD_LOG_LINES:]
            return ": ".join(["the worker has died", *told])
        return "the worker has died"


def _opened_log(log: Path) -> BinaryIO:
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    if os.fstat(descriptor).st_size > MOST_LOG_BYTES:
        os.truncate(descriptor, 0)
    return os.fdopen(descriptor, "ab")
