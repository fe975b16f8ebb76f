"""Loaded by the Python of a daemon under test: its worker that checks datasets waits as long as the
file `hold-checks` is in its home."""

import os
import sys
import time

if any(word.endswith(".inspection") for word in sys.orig_argv):
    while os.path.exists(os.path.expanduser("~/hold-checks")):
        time.sleep(0.02)
