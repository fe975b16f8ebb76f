"""What scripts for a real client in Python share: what they were given, and how they tell."""

import json
import os
import sys

URL = os.environ["CLIENT_URL"]
KEY = os.environ["CLIENT_KEY"]
ARGUMENTS = json.loads(os.environ["CLIENT_ARGUMENTS"])


def tell(step, **facts):
    """One line for the test."""
    print(json.dumps({"step": step, **facts}, default=_plain), flush=True)


def hear():
    """Wait for a word of the test."""
    return json.loads(sys.stdin.readline())


def _plain(value):
    """Models of an SDK as the JSON they came from."""
    for method in ("to_dict", "model_dump"):
        if hasattr(value, method):
            return getattr(value, method)()
    return repr(value)
