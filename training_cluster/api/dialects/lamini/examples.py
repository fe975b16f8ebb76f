"""What OpenAPI shows of Lamini's requests and answers."""

from __future__ import annotations

from typing import Any

_DATASET = "0199a0b4-5c1e-7c3a-9f7e-3f1d5b7c9e21"
BASE = "http://localhost:23478/v1/data"
_MODEL = "meta-llama/Llama-3.2-3B-Instruct"
ROWS = [{"input": "What is for lunch?", "output": "I want boba."}]
BASE_PATH = {"upload_base_path": BASE}
PLACE: dict[str, Any] = {
    "dataset_id": _DATASET,
    "upload_base_path": BASE,
    "dataset_location": f"{BASE}/{_DATASET}",
    "num_datapoints": None,
    "warnings": [],
}
STORED = {
    "dataset_id": _DATASET,
    "dataset_location": f"{BASE}/{_DATASET}",
    "num_datapoints": 1,
    "name": "lamini@v1.0",
    "warnings": [],
}
_COUNT = {"dataset_id": _DATASET, "num_datapoints": 1}
COUNTED = {**_COUNT, "warnings": []}
NEW_PLACES: dict[str, Any] = {
    "lamini 2": {"value": {"dataset_id": "9f86d081884c7d65"}},
    "lamini 3": {"value": {"upload_base_path": BASE, "is_public": False}},
}
KNOWN: dict[str, Any] = {
    "one": {"value": {"dataset_id": _DATASET, "upload_base_path": BASE}},
}
COUNTS: dict[str, Any] = {"one": {"value": _COUNT}}
CREATED = {"job_id": 123, "status": "CREATED", "dataset_id": _DATASET, "warnings": []}
JOB = {
    "job_id": 123,
    "status": "COMPLETED",
    "start_time": "2026-11-18T11:06:41.500000",
    "model_name": "my-custom-model-name@v1",
    "custom_model_name": "my-custom-model-name",
    "base_model_name": _MODEL,
    "is_public": False,
    "history": '[{"step":10,"loss":4.53,"learning_rate":0.0003,"epoch":0.1}]',
    "resume_count": 0,
    "dataset_id": _DATASET,
    "error": None,
    "warnings": [],
}
MOVED = {
    "job_id": 123,
    "status": "CANCELLED",
    "message": "The job saves a checkpoint and stops; resume lets it go on from there",
}
RESUMED = {"job_id": 123, "status": "SCHEDULED", "message": "The job goes on from step 60"}
ALL_CANCELLED = {"status": "CANCELLED", "jobs": [MOVED]}
EVALUATION = {
    "job_id": 123,
    "status": "COMPLETED",
    "eval_job_id": 124,
    "eval_results": [
        {
            "input": "What is for lunch?",
            "outputs": [
                {"model_name": _MODEL, "output": "Soup."},
                {"model_name": "my-custom-model-name@v1", "output": "I want boba."},
            ],
        }
    ],
    "error": None,
}
DOWNLOADED = {
    "model_id": 9,
    "model_name": _MODEL,
    "model_type": "transformer",
    "user_id": "alice",
    "is_public": True,
    "creation_ts": "2026-11-18T11:06:41.500000",
    "prev_download_ts": "2026-11-18T11:09:02.250000",
    "prev_download_error": None,
    "download_attempts": 1,
    "status": "available",
}
DOWNLOADING = {
    "model_name": _MODEL,
    "model_type": "transformer",
    "status": "downloading",
    "job_id": 9,
    "error": None,
    "warnings": [],
}
DOWNLOADS: dict[str, Any] = {
    "a public model": {"value": {"hf_model_name": _MODEL, "model_type": "transformer"}},
    "a private one": {"value": {"hf_model_name": "owner/gated", "private_hf_token": "hf_..."}},
}
VERSION = {
    "api": [{"name": "train", "path": "/v1/train"}],
    "server": "1.0.0",
    "client": "3.4.3",
}


TRAIN: dict[str, Any] = {
    "a dataset that is here": {
        "model_name": _MODEL,
        "dataset_id": _DATASET,
        "finetune_args": {"max_steps": 50, "r_value": 32, "learning_rate": 0.0003},
        "gpu_config": {"gpus": 2, "nodes": 1},
        "custom_model_name": "my-custom-model-name",
        "is_public": False,
    },
    "the data itself": {"model_name": _MODEL, "data": ROWS},
}
