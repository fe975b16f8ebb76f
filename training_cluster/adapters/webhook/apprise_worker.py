"""The process that sends one message by apprise: reads it as JSON from standard input, says on
standard output what went wrong, exits 0 when it was sent."""

from __future__ import annotations

import json
import logging
import sys


def main() -> int:
    """Send the message; 0 when apprise says that it was taken."""
    import apprise

    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # it would name addresses
    order = json.load(sys.stdin)
    # `Apprise.add` would take a list of addresses, of which only the first has been checked
    service = apprise.Apprise.instantiate(order["url"], asset=apprise.AppriseAsset())
    if service is None:
        return _say("apprise does not understand this address")
    kind = apprise.NotifyType(order["kind"])
    if not service.notify(title=order["title"], body=order["body"], notify_type=kind):
        return _say("the service did not take it")
    return 0


def _say(text: str) -> int:
    sys.stdout.write(text)
    return 1


if __name__ == "__main__":
    sys.exit(main())
