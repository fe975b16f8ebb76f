"""The only way out to the terminal: tables and colours for people, plain text for pipes.

Names, reasons and logs come from other users: what could steer a terminal is taken out of them.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # rich is loaded by what draws: the daemon, which is a command too, never does
    from rich.console import Console, RenderableType

# escape sequences whole, then whatever control character is left but tab, newline and return
_STEERING = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\r(?=\n)"
    r"|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)
_PIPE_WIDTH = 2000


def clean(text: object) -> str:
    """Text without characters that move the cursor, recolour, or reorder what is shown."""
    return _STEERING.sub("", str(text)).replace("\r", "\n")


def console(*, stderr: bool = False) -> Console:
    """The terminal as it is now; wide enough for any line where it is not one."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPE_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def say(text: str, style: str = "") -> None:
    """One line of output."""
    from rich.text import Text

    console().print(Text(clean(text), style), soft_wrap=True)


def say_raw(text: str) -> None:
    """A piece of a log: as it is into a pipe, made harmless on a terminal."""
    stream = sys.stdout
    stream.write(_STEERING.sub("", text) if stream.isatty() else text)
    stream.flush()


def show(renderable: RenderableType) -> None:
    """A table or another rich thing."""
    where = console()
    if where.is_terminal:
        where.print(renderable)
    else:
        sys.stdout.write(plain(renderable))


def plain(renderable: RenderableType) -> str:
    """What a rich thing looks like in a pipe: no escape codes, no trailing blanks."""
    from rich.console import Console

    paper = Console(
        file=io.StringIO(),
        width=_PIPE_WIDTH,
        force_terminal=False,
        color_system=None,
        highlight=False,
        markup=False,
        emoji=False,
    )
    with paper.capture() as capture:
        paper.print(renderable)
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())


def document(content: Any) -> None:
    """The one JSON document of a command with --json."""
    indent = 2 if sys.stdout.isatty() else None
    sys.stdout.write(json.dumps(content, indent=indent, default=str) + "\n")


def warn(text: str) -> None:
    """Something the user should know that is no failure."""
    _complain("warning", text, "yellow")


def complain(text: str, hint: str | None = None) -> None:
    """What went wrong, and what would be right."""
    _complain("error", text, "bold red")
    if hint:
        _complain("hint", hint, "cyan")


def note(text: str) -> None:
    """A remark beside the output."""
    from rich.text import Text

    console(stderr=True).print(Text(clean(text)), soft_wrap=True)


def _complain(word: str, text: str, style: str) -> None:
    from rich.text import Text

    line = Text.assemble((f"{word}: ", style), clean(text))
    console(stderr=True).print(line, soft_wrap=True)


@contextmanager
def changing() -> Iterator[Callable[[RenderableType], None]]:
    """A picture that is redrawn in place; in a pipe, every new picture once."""
    where = console()
    if not where.is_terminal:
        yield _printer()
        return
    from rich.live import Live

    with Live(console=where, auto_refresh=False) as live:
        yield lambda picture: live.update(picture, refresh=True)


def _printer() -> Callable[[RenderableType], None]:
    last = ""

    def draw(picture: RenderableType) -> None:
        nonlocal last
        text = plain(picture)
        if text != last:
            sys.stdout.write(text)
            sys.stdout.flush()
            last = text

    return draw
