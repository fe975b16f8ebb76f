"""Forms with a file, read as they come: the file goes to its place without a stop in memory.

Starlette's own reader would write it to /tmp first and have it copied from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, cast

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from training_cluster.domain.errors import FieldProblem, InvalidRequest
from training_cluster.services.incoming import Incoming

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_MOST_FIELD_BYTES = 64 << 10
_MOST_PARTS = 64
_FILE = "file"


class Receiver(Protocol):
    """Where the file of a form goes."""

    async def open_new(self) -> Incoming:
        """A place for a file that is about to come. Raises StorageFull."""
        ...

    async def abandon(self, incoming: Incoming) -> None:
        """Forget what was written, unless something was made of it."""
        ...


@dataclass(slots=True)
class Form:
    """What a form says, and the file in it: written, not yet adopted."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str = ""
    incoming: Incoming | None = None


@asynccontextmanager
async def read_form(
    request: Request, receiver: Receiver, *, file: str = _FILE
) -> AsyncIterator[Form]:
    """A form with one file, of the name `file`, to be adopted; else the file is forgotten at the
    end. Raises InvalidRequest, StorageFull, OSError."""
    reader = _Reader(receiver, file)
    try:
        await _read(request, reader)
        yield reader.form
    finally:
        if reader.form.incoming is not None:
            await asyncio.shield(receiver.abandon(reader.form.incoming))


async def _read(request: Request, reader: _Reader) -> None:
    parser = MultipartParser(_boundary(request), cast("MultipartCallbacks", reader.callbacks()))
    try:
        async for data in request.stream():
            parser.write(data)
            await reader.settle()
        parser.finalize()
    except MultipartParseError as error:
        raise _refusal(f"the form cannot be read: {error}") from None
    if not reader.ended:
        raise _refusal("the form breaks off before its last boundary")
    if reader.form.incoming is None:
        raise _refusal(f"the form has no file {reader.file!r}", field=reader.file)


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= 200:
        raise _refusal("this takes a form: multipart/form-data with a boundary")
    return boundary


def _refusal(
    message: str, expected: str = "curl -F file=@train.jsonl", field: str = "body"
) -> InvalidRequest:
    return InvalidRequest(message, problems=(FieldProblem(field, message, expected),))


class _Part:
    """One part of the form under way."""

    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.header_name = b""
        self.header_value = b""
        self.name = ""
        self.filename: str | None = None
        self.value = bytearray()


class _Reader:
    """Takes the parser's calls, which cannot wait, and does what they ask for in `settle`."""

    def __init__(self, receiver: Receiver, file: str) -> None:
        self.form = Form()
        self.ended = False
        self._receiver = receiver
        self.file = file
        self._part = _Part()
        self._parts = 0
        self._waiting: list[bytes] = []

    def callbacks(self) -> dict[str, Callable[..., None]]:
        """What the parser is given."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._all,
        }

    async def settle(self) -> None:
        """Write what has come of the file."""
        waiting, self._waiting = self._waiting, []
        if waiting and self.form.incoming is None:
            self.form.incoming = await self._receiver.open_new()
        for data in waiting:
            assert self.form.incoming is not None
            await self.form.incoming.write(data)

    def _begin(self) -> None:
        self._part = _Part()
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise _refusal(f"the form has more than {_MOST_PARTS} parts")

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._part.header_name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._part.header_value += data[start:end]

    def _header_end(self) -> None:
        part = self._part
        part.headers[part.header_name.lower()] = part.header_value
        part.header_name = part.header_value = b""

    def _headers_finished(self) -> None:
        part = self._part
        _, options = parse_options_header(part.headers.get(b"content-disposition", b""))
        part.name = _text(options.get(b"name", b""), "the name of a part")
        if b"filename" in options:
            part.filename = _text(options[b"filename"], "the name of a file")
            self._expect_file(part)
        elif not part.name:
            raise _refusal("a part of the form has no name")

    def _expect_file(self, part: _Part) -> None:
        if part.name != self.file or self.form.filename:
            said = f"the form has the file {part.name!r} beside `{self.file}`"
            raise _refusal(said, field=part.name or "body")
        self.form.filename = part.filename or "unnamed"
        self._waiting.append(b"")  # an empty file is a file, too

    def _data(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        if part.filename is not None:
            self._waiting.append(data[start:end])
            return
        part.value += data[start:end]
        if len(part.value) > _MOST_FIELD_BYTES:
            raise _refusal(f"the field {part.name!r} is longer than {_MOST_FIELD_BYTES} bytes")

    def _end(self) -> None:
        part = self._part
        if part.filename is not None:
            return
        if part.name in self.form.fields:
            raise _refusal(f"the field {part.name!r} is said twice")
        self.form.fields[part.name] = _text(bytes(part.value), f"the field {part.name!r}")

    def _all(self) -> None:
        self.ended = True


def _text(data: bytes, what: str) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise _refusal(f"{what} is not UTF-8") from None
    if "\0" in text:
        raise _refusal(f"{what} contains the character NUL")
    return text
