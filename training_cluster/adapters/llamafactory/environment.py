"""Makes a trainer's environment variables: an allow-list of the daemon's, then the devices."""

from __future__ import annotations

import os
from collections.abc import Mapping

from training_cluster.domain.device import Device, DeviceKind
from training_cluster.ports import Assignment

_PASSED = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "XDG_CACHE_HOME"),
        *("HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_TOKEN", "HF_TOKEN_PATH"),
        *("TRANSFORMERS_OFFLINE", "LD_LIBRARY_PATH", "CUDA_HOME"),
        *("OMP_NUM_THREADS", "OMP_WAIT_POLICY"),
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    }
)
_PASSED_PREFIXES = ("LC_", "NCCL_")


def trainer_environment(
    assignment: Assignment,
    command: tuple[str, ...],
    daemon_environment: Mapping[str, str],
    pass_environment: tuple[str, ...],
) -> dict[str, str]:
    """Exactly the variables an attempt's trainer gets."""
    environment = {
        name: value
        for name, value in daemon_environment.items()
        if name in _PASSED or name.startswith(_PASSED_PREFIXES) or name in pass_environment
    }
    environment["PATH"] = _path(command, environment.get("PATH") or os.defpath)
    environment["PYTHONUNBUFFERED"] = "1"
    # Converted and tokenised rows belong to the attempt and go with its directory.
    environment["HF_DATASETS_CACHE"] = str(assignment.directory / "datasets_cache")
    environment.update(_devices(assignment.devices))
    if all(device.kind is DeviceKind.CPU for device in assignment.devices):
        # A slot is no share of the machine: threads that spin while they wait for one another
        # take the processors from what they wait for.
        environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if len(assignment.devices) > 1:
        environment.update(_torchrun(assignment))
    return environment


def _path(command: tuple[str, ...], path: str) -> str:
    # LLaMA-Factory starts `torchrun` by name: the one beside it must be found first.
    beside = os.path.dirname(command[0]) if command else ""
    return f"{beside}{os.pathsep}{path}" if os.path.isabs(beside) else path


def _devices(devices: tuple[Device, ...]) -> dict[str, str]:
    on_gpu = [device for device in devices if device.kind is not DeviceKind.CPU]
    visible = {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": ",".join(_name(device) for device in on_gpu),
    }
    return {**visible, "RECORD_VRAM": "1"} if on_gpu else visible


def _name(device: Device) -> str:
    # GPUs by index: some libraries read the list as integers (DeepSpeed#5278, vLLM#20939).
    return device.uuid if device.kind is DeviceKind.MIG else str(device.index)


def _torchrun(assignment: Assignment) -> dict[str, str]:
    if assignment.master_port is None:
        raise ValueError(f"attempt {assignment.ref} has several devices and no master_port")
    return {
        "FORCE_TORCHRUN": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(assignment.master_port),
        "NPROC_PER_NODE": str(len(assignment.devices)),
    }
