"""A trainer that prints as many MiB as the file `flood` in the state directory says, as fast as the
disk takes them, lines, bars and all. Without that file it ends at once.

usage: flooding.py train CONFIG
"""

import os
import sys

state = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(sys.argv[2]))))
try:
    with open(os.path.join(state, "flood")) as file:
        mebibytes = int(file.read())
except FileNotFoundError:
    sys.exit(0)
line = b"{'loss': 1.2345, 'grad_norm': 0.8712, 'learning_rate': 1.9e-05, 'epoch': 0.67}\n"
bar = b"".join(b"\r%3d%%|%s| step" % (n, b"#" * (n // 10)) for n in range(0, 100, 10)) + b"\n"
block = (line * 30 + bar + b"long " * 500 + b"\n") * 10
for _ in range(mebibytes * (1 << 20) // len(block)):
    os.write(2, block)
