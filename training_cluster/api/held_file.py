"""An answer that is a file: who deletes it meanwhile does not cut the answer short."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send


class HeldFile(FileResponse):
    """Sends a file, or the part of it that `Range` asks for, from a descriptor opened before the
    first byte. Raises what `gone` makes where the file is deleted before that."""

    def __init__(
        self, path: Path, headers: Mapping[str, str], gone: Callable[[], Exception]
    ) -> None:
        super().__init__(path, headers=headers, media_type="application/octet-stream")
        self._gone = gone

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the file."""
        try:
            held = await asyncio.to_thread(Path(self.path).open, "rb")
        except FileNotFoundError:
            raise self._gone() from None
        with held:
            self.path = f"/proc/self/fd/{held.fileno()}"
            await super().__call__(scope, receive, send)
