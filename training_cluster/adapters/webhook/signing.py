"""Signs messages as the Standard Webhooks specification says."""

from __future__ import annotations

import base64
import secrets as random
from datetime import UTC, datetime

_PREFIX = "whsec_"
_KEY_BYTES = 32


def new_secret() -> str:
    """A fresh signing secret, `whsec_` and 32 random bytes in base64."""
    return _PREFIX + base64.b64encode(random.token_bytes(_KEY_BYTES)).decode()


def headers(
    secrets: tuple[str, ...], message_id: str, timestamp: float, body: bytes
) -> dict[str, str]:
    """The message's id, time (Unix seconds) and one signature a secret, as headers.

    Without secrets there is no signature header. `body` is UTF-8. Raises ValueError for a secret
    that is not base64 or is empty."""
    signed = {"webhook-id": message_id, "webhook-timestamp": str(int(timestamp))}
    if secrets:
        moment = datetime.fromtimestamp(int(timestamp), UTC)
        signatures = (_signature(secret, message_id, moment, body) for secret in secrets)
        signed["webhook-signature"] = " ".join(signatures)
    return signed


def _signature(secret: str, message_id: str, moment: datetime, body: bytes) -> str:
    from standardwebhooks.webhooks import Webhook

    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except ValueError:
        key = b""
    if not key:
        raise ValueError("a signing secret of this webhook is damaged")
    return Webhook(key).sign(msg_id=message_id, timestamp=moment, data=body.decode())
