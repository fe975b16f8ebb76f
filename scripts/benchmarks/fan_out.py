"""The floor of the streams: whatever comes over the first connection goes out over all others.

`python fan_out.py PORT`.
"""

from __future__ import annotations

import asyncio
import sys


async def main(port: int) -> None:
    """Answer `GET /healthz`, add listeners for any other GET, hand on lines after `POST`."""
    listeners: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET /healthz"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        elif head.startswith(b"GET"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
            listeners.append(writer)
            return
        while line := await reader.readline():
            frame = b"event: metrics\ndata: " + line + b"\n"
            for listener in listeners:
                listener.write(frame)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
