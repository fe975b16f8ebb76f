"""Keeps runs at W&B: online with a key, offline in files that `wandb sync` uploads without one."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from typing import Any

from . import wandb_words as words
from .artifact_files import files
from .protocol import Broken, Refused, Unavailable
from .wandb_files import first_missing, recorded_positions

# Read when wandb is imported: no reports to its makers, nothing of it outside our folder.
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
os.environ.setdefault("WANDB_CACHE_DIR", os.path.join(os.getcwd(), "cache"))
os.environ.setdefault("WANDB_DATA_DIR", os.path.join(os.getcwd(), "data"))

import wandb

INIT_SECONDS = 15.0
PAUSE_AFTER_FAILURE_SECONDS = 5.0  # for runs that wait to be opened while the server is down
WRITE_SECONDS = 5.0  # from the end of a run until its file is complete
POLL_SECONDS = 0.1
FLUSH_SECONDS = 0.5  # from wandb-core's memory to its file
NO_KEY = "W&B has no API key here: the run is kept offline; training-cluster wandb sync uploads it"

_NEVER = re.compile(
    r"invalid project name|project name .*(cannot|exceed|long)|entity .*not found"
    r"|permission denied|\b40[34]\b",
    re.IGNORECASE | re.DOTALL,
)
_KEY_TROUBLE = re.compile(r"api.?key|log ?in|\b401\b|unauthori[sz]ed", re.IGNORECASE)


class OpenRun:
    """A run of wandb's, and the positions of the lines it has."""

    def __init__(self, run: wandb.Run, held: set[int], *, is_offline: bool) -> None:
        self.run = run
        self.is_offline = is_offline
        self.held = held


class WandbRuns:
    """Configuration: `folder` (W&B's own `wandb` folder comes below it), `mode` (auto, online or
    offline) and `base_url` (of a W&B server of one's own, or null).

    A line is one row of the history, its position the row's step: a line that comes twice is
    left out, here or by W&B's server.
    """

    def __init__(self, configuration: dict[str, Any]) -> None:
        self._folder: str = configuration["folder"]
        self._mode: str = configuration.get("mode") or "auto"
        self._base_url: str | None = configuration.get("base_url")
        self._runs: dict[str, OpenRun] = {}
        self._down_until = 0.0

    def open(self, key: str, run: dict[str, Any]) -> dict[str, Any]:
        """Find the run of a key or make it, and tell how many lines it has."""
        open_run = self._runs.get(key)
        if open_run is None:
            open_run = self._runs[key] = self._start(key, run)
        return {
            "run_id": open_run.run.id,
            "url": None if open_run.is_offline else open_run.run.url,
            "recorded": first_missing(open_run.held),
            "warning": NO_KEY if open_run.is_offline and self._mode == "auto" else None,
        }

    def log(self, key: str, lines: list[list[Any]]) -> None:
        """Hand lines over to wandb-core. That they arrived is seen when the run is finished."""
        open_run = self._open_run(key)
        with _core_alive():
            for position, step, when, values in lines:
                if position not in open_run.held:
                    open_run.run.log(_row(step, when, values), step=position, commit=True)
                    open_run.held.add(position)

    def finish(self, key: str, ending: dict[str, Any]) -> None:
        """Complete the run, and hold what was recorded against what there was to record."""
        open_run = self._open_run(key)
        if first_missing(open_run.held) < ending["lines"]:
            raise Unavailable(f"lines of run {key} are missing")
        with _core_alive():
            _add_artifacts(open_run.run, ending["artifacts"])
            _conclude(open_run.run, ending)
            del self._runs[key]  # complete or not, it is to be opened again from here on
            open_run.run.finish(exit_code=0 if ending["status"] == "completed" else 1)
        self._verify(open_run, ending["lines"])

    def _verify(self, open_run: OpenRun, lines: int) -> None:
        """wandb-core may still write after finish() has returned. One that does not get it done is
        not to be trusted: it must not write any more when the run is opened again."""
        patience = time.monotonic() + WRITE_SECONDS
        while open_run.is_offline:
            recorded = first_missing(recorded_positions(self._folder, open_run.run.id))
            if recorded >= lines:
                return
            if time.monotonic() > patience:
                raise Broken(f"{recorded} of {lines} lines are in the files of {open_run.run.id}")
            time.sleep(POLL_SECONDS)

    def _open_run(self, key: str) -> OpenRun:
        try:
            return self._runs[key]
        except KeyError:
            raise Unavailable(f"run {key} is not open") from None

    def _start(self, key: str, run: dict[str, Any]) -> OpenRun:
        run_id = words.run_id(key)
        if self._is_offline():
            held = recorded_positions(self._folder, run_id)
            return OpenRun(self._init(run_id, run, "offline"), held, is_offline=True)
        if time.monotonic() < self._down_until:
            raise Unavailable("W&B did not answer a moment ago")
        started = self._init(run_id, run, "online")
        held = set(range(started.step)) if started.resumed else set()
        return OpenRun(started, held, is_offline=False)

    def _is_offline(self) -> bool:
        if self._mode == "auto":
            return not words.has_key(self._base_url)
        return self._mode == "offline"

    def _init(self, run_id: str, run: dict[str, Any], mode: Any) -> wandb.Run:
        with _core_alive():
            try:
                started = wandb.init(
                    id=run_id,
                    name=run["name"][: words.MOST_NAME_CHARACTERS],
                    project=run["project"],
                    entity=run["entity"],
                    config={**run["parameters"], "training_cluster": run["tags"]},
                    tags=words.labels(run["labels"]),
                    dir=self._folder,
                    mode=mode,
                    reinit="create_new",
                    resume="allow",
                    allow_val_change=True,
                    settings=self._settings(),
                )
            except (wandb.errors.Error, ValueError, TimeoutError) as error:
                raise self._failure(error) from error
        for group in ("train", "eval"):
            started.define_metric(f"{group}/*", step_metric="train/global_step")
        return started

    def _settings(self) -> wandb.Settings:
        own_server = {"base_url": self._base_url} if self._base_url else {}
        return wandb.Settings(
            **own_server,
            console="off",
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            init_timeout=INIT_SECONDS,
            silent=True,
            symlink=False,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
            x_transaction_log_flush_interval=FLUSH_SECONDS,
        )

    def _failure(self, error: Exception) -> Exception:
        message = f"W&B: {error}"
        if isinstance(error, wandb.errors.AuthenticationError) or _KEY_TROUBLE.search(message):
            return Unavailable(message)
        if isinstance(error, (wandb.errors.UsageError, ValueError)) or _NEVER.search(message):
            return Refused(message)
        self._down_until = time.monotonic() + PAUSE_AFTER_FAILURE_SECONDS
        return Unavailable(message)


