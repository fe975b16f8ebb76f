"""Whether a trainer still does anything, by what can be seen from outside. Pure.

A trainer that spins in a deadlocked collective uses its GPU and looks alive: only the absence of
steps tells (`no_step_seconds`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

LEAST_LOAD_PERCENT = 1.0
LEAST_CPU_SHARE = 0.05  # of one core: threads that only wait use less


@dataclass(frozen=True, slots=True)
class HangRules:
    """Seconds without a sign of life after which somebody is told, and after which the attempt is
    stopped; seconds without a step that count as well. None: never."""

    warn_seconds: float | None = 1800.0
    stop_seconds: float | None = None
    no_step_seconds: float | None = None

    @property
    def is_off(self) -> bool:
        """True when nothing follows from anything."""
        return self.warn_seconds is None and self.stop_seconds is None


@dataclass(frozen=True, slots=True)
class Signs:
    """What was seen of an attempt: `files` changes with any of its files, `cpu_seconds` is what
    its processes have used (None: unknown), `load_percent` the highest load of its GPUs (None: it
    has none, or they do not say), `step` the last step it logged."""

    files: int
    cpu_seconds: float | None = None
    load_percent: float | None = None
    step: int | None = None


@dataclass(frozen=True, slots=True)
class Pulse:
    """An attempt as it was felt last. Moments are monotonic seconds."""

    signs: Signs
    seen_at: float
    moved_at: float
    stepped_at: float


def feel(before: Pulse | None, signs: Signs, now: float) -> Pulse:
    """The pulse after another look."""
    if before is None:
        return Pulse(signs, now, now, now)
    pulse = replace(before, signs=signs, seen_at=now)
    if signs.step != before.signs.step:
        return replace(pulse, moved_at=now, stepped_at=now)
    return replace(pulse, moved_at=now) if _moves(before, signs, now) else pulse


def _moves(before: Pulse, signs: Signs, now: float) -> bool:
    if signs.files != before.signs.files:
        return True
    if signs.load_percent is not None and signs.load_percent >= LEAST_LOAD_PERCENT:
        return True
    # before the first step a trainer may tokenise for hours without a word and without its GPU
    by_processor = signs.load_percent is None or signs.step is None
    return by_processor and _computes(before, signs, now)


def _computes(before: Pulse, signs: Signs, now: float) -> bool:
    if signs.cpu_seconds is None or before.signs.cpu_seconds is None:
        return signs.cpu_seconds != before.signs.cpu_seconds
    used = abs(signs.cpu_seconds - before.signs.cpu_seconds)  # less: a process has ended
    return used > LEAST_CPU_SHARE * max(now - before.seen_at, 0.0)


def still_seconds(pulse: Pulse, rules: HangRules, now: float) -> float:
    """For how long nothing has moved; or no step was made, where that counts and is too long."""
    still = now - pulse.moved_at
    without_step = now - pulse.stepped_at
    if rules.no_step_seconds is None or pulse.signs.step is None:
        return still
    return max(still, without_step) if without_step >= rules.no_step_seconds else still


def is_over(limit_seconds: float | None, still: float) -> bool:
    """Whether a limit is reached."""
    return limit_seconds is not None and still >= limit_seconds
