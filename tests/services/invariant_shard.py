"""Lives so many lives of the queue: `python -m tests.services.invariant_shard RUNS STEPS`.

The last line says how many runs and steps there really were. Hypothesis remembers what it has
tried, so that many runs are made a few hundred at a time."""

from __future__ import annotations

import gc
import json
import logging
import sys

import structlog
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.services.queue_machine import Queue

AT_A_TIME = 200


def live(runs: int, steps: int) -> dict[str, int]:
    """Make at least that many runs and `runs` times `steps` steps, for some runs end early; what
    is said in return is counted."""
    Queue.runs = Queue.steps = 0
    while (left := max(runs - Queue.runs, runs - Queue.steps // steps)) > 0:
        run_state_machine_as_test(
            Queue,
            settings=settings(
                max_examples=min(AT_A_TIME, left),
                stateful_step_count=steps,
                deadline=None,
                database=None,
                phases=(Phase.generate, Phase.shrink),
                suppress_health_check=list(HealthCheck),
            ),
        )
    return {"runs": Queue.runs, "steps": Queue.steps}


if __name__ == "__main__":
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)  # a third of the time otherwise
    quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=quiet)
    print(json.dumps(live(int(sys.argv[1]), int(sys.argv[2]))))
