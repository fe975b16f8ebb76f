"""Recognises who sends an upload by its own address: the key in it opens that upload alone.

Clients that are given such an address send the file there without any token, as they would to an
object store.
"""

from __future__ import annotations

from urllib.parse import parse_qs

from starlette.types import Scope

from training_cluster.domain.principal import Principal, Role, Via
from training_cluster.services.uploads import Uploads

PARAMETER = "key"
_PLACE = "/uploads/"
_LONGEST_KEY = 128


async def sender(scope: Scope, uploads: Uploads) -> Principal | None:
    """The owner of the upload whose key is in the address; None for any other request."""
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    upload_id = path.removeprefix(_PLACE)
    if not path.startswith(_PLACE) or "/" in upload_id or not scope["query_string"]:
        return None
    said = parse_qs(scope["query_string"].decode("latin-1")).get(PARAMETER, [])
    if len(said) != 1 or len(said[0]) > _LONGEST_KEY:
        return None
    owner = await uploads.owner(upload_id, said[0])
    return None if owner is None else Principal(owner, Role.SUBMITTER, Via.UPLOAD)
