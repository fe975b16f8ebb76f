"""Executes attempts on this machine, and finds them again after a restart of the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import select
import signal
import sys
from pathlib import Path

from training_cluster.adapters.local_engine import vital_signs
from training_cluster.adapters.local_engine.attempt_files import AttemptFiles, parse_exit
from training_cluster.adapters.local_engine.fork_server_client import (
    ForkServerClient,
    ForkServerGone,
    OwnRunner,
)
from training_cluster.adapters.local_engine.processes import readable, sweep
from training_cluster.crash_points import crash_point
from training_cluster.domain.errors import EngineUnavailable
from training_cluster.domain.job import StopReason
from training_cluster.ports import Exit, Launch, Sighting, VitalSigns

PID_FILE_POLL_SECONDS = 0.005  # only until the runner has written pid.json
UNDECIDED_SECONDS = 2.0


class LocalEngine:
    """`ports.Engine` by one runner process per attempt."""

    def __init__(self, python: str = sys.executable) -> None:
        self._python = python
        self._is_open = False
        self._server: ForkServerClient | None = None
        self._asking = asyncio.Lock()
        self._runners: dict[Path, OwnRunner] = {}  # those this process started
        self._staged: tuple[Launch, OwnRunner] | None = None

    async def open(self) -> None:
        """Start the fork server."""
        async with self._asking:
            self._is_open = True
            try:
                await self._live_server()
            except ForkServerGone as error:
                await self._drop_server()
                raise EngineUnavailable(str(error)) from error

    async def close(self) -> None:
        """End the fork server; runners and their attempts run on."""
        async with self._asking:
            self._is_open = False
            await self._abandon()
            await self._drop_server()
        for directory in list(self._runners):
            self._forget(directory)

    async def stage(self, launch: Launch) -> None:
        """Have a runner ready that only needs the word to start this attempt, instead of the one
        staged before. Whoever else looks at the attempt meanwhile finds it locked."""
        files = AttemptFiles(launch.directory)
        async with self._asking:
            await self._abandon()
            if files.look() is not Sighting.NEVER:
                return
            files.write_launch(launch)
            crash_point("stage.before_runner")
            self._staged = launch, await self._ask_for_runner(launch.directory, staged=True)
            crash_point("stage.after_runner")

    async def start(self, launch: Launch) -> None:
        """Have a runner launch an attempt; nothing happens if it was started before.

        After EngineUnavailable the attempt has not run and will not.
        """
        if await self._start_staged(launch):
            return
        files = AttemptFiles(launch.directory)
        if self._sighting(files) is not Sighting.NEVER:
            return
        try:
            files.write_launch(launch)
        except OSError as error:
            raise EngineUnavailable(f"cannot write to {launch.directory}: {error}") from error
        crash_point("start.before_runner")
        async with self._asking:
            await self._start_runner(files)
        crash_point("start.after_runner")

    async def look(self, directory: Path) -> Sighting:
        """What is known about an attempt.

        A runner that has its lock but has not started is about to, or about to go away with the
        daemon that staged it: the answer waits for that."""
        files = AttemptFiles(directory)
        patience = asyncio.get_running_loop().time() + UNDECIDED_SECONDS
        while (sighting := self._sighting(files)) is Sighting.ALIVE and not files.is_started():
            if asyncio.get_running_loop().time() > patience:
                break
            await asyncio.sleep(PID_FILE_POLL_SECONDS)
        return sighting

    async def wait(self, directory: Path) -> Exit:
        """Wait for the end of an attempt; one that nobody started is lost, and never starts.

        The runner of a told ending may live on for a moment, until it has that on the disk."""
        files = AttemptFiles(directory)
        runner = self._runners.get(directory)
        told = None if runner is None else await runner.ending()
        if told is not None:
            crash_point("end.told")
            self._forget(directory)
            _forget_environment(files)
            return parse_exit(told)
        await self._outlast_runner(files)
        while files.look() is Sighting.NEVER and not files.revoke():
            await self._outlast_runner(files)
        ending = files.read_exit()
        if ending is None:
            await sweep(directory, files.trainer())
            reason, rebooted = files.requested_stop(), files.rebooted()
            ending = Exit(code=None, stop_reason=reason, rebooted=rebooted)
        self._forget(directory)
        _forget_environment(files)
        return ending

    async def vital_signs(self, directory: Path) -> VitalSigns:
        """Its files and the processor time of its tree. Never raises."""
        return await asyncio.to_thread(vital_signs.look, directory)

    async def stop(
        self, directory: Path, reason: StopReason, grace_seconds: float | None = None
    ) -> None:
        """Leave word why, then tell the runner, if it is up; it reads the word when it comes up.

        Raises EngineUnavailable if the word cannot be left and no runner could be told.
        """
        files = AttemptFiles(directory)
        try:
            files.request_stop(reason, grace_seconds)
        except OSError as error:
            if not self._terminate_runner(files):
                raise EngineUnavailable(f"cannot write to {directory}: {error}") from error
        else:
            crash_point("stop.before_signal")
            self._terminate_runner(files)
            crash_point("stop.after_signal")

    async def _start_staged(self, launch: Launch) -> bool:
        """Start the staged runner if it was staged for exactly this launch."""
        if self._staged is None or self._staged[0].directory != launch.directory:
            return False
        async with self._asking:
            if self._staged is None:
                return False
            staged, runner = self._staged
            if staged == launch:
                with contextlib.suppress(OSError):
                    runner.go()
                    crash_point("start.after_go")
                    self._staged = None
                    self._runners[launch.directory] = runner
                    return True
            await self._abandon()
        return False

    async def _abandon(self) -> None:
        """Send the staged runner away; its attempt can then be started by another."""
        if self._staged is not None:
            (_, runner), self._staged = self._staged, None
            await runner.abandon()

    def _sighting(self, files: AttemptFiles) -> Sighting:
        runner = self._runners.get(files.directory)
        if runner is not None and _is_running(runner.pidfd):
            return Sighting.ALIVE
        return files.look()

    async def _outlast_runner(self, files: AttemptFiles) -> None:
        """Return once no runner has the attempt, whether it was started here or before."""
        own = self._runners.get(files.directory)
        if own is not None:
            await readable(own.pidfd)
        while files.look() is Sighting.ALIVE:
            await self._outlast_adopted(files)

    async def _outlast_adopted(self, files: AttemptFiles) -> None:
        runner = files.runner()
        if runner is not None:
            with runner.handle() as pidfd:
                if pidfd is not None:
                    await readable(pidfd)
                    return
        await asyncio.sleep(PID_FILE_POLL_SECONDS)

    async def _start_runner(self, files: AttemptFiles) -> None:
        try:
            runner = await self._ask_for_runner(files.directory)
        except EngineUnavailable:
            if files.revoke():
                raise
            return  # the fork server died after it had started the runner
        self._forget(files.directory)
        self._runners[files.directory] = runner

    async def _ask_for_runner(self, directory: Path, *, staged: bool = False) -> OwnRunner:
        """Ask a second fork server if the first has died: `started` makes asking twice safe."""
        for _ in range(2):
            try:
                server = await self._live_server()
                return await server.start_runner(directory, staged=staged)
            except ForkServerGone as error:
                cause = str(error)
                await self._drop_server()
            except asyncio.CancelledError:
                await self._drop_server()  # its answer would be taken for the next one
                raise
        raise EngineUnavailable(f"cannot start {directory}: {cause}")

    async def _live_server(self) -> ForkServerClient:
        if not self._is_open:
            raise EngineUnavailable("the engine is not open", hint="call open() first")
        if self._server is None:
            self._server = ForkServerClient(self._python)
            await self._server.ready()
        return self._server

    async def _drop_server(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            await server.end()

    def _terminate_runner(self, files: AttemptFiles) -> bool:
        told = False
        own = self._runners.get(files.directory)
        if own is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(own.pidfd, signal.SIGTERM)
                told = True
        runner = files.runner()
        return (runner is not None and runner.send(signal.SIGTERM)) or told

    def _forget(self, directory: Path) -> None:
        runner = self._runners.pop(directory, None)
        if runner is not None:
            runner.close()


def _is_running(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return not poll.poll(0)


def _forget_environment(files: AttemptFiles) -> None:
    """Beside what comes next: nobody waits for it."""
    asyncio.get_running_loop().run_in_executor(None, files.forget_environment)
