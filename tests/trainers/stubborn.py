"""A trainer whose tree does not want to end: ignores TERM, and so does its child in a session of
its own.

usage: stubborn.py train CONFIG
"""

import os
import signal
import time

signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
print("ready", flush=True)
while True:
    time.sleep(1)
