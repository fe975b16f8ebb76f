"""The examples OpenAPI shows, and the function that attaches them to a route."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from training_cluster.api.problems import documented
from training_cluster.domain.errors import TrainingClusterError

JOB_ID = "0199a0b4-5c1e-7c3a-9f7e-3f1d5b7c9e21"
GPU_ID = "GPU-8f3a2c61-5d0e-4b7f-9a1c-2e6d4f8b0a13"
STARTED_AT = 1795228200.25

LINKS = {
    "self": f"/train/{JOB_ID}",
    "logs": f"/train/{JOB_ID}/logs",
    "log_stream": f"/train/{JOB_ID}/logs/stream",
    "metrics": f"/train/{JOB_ID}/metrics",
    "metrics_stream": f"/train/{JOB_ID}/metrics/stream",
    "events": f"/events?job={JOB_ID}",
}
WAIT = {
    "code": "devices_in_use",
    "message": "needs 1 device; 0 free; GPU 0: leased by job 7",
}
STARTED = {
    "job_id": JOB_ID,
    "number": 7,
    "status": "started",
    "message": "Training job started",
    "queue_position": None,
    "wait_reason": None,
    "estimated_start": None,
    "warnings": [],
    "disk_bytes": 482344960,
    "pruned": None,
    "links": LINKS,
}
QUEUED = {
    **STARTED,
    "number": 8,
    "status": "queued",
    "message": "Training job queued",
    "queue_position": 1,
    "wait_reason": WAIT,
    "estimated_start": STARTED_AT + 600,
}
REJECTED = {
    "job_id": None,
    "status": "rejected",
    "message": "the job was rejected: needs 1 device; 0 free; GPU 0: leased by job 7",
    "code": "no_device_free",
    "hint": "submit with strategy=queue to have it wait",
}
BASIC_REQUEST = {
    "model_name": "Qwen/Qwen2.5-1.5B-Instruct",
    "lora_name": "initial-sft",
    "lora_version": "2",
    "dataset_version": "v1.0",
    "template": "qwen",
    "tracking_backend": "mlflow",
}
FULL_REQUEST = {
    **BASIC_REQUEST,
    "cutoff_len": 2048,
    "max_samples": 10000,
    "batch_size": 1,
    "gradient_accumulation_steps": 8,
    "save_steps": 501,
    "learning_rate": "2.0e-5",
    "num_epochs": 2.0,
    "save_name": "test_reasoning",
}
PROGRESS = {
    "step": 120,
    "total_steps": 540,
    "percent": 22.22,
    "epoch": 0.67,
    "elapsed_seconds": 96.0,
    "remaining_seconds": 336.0,
}
SUMMARY: dict[str, Any] = {
    "job_id": JOB_ID,
    "number": 7,
    "status": "running",
    "user": "alice",
    "config": {**BASIC_REQUEST, "learning_rate": 2.0e-5, "num_epochs": 3.0, "gpus": 1},
    "created_at": STARTED_AT - 1,
    "start_time": STARTED_AT,
    "end_time": None,
    "progress": PROGRESS,
    "metrics": {"train/loss": 1.92, "train/learning_rate": 1.8e-5},
    "error": None,
    "result": None,
    "warnings": [],
    "links": LINKS,
}
JOB = {
    **SUMMARY,
    "queue_position": None,
    "wait_reason": None,
    "estimated_start": None,
    "estimated_finish": STARTED_AT + 432,
    "devices": [GPU_ID],
    "attempts": [
        {
            "attempt": 1,
            "devices": [GPU_ID],
            "start_time": STARTED_AT,
            "end_time": None,
            "outcome": None,
            "exit_code": None,
            "stop_reason": None,
            "resumed_from_step": None,
            "checkpoint_step": None,
        }
    ],
    "webhook_id": None,
    "runs": [
        {
            "tracker": "mlflow",
            "number": 1,
            "attempt": 1,
            "state": "open",
            "run_id": "1d042aeb4e9b442e9af13b9a49c35d46",
            "url": "http://127.0.0.1:5000/#/experiments/1/runs/1d042aeb4e9b442e9af13b9a49c35d46",
            "lines": 120,
            "message": None,
        }
    ],
}
CANCELLED = {
    "job_id": JOB_ID,
    "status": "stopping",
    "message": "Training job is being stopped",
}
PAUSING = {
    "job_id": JOB_ID,
    "status": "stopping",
    "message": "Training job is saving a checkpoint and being paused",
    "resumed_from_step": None,
}
RESUMED = {
    "job_id": JOB_ID,
    "status": "queued",
    "message": "Training job queued; it goes on from step 120",
    "resumed_from_step": 120,
}
RETRIED = {
    **RESUMED,
    "message": "Training job queued again; it goes on from step 120",
}
DEVICE = {
    "uuid": GPU_ID,
    "kind": "gpu",
    "index": 0,
    "name": "NVIDIA H100 80GB HBM3",
    "standing": "leased",
    "reason": "leased by job 7",
    "job": 7,
    "total_memory_bytes": 85520809984,
    "used_memory_bytes": 21474836480,
    "utilization_percent": 97.0,
    "temperature_celsius": 61.0,
    "power_watts": 540.0,
    "parent_uuid": None,
    "processes": [],
    "quarantine": None,
    "tolerance": None,
}
QUARANTINE = {
    "device": GPU_ID,
    "cause": "person",
    "reason": "its fan is loud",
    "since": STARTED_AT,
    "by": "root",
    "ends_by_itself": False,
}
TOLERANCE = {
    "device": GPU_ID,
    "memory_bytes": 734003200,
    "reason": "a stale process of a display server",
    "by": "root",
    "until": None,
}
QUEUE = {
    "running": [
        {
            "job_id": JOB_ID,
            "number": 7,
            "status": "running",
            "user": "alice",
            "model_name": "Qwen/Qwen2.5-1.5B-Instruct",
            "attempt": 1,
            "devices": [GPU_ID],
            "start_time": STARTED_AT,
            "progress": PROGRESS,
        }
    ],
    "queued": [
        {
            "job_id": "0199a0b4-6f20-7d11-8e02-9c4b7a5d3e10",
            "number": 8,
            "priority": 0,
            "gpus": 1,
            "disk_bytes": 482344960,
            "queue_position": 1,
            "wait_reason": WAIT,
            "estimated_start": STARTED_AT + 432,
        }
    ],
    "queue_length": 1,
    "devices": [DEVICE],
    "disk": {
        "path": "/var/lib/training-cluster",
        "free_bytes": 214748364800,
        "promised_bytes": 482344960,
        "available_bytes": 213729148928,
        "is_full": False,
    },
}
ABOUT = {
    "name": "training-cluster",
    "version": "0.1.0",
    "queue_length": 1,
    "running": 1,
    "devices": [DEVICE],
    "device_note": None,
    "links": {"train": "/train", "queue": "/queue", "devices": "/devices"},
}


def shown(
    view: type[BaseModel], example: Any, *errors: type[TrainingClusterError]
) -> dict[int | str, dict[str, Any]]:
    """A route's `responses`: its answer with an example, and the errors it can give."""
    answer = {"model": view, "content": {"application/json": {"example": example}}}
    return {200: answer, **documented(*errors)}
