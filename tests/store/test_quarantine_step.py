"""A store from before quarantines: devices that its log last called faulty are in one."""

from __future__ import annotations

import sqlite3

from training_cluster.domain.device import Quarantine, QuarantineCause
from training_cluster.store import quarantines
from training_cluster.store.migrations import migrations


def test_devices_last_called_faulty_are_quarantined_and_no_others():
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    migrations.apply(connection, stop_before="m0005_quarantines")
    log = [
        (10.0, "device.quarantined", "A"),
        (20.0, "device.recovered", "A"),
        (30.0, "device.quarantined", "B"),
        (40.0, "device.quarantined", "A"),
        (50.0, "device.recovered", "A"),
    ]
    for time, kind, uuid in log:
        data = f'{{"uuid":"{uuid}","name":"H100","reason":"lost"}}'
        values = (time, kind, data)
        connection.execute("INSERT INTO events (time, type, data) VALUES (?, ?, ?)", values)
    connection.commit()
    migrations.apply(connection)
    found = quarantines.active(connection)
    connection.close()
    assert found == {"B": Quarantine("B", "H100", QuarantineCause.READING, "lost", 30.0)}
