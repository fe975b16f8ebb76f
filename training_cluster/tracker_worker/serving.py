"""Reads requests, has them done, answers; ends with its daemon."""

from __future__ import annotations

import os
import sys
import traceback
from functools import partial
from typing import Any, NoReturn, Protocol

from .household import end_leftovers, take_lock
from .lanes import Lanes
from .protocol import Broken, Channel, Failure, Request, Unavailable

NICENESS = 10
THREADS = 8
THREADS_THAT_FINISH = 4


class Runs(Protocol):
    """What a tracker's module offers. All may block, and raise Failure; anything else that is
    raised counts as Unavailable."""

    def open(self, key: str, run: dict[str, Any]) -> dict[str, Any]:
        """Find or make a run: run_id, url, recorded, warning."""
        ...

    def log(self, key: str, lines: list[list[Any]]) -> None:
        """Add lines to a run."""
        ...

    def finish(self, key: str, ending: dict[str, Any]) -> None:
        """Complete a run."""
        ...


def serve(tracker: str) -> None:
    """Serve one tracker until the daemon closes stdin; never returns."""
    channel = Channel.of_this_process()
    os.nice(NICENESS)
    requests = channel.requests()
    runs = _configure(channel, tracker, next(requests, None))
    lanes = Lanes(THREADS, THREADS_THAT_FINISH)
    for request in requests:
        if request["op"] == "ping":
            channel.succeed(request, {})
            continue
        work = partial(_do, channel, runs, request)
        lanes.add(request["key"], work, is_long=request["op"] == "finish")
    _end(0)


def _configure(channel: Channel, tracker: str, request: Request | None) -> Runs:
    if request is None:
        _end(0)
    try:
        runs = _runs(tracker, request["configuration"])
    except Exception as error:
        channel.fail(request, _failure(error))
        _end(1)
    channel.succeed(request, {})
    return runs


def _runs(tracker: str, configuration: dict[str, Any]) -> Runs:
    take_lock(os.path.join(configuration["folder"], f"{tracker}.lock"))
    end_leftovers()
    os.chdir(configuration["folder"])  # where a library leaves files nobody asked it for
    if tracker == "mlflow":
        from .mlflow_runs import MlflowRuns

        return MlflowRuns(configuration)
    from .wandb_runs import WandbRuns

    return WandbRuns(configuration)


def _do(channel: Channel, runs: Runs, request: Request) -> None:
    try:
        result = _dispatch(runs, request)
    except Exception as error:
        channel.fail(request, _failure(error))
        if isinstance(error, Broken):
            _end(1)
    else:
        channel.succeed(request, result)


def _dispatch(runs: Runs, request: Request) -> dict[str, Any]:
    if request["op"] == "open":
        return runs.open(request["key"], request["run"])
    if request["op"] == "log":
        runs.log(request["key"], request["lines"])
    else:
        runs.finish(request["key"], request["ending"])
    return {}


def _failure(error: Exception) -> Failure:
    if isinstance(error, Failure):
        return error
    traceback.print_exception(error)
    return Unavailable(f"{type(error).__name__}: {error}")


def _end(status: int) -> NoReturn:
    """End now, whatever other threads are at: they may hang, and nothing is lost with them."""
    sys.stderr.flush()
    os._exit(status)
