"""Starts runners fast: a small process that keeps one runner forked ahead of the next request.

`python -I -S fork_server.py`, with a Unix SOCK_SEQPACKET socket to the daemon as fd 0. It says
`{"ready": pid}`, then answers each `{"directory", "staged"}` with `{"directory", "pid"}`, the
runner's pidfd and a socket on which the runner tells the end of its attempt, or with
`{"directory", "error"}`. A staged runner gets ready and starts its trainer when `go` comes over
that socket. The fork server ends when the daemon closes its end; runners run on.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from training_cluster import runner
else:  # -I and -S hide our package; appended, so that nothing here can shadow the stdlib
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))
    import runner

MAX_REQUEST_BYTES = 65536
CRASHED = 70
GO = b"go"


class SpareRunner:
    """A runner forked ahead: it waits for its directory and ends with the fork server."""

    def __init__(self) -> None:
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self.pid = os.fork()
            except OSError:
                self.channel.close()
                raise
            if self.pid == 0:
                self.channel.close()
                become_runner(theirs)
        self.pidfd = os.pidfd_open(self.pid)

    def close(self) -> None:
        """Let go of the runner; one that has no request yet ends."""
        self.channel.close()
        os.close(self.pidfd)


def become_runner(channel: socket.socket) -> None:
    """The life of a forked runner; never returns."""
    code = CRASHED
    try:
        runner.detach(keep=channel.fileno())
        received = channel.recv(MAX_REQUEST_BYTES)
        code = execute(json.loads(received), channel) if received else 0
    except Exception:
        sys.excepthook(*sys.exc_info())  # into trainer.log, once the runner is in its directory
        sys.stderr.flush()
    finally:
        os._exit(code)


def execute(request: dict[str, str], channel: socket.socket) -> int:
    """Run an attempt; a staged one waits for the word, and goes away with whoever could say it."""
    if not request.get("staged"):
        return runner.run(request["directory"], channel.send)
    return runner.run(request["directory"], channel.send, lambda: channel.recv(16) == GO)


def hand_over(request: bytes, spare: SpareRunner | None) -> SpareRunner:
    """Give a request to the spare runner, or to a new one if that was killed as it waited."""
    if spare is not None:
        try:
            spare.channel.send(request)
        except OSError:
            spare.close()
        else:
            return spare
    fresh = SpareRunner()
    fresh.channel.send(request)
    return fresh


def answer(daemon: socket.socket, request: bytes, spare: SpareRunner | None) -> None:
    """Start a runner and send its pidfd and its channel, or say why there is none."""
    reply: dict[str, object] = {"directory": json.loads(request)["directory"]}
    try:
        started = hand_over(request, spare)
    except OSError as error:
        daemon.send(json.dumps({**reply, "error": str(error)}).encode())
        return
    try:
        message = json.dumps({**reply, "pid": started.pid}).encode()
        socket.send_fds(daemon, [message], [started.pidfd, started.channel.fileno()])
    finally:
        started.close()


def serve(daemon: socket.socket) -> None:
    """Answer requests until the daemon closes its end."""
    spare: SpareRunner | None = SpareRunner()
    daemon.send(json.dumps({"ready": os.getpid()}).encode())
    while request := daemon.recv(MAX_REQUEST_BYTES):
        answer(daemon, request, spare)
        spare = None
        with contextlib.suppress(OSError):  # tried again when it is needed
            spare = SpareRunner()


def main() -> int:
    signal.pthread_sigmask(signal.SIG_BLOCK, runner.STOP_SIGNALS | {signal.SIGHUP})
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the runners: signal(7)
    gc.disable()
    gc.freeze()
    with contextlib.suppress(ConnectionError), socket.socket(fileno=0) as daemon:
        serve(daemon)
    return 0


if __name__ == "__main__":
    sys.exit(main())
