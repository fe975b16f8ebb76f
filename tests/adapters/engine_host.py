"""A stand-in for the daemon, to be killed: starts or adopts every attempt of a directory.

`engine_host.py ROOT`: each ROOT/*/want.json names an argv; the exit code comes into done.json
beside it. TRAINING_CLUSTER_CRASH_AT has it kill itself at a named point.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from training_cluster.adapters.local_engine import LocalEngine
from training_cluster.domain.job import AttemptRef
from training_cluster.ports import Launch, Sighting


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
    asyncio.run(main(Path(sys.argv[1])))
