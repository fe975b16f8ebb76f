"""Logs are read by raw offset, as complete readable lines, past what was given up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from training_cluster.services.log_cap import cut
from training_cluster.services.log_files import (
    MOST_BYTES,
    LogFile,
    given_up,
    last_line_end,
    read_raw,
    read_text,
    tail_start,
)
from training_cluster.services.log_text import readable

MIB = 1 << 20


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "trainer.log"


def read_on(path: Path, *, most: int, whole: bool = True, offset: int = 0) -> str:
    """Everything, in pieces of at most `most` bytes."""
    pieces = []
    while True:
        part = read_text(path, offset, most=most, whole=whole)
        assert part.start == offset
        assert part.end - part.start <= most or "given up" in part.text
        pieces.append(part.text)
        if part.end == offset:
            return "".join(pieces)
        offset = part.end


def numbered(count: int, width: int = 99) -> bytes:
    return b"".join(f"{n:0{width}}\n".encode() for n in range(count))


def test_pieces_of_any_size_make_the_whole(log: Path) -> None:
    raw = "größer\n\x1b[31mrot\x1b[0m\n 1%\r 2%\r 3%\nohne Ende".encode()
    log.write_bytes(raw)
    for most in range(8, len(raw) + 2):
        assert read_on(log, most=most) == readable(raw), most


def test_a_line_being_written_is_not_read_in_part(log: Path) -> None:
    log.write_bytes(b"one\n 10%\r 20%")
    part = read_text(log, 0)
    assert (part.text, part.end, part.rest) == ("one\n", 4, b" 20%")
    assert read_text(log, 4).text == ""
    assert read_text(log, 4).end == 4
    assert read_text(log, 4, whole=True).text == " 20%", "nothing more will come"


def test_a_bar_longer_than_a_piece_is_passed_state_by_state(log: Path) -> None:
    states = b"".join(f"\r{n:5}/9999".encode() for n in range(1000))
    log.write_bytes(b"begin\n" + states)
    offset = 6
    for _ in range(20):
        part = read_text(log, offset, most=1000)
        assert part.text == ""
        offset = part.end
    assert readable(part.rest) == "  999/9999"
    log.write_bytes(b"begin\n" + states + b"\nend\n")
    assert read_on(log, most=1000) == "begin\n  999/9999\nend\n"
    assert read_on(log, most=1000, offset=offset) == "  999/9999\nend\n"


def test_a_reader_stops_where_an_overwritten_state_ends(log: Path) -> None:
    log.write_bytes(b"one\n 10%\r 20%\n")
    assert read_text(log, 0, stop=9).text == "one\n", "the rest comes with its last state"
    assert read_text(log, 9).text == " 20%\n"


def test_a_line_without_end_is_divided_and_nothing_is_lost(log: Path) -> None:
    raw = "ä🚀".encode() * 1000
    log.write_bytes(raw)
    so_far = read_on(log, most=1001, whole=False)
    assert len(so_far) > 1800
    assert raw.decode().startswith(so_far)
    assert read_on(log, most=1001) == raw.decode()


@pytest.mark.parametrize("lines", [0, 1, 2, 3, 9])
@pytest.mark.parametrize("raw", [b"", b"1\n", b"1\n2\n3\n", b"1\n2\n3", b"\n\n\n\n", b"1\r2\n3\r4"])
def test_the_last_lines_are_those_of_tail(log: Path, raw: bytes, lines: int) -> None:
    log.write_bytes(raw)
    kept = raw.split(b"\n") if not raw.endswith(b"\n") else raw.split(b"\n")[:-1]
    tail = raw[tail_start(log, lines) :]
    assert tail.count(b"\n") + (bool(tail) and not tail.endswith(b"\n")) == min(
        lines, len(kept) if raw else 0
    )
    assert raw.endswith(tail)
    assert tail_start(log, lines) in (0, len(raw)) or raw[: -len(tail)].endswith(b"\n")


def test_the_last_lines_of_a_large_log_are_found_across_blocks(log: Path) -> None:
    raw = numbered(20_000)
    log.write_bytes(raw)
    for lines in (1, 654, 655, 656, 1310, 20_000):
        assert tail_start(log, lines) == len(raw) - 100 * lines
    assert tail_start(log, 5, before=100 * 700) == 100 * 695
    log.write_bytes(numbered(60_000))
    start = tail_start(log, 60_000)
    assert start % 100 == 0, "what is too much begins with a whole line"
    assert 6_000_000 - start <= MOST_BYTES


def test_the_last_line_end_is_found_before_a_bar_of_any_length(log: Path) -> None:
    log.write_bytes(b"one\ntwo")
    assert last_line_end(log) == 4
    log.write_bytes(b"one\n" + b"\r 10%" * 1_000_000)
    assert log.stat().st_size - last_line_end(log) in (4, 5_000_000)


def test_a_hole_is_one_line_and_is_skipped(log: Path) -> None:
    raw = numbered(40_000)
    log.write_bytes(raw)
    assert cut(log, 2 * MIB) >= len(raw)
    text = read_on(log, most=64 << 10)
    lines = text.splitlines()
    notices = [line for line in lines if "given up" in line]
    assert notices == ["[... 2 MiB of this log were given up ...]"]
    assert lines[0] == f"{0:099}"
    assert lines[-1] == f"{39_999:099}"
    whole = [line for line in lines if len(line) == 99]
    assert len(lines) - len(whole) <= 3, "at most the lines at its edges are cut"
    assert "\0" not in text


def test_a_cursor_within_a_hole_goes_on_behind_it(log: Path) -> None:
    raw = numbered(40_000)
    log.write_bytes(raw)
    cut(log, 2 * MIB)
    part = read_text(log, 2 * MIB, most=1 << 16)
    notice, _, rest = part.text.partition("\n")
    assert "given up" in notice
    assert part.end <= len(raw)
    assert raw.decode().endswith(rest + raw[part.end :].decode())


def test_the_last_lines_stop_at_a_hole_and_tell_of_it(log: Path) -> None:
    log.write_bytes(numbered(40_000))
    cut(log, 2 * MIB)
    start = tail_start(log, 30_000)
    text = read_text(log, start).text
    assert text.startswith("[... 2 MiB of this log were given up ...]\n")
    assert tail_start(log, 10) == 4_000_000 - 1000


def test_a_log_that_is_all_hole_is_told(log: Path) -> None:
    log.touch()
    os.truncate(log, 3 * MIB)
    part = read_text(log, 0)
    assert (part.text, part.end) == (given_up(3 * MIB), 3 * MIB)


def test_zeros_that_were_written_are_no_hole(log: Path) -> None:
    log.write_bytes(b"a\n" + b"\0" * 100_000 + b"b\n")
    assert read_on(log, most=4096) == "a\nb\n"


def test_bytes_given_up_while_they_are_read_are_told_of(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write_bytes(numbered(40_000))
    read, cuts = LogFile.read, iter([True])

    def cut_first(file: LogFile, start: int, length: int) -> bytes:
        if next(cuts, False):
            cut(log, 2 * MIB)
        return read(file, start, length)

    monkeypatch.setattr(LogFile, "read", cut_first)
    part = read_text(log, 500_000)
    assert part.end == MIB // 2, "as far as the bytes go that are still there"
    assert "given up" in read_text(log, part.end).text


def test_raw_bytes_are_exact(log: Path) -> None:
    raw = b"\x1b[1mx\r\n\xff\0"
    log.write_bytes(raw)
    assert read_raw(log, 0, 99) == (raw, len(raw))
    assert read_raw(log, 2, 3) == (raw[2:5], 5)
    assert read_raw(log, 99, 3) == (b"", len(raw))


def test_what_is_no_plain_file_is_no_log(log: Path, tmp_path: Path) -> None:
    assert read_text(log, 0).end == 0, "there is none yet"
    (tmp_path / "secret").write_text("secret\n")
    log.symlink_to(tmp_path / "secret")
    assert read_text(log, 0).text == ""
    log.unlink()
    os.mkfifo(log)
    assert read_raw(log, 0, 9) == (b"", 0), "nor does it hang"
    assert tail_start(log, 5) == 0
