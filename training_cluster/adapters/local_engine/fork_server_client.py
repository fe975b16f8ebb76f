"""Talks to the fork server: starts it, asks it for runners, notices when it has died."""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training_cluster import crash_points
from training_cluster.adapters.local_engine.processes import readable
from training_cluster.crash_points import crash_point
from training_cluster.domain.errors import EngineUnavailable

SCRIPT = Path(__file__).resolve().parents[2] / "fork_server.py"
ANSWER_SECONDS = 10.0
END_SECONDS = 2.0
MAX_MESSAGE_BYTES = 65536
DESCRIPTORS = 2
GO = b"go"


class ForkServerGone(Exception):
    """The fork server has died or does not answer."""


class OwnRunner:
    """A runner this process started: its pidfd, and the channel on which it tells the end of its
    attempt before that is on the disk."""

    def __init__(self, pidfd: int, channel: int) -> None:
        self.pidfd = pidfd
        self._channel = socket.socket(fileno=channel)

    def go(self) -> None:
        """Let a staged runner start its trainer. Raises OSError if it is gone."""
        self._channel.send(GO)

    async def abandon(self) -> None:
        """Have a staged runner go away; returns when it has let go of its attempt."""
        self._channel.close()
        try:
            async with asyncio.timeout(END_SECONDS):
                await readable(self.pidfd)
        except TimeoutError:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            await readable(self.pidfd)
        os.close(self.pidfd)

    async def ending(self) -> dict[str, Any] | None:
        """Wait for the end of the attempt; what exit.json says or will say, None if the runner
        ended without a word."""
        await readable(self._channel.fileno())
        try:
            told = self._channel.recv(MAX_MESSAGE_BYTES, socket.MSG_PEEK)
        except OSError:
            return None
        return json.loads(told) if told else None

    def close(self) -> None:
        """Let go of it; it runs on."""
        os.close(self.pidfd)
        self._channel.close()


class ForkServerClient:
    """One fork server and the socket to it; not to be used by two tasks at once."""

    def __init__(self, python: str) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        command = [python, "-I", "-S", str(SCRIPT)]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                cwd="/",
                env=_environment(),
                start_new_session=True,
            )
        except OSError as error:
            self._socket.close()
            raise EngineUnavailable(f"cannot execute {' '.join(command)}: {error}") from error
        finally:
            theirs.close()

    async def ready(self) -> None:
        """Wait until it is up. Raises ForkServerGone."""
        message, _ = await self._receive()
        if "ready" not in message:
            raise ForkServerGone(f"{SCRIPT} says {message}, expected ready")

    async def start_runner(self, directory: Path, *, staged: bool = False) -> OwnRunner:
        """Have a runner started in an attempt's directory; a staged one waits for `go`.

        Raises ForkServerGone when nobody knows whether it was, EngineUnavailable when it was not.
        """
        try:
            request = {"directory": str(directory), "staged": staged}
            self._socket.send(json.dumps(request).encode())
        except OSError as error:
            raise ForkServerGone(f"{SCRIPT} has ended") from error
        crash_point("start.asked")
        message, descriptors = await self._receive()
        if message["directory"] != str(directory) or len(descriptors) != DESCRIPTORS:
            for descriptor in descriptors:
                os.close(descriptor)
            raise EngineUnavailable(f"no runner for {directory}: {message.get('error', message)}")
        return OwnRunner(*descriptors)

    async def end(self) -> None:
        """Close the socket, upon which the fork server ends; kill it if it does not."""
        self._socket.close()
        with self._pidfd() as pidfd:
            try:
                async with asyncio.timeout(END_SECONDS):
                    await readable(pidfd)
            except TimeoutError:
                self._process.kill()
                await readable(pidfd)
        self._process.wait()

    def kill(self) -> None:
        """End it at once; a request it has not acted on is dropped."""
        self._process.kill()

    @contextlib.contextmanager
    def _pidfd(self) -> Iterator[int]:
        pidfd = os.pidfd_open(self._process.pid)  # ours to reap, so the pid is still its own
        try:
            yield pidfd
        finally:
            os.close(pidfd)

    async def _receive(self) -> tuple[dict[str, Any], list[int]]:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await readable(self._socket.fileno())
        except TimeoutError as error:
            self.kill()
            raise ForkServerGone(f"{SCRIPT} did not answer for {ANSWER_SECONDS} s") from error
        try:
            data, descriptors = self._receive_now()
        except OSError as error:
            raise ForkServerGone(f"{SCRIPT} has ended") from error
        if not data:
            raise ForkServerGone(f"{SCRIPT} has ended")
        return json.loads(data), descriptors

    def _receive_now(self) -> tuple[bytes, list[int]]:
        """Like socket.recv_fds, but close-on-exec from the start."""
        size = array.array("i").itemsize
        data, ancillary, _, _ = self._socket.recvmsg(
            MAX_MESSAGE_BYTES, socket.CMSG_LEN(DESCRIPTORS * size), socket.MSG_CMSG_CLOEXEC
        )
        descriptors = array.array("i")
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(content[: len(content) - len(content) % size])
        return data, descriptors.tolist()


def _environment() -> dict[str, str]:
    """What the interpreter itself may need; trainers get theirs from launch.json."""
    names = ("LD_LIBRARY_PATH", crash_points.VARIABLE)
    return {name: os.environ[name] for name in names if name in os.environ}
