"""The DeviceInventory of the daemon: asks a process of its own, which may hang or crash with the
driver and is replaced when it does."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from training_cluster.adapters.nvml.sanity import without_figures
from training_cluster.adapters.nvml.wire import (
    NvmlProbe,
    encode,
    from_devices,
    to_inventory,
)
from training_cluster.domain.device import Device, Inventory

_CODE = (
    "import sys; sys.path[:] = sys.argv[1:]; "
    "from training_cluster.adapters.nvml.worker import main; main()"
)
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_MOST_ANSWER_BYTES = 16 << 20
# a process that hangs inside the driver may not even be killed: so many are left behind at most
_MOST_STUCK = 2
_KILL_SECONDS = 0.5
_START_SECONDS = 10.0  # for Python on a busy machine

Worker = subprocess.Popen[bytes]


class _Silent(Exception):
    """The worker did not answer; says why, for people."""


class GuardedNvml:
    """GPUs through NVML, at no risk: a reading takes `deadline_seconds` at most (and what a new
    process needs to start), and one that fails makes the devices faulty. After that a new
    process tries again: at once the first time, then after half a second, up to 30 seconds."""

    def __init__(
        self, deadline_seconds: float, *, kill: Callable[[Worker], bool] | None = None
    ) -> None:
        self._lock = threading.Lock()
        self._deadline_seconds = deadline_seconds
        self._kill = kill or _kill
        self._worker: Worker | None = None
        self._is_new = True
        self._stuck: list[Worker] = []
        self._seen: tuple[Device, ...] = ()
        self._failures = 0
        self._paused_until = float("-inf")
        self._fault = "the devices have not been read yet"

    def read(self) -> Inventory:
        """Read every GPU and MIG slice now. Never raises."""
        with self._lock:
            try:
                inventory = to_inventory(self._ask({"op": "read"}))
            except _Silent as error:
                return self._faulty(str(error))
            except (TypeError, ValueError, LookupError) as error:
                self._end_worker()
                return self._faulty(f"the process that reads the devices talks nonsense: {error}")
            self._seen = inventory.devices
            return inventory

    def probe(self) -> NvmlProbe:
        """Whether NVML can be used here. Never raises."""
        with self._lock:
            try:
                return NvmlProbe(**self._ask({"op": "probe"}))
            except (_Silent, TypeError, ValueError) as error:
                return NvmlProbe(True, reason=str(error), answered=False)

    def close(self) -> None:
        """Let the process go."""
        with self._lock:
            self._end_worker()

    @property
    def worker_pid(self) -> int | None:
        """Of the process that reads the devices now."""
        return None if self._worker is None else self._worker.pid

    def _faulty(self, fault: str) -> Inventory:
        devices = tuple(without_figures(device, fault) for device in self._seen)
        return Inventory(devices, "nvml", time.time(), fault=fault)

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        worker = self._open()
        try:
            if self._is_new:
                _exchange(worker, b"", _START_SECONDS)
                request = {**request, "seen": from_devices(self._seen)}
            answer = _exchange(worker, encode(request), self._deadline_seconds)
        except _Silent as error:
            raise self._failed(worker, error) from error
        self._failures, self._is_new = 0, False
        document: dict[str, Any] = json.loads(answer)
        return document

    def _open(self) -> Worker:
        if self._worker is not None:
            return self._worker
        self._stuck = [worker for worker in self._stuck if worker.poll() is None]
        if len(self._stuck) >= _MOST_STUCK:
            raise _Silent(f"{self._fault}; {len(self._stuck)} processes hang in it and cannot end")
        if time.monotonic() < self._paused_until:
            raise _Silent(self._fault)
        try:
            self._worker, self._is_new = _start(), True
        except OSError as error:
            raise _Silent(
                f"the process that reads the devices cannot be started: {error}"
            ) from error
        return self._worker

    def _failed(self, worker: Worker, error: _Silent) -> _Silent:
        """Replace a worker that hung or died; says what it died of."""
        self._end_worker()
        self._fault = str(error) or _last_words(worker)
        pause = min(_FIRST_PAUSE_SECONDS * 2**self._failures, _LONGEST_PAUSE_SECONDS)
        self._paused_until = time.monotonic() + (pause if self._failures else 0.0)
        self._failures += 1
        return _Silent(self._fault)

    def _end_worker(self) -> None:
        worker, self._worker = self._worker, None
        if worker is None:
            return
        for pipe in (worker.stdin, worker.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        if not self._kill(worker):
            self._stuck.append(worker)


def _start() -> Worker:
    command = [sys.executable, "-I", "-S", "-c", _CODE, *(path for path in sys.path if path)]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )


def _exchange(worker: Worker, request: bytes, patience_seconds: float) -> bytes:
    """The line that answers a request. Raises _Silent, without words when the worker has died."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    deadline = time.monotonic() + patience_seconds
    parts: list[bytes] = []
    try:
        worker.stdin.write(request)
        worker.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(worker.stdout, selectors.EVENT_READ)
            while not (parts and parts[-1].endswith(b"\n")):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise _Silent(f"the driver did not answer within {patience_seconds:g} s")
                part = os.read(worker.stdout.fileno(), 1 << 16)
                if not part or sum(map(len, parts)) > _MOST_ANSWER_BYTES:
                    raise _Silent
                parts.append(part)
    except OSError as error:
        raise _Silent from error
    return b"".join(parts)


def _last_words(worker: Worker) -> str:
    code = worker.returncode
    if code is not None and code < 0:
        return f"the driver's library crashed ({_signal_name(-code)}) while it was read"
    return f"the process that reads the devices ended with status {code}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _kill(worker: Worker) -> bool:
    """End a worker; False when it does not, held by the driver."""
    with contextlib.suppress(ProcessLookupError):
        worker.kill()
    try:
        worker.wait(_KILL_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True
