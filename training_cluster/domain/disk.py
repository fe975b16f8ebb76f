"""Room on a disk: how much there is, how much a job needs, and how people read bytes."""

from __future__ import annotations

from dataclasses import dataclass

_MOST_BYTES = 1 << 60  # no disk holds it, and every database can
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """A disk at one moment, in bytes; `free_bytes` is what an ordinary user may still write."""

    free_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class DiskRoom:
    """What the disk below `path` has left for new attempts, in bytes: `free_bytes` without
    `promised_bytes`, which running attempts are still to write, and without the reserve."""

    path: str
    available_bytes: int
    free_bytes: int
    promised_bytes: int
    is_full: bool = False

    def after(self, need_bytes: int) -> DiskRoom:
        """The room once another attempt has started."""
        return DiskRoom(
            self.path,
            self.available_bytes - need_bytes,
            self.free_bytes,
            self.promised_bytes + need_bytes,
            self.is_full,
        )


@dataclass(frozen=True, slots=True)
class DiskNeed:
    """What an attempt is likely to write, in bytes: `checkpoints` of `checkpoint_bytes` each at a
    time, and `other_bytes` for the model, converted rows and logs. An estimate from above."""

    checkpoints: int
    checkpoint_bytes: int
    other_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of it."""
        total = self.checkpoints * self.checkpoint_bytes + self.other_bytes
        return min(total, _MOST_BYTES)


def in_words(count: int) -> str:
    """A number of bytes for people: 12.3 GiB."""
    amount, unit = float(count), 0
    while abs(amount) >= 1024 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.0f} bytes" if unit == 0 else f"{amount:.1f} {_UNITS[unit]}"
