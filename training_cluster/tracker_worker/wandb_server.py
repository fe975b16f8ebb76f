"""Asks a W&B server directly what its client does not tell: whether it takes the key, and how much
of a run it has.

The client says the same of a dead server and of a wrong key, and a run that it could not begin is
"in use" for it from then on: it is asked to begin one only after the server has answered.
"""

from __future__ import annotations

from typing import Any

import requests

from . import wandb_words as words
from .protocol import Unavailable

TIMEOUT_SECONDS = 10.0
VIEWER = "query Viewer { viewer { id } }"
RUN = """query Run($entity: String!, $project: String!, $name: String!) {
  project(name: $project, entityName: $entity) { run(name: $name) { historyLineCount } }
}"""


class KeyRejected(Unavailable):
    """The server does not take the API key."""


class WandbServer:
    """A server by its address (null: the one of WANDB_BASE_URL, else the public one). What it is
    asked raises Unavailable, or KeyRejected."""

    def __init__(self, base_url: str | None) -> None:
        self._url = words.server(base_url)

    def greet(self) -> None:
        """See that it answers and takes the key."""
        self._ask(VIEWER)

    def history_lines(self, entity: str, project: str, run_id: str) -> int:
        """How many rows of a run have arrived; 0 of a run it does not know."""
        found = self._ask(RUN, entity=entity, project=project, name=run_id)
        run = (found.get("project") or {}).get("run") or {}
        return int(run.get("historyLineCount") or 0)

    def _ask(self, query: str, **variables: str) -> dict[str, Any]:
        try:
            answer = requests.post(
                f"{self._url}/graphql",
                json={"query": query, "variables": variables},
                auth=("api", words.api_key(self._url) or ""),
                timeout=TIMEOUT_SECONDS,
            )
        except requests.RequestException as error:
            raise Unavailable(f"W&B: {self._url} does not answer: {error}") from error
        return _data(answer)


def _data(answer: requests.Response) -> dict[str, Any]:
    try:
        content = answer.json()
    except ValueError:
        content = {}
    if answer.status_code == requests.codes.unauthorized:
        raise KeyRejected(f"W&B rejected the API key: {_words(answer, content)}")
    if not answer.ok or not content.get("data"):
        raise Unavailable(f"W&B: error {answer.status_code}: {_words(answer, content)}")
    data: dict[str, Any] = content["data"]
    return data


def _words(answer: requests.Response, content: dict[str, Any]) -> str:
    """What the server says is wrong."""
    errors = content.get("errors") or [{}]
    return str(errors[0].get("message") or answer.reason)
