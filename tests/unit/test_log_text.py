"""What a trainer printed becomes readable, line by line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training_cluster.services.log_text import divisible, last_state, readable

CASES = {
    "plain text stays": (b"step 1\n\n\tstep 2\n", "step 1\n\n\tstep 2\n"),
    "every language stays": ("größer 大 🚀\n".encode(), "größer 大 🚀\n"),
    "colours go": (b"\x1b[1;31merror\x1b[0m: \x1b[38;5;9mno\x1b[m\n", "error: no\n"),
    "cursor movements go": (b"\x1b[?25l\x1b[2K\x1b[1Aone\x1b[?25h\n", "one\n"),
    "a title goes": (b"\x1b]0;pwned\x07text\n", "text\n"),
    "a link leaves its text": (b"\x1b]8;;http://x\x1b\\here\x1b]8;;\x1b\\\n", "here\n"),
    "a title without end hides nothing": (
        b"\x1b]0;title and text\nnext\n",
        "0;title and text\nnext\n",
    ),
    "character sets go": (b"\x1b(Btext\x1b7\x1b=\n", "text\n"),
    "a cut escape does no harm": (b"text\x1b\ntext\x1b[\n", "text\ntext\n"),
    "8-bit escapes go": ("a\x9b31mb\x9d0;t\x9cc\n".encode(), "abc\n"),
    "a bar shows its last state": (b"\r 0%|    |\r 50%|##  |\r100%|####|\n", "100%|####|\n"),
    "a bar in colours shows its last state": (b"\r\x1b[31m1%\x1b[0m\r\x1b[32m2%\x1b[0m\n", "2%\n"),
    "a bar by column shows its last state": (b"10%\x1b[1G20%\x1b[G30%\n", "30%\n"),
    "a bar being drawn shows its present state": (b"\r 0%\r 50%", " 50%"),
    "a return at the end keeps the state": (b"\r 0%\r 50%\r", " 50%"),
    "a removed bar leaves what follows": (b"\r 50%\r     \rdone\n", "done\n"),
    "line ends of other systems": (b"one\r\ntwo\r\r\n", "one\ntwo\n"),
    "a spinner shows where it stopped": (b"|\x08/\x08-\x08\\\n", "\\\n"),
    "an overtyped number": (b"step 1\x08\x0823\n", "step23\n"),
    "too many backspaces": (b"a\x08\x08\x08b\n", "b\n"),
    "bytes that are no text": (b"a\xff\xc3\nb\n", "a\ufffd\ufffd\nb\n"),
    "control characters go": (b"a\x00\x01\x07\x0b\x0c\x1a\x7fb\n", "ab\n"),
    "nothing turns the text around": ("a\u202eb\u2066c\u2028d\x85e\n".encode(), "abcde\n"),
}


@pytest.mark.parametrize(("raw", "text"), CASES.values(), ids=CASES)
def test_logs_are_readable(raw: bytes, text: str) -> None:
    assert readable(raw) == text


NASTY = st.sampled_from(
    [
        *(
            b"\n",
            b"\r",
            b"\x08",
            b"\x1b[",
            b"\x1b]",
            b"\x1b\\",
            b"\x07",
            b"\x1b[1G",
            b"m",
            b"0;",
            b"\0",
        ),
        *(b"\xc2\x98", b"\xc2\x9b", b"\xc2\x9c", b"\xff", b"\xf0\x9f\x9a\x80", b"\xf0\x9f"),
    ]
)
LOGS = st.lists(NASTY | st.binary(max_size=4)).map(b"".join)


@given(st.lists(LOGS))
def test_text_made_of_pieces_is_the_text_made_at_once(pieces: list[bytes]) -> None:
    lines = [piece + b"\n" for piece in pieces]
    assert "".join(map(readable, lines)) == readable(b"".join(lines))


@given(st.lists(LOGS, max_size=4))
def test_large_pieces_are_cleaned_as_small_ones(pieces: list[bytes]) -> None:
    lines = [piece + b"." * 40_000 + b"\n" for piece in pieces]
    assert "".join(map(readable, lines)) == readable(b"".join(lines))


@given(LOGS)
def test_no_control_character_and_no_line_is_added_or_survives(raw: bytes) -> None:
    text = readable(raw)
    assert text.count("\n") == raw.count(b"\n")
    assert all(
        character in "\t\n" or character.isprintable() or ord(character) > 0x9F
        for character in text
    )


@given(LOGS.filter(lambda raw: b"\n" not in raw))
def test_overwritten_states_can_be_left_out(raw: bytes) -> None:
    plain = raw.replace(b"\x1b", b"").replace(b"\xc2", b"")
    assert readable(plain[last_state(plain) :]) == readable(plain)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), st.integers(1, 40))
def test_a_long_line_is_divided_between_characters(text: str, length: int) -> None:
    raw = text.encode() * 9
    taken = divisible(raw[:length])
    assert taken > 0
    if length >= 4:
        assert readable(raw[:taken]) + readable(raw[taken:]) == readable(raw)
