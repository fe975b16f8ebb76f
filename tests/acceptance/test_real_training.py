"""The whole way with the real LLaMA-Factory: a request over HTTP ends in a trained LoRA adapter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon_process import (
    DaemonProcess,
    eventually,
    processes_of,
    running_daemon,
)
from tests.real_training import for_real

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def trained_for_real(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Path
) -> Iterator[DaemonProcess]:
    """A daemon with the trainer environment of this machine and a tiny model."""
    folder = tmp_path_factory.mktemp("real")
    environment = {
        **for_real(tiny_model),
        "TRAINING_CLUSTER_GRACE_SECONDS": "30",
    }
    with running_daemon(folder / "state", environment) as daemon:
        daemon.model = str(tiny_model)  # type: ignore[attr-defined]
        yield daemon


def request(daemon, **changes):
    return {
        "model_name": daemon.model,
        "cutoff_len": 128,
        "max_samples": 64,
        "batch_size": 4,
        "gradient_accumulation_steps": 1,
        "learning_rate": 1e-2,
        "num_epochs": 8,
        "additional_target": "embed_tokens,lm_head",
        **changes,
    }


def test_a_request_ends_in_a_lora_adapter_that_has_learned(trained_for_real):
    daemon = trained_for_real
    job = daemon.submit(**request(daemon, lora_name="real", lora_version="1"))
    eventually(lambda: (daemon.job(job["job_id"])["progress"] or {}).get("step"), 120)
    running = daemon.job(job["job_id"])
    assert running["status"] == "running"
    assert running["estimated_finish"] > running["start_time"]
    done = daemon.wait_for(job["job_id"], seconds=180)
    assert done["status"] == "completed"
    assert done["progress"]["step"] == done["progress"]["total_steps"] == 128
    result = done["result"]
    assert (result["lora_name"], result["lora_version"]) == ("real", "1")
    assert (Path(result["path"]) / "adapter_model.safetensors").stat().st_size > 10_000
    assert done["metrics"]["train/loss"] < result["first_loss"] / 2


def test_the_same_labels_never_overwrite_an_earlier_result(trained_for_real):
    daemon = trained_for_real
    fields = request(daemon, lora_name="twin", lora_version="1", num_epochs=0.1)
    results = [
        daemon.wait_for(daemon.submit(**fields)["job_id"], seconds=120)["result"] for _ in range(2)
    ]
    assert results[0]["path"] != results[1]["path"]
    assert all((Path(r["path"]) / "adapter_config.json").is_file() for r in results)


def test_a_cancelled_training_saves_a_checkpoint_and_leaves_no_process(trained_for_real):
    daemon = trained_for_real
    job = daemon.submit(**request(daemon, num_epochs=2000))["job_id"]
    eventually(lambda: (daemon.job(job)["progress"] or {}).get("step"), 120)
    daemon.client.delete(f"/train/{job}")
    cancelled = daemon.wait_for(job, "cancelled", seconds=60)
    assert cancelled["error"] is None
    assert processes_of(daemon.attempt_dir(job)) == []
    assert list((daemon.attempt_dir(job) / "output").glob("checkpoint-*/trainer_state.json"))


def test_a_model_that_cannot_be_had_is_a_typed_failure_with_a_hint(trained_for_real):
    daemon = trained_for_real
    job = daemon.submit(model_name="nobody/no-such-model")["job_id"]
    failed = daemon.wait_for(job, "failed", seconds=120)
    assert failed["error"]["code"] == "model_unavailable"
    assert failed["error"]["hint"]
