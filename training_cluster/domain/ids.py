"""Job ids: UUIDs that sort by creation time (UUID version 7, RFC 9562 section 5.7)."""

from __future__ import annotations

import os
import re
import uuid

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def new_job_id(now: float) -> str:
    """A fresh id for a job made at `now` (Unix seconds): 48 bits of milliseconds, 74 random."""
    milliseconds = int(now * 1000) & (2**48 - 1)
    bits = milliseconds << 80 | int.from_bytes(os.urandom(10), "big")
    bits = bits & ~(0xF << 76) | 0x7 << 76
    bits = bits & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=bits))


def is_job_id(text: str) -> bool:
    """True for the canonical spelling of a UUID of any version."""
    return _UUID.fullmatch(text) is not None
