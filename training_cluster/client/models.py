"""The client's part for models: listed, named, downloaded, exported, deleted; base models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from training_cluster.client.answers import Answer, JobError, Progress, Submitted, read
from training_cluster.client.errors import ClientError
from training_cluster.client.wire import Wire, path_of

_PAGE = 100
_CHUNK_BYTES = 1 << 20

Told = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Model(Answer):
    """A registered model; `key` names it. Sizes are bytes, times Unix seconds."""

    model_id: str
    key: str
    number: int = 0
    name: str = ""
    version: str = ""
    user: str = ""
    kind: str = ""
    base_model: str = ""
    job_id: str = ""
    job_number: int = 0
    parent_id: str | None = None
    aliases: tuple[str, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    size_bytes: int = 0
    is_public: bool = False
    created_at: float = 0.0
    deleted_at: float | None = None
    path: str = ""
    files: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BaseModel(Answer):
    """A model that trainings can start from: `name` is what `model_name` takes."""

    name: str
    source: str = ""
    path: str = ""
    size_bytes: int = 0
    revision: str | None = None
    is_complete: bool = True


@dataclass(frozen=True, kw_only=True)
class BaseDownload(Answer):
    """A base model on its way here, by a job; `progress` counts MiB."""

    name: str
    job_id: str = ""
    number: int = 0
    user: str = ""
    status: str = ""
    progress: Progress | None = None
    error: JobError | None = None


class Models:
    """`client.models`. A model is named by id, number, `name@version`, `name@alias` or name."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def all(
        self, *, name: str | None = None, user: str | None = None, deleted: bool = False
    ) -> Iterator[Model]:
        """Models, newest first; pages are fetched as they are needed."""
        asked: dict[str, Any] = {"name": name, "user": user, "deleted": deleted or None}
        cursor: str | None = None
        while True:
            params = {**asked, "limit": _PAGE, "cursor": cursor}
            found = self._wire.document("GET", "/models", params=params)
            yield from (read(Model, item) for item in found.get("models", ()))
            cursor = found.get("next_cursor")
            if cursor is None:
                return

    def get(self, key: str | int) -> Model:
        """One model, with its job's configuration in `raw["config"]`."""
        return read(Model, self._wire.document("GET", path_of("models", key)))

    def card(self, key: str | int) -> str:
        """What a model is and where it comes from, in Markdown."""
        return self._wire.send("GET", path_of("models", key, "card")).text

    def download(self, key: str | int, target: Path, told: Told = lambda done, total: None) -> Path:
        """Write a model's zip to a new file, or into a folder; returns the file. `told` gets bytes
        done and in all. Raises ClientError when it is there already or came incomplete."""
        model = self.get(key)
        file = target / f"{model.name}-{model.version}.zip" if target.is_dir() else target
        if file.exists():
            raise ClientError(f"{file} is there already", hint="name another file")
        part = file.with_name(f".{file.name}.part")
        try:
            self._fetch(path_of("models", model.model_id, "download"), part, told)
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
        return file

    def _fetch(self, path: str, part: Path, told: Told) -> None:
        with self._wire.open(path, params={}, headers={}) as response, part.open("wb") as out:
            total, done = self._wire.number(response, "content-length"), 0
            for chunk in response.iter_bytes(_CHUNK_BYTES):
                done += out.write(chunk)
                told(done, total)
        if done != total:
            raise ClientError(f"only {done} of {total} bytes came", hint="try again")

    def export(
        self, key: str | int, *, name: str | None = None, needs_device: bool = False
    ) -> Submitted:
        """Queue the merge of a LoRA adapter into its base model."""
        body = {"name": name, "needs_device": needs_device}
        return self._task(key, "export", body)

    def evaluate(
        self, key: str | int, *, prompts: list[str] | None = None, needs_device: bool = False
    ) -> Submitted:
        """Queue an evaluation: base and tuned model answer prompts; see `evaluation`."""
        body = {"prompts": prompts, "needs_device": needs_device}
        return self._task(key, "evaluate", body)

    def _task(self, key: str | int, what: str, body: dict[str, Any]) -> Submitted:
        # not repeatable: each request that arrives makes a job
        path = path_of("models", key, what)
        return read(Submitted, self._wire.document("POST", path, body=body, repeatable=False))

    def evaluation(self, job_id: str | int) -> dict[str, Any]:
        """The answers of an evaluation, by its job or by the job that trained the model."""
        return self._wire.document("GET", path_of("train", job_id, "evaluation"))

    def set_alias(self, name: str, alias: str, version: str) -> Model:
        """Have `name@alias` mean a version."""
        path = path_of("models", name, "aliases", quote(alias, safe=""))
        return read(Model, self._wire.document("PUT", path, body={"version": version}))

    def drop_alias(self, name: str, alias: str) -> Model:
        """Forget an alias."""
        path = path_of("models", name, "aliases", quote(alias, safe=""))
        return read(Model, self._wire.document("DELETE", path, repeatable=False))

    def set_public(self, key: str | int, *, is_public: bool) -> Model:
        """Let everybody use a model, or its owner and admins only."""
        body = {"is_public": is_public}
        return read(Model, self._wire.document("PATCH", path_of("models", key), body=body))

    def delete(self, key: str | int) -> Model:
        """Remove a model's files; its record stays."""
        path = path_of("models", key)
        return read(Model, self._wire.document("DELETE", path, repeatable=False))

    def bases(self) -> list[BaseModel]:
        """The base models that are here."""
        found = self._wire.document("GET", "/base-models").get("base_models", [])
        return [read(BaseModel, item) for item in found]

    def downloads(self) -> list[BaseDownload]:
        """Base models that are on their way, and those whose download failed."""
        found = self._wire.document("GET", "/base-models").get("downloads", [])
        return [read(BaseDownload, item) for item in found]

    def fetch_base(
        self, name: str, *, revision: str | None = None, private_hf_token: str | None = None
    ) -> Submitted:
        """Queue the download of a base model from the hub."""
        body = {"name": name, "revision": revision, "private_hf_token": private_hf_token}
        found = self._wire.document("POST", "/base-models", body=body, repeatable=False)
        return read(Submitted, found)
