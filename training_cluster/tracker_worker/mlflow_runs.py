"""Keeps runs at MLflow, in its database or at a tracking server."""

from __future__ import annotations

import os
import posixpath
import re
import tempfile
import threading
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from . import mlflow_words as words
from .artifact_files import files
from .protocol import Failure, Refused, Unavailable

# Read when mlflow is imported or asks: a dead server shall cost seconds, not minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

from mlflow import MlflowClient
from mlflow.entities import Experiment, Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException

KEY_TAG = "training_cluster.run"
# opens MLflow's pages for training, not those for language model applications
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
MOST_PARAMS_A_CALL = 100
MOST_METRICS_A_CALL = 1000
NEVER = frozenset({"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "NOT_IMPLEMENTED"})

T = TypeVar("T")


class MlflowRuns:
    """Configuration: `uri` (sqlite:/// or http), `artifact_root` (where a database's artifacts
    go) and `ui_url` (where people look at a database; may be null).

    MLflow takes a point it has for the same point, so lines may come twice.
    """

    def __init__(self, configuration: dict[str, Any]) -> None:
        self._uri: str = configuration["uri"]
        self._is_server = self._uri.startswith("http")
        self._artifact_root: str | None = configuration.get("artifact_root")
        self._ui_url: str | None = self._uri if self._is_server else configuration.get("ui_url")
        self._client = MlflowClient(self._uri)
        self._opening = threading.Lock()  # the first use of a database makes its tables
        self._run_ids: dict[str, str] = {}

    def open(self, key: str, run: dict[str, Any]) -> dict[str, Any]:
        """Find the run of a key or make it; it counts as running."""
        with _translated():
            found = self._find_or_create(key, run)
            self._describe(found, run)
        self._run_ids[key] = found.info.run_id
        url = self._url(found.info.experiment_id, found.info.run_id)
        return {"run_id": found.info.run_id, "url": url, "recorded": None, "warning": None}

    def log(self, key: str, lines: list[list[Any]]) -> None:
        """Add the points of lines, with their own times."""
        run_id = self._run_id(key)
        points = [
            Metric(words.name(name), float(value), words.milliseconds(time), step)
            for _, step, time, values in lines
            for name, value in values.items()
        ]
        with _translated():
            for batch in _batches(points, MOST_METRICS_A_CALL):
                self._client.log_batch(run_id, metrics=batch)

    def finish(self, key: str, ending: dict[str, Any]) -> None:
        """Add artifacts, then say how the run ended."""
        run_id = self._run_id(key)
        tags = {f"summary.{name}": value for name, value in ending["summary"].items()}
        if ending["message"]:
            tags["training_cluster.message"] = ending["message"]
        with _translated():
            self._add_artifacts(run_id, ending["artifacts"])
            self._set(run_id, {}, tags)
            ended = words.milliseconds(ending["ended_at"])
            self._client.set_terminated(run_id, words.STATUSES[ending["status"]], ended)
        del self._run_ids[key]

    def _run_id(self, key: str) -> str:
        try:
            return self._run_ids[key]
        except KeyError:
            raise Unavailable(f"run {key} is not open") from None

    def _find_or_create(self, key: str, run: dict[str, Any]) -> Run:
        with self._opening:
            experiment = self._experiment(run["project"])
        return (
            self._by_id(run) or self._by_key(experiment, key) or self._create(experiment, key, run)
        )

    def _experiment(self, name: str) -> str:
        existing = self._client.get_experiment_by_name(name)
        if existing is None:
            existing = self._create_experiment(name)
        if existing.lifecycle_stage != "active":
            raise Unavailable(f"experiment {name} was deleted in MLflow: restore or rename it")
        return str(existing.experiment_id)

    def _create_experiment(self, name: str) -> Experiment:
        try:
            root = None if self._is_server else self._artifact_root
            self._client.create_experiment(name, artifact_location=root, tags=EXPERIMENT_TAGS)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        return self._client.get_experiment_by_name(name)

    def _by_id(self, run: dict[str, Any]) -> Run | None:
        if run["run_id"] is None:
            return None
        try:
            found = self._client.get_run(run["run_id"])
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        if found.info.lifecycle_stage != "active":
            raise Refused(f"run {run['run_id']} was deleted in MLflow")
        return found

    def _by_key(self, experiment: str, key: str) -> Run | None:
        """The run an earlier worker made, whose answer may never have arrived."""
        quote = '"' if "'" in key else "'"
        wanted = f"tags.`{KEY_TAG}` = {quote}{key}{quote}"
        found = self._client.search_runs([experiment], wanted, ViewType.ACTIVE_ONLY, max_results=1)
        return found[0] if found else None

    def _create(self, experiment: str, key: str, run: dict[str, Any]) -> Run:
        started = words.milliseconds(run["started_at"])
        return self._client.create_run(experiment, started, {KEY_TAG: key}, run["name"])

    def _describe(self, found: Run, run: dict[str, Any]) -> None:
        """Name, status, tags, and those params it does not have: MLflow never changes one."""
        params = {words.name(name): words.param(value) for name, value in run["parameters"].items()}
        missing = {name: value for name, value in params.items() if name not in found.data.params}
        tags = dict(run["tags"])
        if run["labels"]:
            tags["labels"] = ", ".join(run["labels"])
        self._client.update_run(found.info.run_id, "RUNNING", run["name"])
        self._set(found.info.run_id, missing, tags)

    def _set(self, run_id: str, params: dict[str, str], tags: dict[str, Any]) -> None:
        as_params = [Param(name, value) for name, value in params.items()]
        as_tags = [RunTag(words.name(name), words.tag(value)) for name, value in tags.items()]
        for param_batch in _batches(as_params, MOST_PARAMS_A_CALL):
            self._client.log_batch(run_id, params=param_batch)
        for tag_batch in _batches(as_tags, MOST_PARAMS_A_CALL):
            self._client.log_batch(run_id, tags=tag_batch)

    def _add_artifacts(self, run_id: str, artifacts: dict[str, str]) -> None:
        there: dict[str, dict[str, int]] = {}
        for name, path in files(artifacts):
            folder = posixpath.dirname(name)
            if folder not in there:
                listed = self._client.list_artifacts(run_id, folder or None)
                there[folder] = {file.path: file.file_size for file in listed}
            if there[folder].get(name) != os.path.getsize(path):
                self._add_artifact(run_id, name, path)

    def _add_artifact(self, run_id: str, name: str, path: str) -> None:
        """MLflow names a file as it is named here: give it a link of the right name."""
        folder, file = posixpath.split(name)
        with tempfile.TemporaryDirectory() as scratch:
            link = os.path.join(scratch, file)
            os.symlink(os.path.abspath(path), link)
            self._client.log_artifact(run_id, link, folder or None)

    def _url(self, experiment: str, run_id: str) -> str | None:
        if self._ui_url is None:
            return None
        shown = re.sub(r"(?<=://)[^/]*@", "", self._ui_url).rstrip("/")
        return f"{shown}/#/experiments/{experiment}/runs/{run_id}"


class _translated:
    """Says what MLflow's exceptions mean for the request."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, where: object) -> None:
        if isinstance(error, MlflowException):
            failure: type[Failure] = Refused if error.error_code in NEVER else Unavailable
            raise failure(f"MLflow: {error.message}") from error


def _batches(items: Iterable[T], most: int) -> Iterator[list[T]]:
    everything = list(items)
    for start in range(0, len(everything), most):
        yield everything[start : start + most]
