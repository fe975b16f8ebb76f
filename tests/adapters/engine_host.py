"""A stand-in for the daemon, to be killed: starts or adopts every attempt of a directory.

`engine_host.py ROOT [CRASH_POINT]`: each ROOT/*/want.json names an argv; the exit code comes into
done.json beside it. At the first pass of its crash point the process kills itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from training_cluster.adapters.local_engine import LocalEngine
from training_cluster.adapters.local_engine.attempt_files import AttemptFiles
from training_cluster.adapters.local_engine.fork_server_client import ForkServerClient, OwnRunner
from training_cluster.domain.job import AttemptRef
from training_cluster.ports import Launch, Sighting

POINTS: dict[str, tuple[type, str]] = {
    "before_launch_json": (AttemptFiles, "write_launch"),
    "before_request": (ForkServerClient, "start_runner"),
    "before_reply": (ForkServerClient, "_receive"),
    "before_go": (OwnRunner, "go"),
    "before_exit_is_read": (OwnRunner, "ending"),
}
AFTER = "after_reply"
CRASH_POINTS = (*POINTS, AFTER)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(point: str) -> None:
    """Make this process kill itself at a point."""
    if point == AFTER:
        answer = ForkServerClient.start_runner

        async def start_and_die(
            self: ForkServerClient, directory: Path, *, staged: bool = False
        ) -> OwnRunner:
            runner = await answer(self, directory, staged=staged)
            die()
            return runner

        ForkServerClient.start_runner = start_and_die  # type: ignore[method-assign]
        return
    owner, name = POINTS[point]
    original: Callable[..., Any] = getattr(owner, name)

    def crash(*arguments: Any) -> Any:
        if point != "before_reply" or hasattr(arguments[0], "was_ready"):
            die()
        arguments[0].was_ready = True  # the first message says that the fork server is up
        return original(*arguments)

    setattr(owner, name, crash)


async def see_through(engine: LocalEngine, directory: Path) -> None:
    want = json.loads((directory / "want.json").read_text())
    if await engine.look(directory) is Sighting.NEVER:
        launch = Launch(
            ref=AttemptRef("job", 1),
            directory=directory,
            argv=tuple(want["argv"]),
            environment={"PATH": os.defpath},
            grace_seconds=1,
        )
        if want.get("staged"):
            await engine.stage(launch)
        await engine.start(launch)
    ending = await engine.wait(directory)
    (directory / "done.tmp").write_text(json.dumps({"code": ending.code}))
    (directory / "done.tmp").rename(directory / "done.json")


async def main(root: Path) -> None:
    engine = LocalEngine()
    await engine.open()
    print("open", flush=True)
    left = [path.parent for path in root.glob("*/want.json")]
    left = [directory for directory in left if not (directory / "done.json").exists()]
    await asyncio.gather(*(see_through(engine, directory) for directory in left))
    await engine.close()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        arm(sys.argv[2])
    asyncio.run(main(Path(sys.argv[1])))
