"""The floor of every HTTP figure: FastAPI and one durable SQLite commit, and nothing else.

`python floor_app.py PORT DATABASE`; rows are made by `prepare` before it starts.
"""

from __future__ import annotations

import json
import sqlite3
import sys

import uvicorn
from fastapi import FastAPI, Response
from pydantic import BaseModel


class Request(BaseModel):
    """As many fields as the benchmark submits."""

    dataset_version: str
    lora_name: str
    model_name: str
    learning_rate: str
    num_epochs: float
    batch_size: int
    tracking_backend: str


def connect(path: str) -> sqlite3.Connection:
    """WAL and FULL, as the daemon's store."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, content TEXT)")
    return connection


def prepare(path: str, content: str, rows: int) -> None:
    """Fill the table with as many rows as the store under test has jobs."""
    connection = connect(path)
    connection.execute("BEGIN")
    insert = "INSERT INTO rows (content) VALUES (?)"
    connection.executemany(insert, ((content,) for _ in range(rows)))
    connection.execute("COMMIT")
    connection.close()


def create_app(path: str) -> FastAPI:
    """Three routes: add a row, read a row, read the latest fifty."""
    app = FastAPI()
    connection = connect(path)

    def respond(content: object) -> Response:
        return Response(json.dumps(content), media_type="application/json")

    @app.post("/rows")
    async def add(body: Request) -> Response:
        insert = "INSERT INTO rows (content) VALUES (?)"
        cursor = connection.execute(insert, (body.model_dump_json(),))
        return respond({"id": cursor.lastrowid})

    @app.get("/rows")
    async def page() -> Response:
        found = connection.execute("SELECT content FROM rows ORDER BY id DESC LIMIT 50")
        return respond([json.loads(row[0]) for row in found])

    @app.get("/rows/{row}")
    async def one(row: int) -> Response:
        found = connection.execute("SELECT content FROM rows WHERE id = ?", (row,)).fetchone()
        return respond(json.loads(found[0]))

    @app.get("/healthz")
    async def alive() -> Response:
        return respond({"status": "ok"})

    return app


if __name__ == "__main__":
    uvicorn.run(create_app(sys.argv[2]), port=int(sys.argv[1]), log_level="error")
