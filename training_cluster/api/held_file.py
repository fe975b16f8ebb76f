"""An answer that is an open file: who moves or deletes it meanwhile does not cut it short."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO

from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send


class HeldFile(FileResponse):
    """Sends a file, or the part of it that `Range` asks for, and closes it."""

    def __init__(self, file: IO[bytes], headers: Mapping[str, str]) -> None:
        # Linux opens the file itself by this name, wherever it is now
        path = f"/proc/self/fd/{file.fileno()}"
        super().__init__(path, headers=headers, media_type="application/octet-stream")
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the file."""
        with self._file:
            await super().__call__(scope, receive, send)
