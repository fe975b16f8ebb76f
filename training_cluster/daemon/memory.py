"""Keeps the daemon as small for months as it is at the start.

glibc gives each thread an arena of its own and never returns what a large answer once took: its
threshold for memory that goes back to the system when it is freed rises with the largest piece
seen. Reading the log of one job made the daemon 64 MB larger for good.

What is returned must be fetched and wiped again: were the pieces in which an upload comes (256 KiB)
returned each time, the kernel would take four times as long for it as for the copying.
"""

from __future__ import annotations

import ctypes
import gc

# malloc.h
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_LARGE_BYTES = 512 << 10
_ARENAS = 2


def stay_small() -> None:
    """Have large pieces returned when they are freed, and few arenas. Call it before there are
    threads; without effect where the C library knows nothing of it."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        return
    library.mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
    library.mallopt(_TRIM_THRESHOLD, 2 * _LARGE_BYTES)
    library.mallopt(_ARENA_MAX, _ARENAS)


def give_back() -> None:
    """Return to the system what only the start needed: a few MB of what stays for months. From
    then on garbage is looked for as usual."""
    gc.collect()
    gc.freeze()
    gc.enable()
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)
