"""Tells systemd, where it started the daemon, how the daemon is: sd_notify(3), three datagrams."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, MutableMapping

_TELLS_PER_PERIOD = 3


class ServiceManager:
    """The service manager that started this process; without one, telling does nothing.

    `watchdog_seconds`: it kills a service that has not been told alive for so long."""

    def __init__(self, address: str | None, watchdog_seconds: float | None = None) -> None:
        self._address = address
        self._watchdog_seconds = watchdog_seconds if address else None
        self._telling: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, environment: MutableMapping[str, str]) -> ServiceManager:
        """The one that the environment names; what names it is taken out, so that no child can
        speak for the daemon."""
        address = environment.pop("NOTIFY_SOCKET", None)
        period = environment.pop("WATCHDOG_USEC", "")
        is_for_us = environment.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        seconds = int(period) / 1e6 if period.isdecimal() and is_for_us else None
        return cls(address, seconds or None)

    def ready(self, status: str, is_alive: Callable[[], bool]) -> None:
        """The daemon schedules. From now on it is told alive as long as the event loop turns and
        `is_alive` says so."""
        self._tell(f"READY=1\nSTATUS={status}")
        if self._watchdog_seconds is not None:
            self._telling = asyncio.create_task(self._tell_alive(is_alive), name="watchdog")

    def stopping(self) -> None:
        """The daemon lets go. May be called twice."""
        self._tell("STOPPING=1")

    async def close(self) -> None:
        """End the telling."""
        task, self._telling = self._telling, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _tell_alive(self, is_alive: Callable[[], bool]) -> None:
        assert self._watchdog_seconds is not None
        while True:
            if is_alive():
                self._tell("WATCHDOG=1")
            await asyncio.sleep(self._watchdog_seconds / _TELLS_PER_PERIOD)

    def _tell(self, state: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        # a manager that does not listen is no reason to fail
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to_manager,
        ):
            to_manager.setblocking(False)
            to_manager.sendto(state.encode(), address)
