"""Names nobody means well with: every core with every wrapping, and a sample of them by size."""

# ruff: noqa: E501, RUF001 - the odd characters are meant

from __future__ import annotations

import itertools
import random

MARK = "zq7escape"  # longer than what a temporary file has in its name by chance
"""In every name that can hold it: what is found on a disk with it in its path has escaped."""

_CORES = (
    # places
    f"{MARK}", f"../{MARK}", f"..\\{MARK}", f"/tmp/{MARK}", f"C:\\{MARK}", f"\\\\host\\{MARK}",
    f"~/{MARK}", "~root", "~", "/etc/passwd", "/etc/shadow", "/proc/self/environ", "/proc/self/mem",
    "/proc/self/fd/0", "/dev/null", "/dev/zero", "/dev/stdin", "/dev/tcp/127.0.0.1/1", "/", "//",
    ".", "..", "...", "....//", "-", f"file:///{MARK}", "file:///etc/passwd", f"smb://h/{MARK}",
    f"http://127.0.0.1/{MARK}", f"hf://{MARK}/x", f"ONLINE/{MARK}", f"REMOTE:{MARK}", "queue.db",
    "../queue.db", "../../secrets", "attempt-1", "config.yaml", "dataset_info.json", "launch.json",
    # devices and what file systems dislike
    "CON", "NUL", "AUX", "COM1", "LPT1", "PRN.txt", "CLOCK$", ".git", ".ssh/authorized_keys",
    ".bashrc", "lost+found", f"{MARK}.", f"{MARK} ", f" {MARK}", f"{MARK}:stream", f"{MARK}~1",
    # encodings
    "%2e%2e%2f", "..%2f", "%252e%252e%252f", "..%c0%af", "%c0%ae%c0%ae/", "%u002e%u002e/",
    "&#46;&#46;/", "\\u002e\\u002e/", "\\x2e\\x2e/", "．．／", "․․/", "..∕", "..⁄", "..＼", "‥/",
    # unicode
    f"\u202e{MARK}", f"{MARK}\u200b", f"\ufeff{MARK}", f"{MARK}\u0301\u0489", f"{MARK}\u2028x",
    f"{MARK}\u2029x", f"{MARK}\u0085x", "\U0001f4a9" * 20, "ﬁle", "İ", "ß", "ǅ", "\ue000", "\uffff",
    "\U0010ffff", "é" * 60, "e\u0301" * 30, f"{MARK}\u00ad", "\u2066x\u2069", "ⓛⓞⓒ", "１２７",
    # control characters
    f"{MARK}\x00", "\x00", f"{MARK}\n", "\n", f"{MARK}\r\nX-Injected: 1", "\t", f"\x1b[31m{MARK}",
    f"\x1b]0;{MARK}\x07", "\x7f", "\x08" * 5, "\x0b", "\x1a", "a\x0cb",
    # shells
    f"$(touch {MARK})", f"`touch {MARK}`", f"; touch {MARK}", f"| touch {MARK}", f"& touch {MARK}",
    f"&& touch {MARK}", f"> {MARK}", f"< {MARK}", f"$({MARK}", "$IFS", "${HOME}", "$PATH", "!!", "*",
    "?", "[a-z]", "{a,b}", "'", '"', "\\", "\\\\", "''", '""', f"'{MARK}", "#", f"--{MARK}", "-rf",
    "--help", f"--output_dir={MARK}", f"output_dir={MARK}", f"-o{MARK}",
    # configuration languages
    "${oc.env:HOME}", f"${{{MARK}}}", "${oc.create:{}}", "${now:}", f"!!python/object:{MARK}",
    f"!!python/object/apply:os.system ['touch {MARK}']", "!!binary x", f"&{MARK} x", "*x", "<<: *x",
    f"- {MARK}", "a: b", "a:\n  b", "---", "...", "? x", "| x", "> x", "@x", "%YAML 1.1", "null",
    "~", "true", "yes", "no", "off", "NaN", ".inf", "1e5", "0x10", "0o17", "1_000", "2001-01-01",
    '{"a": 1}', "[1, 2]", "{}", "[]", '"', '","x":"', "\\u0000", "\\", f"x\\\"{MARK}",
    # formats and templates
    "%s%s%n%x", f"%({MARK})s", "%d", "{}", "{0}", f"{{{MARK}}}", "{0.__class__.__mro__}",
    "{{7*7}}", "{% import os %}", "<%= 7*7 %>", "#{7*7}", "$" + "{7*7}", "${jndi:ldap://127.0.0.1/x}",
    "@(7*7)", "*{7*7}",
    # databases, pages, messages
    "'; DROP TABLE jobs;--", '" OR 1=1 --', "' UNION SELECT 1--", "x' AND randomblob(9)--",
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "javascript:alert(1)",
    "</title><svg onload=1>", "<!channel>", "<@U1>", f"<http://x|{MARK}>", "*bold*", "=1+1", "@SUM(1)",
    "+1", "[x](javascript:1)", "&lt;", "&amp;", "![](http://127.0.0.1/x)", "]]>", "<!--",
    # long
    MARK + "a" * 125, MARK + "a" * 126, MARK + "a" * 252, "a" * 255, "a" * 256, "a" * 4096,
    "/" * 300, "../" * 40 + MARK, "a/" * 60 + MARK, "." * 128, " " * 20, "é" * 128, "\U0001f600" * 64,
)  # fmt: skip
_BEFORE = (
    "", "./", "../", "../../", "../../../../", "../" * 12, "/", "//", "a/", "a/../", "\\", "..\\",
    "~/", "%2e%2e/", "x\x00", "file://", "-", " ", "owner/", "owner/../",
)  # fmt: skip
_BEHIND = (
    "", "/", "/.", "/..", "/../..", "\x00", "\x00.yaml", "%00", ".yaml", ".json", "\n", " ", ".",
    "/config.json", "\u202e", "::$DATA", ";x", "?x", "#x",
)  # fmt: skip


def hostile_names(count: int, *decoys: str) -> list[str]:
    """So many different names, among them every core and the decoys' paths; each time the same."""
    chance = random.Random(7)
    wrapped = itertools.product(_BEFORE, (*decoys, *_CORES), _BEHIND)
    pool = dict.fromkeys(f"{before}{core}{behind}" for before, core, behind in wrapped)
    first = list(dict.fromkeys((*decoys, *_CORES)))
    others = [name for name in pool if name not in set(first) and name]
    chance.shuffle(others)
    return [*first, *others][:count] if count > len(first) else chance.sample(first, count)
