"""Finds and fetches the files of a dataset on a hub that speaks as huggingface.co does."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import httpx2

from training_cluster.adapters.dataset_directory.refusal import refuse
from training_cluster.domain.dataset import HubSource
from training_cluster.domain.errors import InvalidDataset

_KINDS = (".jsonl", ".parquet", ".json", ".csv", ".tsv")
_NOT_DATA = ("dataset_info.json", "dataset_infos.json", "config.json")
_PAUSES_SECONDS = (0.5, 2.0, 5.0)
_TIMEOUT_SECONDS = 30.0
_AGAIN = (408, 429, 500, 502, 503, 504)
_REASONS = {
    401: "is not open to us: give private_hf_token",
    403: "is not open to this token, or its terms were not accepted",
    404: "is not there; the hub says the same of private ones when there is no token",
}


class Hub:
    """One hub, asked with or without a token, which goes to no other host."""

    def __init__(self, url: str, token: str | None) -> None:
        headers = {"User-Agent": "training-cluster"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self._client = httpx2.Client(
            base_url=url, headers=headers, follow_redirects=True, timeout=_TIMEOUT_SECONDS
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def files(self, source: HubSource) -> tuple[str, list[tuple[str, int]]]:
        """The commit behind the revision, and the files to fetch with their sizes (0 where the
        hub does not say). Raises InvalidDataset."""
        revision = quote(source.revision, safe="")
        path = f"/api/datasets/{quote(source.dataset)}/revision/{revision}"
        told = self._document(path, source.dataset)
        listed = [
            each for each in told.get("siblings", ()) if isinstance(each.get("rfilename"), str)
        ]
        sizes = {each["rfilename"]: int(each.get("size") or 0) for each in listed}
        chosen = _chosen(list(sizes), source)
        return str(told.get("sha") or source.revision), [(name, sizes[name]) for name in chosen]

    def download(self, dataset: str, commit: str, name: str, target: Path) -> None:
        """Fetch one file. Raises InvalidDataset."""
        path = f"/datasets/{quote(dataset)}/resolve/{quote(commit, safe='')}/{quote(name)}"
        for pause in (*_PAUSES_SECONDS, None):
            try:
                if self._stream(path, target, f"{dataset}/{name}"):
                    return
                why = "answers with an error of its own"
            except httpx2.TransportError as error:
                why = f"cannot be reached ({type(error).__name__})"
            if pause is None:
                raise refuse(f"{dataset}/{name}", f"the hub {why}", "a hub that answers")
            time.sleep(pause)

    def _stream(self, path: str, target: Path, what: str) -> bool:
        with self._client.stream("GET", path) as response:
            if response.status_code in _AGAIN:
                return False
            _require(response, what)
            with target.open("wb") as file:
                for data in response.iter_bytes(1 << 20):
                    file.write(data)
                os.fsync(file.fileno())
        return True

    def _document(self, path: str, what: str) -> dict[str, Any]:
        for pause in (*_PAUSES_SECONDS, None):
            try:
                response = self._client.get(path, params={"blobs": "true"})
            except httpx2.TransportError as error:
                why = f"cannot be reached ({type(error).__name__})"
            else:
                if response.status_code not in _AGAIN:
                    _require(response, what)
                    return _json(response, what)
                why = f"answers {response.status_code}"
            if pause is None:
                raise refuse(what, f"the hub {why}", "a hub that answers")
            time.sleep(pause)
        raise AssertionError("the last round returns or raises")


def _require(response: httpx2.Response, what: str) -> None:
    if not response.is_success:
        status = response.status_code
        reason = _REASONS.get(status, f"is refused by the hub with {status}")
        raise refuse(what, reason, "a dataset that can be fetched")


def _json(response: httpx2.Response, what: str) -> dict[str, Any]:
    try:
        found = response.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise refuse(what, "is not told of as hubs do", "the address of a hub in datasets.hub_url")
    return found


def _chosen(names: list[str], source: HubSource) -> list[str]:
    """The files of one split and of one kind. Raises InvalidDataset."""
    if source.file is not None:
        if source.file not in names:
            raise _none(source, names, f"has no file {source.file!r}")
        return [source.file]
    data = [name for name in names if name.endswith(_KINDS) and not name.endswith(_NOT_DATA)]
    split = re.compile(rf"(^|[/_.-]){re.escape(source.split)}([/_.-]|$)")
    of_split = [name for name in data if split.search(name)] or (data if len(data) == 1 else [])
    for kind in _KINDS:
        if found := sorted(name for name in of_split if name.endswith(kind)):
            return found
    raise _none(source, data, f"has no files of the split {source.split!r} that we can read")


def _none(source: HubSource, names: list[str], found: str) -> InvalidDataset:
    listed = ", ".join(sorted(names)[:10]) or "nothing"
    return refuse(source.dataset, found, f"one of its files, say which by `file`: {listed}")
