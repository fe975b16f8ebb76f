"""What all HTML answers have in common: who gets one, and the headers that guard it."""

from __future__ import annotations

from starlette.datastructures import Headers

PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # not `no-referrer`: forms would then come with `Origin: null`, and ours is asked for
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def is_browser(headers: Headers) -> bool:
    """Whether a page is wanted rather than JSON."""
    return "text/html" in headers.get("accept", "")
