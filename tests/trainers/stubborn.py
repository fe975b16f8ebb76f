"""A trainer whose tree does not want to end: all of it ignores TERM; a child is in a session of its
own, and so are two that are nobody's children any more, one of them without the environment it had.

usage: stubborn.py train CONFIG
"""

import os
import signal
import time


def forked():
    """True in a new process with a session of its own."""
    if os.fork():
        return False
    os.setsid()
    return True


def abandoned():
    """True in a new process whose parent has ended."""
    if forked():
        if forked():
            return True
        os._exit(0)
    return False


signal.signal(signal.SIGTERM, signal.SIG_IGN)
if abandoned():
    os.execve("/bin/sleep", ["sleep", "600"], {})
if not abandoned():
    forked()
print("ready", flush=True)
while True:
    time.sleep(1)
