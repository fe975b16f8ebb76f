"""Models: what completed jobs left, by name and version, and the aliases people gave them."""

from __future__ import annotations

import json
from sqlite3 import Connection
from typing import Any

from training_cluster.domain.model import default_name, figures, model_name
from training_cluster.store.migrations.steps import execute, migrations
from training_cluster.store.model_places import find_place

_MODELS = """
CREATE TABLE models (
  number         INTEGER PRIMARY KEY AUTOINCREMENT,
  id             TEXT NOT NULL UNIQUE,
  name           TEXT NOT NULL CHECK (name <> '' AND name NOT GLOB '*[/@]*'),
  version        TEXT NOT NULL CHECK (version <> '' AND version NOT GLOB '*[/@]*'),
  user           TEXT NOT NULL,
  kind           TEXT NOT NULL CHECK (kind IN ('adapter', 'full', 'merged')),
  base_model     TEXT NOT NULL,
  job_id         TEXT NOT NULL UNIQUE,  -- the job may be pruned, the record of its model stays
  job_number     INTEGER NOT NULL,
  attempt_number INTEGER NOT NULL,
  parent_id      TEXT,
  dataset        TEXT,
  dataset_sha256 TEXT,
  config         TEXT NOT NULL CHECK (json_valid(config)),
  metrics        TEXT NOT NULL CHECK (json_valid(metrics)),
  path           TEXT NOT NULL,
  size_bytes     INTEGER NOT NULL CHECK (size_bytes >= 0),
  files          TEXT NOT NULL CHECK (json_valid(files)),
  is_public      INTEGER NOT NULL DEFAULT 0 CHECK (is_public IN (0, 1)),
  created_at     REAL NOT NULL,
  deleted_at     REAL,
  gone_at        REAL,  -- since when its files are gone as well
  CHECK (gone_at IS NULL OR deleted_at IS NOT NULL),
  UNIQUE (name, version)
) STRICT;
CREATE INDEX models_by_name ON models (name, number);
CREATE INDEX models_by_user ON models (user, number);
CREATE INDEX models_to_remove ON models (number) WHERE deleted_at IS NOT NULL AND gone_at IS NULL;

CREATE TABLE model_aliases (
  name         TEXT NOT NULL,
  alias        TEXT NOT NULL CHECK (alias <> '' AND alias NOT GLOB '*[/@]*'),
  model_number INTEGER NOT NULL REFERENCES models (number),
  user         TEXT NOT NULL,
  set_at       REAL NOT NULL,
  PRIMARY KEY (name, alias)
) STRICT;
CREATE INDEX aliases_of_models ON model_aliases (model_number);
"""
_LEFT = """
SELECT id, number, user, attempt_number, spec, result, finished_at FROM jobs
WHERE state = 'completed' AND result ->> 'path' IS NOT NULL ORDER BY finished_at, number"""
_KINDS = {"lora_adapter": "adapter", "full_model": "full"}


@migrations()
def m0008_models(db: Connection) -> None:
    """Models and aliases; each completed job that left a model has it registered."""
    execute(db, _MODELS)
    for job in [dict(zip(_COLUMNS, row, strict=True)) for row in db.execute(_LEFT)]:
        _register(db, job)


_COLUMNS = ("id", "number", "user", "attempt", "spec", "result", "finished_at")
_INSERT = """
INSERT INTO models (id, name, version, user, kind, base_model, job_id, job_number, attempt_number,
                    dataset, config, metrics, path, size_bytes, files, created_at)
VALUES (:id, :name, :version, :user, :kind, :base, :id, :number, :attempt, :dataset, :spec,
        :metrics, :path, :bytes, :files, :finished_at)"""


def _register(db: Connection, job: dict[str, Any]) -> None:
    spec, result = json.loads(job["spec"]), json.loads(job["result"])
    if result.get("kind") not in _KINDS:
        return
    base = str(result.get("base_model") or spec.get("model_name") or "")
    asked = spec.get("save_name") or spec.get("lora_name")
    wanted = model_name(asked) if asked else default_name(base, job["number"])
    place = find_place(db, wanted, str(spec.get("lora_version") or ""), job["user"])
    row = {
        **job,
        "name": place.name,
        "version": place.version,
        "kind": _KINDS[result["kind"]],
        "base": base,
        "dataset": spec.get("dataset_version"),
        "metrics": json.dumps(figures(result)),
        "path": result["path"],
        "bytes": result.get("size_bytes") or 0,
        "files": json.dumps(result.get("files") or []),
    }
    db.execute(_INSERT, row)
