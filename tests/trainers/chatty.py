"""A trainer that talks as tqdm and its friends do: bars, colours, long lines, no last line end.

usage: chatty.py STEPS SECONDS_PER_STEP FAILURES train CONFIG
The first FAILURES attempts of a job kill themselves halfway.
"""

import os
import signal
import sys
import time

steps, pause, failures = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
attempt = int(os.getcwd().rpartition("-")[2])


def say(text):
    os.write(2, text.encode())


say(f"\x1b[1mattempt {attempt}\x1b[0m begins\r\n")
for step in range(1, steps + 1):
    for part in range(3):
        say(f"\r{100 * (step - 1) // steps:3}%|{'█' * part:4}| größe {step}.{part}")
        time.sleep(pause / 3)
    if step % 10 == 0:
        say(f"\r{' ' * 30}\r{{'loss': {4 / step:.4f}}}\n")
    if step % 25 == 0:
        say("\n\x1b]0;title\x07" + "long " * 5000 + "\n")
    if step == steps // 2 and attempt <= failures:
        say("dying")
        os.kill(os.getpid(), signal.SIGKILL)
say("\r100%|████| done")
