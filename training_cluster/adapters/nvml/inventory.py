"""Turns what NVML says into an Inventory; what it does not say becomes a fault."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import pynvml

from training_cluster.adapters.nvml.processes import ProcessTable
from training_cluster.adapters.nvml.queries import (
    Query,
    Session,
    driver_version,
    in_words,
    is_sliced,
    needs_reset,
    read_memory,
    read_temperature,
    read_users,
    shut_down,
    slice_handles,
)
from training_cluster.adapters.nvml.sanity import (
    MOST_GPUS,
    check_name,
    check_users,
    doubted,
    told_apart,
    without_figures,
)
from training_cluster.adapters.nvml.wire import NvmlProbe
from training_cluster.domain.device import Device, DeviceKind, Inventory, unidentified


@dataclass(frozen=True, slots=True)
class _Fault:
    """Why a GPU cannot be named, and whether only a reset helps."""

    words: str
    needs_reset: bool = False


class NvmlInventory:
    """DeviceInventory over NVML; what it cannot read it reports as a fault.

    A session with a broken GPU is replaced at most every `retry_seconds`, because starting one may
    stall on that GPU and hold up the readings of the others.
    """

    def __init__(self, retry_seconds: float = 60.0) -> None:
        self._lock = threading.Lock()
        self._retry_seconds = retry_seconds
        self._session: Session | None = None
        self._last_seen: dict[int, tuple[Device, ...]] = {}
        self._processes = ProcessTable()

    @classmethod
    def available(cls) -> bool:
        """True when `read` would find GPUs now; `probe` says why not."""
        return cls.probe().ready

    @classmethod
    def probe(cls) -> NvmlProbe:
        """Load and initialise NVML, count the GPUs, let go of it."""
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            installed = error.value != pynvml.NVML_ERROR_LIBRARY_NOT_FOUND
            return NvmlProbe(installed, reason=in_words("NVML cannot be initialised", error))
        try:
            count = _count()
        except (pynvml.NVMLError, ValueError) as error:
            return NvmlProbe(True, reason=in_words("the GPUs cannot be counted", error))
        finally:
            shut_down()
        return NvmlProbe(True, count, None if count else "the NVIDIA driver reports no GPU")

    def read(self) -> Inventory:
        """Read every GPU and MIG slice now. Never raises."""
        with self._lock:
            try:
                return self._read()
            except Exception as error:  # the port promises that a reading never raises
                self._session = None
                fault = in_words("the GPUs cannot be read", error)
                devices = tuple(without_figures(device, fault) for device in self._all_seen())
                return Inventory(devices, "nvml", time.time(), fault=fault)

    def _read(self) -> Inventory:
        session = self._open()
        count = _count()
        cards = {index: self._read_card(session, index) for index in range(count)}
        readable = {
            each.uuid for card in cards.values() if isinstance(card, tuple) for each in card
        }
        seen = {
            index: card if isinstance(card, tuple) else self._recall(index, card, readable)
            for index, card in cards.items()
        }
        self._last_seen = seen | self._vanished(count, readable)
        self._processes.forget_ended()
        return Inventory(self._all_seen(), "nvml", time.time(), note=session.driver)

    def _all_seen(self) -> tuple[Device, ...]:
        return told_apart(device for card in self._last_seen.values() for device in card)

    def _open(self) -> Session:
        if self._session is None or self._session.is_worn_out(self._retry_seconds):
            # NVML counts its users: without this, nvmlInit would keep what it knew of the driver.
            shut_down()
            self._session = None
            pynvml.nvmlInit()
            self._session = Session(driver_version())
        return self._session

    def _read_card(self, session: Session, index: int) -> tuple[Device, ...] | _Fault:
        """The devices of one GPU: itself or its slices; or why they cannot even be named."""
        try:
            return self._read_devices(session, index)
        except (pynvml.NVMLError, ValueError) as error:  # ValueError: bytes that are no text
            session.note(error)
            words = in_words("the GPU cannot be identified", error)
            return _Fault(words, needs_reset(error))

    def _read_devices(self, session: Session, index: int) -> tuple[Device, ...]:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        gpu = Device(
            uuid=check_name(pynvml.nvmlDeviceGetUUID(handle)),
            kind=DeviceKind.GPU,
            index=index,
            name=pynvml.nvmlDeviceGetName(handle),
        )
        if not is_sliced(handle):
            return (self._measure_gpu(Query(handle, session), gpu),)
        slices = tuple(self._read_slice(session, gpu, each) for each in slice_handles(handle))
        # CUDA refuses the whole GPU then; naming it beats a GPU that vanished from the list.
        return slices or (replace(gpu, fault="MIG mode is on and no MIG device has been created"),)

    def _read_slice(self, session: Session, gpu: Device, handle: Any) -> Device:
        query = Query(handle, session)
        device = replace(
            gpu,
            uuid=check_name(pynvml.nvmlDeviceGetUUID(handle)),
            kind=DeviceKind.MIG,
            name=query.ask("name", pynvml.nvmlDeviceGetName) or f"{gpu.name} MIG",
            parent_uuid=gpu.uuid,
        )
        instance = query.ask("GPU instance", pynvml.nvmlDeviceGetGpuInstanceId)
        return self._measure(query, device, instance)

    def _measure_gpu(self, query: Query, gpu: Device) -> Device:
        load = query.ask("utilisation", pynvml.nvmlDeviceGetUtilizationRates)
        milliwatts = query.ask("power", pynvml.nvmlDeviceGetPowerUsage)
        gpu = replace(
            gpu,
            utilization_percent=None if load is None else float(load.gpu),
            temperature_celsius=query.ask("temperature", read_temperature),
            power_watts=None if milliwatts is None else milliwatts / 1000,
        )
        return self._measure(query, gpu, None)

    def _measure(self, query: Query, device: Device, instance: int | None) -> Device:
        total, used = query.need("memory", read_memory) or (self._last_total(device), None)
        users = query.ask("processes", lambda handle: check_users(read_users(handle, instance)))
        return doubted(
            replace(
                device,
                total_memory_bytes=total,
                used_memory_bytes=used,
                processes=tuple(
                    self._processes.describe(pid, size) for pid, size in (users or {}).items()
                ),
                fault=query.fault,
                needs_reset=query.needs_reset,
            )
        )

    def _last_total(self, device: Device) -> int:
        seen = self._last_seen.get(device.index, ())
        return next((old.total_memory_bytes for old in seen if old.uuid == device.uuid), 0)

    def _vanished(self, count: int, readable: set[str]) -> dict[int, tuple[Device, ...]]:
        """What was seen and is not counted any more: people shall see that it is missing."""
        fault = _Fault("the driver does not count this GPU any more")
        return {
            index: self._recall(index, fault, readable)
            for index in self._last_seen
            if index >= count and any(old.uuid not in readable for old in self._last_seen[index])
        }

    def remember(self, devices: Iterable[Device]) -> None:
        """Devices that were seen by an earlier process, until they are read again."""
        for device in devices:
            at_index = self._last_seen.get(device.index, ())
            self._last_seen[device.index] = (*at_index, device)

    def _recall(self, index: int, fault: _Fault, readable: set[str]) -> tuple[Device, ...]:
        """What was last seen at this index, unless it now shows up at another one."""
        seen = [old for old in self._last_seen.get(index, ()) if old.uuid not in readable]
        unknown = Device(uuid=unidentified(index), kind=DeviceKind.GPU, index=index, name="unknown")
        return tuple(
            without_figures(device, fault.words, needs_reset=fault.needs_reset)
            for device in seen or [unknown]
        )


def _count() -> int:
    """How many GPUs there are. Raises NVMLError, and ValueError for a number that cannot be."""
    count = int(pynvml.nvmlDeviceGetCount())
    if count > MOST_GPUS:
        raise ValueError(f"the driver says that there are {count} GPUs")
    return count
