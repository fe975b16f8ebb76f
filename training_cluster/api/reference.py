"""The interactive documentation at /docs: Swagger UI, and a policy that lets nothing else run."""

from __future__ import annotations

import base64
import hashlib
import re

from fastapi import Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse

from training_cluster.api.auth import Caller
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.pages import PAGE_HEADERS

router = LateRouter(include_in_schema=False)

_SOURCE = "https://cdn.jsdelivr.net"
_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


@router.get("/docs")
async def documentation(request: Request, _: Caller) -> HTMLResponse:
    """Loads Swagger UI from its public address; a machine without internet has /openapi.json."""
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=f"{request.app.title}: API",
        swagger_js_url=f"{_SOURCE}/npm/swagger-ui-dist@5/swagger-ui-bundle.js",
        swagger_css_url=f"{_SOURCE}/npm/swagger-ui-dist@5/swagger-ui.css",
        swagger_favicon_url="data:,",
    )
    text = bytes(page.body).decode()
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in _SCRIPT.findall(text))
    policy = (
        f"default-src 'none'; script-src {_SOURCE} {hashes}; style-src {_SOURCE} 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; form-action 'none'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )
    return HTMLResponse(text, headers={**PAGE_HEADERS, "Content-Security-Policy": policy})


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
