"""Prints what an MLflow store holds, as JSON; run by the tracker environment's Python.

usage: mlflow_reading.py URI EXPERIMENT
"""

import json
import sys

from mlflow import MlflowClient


def artifacts(client, run_id, folder=None):
    for file in client.list_artifacts(run_id, folder):
        if file.is_dir:
            yield from artifacts(client, run_id, file.path)
        else:
            yield file.path


def run(client, found):
    metrics = {
        name: [
            (point.step, point.timestamp, point.value)
            for point in client.get_metric_history(found.info.run_id, name)
        ]
        for name in found.data.metrics
    }
    return {
        "run_id": found.info.run_id,
        "name": found.info.run_name,
        "status": found.info.status,
        "start_time": found.info.start_time,
        "end_time": found.info.end_time,
        "params": found.data.params,
        "tags": found.data.tags,
        "metrics": metrics,
        "artifacts": sorted(artifacts(client, found.info.run_id)),
    }


client = MlflowClient(sys.argv[1])
experiment = client.get_experiment_by_name(sys.argv[2]).experiment_id
runs = client.search_runs([experiment], max_results=1000)
print(json.dumps({"experiment": experiment, "runs": [run(client, found) for found in runs]}))
