"""Loaded by a daemon under test. With WATCHED_PATHS set it writes down every path that its Python
opens, makes, moves, lists or removes, and every program it starts; with STUB_RESOLVER it asks no
name service but that one."""

import os
import sys

_EVENTS = frozenset(
    [
        "open",
        "os.mkdir",
        "os.rename",
        "os.remove",
        "os.rmdir",
        "os.link",
        "os.symlink",
        "os.listdir",
        "os.scandir",
        "os.chmod",
        "os.chown",
        "os.truncate",
        "os.utime",
        "os.chdir",
        "shutil.rmtree",
        "shutil.move",
        "shutil.copyfile",
        "sqlite3.connect",
        "subprocess.Popen",
        "os.exec",
        "os.posix_spawn",
        "glob.glob",
        "tempfile.mkstemp",
        "tempfile.mkdtemp",
    ]
)


def _watch(event: str, arguments: tuple) -> None:
    if event in _EVENTS:
        for argument in arguments:
            text = os.fsdecode(argument) if isinstance(argument, bytes | os.PathLike) else argument
            for word in text if isinstance(text, list | tuple) else (text,):
                if isinstance(word, str):
                    os.write(_log, f"{event}\t{word!r}\n".encode())


if "WATCHED_PATHS" in os.environ:
    _log = os.open(os.environ["WATCHED_PATHS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    sys.addaudithook(_watch)
if "STUB_RESOLVER" in os.environ:
    import stub_resolver  # noqa: F401
