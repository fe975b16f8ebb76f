"""Makes what a trainer printed readable: raw bytes of a log in, plain text out.

Every line is cleaned by itself, so text can be made from any run of complete lines and offsets
stay offsets into the raw file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_BLOCK = 64 << 10
_LONGEST_ESCAPE = 64
_LONGEST_CHARACTER = 4

# "to column one" begins a line anew, as a carriage return does
_COLUMN_ONE = re.compile(r"(?:\x1b\[|\x9b)[01]?G")
_BEGINS_ESCAPE = re.compile(r"[\x1b\x90\x98\x9b\x9d-\x9f]")
_ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, cursor movements
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)"  # titles, links
    r"|\x1b[ -/]*[0-~]"
)
# control characters, and those that reorder or divide lines for whoever shows them
_HARMFUL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_OVERTYPED = re.compile(r"\x08+|[^\x08]+")


def readable(data: bytes) -> str:
    """The text of raw lines, the last of which may be unfinished.

    Escape sequences go, a progress bar is shown in its last state, backspaces are carried out,
    other control characters go, and what is not UTF-8 becomes U+FFFD."""
    return "".join([_clean(block.decode("utf-8", "replace")) for block in _blocks(data)])


def _blocks(data: bytes) -> Iterator[bytes]:
    """Runs of lines: cleaning a large piece at once would hold up all other threads."""
    start = 0
    while start < len(data):
        end = data.find(b"\n", start + _BLOCK) + 1 or len(data)
        yield data[start:end]
        start = end


def _clean(text: str) -> str:
    if _BEGINS_ESCAPE.search(text):
        text = _ESCAPE.sub("", _COLUMN_ONE.sub("\r", text))
    if "\r" in text or "\b" in text:
        text = "\n".join([_settle(line) for line in text.split("\n")])
    return _HARMFUL.sub("", text)


def _settle(line: str) -> str:
    state = line.rstrip("\r").rpartition("\r")[2]
    return _overtype(state) if "\b" in state else state


def _overtype(text: str) -> str:
    """What a terminal shows: a backspace moves left, what follows overwrites."""
    cells: list[str] = []
    cursor = 0
    for part in _OVERTYPED.findall(text):
        if part[0] == "\b":
            cursor = max(0, cursor - len(part))
        else:
            cells[cursor : cursor + len(part)] = part
            cursor += len(part)
    return "".join(cells)


def last_state(line: bytes) -> int:
    """Where the last state of a progress bar begins in a line; 0 when it is the only one."""
    return line.rstrip(b"\r").rfind(b"\r") + 1


def divisible(line: bytes) -> int:
    """How much of a line to take that is too long to be taken at once: no character and no
    escape sequence is divided, and no carriage return comes last."""
    end = len(line.rstrip(b"\r"))
    escape = line.rfind(b"\x1b", max(0, end - _LONGEST_ESCAPE), end)
    if escape > 0:
        end = escape
    return _whole_characters(line, end) or len(line)


def _whole_characters(line: bytes, end: int) -> int:
    for back in range(1, min(_LONGEST_CHARACTER, end) + 1):
        byte = line[end - back]
        if byte >= 0xC0:  # begins a character of two bytes or more
            length = 2 + (byte >= 0xE0) + (byte >= 0xF0)
            return end - back if length > back else end
        if byte < 0x80:
            break
    return end
