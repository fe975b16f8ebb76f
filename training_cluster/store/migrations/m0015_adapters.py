"""LoRA adapters are found by the model they are put on, however many adapters lie between."""

from __future__ import annotations

from sqlite3 import Connection

from training_cluster.store.migrations.steps import execute, migrations

_INDEX = """
CREATE INDEX adapters_on_models ON models (base_model, number)
  WHERE kind = 'adapter' AND deleted_at IS NULL;
"""


@migrations()
def m0015_adapters(db: Connection) -> None:
    """An index of the adapters that are not deleted."""
    execute(db, _INDEX)
