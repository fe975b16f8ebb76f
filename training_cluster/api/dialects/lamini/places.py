"""The places this daemon hands out for data, and which dataset one of them means.

A place is an address of ours that takes a PUT: `upload_base_path` and, behind it, the id of a
dataset. Whatever else a client calls a place is nothing to us: it is never opened.
"""

from __future__ import annotations

from urllib.parse import quote, unquote, urlsplit

from fastapi import Request

from training_cluster.api.own_address import absolute
from training_cluster.domain.dataset import NAME
from training_cluster.domain.errors import FieldProblem, InvalidRequest

PATH = "/v1/data"


def base(request: Request) -> str:
    """What Lamini calls upload_base_path."""
    return absolute(request, PATH)


def location(request: Request, dataset_id: str, *, is_public: bool = False) -> str:
    """What Lamini calls dataset_location, and later upload_file_path."""
    words = "?is_public=true" if is_public else ""
    return f"{base(request)}/{quote(dataset_id, safe='')}{words}"


def dataset_at(place: str) -> str | None:
    """The dataset a place of ours means, by whichever name this daemon is reached; None for a
    place that is none of ours."""
    try:
        path = urlsplit(place).path
    except ValueError:
        return None
    beginning, _, last = path.rpartition("/")
    dataset_id = unquote(last)
    return dataset_id if beginning.endswith(PATH) and NAME.fullmatch(dataset_id) else None


def require_name(dataset_id: str) -> str:
    """The id a client has chosen, which becomes the name of its dataset. Raises InvalidRequest."""
    if NAME.fullmatch(dataset_id):
        return dataset_id
    message = f"dataset_id {dataset_id[:80]!r} cannot name a dataset"
    expected = "1 to 64 letters, digits, dots, dashes and underscores"
    raise InvalidRequest(message, problems=(FieldProblem("dataset_id", message, expected),))
