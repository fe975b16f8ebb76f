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
from .wandb_files import recorded_lines
from .wandb_server import KeyRejected, WandbServer

# Read when wandb is imported: no reports to its makers, nothing of it outside our folder.
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
os.environ.setdefault("WANDB_CACHE_DIR", os.path.join(os.getcwd(), "cache"))
os.environ.setdefault("WANDB_DATA_DIR", os.path.join(os.getcwd(), "data"))

import wandb

INIT_SECONDS = 15.0
PAUSE_AFTER_FAILURE_SECONDS = 5.0  # for runs that wait to be opened while the server is down
WRITE_SECONDS = 5.0  # from the end of a run until its file is complete
ARRIVE_SECONDS = 20.0  # until the server counts what it took
POLL_SECONDS = 0.1
FLUSH_SECONDS = 0.5  # from wandb-core's memory to its file
OFFLINE = "the run is kept offline; training-cluster wandb sync uploads it"
NO_KEY = f"W&B has no API key here: {OFFLINE}"

# Its client's words for what the server answered, and the server's own, which may come with 200
_NEVER = re.compile(
    r"returned error (400|403|404|409|410)\b|invalid project name"
    r"|project name .*(cannot|exceed|long)|entity .*not found|permission denied"
    r"|previously created and deleted",
    re.IGNORECASE | re.DOTALL,
)


class OpenRun:
    """A run of wandb's, and how many lines it has. `warning` is why it is offline, if nobody
    wanted that."""

    def __init__(
        self, run: wandb.Run, lines: int, *, is_offline: bool, warning: str | None = None
    ) -> None:
        self.run = run
        self.lines = lines
        self.is_offline = is_offline
        self.warning = warning


class WandbRuns:
    """Configuration: `folder` (W&B's own `wandb` folder comes below it), `mode` (auto, online or
    offline), `base_url` (of a W&B server of one's own, or null) and, if need be, `arrive_seconds`
    (how long the server may take to count the lines of a run that is finished).

    A line is one row of the history, its position the row's step at the server: a line that comes
    twice is left out.
    """

    def __init__(self, configuration: dict[str, Any]) -> None:
        self._folder: str = configuration["folder"]
        self._mode: str = configuration.get("mode") or "auto"
        self._base_url: str | None = configuration.get("base_url")
        self._arrive_seconds: float = configuration.get("arrive_seconds", ARRIVE_SECONDS)
        self._server = WandbServer(self._base_url)
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
            "recorded": open_run.lines,
            "warning": open_run.warning,
        }

    def log(self, key: str, lines: list[list[Any]]) -> None:
        """Hand lines over to wandb-core. That they arrived is seen when the run is finished."""
        open_run = self._open_run(key)
        with _core_alive():
            for position, step, when, values in lines:
                if position > open_run.lines:
                    raise Unavailable(f"line {open_run.lines} of run {key} is missing")
                if position == open_run.lines:
                    open_run.run.log(_row(step, when, values), commit=True)  # W&B counts the rows
                    open_run.lines += 1

    def finish(self, key: str, ending: dict[str, Any]) -> None:
        """Complete the run, and hold what was recorded against what there was to record."""
        open_run = self._open_run(key)
        if open_run.lines < ending["lines"]:
            raise Unavailable(f"lines of run {key} are missing")
        with _core_alive():
            _add_artifacts(open_run.run, ending["artifacts"])
            _conclude(open_run.run, ending)
            del self._runs[key]  # complete or not, it is to be opened again from here on
            open_run.run.finish(exit_code=0 if ending["status"] == "completed" else 1)
        self._verify(open_run, ending["lines"])

    def _verify(self, open_run: OpenRun, lines: int) -> None:
        """wandb-core gives up without a word when the server refuses a piece, and may still write
        to its file after finish() has returned. One that does not get that done is not to be
        trusted: it must not write any more when the run is opened again."""
        seconds = WRITE_SECONDS if open_run.is_offline else self._arrive_seconds
        patience = time.monotonic() + seconds
        while (arrived := self._arrived(open_run)) < lines:
            if time.monotonic() > patience:
                failure = Broken if open_run.is_offline else Unavailable
                place = "in the files" if open_run.is_offline else "at the server"
                raise failure(f"{arrived} of {lines} lines of {open_run.run.id} are {place}")
            time.sleep(POLL_SECONDS)

    def _arrived(self, open_run: OpenRun) -> int:
        if open_run.is_offline:
            return recorded_lines(self._folder, open_run.run.id)
        run = open_run.run
        return self._server.history_lines(run.entity, run.project, run.id)

    def _open_run(self, key: str) -> OpenRun:
        try:
            return self._runs[key]
        except KeyError:
            raise Unavailable(f"run {key} is not open") from None

    def _start(self, key: str, run: dict[str, Any]) -> OpenRun:
        run_id = words.run_id(key)
        if self._is_offline():
            return self._start_offline(run_id, run, NO_KEY if self._mode == "auto" else None)
        try:
            return self._start_online(run_id, run)
        except KeyRejected as error:
            if self._mode != "auto":
                raise
            return self._start_offline(run_id, run, f"{error}: {OFFLINE}")

    def _start_offline(self, run_id: str, run: dict[str, Any], warning: str | None) -> OpenRun:
        before = recorded_lines(self._folder, run_id)
        started = self._init(run_id, run, "offline")
        return OpenRun(started, before, is_offline=True, warning=warning)

    def _start_online(self, run_id: str, run: dict[str, Any]) -> OpenRun:
        if time.monotonic() < self._down_until:
            raise Unavailable("W&B did not answer a moment ago")
        self._greet()
        started = self._init(run_id, run, "online")
        # not `step`, which begins at 0 again in a run that is resumed
        return OpenRun(started, started.starting_step, is_offline=False)

    def _greet(self) -> None:
        try:
            self._server.greet()
        except KeyRejected:
            raise
        except Unavailable:
            self._down_until = time.monotonic() + PAUSE_AFTER_FAILURE_SECONDS
            raise

    def _is_offline(self) -> bool:
        if self._mode == "auto":
            return words.api_key(self._base_url) is None
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
        if isinstance(error, wandb.errors.AuthenticationError):
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
        run.tags = tuple(dict.fromkeys((*(run.tags or ()), "cancelled")))


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
    except wandb.sdk.mailbox.mailbox_handle.ServerResponseError as error:
        raise Broken(f"wandb-core: {error}") from error  # "in use": it never began this run
    if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
        raise Broken("wandb-core has died")