def _row(step: int, when: float, values: dict[str, float]) -> dict[str, float]:
    """A row of the history. Lines about devices count samples, not optimizer steps."""
    row = {words.metric(name): value for name, value in values.items()}
    if not all(name.startswith("system/") for name in values):
        row.setdefault("train/global_step", step)
    return {**row, "_timestamp": when}


def _conclude(run: wandb.Run, ending: dict[str, Any]) -> None:
    run.summary.update({words.metric(name): value for name, value in ending["summary"].items()})
    run.summary["status"] = ending["status"]
    if ending["message"]:
        run.summary["message"] = ending["message"]
    if ending["status"] == "cancelled":  # W&B itself only knows finished and failed
        run.tags = (*(run.tags or ()), "cancelled")


def _add_artifacts(run: wandb.Run, artifacts: dict[str, str]) -> None:
    for name, path in files(artifacts):
        copy = os.path.join(run.dir, name)
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        _copy(path, copy)
        escaped = re.sub(r"([*?[])", r"[\1]", copy)  # save() takes patterns
        run.save(escaped, base_path=run.dir, policy="now")


def _copy(path: str, copy: str) -> None:
    """A second name for the file where the disk can, so that a model takes no space twice."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(copy)
    try:
        os.link(os.path.realpath(path), copy)
    except OSError:
        shutil.copyfile(path, copy)


@contextlib.contextmanager
def _core_alive() -> Iterator[None]:
    """Without wandb-core, a child of this process, nothing here works again."""
    try:
        yield
    except (ConnectionError, wandb.sdk.mailbox.MailboxClosedError) as error:
        raise Broken(f"wandb-core is gone: {error}") from error
    if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
        raise Broken("wandb-core has died")
