"""Reads a JSON object whose member `data` may be of any size, a row at a time.

Lamini's clients send whole datasets inside a JSON object. The object is never in memory as a
whole: its rows go on as JSON lines while they arrive, its other members, which are small, stay.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from typing import Any

from training_cluster.domain.errors import FieldProblem, InvalidRequest

ROWS = "data"
_MOST_ITEM_CHARACTERS = 8 << 20
_MOST_OTHER_CHARACTERS = 1 << 20
_SENT_TOGETHER = 64 << 10
_BLANK = re.compile(r"[ \t\n\r]*")
_MORE = ""  # no character yet: the next part has to come first


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


class InlineRows:
    """One body. `members` are those beside the rows, as far as it was read; `has_rows` tells, once
    `begin` has returned, whether there is a first row. Every method raises InvalidRequest, which
    names the place."""

    def __init__(self, chunks: AsyncIterable[bytes]) -> None:
        self._chunks = aiter(chunks)
        self._decode = codecs.getincrementaldecoder("utf-8")("strict")
        self._text, self._place = "", 0
        self._ended = False
        self._inside = False
        self._others = 0
        self.members: dict[str, Any] = {}
        self.rows = 0
        self.has_rows = False

    async def begin(self) -> None:
        """Read up to the first row, or to the end where there is none."""
        await self._expect("{")
        if await self._peek() == "}":
            self._skip()
            await self._finish()
        else:
            await self._read_members()

    async def lines(self) -> AsyncIterator[bytes]:
        """The rows as JSON lines, some at a time; then whatever is behind them is read."""
        kept: list[bytes] = []
        size = 0
        while self._inside:
            row = await self._item(f"{ROWS}[{self.rows}]", _MOST_ITEM_CHARACTERS)
            kept.append(line(row, self.rows))
            self.rows += 1
            size += len(kept[-1])
            self._inside = await self._goes_on("]", ROWS)
            if size >= _SENT_TOGETHER or not self._inside:
                yield b"".join(kept)
                kept, size = [], 0
        if await self._goes_on("}", "body"):
            await self._read_members()
        else:
            await self._finish()

    async def _read_members(self) -> None:
        while True:
            name = await self._name()
            if name == ROWS and await self._peek() == "[":
                self._skip()
                self.members[ROWS] = []
                if await self._peek() != "]":
                    self._inside = self.has_rows = True
                    return
                self._skip()
            else:
                self.members[name] = await self._member(name)
            if not await self._goes_on("}", "body"):
                await self._finish()
                return

    async def _name(self) -> str:
        name = await self._item("body", _MOST_OTHER_CHARACTERS)
        if not isinstance(name, str):
            raise _wrong("body", "a name in quotes has to come here")
        if name in self.members:
            raise _wrong("body", f"{name[:64]!r} is said twice")
        await self._expect(":")
        return name

    async def _member(self, name: str) -> Any:
        value = await self._item(name[:64], _MOST_OTHER_CHARACTERS)
        self._others += _size({name: value}, name[:64])
        if self._others > _MOST_OTHER_CHARACTERS:
            raise _wrong("body", f"beside {ROWS} it has more than {_MOST_OTHER_CHARACTERS} letters")
        return value

    async def _goes_on(self, end: str, where: str) -> bool:
        """Whether a comma follows, not the end."""
        found = await self._peek()
        if found not in (",", end):
            raise _wrong(where, f"a comma or {end!r} has to come behind what is there")
        self._skip()
        return found == ","

    async def _expect(self, wanted: str) -> None:
        if await self._peek() != wanted:
            raise _wrong("body", f"not valid JSON: {wanted!r} has to come here")
        self._skip()

    async def _finish(self) -> None:
        if await self._peek() != _MORE:
            raise _wrong("body", "there is something behind the JSON object")

    async def _peek(self) -> str:
        """The next character that is not blank; empty at the end of the body."""
        while True:
            found = _BLANK.match(self._text, self._place)
            self._place = found.end() if found else self._place
            if self._place < len(self._text):
                return self._text[self._place]
            if not await self._fetch():
                return _MORE

    def _skip(self) -> None:
        self._place += 1

    async def _item(self, where: str, most: int) -> Any:
        """The value that begins here, once all of it has come. Tries again each time twice as much
        of it is there, so that a large one costs no more than twice its size."""
        await self._peek()
        tried = 0
        while True:
            size = len(self._text) - self._place
            if self._ended or size > min(2 * tried, most):
                if (found := self._decoded(where)) is not None:
                    value, self._place = found
                    return value
                tried = size
            if size > most:
                raise _wrong(where, f"it is no valid JSON, or has more than {most} characters")
            await self._fetch()

    def _decoded(self, where: str) -> tuple[Any, int] | None:
        """The value and where it ends; None where more has to come first: a number may go on in
        the next part of the body, so something has to follow the value."""
        try:
            value, end = _DECODER.raw_decode(self._text, self._place)
        except RecursionError as error:
            raise _wrong(where, "it is nested too deeply") from error
        except ValueError as error:
            if self._ended:
                raise _wrong(where, f"not valid JSON: {str(error).partition(':')[0]}") from error
            return None
        return (value, end) if self._ended or end < len(self._text) else None

    async def _fetch(self) -> bool:
        """Take the next part of the body; False at its end."""
        if self._ended:
            return False
        try:
            part = await anext(self._chunks)
            text = self._decode.decode(part)
        except StopAsyncIteration:
            self._ended = True
            text = self._last()
        except UnicodeDecodeError as error:
            raise _wrong("body", f"not UTF-8: {error.reason}") from error
        self._text, self._place = self._text[self._place :] + text, 0
        return not self._ended

    def _last(self) -> str:
        try:
            return self._decode.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise _wrong("body", f"not UTF-8: {error.reason}") from error


def line(row: object, index: int) -> bytes:
    """A row of Lamini's as a line of a dataset of prompts and completions. What is no text is
    written as JSON. Raises InvalidRequest."""
    where = f"{ROWS}[{index}]"
    if not isinstance(row, Mapping):
        raise _wrong(where, "a row is an object with input and output")
    if row.get("input") is None:
        raise _wrong(where, f"it has no input; its keys are {_keys(row)}")
    texts = {"prompt": _text(row["input"], where), "completion": _text(row.get("output"), where)}
    try:
        return json.dumps(texts, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError as error:
        raise _wrong(where, "half of a surrogate pair stands alone") from error


def _text(value: object, where: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise _wrong(where, "a number has too many digits, or it is nested too deeply") from error


def _size(member: Mapping[str, Any], where: str) -> int:
    """The bytes a member is written in. Raises InvalidRequest for text that the store cannot
    keep."""
    try:
        written = json.dumps(member, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise _wrong("body", "half of a surrogate pair stands alone") from error
    if rb"\u0000" in written:
        raise _wrong(where, "it contains the character NUL")
    return len(written)


def _keys(row: Mapping[Any, Any]) -> str:
    return ", ".join(str(key)[:32] for key in list(row)[:8]) or "none"


def _wrong(where: str, message: str) -> InvalidRequest:
    problem = FieldProblem(
        where, message, 'a JSON object such as {"data": [{"input": "...", ...}]}'
    )
    return InvalidRequest(f"{where}: {message}", problems=(problem,))
