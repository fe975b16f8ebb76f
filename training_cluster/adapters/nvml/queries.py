"""Asks NVML: one session with the driver, the figures of one device, failures put into words."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pynvml

T = TypeVar("T")
Call = Callable[[Any], T]

_NO_INSTANCE = 0xFFFFFFFF  # NVML's "not in a MIG instance"

# What this GPU or this driver does not have, as opposed to what failed.
_ABSENT = frozenset({pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND})
_OUTDATED = _ABSENT | {pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH}

# A GPU that was reset or came back is seen only by a new NVML session; a session that NVML itself
# calls uninitialised is void.
_VOID = pynvml.NVML_ERROR_UNINITIALIZED
_NEEDS_SESSION = frozenset(
    {
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_GPU_IS_LOST,
        pynvml.NVML_ERROR_RESET_REQUIRED,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
        pynvml.NVML_ERROR_UNKNOWN,
    }
)

_NEEDS_RESET = frozenset({pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED})


@dataclass(slots=True)
class Session:
    """One nvmlInit, with the errors that tell whether it should be replaced."""

    driver: str | None
    started_at: float = field(default_factory=time.monotonic)
    is_void: bool = False
    is_doubtful: bool = False

    def note(self, error: Exception) -> None:
        """Remember what an error says about the session."""
        code = getattr(error, "value", None)
        self.is_void |= code == _VOID
        self.is_doubtful |= code in _NEEDS_SESSION

    def is_worn_out(self, retry_seconds: float) -> bool:
        """True when the next reading should start a new session."""
        age = time.monotonic() - self.started_at
        return self.is_void or (self.is_doubtful and age >= retry_seconds)


@dataclass(slots=True)
class Query:
    """Asks about one device and keeps the first failure in words."""

    handle: Any
    session: Session
    fault: str | None = None
    needs_reset: bool = False

    def ask(self, figure: str, call: Call[T]) -> T | None:
        """A figure that some devices do not have: then it is None."""
        return self._call(figure, call, _ABSENT)

    def need(self, figure: str, call: Call[T]) -> T | None:
        """A figure without which the device cannot be judged."""
        return self._call(figure, call, frozenset())

    def _call(self, figure: str, call: Call[T], absent: frozenset[int]) -> T | None:
        try:
            return call(self.handle)
        except (pynvml.NVMLError, ValueError) as error:
            if getattr(error, "value", None) not in absent:
                self.session.note(error)
                self.fault = self.fault or in_words(f"{figure} cannot be read", error)
                self.needs_reset |= needs_reset(error)
            return None


def is_sliced(handle: Any) -> bool:
    """True when MIG mode is on. Raises NVMLError, and ValueError for a mode that cannot be."""
    try:
        current, _pending = pynvml.nvmlDeviceGetMigMode(handle)
    except pynvml.NVMLError as error:
        if error.value in _ABSENT:
            return False
        raise
    if current not in (pynvml.NVML_DEVICE_MIG_DISABLE, pynvml.NVML_DEVICE_MIG_ENABLE):
        raise ValueError(f"the driver says that its MIG mode is {current}")
    return bool(current == pynvml.NVML_DEVICE_MIG_ENABLE)


def slice_handles(handle: Any) -> Iterator[Any]:
    """The handles of the MIG devices of a GPU."""
    for slot in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            yield pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, slot)
        except pynvml.NVMLError as error:
            if error.value != pynvml.NVML_ERROR_NOT_FOUND:  # an empty slot
                raise


def read_memory(handle: Any) -> tuple[int, int]:
    """Total and used bytes. Version 1 counts the driver's reserve as used since driver 510, which
    is also the first that knows version 2."""
    info = _newest(
        handle,
        lambda handle: pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2),
        pynvml.nvmlDeviceGetMemoryInfo,
    )
    return info.total, info.used


def read_temperature(handle: Any) -> float:
    """Degrees Celsius of the GPU itself."""
    sensor = pynvml.NVML_TEMPERATURE_GPU
    celsius = _newest(
        handle,
        lambda handle: pynvml.nvmlDeviceGetTemperatureV(handle, sensor),
        lambda handle: pynvml.nvmlDeviceGetTemperature(handle, sensor),
    )
    return float(celsius)


def read_users(handle: Any, instance: int | None) -> dict[int, int | None]:
    """Bytes by pid, of one GPU instance if it is named. A program that computes and draws is listed
    twice with the same figure."""
    users: dict[int, int | None] = {}
    for kind in ("Compute", "Graphics"):
        for user in _running(handle, kind):
            if instance is None or user.gpuInstanceId in (instance, _NO_INSTANCE):
                size = user.usedGpuMemory
                users[user.pid] = users.get(user.pid) if size is None else size
    return users


def _running(handle: Any, kind: str, tries: int = 3) -> list[Any]:
    name = f"nvmlDeviceGet{kind}RunningProcesses"
    calls = (getattr(pynvml, f"{name}_v3"), getattr(pynvml, f"{name}_v2"))
    for left in reversed(range(tries)):
        try:
            return list(_newest(handle, *calls))
        except pynvml.NVMLError as error:
            if error.value in (*_ABSENT, pynvml.NVML_ERROR_NO_PERMISSION):
                return []
            # More processes started between asking for their number and asking for them.
            if error.value != pynvml.NVML_ERROR_INSUFFICIENT_SIZE or not left:
                raise
    return []


def _newest(handle: Any, newest: Call[T], older: Call[T]) -> T:
    try:
        return newest(handle)
    except pynvml.NVMLError as error:
        if error.value not in _OUTDATED:
            raise
    return older(handle)


def needs_reset(error: Exception) -> bool:
    """True where the card is of no use until it is reset (Xid 79, uncorrectable memory errors)."""
    return getattr(error, "value", None) in _NEEDS_RESET


def driver_version() -> str | None:
    """For people; None if the driver does not say."""
    try:
        return f"NVIDIA driver {pynvml.nvmlSystemGetDriverVersion()}"
    except (pynvml.NVMLError, ValueError):
        return None


def shut_down() -> None:
    """Let go of NVML, whether or not it was initialised."""
    with contextlib.suppress(pynvml.NVMLError):
        pynvml.nvmlShutdown()


def in_words(what: str, error: Exception) -> str:
    """What failed and what NVML says about it."""
    code = getattr(error, "value", None)
    detail = str(error).rstrip(".") or type(error).__name__
    return f"{what}: {detail}" + (f" (NVML error {code})" if code is not None else "")
