"""The login page: one field for a token, or who one is already. No script, every value escaped."""

from __future__ import annotations

from html import escape

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 26rem; margin: 15vh auto; padding: 0 1rem; }
h1 { font-size: 1.3rem; } label { display: block; margin: 1rem 0 .25rem; }
input { width: 100%; box-sizing: border-box; font: inherit; padding: .4rem; }
button { font: inherit; margin-top: .75rem; padding: .35rem 1rem; }
.said { opacity: .8; }
"""


def login_page(path: str, *, said: str = "", who: str | None = None) -> str:
    """The page as shown at `path`; its forms lead to /login and /logout by relative addresses, so
    that it works below a prefix too. `who` names the caller that is known already."""
    up = "../" * (path.count("/") - 1)
    parts = [f"<p class='said'>{escape(said)}</p>"] if said else []
    if who is not None:
        parts.append(f"<p>You are <bdi>{escape(who)}</bdi>.</p>")
        parts.append(f"<form method='post' action='{up}logout'><button>Log out</button></form>")
    parts.append(
        f"<form method='post' action='{up}login'><label for='token'>Token</label>"
        "<input id='token' name='token' type='password' autocomplete='current-password' required>"
        "<button>Log in</button></form>"
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>training-cluster: log in</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>
<body><h1>training-cluster</h1>{"".join(parts)}</body></html>"""
