"""A fake NVIDIA driver: our own libnvidia-ml.so.1 under the real pynvml, told what to say by files.

`FakeNvml(directory)` is the remote control. Processes started with its `environment()` see the GPUs
it describes, at once and while they run; processes started without it are not touched.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from . import claim
from .library import library_directory

GIB = 1024**3
MIB = 1024**2

UNINITIALIZED = 1
NOT_SUPPORTED = 3
NO_PERMISSION = 4
DRIVER_NOT_LOADED = 9
TIMEOUT = 10
FUNCTION_NOT_FOUND = 13
GPU_IS_LOST = 15
VERSION_MISMATCH = 18
ARGUMENT_VERSION_MISMATCH = 25
UNKNOWN = 999

NO_SUCH_PID = 2**22 + 1  # above the kernel's PID_MAX_LIMIT, so it never names a process

CALLS_ABOUT_ONE_GPU = (
    "nvmlDeviceGetHandleByIndex_v2",
    "nvmlDeviceGetUUID",
    "nvmlDeviceGetName",
    "nvmlDeviceGetMigMode",
    "nvmlDeviceGetMemoryInfo_v2",
    "nvmlDeviceGetUtilizationRates",
    "nvmlDeviceGetTemperatureV",
    "nvmlDeviceGetPowerUsage",
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetGraphicsRunningProcesses_v3",
)


@dataclass(frozen=True, slots=True)
class FakeSlice:
    """A MIG slice; without memory it is an empty slot."""

    uuid: str
    gpu_instance: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeGpu:
    """One GPU as the fake driver reports it; figures of -1 are not supported. `hidden` is memory in
    use by nobody who can be seen."""

    uuid: str
    name: str
    total: int
    reserved: int
    hidden: int = 0
    utilization: int = 0
    temperature: int = 35
    milliwatts: int = 70_000
    mig: bool = False
    lost: bool = False
    slices: tuple[FakeSlice, ...] = ()


@dataclass(slots=True)
class FakeNvml:
    """The driver that processes with `environment()` see. Every method takes effect at once."""

    directory: Path
    driver: str = "580.65.06"
    _generation: int = 0
    _gpus: dict[int, FakeGpu] = field(default_factory=dict)
    _processes: list[tuple[object, ...]] = field(default_factory=list)
    _injections: list[tuple[object, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.directory / "claims").mkdir(parents=True, exist_ok=True)
        self._write()

    def environment(self) -> dict[str, str]:
        """The variables that make a process see this driver; add them to its environment."""
        inherited = os.environ.get("LD_LIBRARY_PATH")
        folders = [str(library_directory()), *([inherited] if inherited else [])]
        return {"LD_LIBRARY_PATH": ":".join(folders), "FAKE_NVML_DIR": str(self.directory)}

    @property
    def trainer_snippet(self) -> str:
        """Source that gives a fake trainer `claim_gpu_memory(mib)`, on the devices that
        CUDA_VISIBLE_DEVICES names; it needs nothing else from the environment."""
        source = Path(claim.__file__).read_text().replace("from __future__ import annotations", "")
        return (
            f"{source}\nfrom functools import partial\n"
            f"claim_gpu_memory = partial(claim_gpu_memory, state_dir={str(self.directory)!r})\n"
        )

    def start_trainer(self, devices: str, mib: int) -> subprocess.Popen[bytes]:
        """A process that uses memory on each of `devices` (as in CUDA_VISIBLE_DEVICES) and idles
        until it is killed or its stdin closes; returned once it has its memory."""
        program = f"{self.trainer_snippet}\nclaim_gpu_memory({mib})\nprint(flush=True)\ninput()"
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            env={"CUDA_VISIBLE_DEVICES": devices},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdout
        assert process.stdout.readline() == b"\n", "the fake trainer could not claim its memory"
        return process

    def gpus(
        self,
        count: int,
        *,
        total_gib: int = 80,
        reserved_mib: int = 600,
        name: str = "NVIDIA H100 80GB HBM3",
    ) -> None:
        """The machine has `count` idle GPUs, and nothing runs or fails on them."""
        self._gpus = {
            index: FakeGpu(
                uuid=f"GPU-{index:08x}-5eed-4dad-9c0d-{index:012x}",
                name=name,
                total=total_gib * GIB,
                reserved=reserved_mib * MIB,
            )
            for index in range(count)
        }
        self._processes, self._injections = [], []
        self._write()

    def change(self, gpu: int, **figures: Any) -> None:
        """Set fields of one GPU: utilization, temperature, milliwatts, uuid, name, total, ..."""
        self._gpus[gpu] = replace(self._gpus[gpu], **figures)
        self._write()

    def uuid(self, gpu: int, slot: int | None = None) -> str:
        """The UUID of a GPU, or of one of its MIG slices."""
        return self._gpus[gpu].uuid if slot is None else self._gpus[gpu].slices[slot].uuid

    def mig(self, gpu: int, *slices_gib: int) -> None:
        """Turn MIG mode on; one slice for each size, with GPU instance ids from 7 upwards. A size
        of 0 leaves that slot empty."""
        slices = tuple(
            FakeSlice(f"MIG-{gpu:08x}-{slot:04x}-5111-8ced-{gpu:012x}", 7 + slot, size * GIB)
            for slot, size in enumerate(slices_gib)
        )
        self.change(gpu, mig=True, slices=slices)

    def process(
        self, gpu: int, pid: int, mib: int, *, slot: int = -1, kinds: str = "compute"
    ) -> None:
        """Somebody's process uses memory, whether the pid exists or not. `kinds` is compute,
        graphics or both, as `compute,graphics`; mib -1 is a figure the driver does not give."""
        letters = "".join(kind[0] for kind in kinds.split(","))
        size = 2**64 - 1 if mib < 0 else mib * MIB
        self._processes.append(("process", gpu, slot, pid, size, letters))
        self._write()

    def no_processes(self) -> None:
        """All processes added by `process` are gone."""
        self._processes.clear()
        self._write()

    def claim(self, gpu: int, pid: int, mib: int) -> None:
        """A living process uses memory until it ends; what a fake trainer does by itself."""
        claim.claim_gpu_memory(mib, str(gpu), str(self.directory), pid)

    def hidden_memory(self, gpu: int, mib: int) -> None:
        """Memory is in use and no process is reported for it."""
        self.change(gpu, hidden=mib * MIB)

    def fail(self, function: str, code: int, gpu: int | None = None) -> None:
        """Calls of an NVML function (its C name; `*` for all) return an error code."""
        self._inject("error", function, gpu, code)

    def delay(self, function: str, seconds: float, gpu: int | None = None) -> None:
        """Calls of an NVML function hang for a while."""
        self._inject("delay", function, gpu, round(seconds * 1000))

    def crash(self, function: str, gpu: int | None = None) -> None:
        """Calls of an NVML function end the calling process by SIGSEGV."""
        self._inject("crash", function, gpu, 0)

    def garble(self, function: str, gpu: int | None = None, byte: int = 0xA5) -> None:
        """Calls of an NVML function succeed and answer with that byte all over. A list of
        processes is overwritten where there are any; handles and slices stay what they are: a
        wrong address is a crash."""
        self._inject("garbage", function, gpu, byte)

    def heal(self) -> None:
        """Undo `fail`, `delay`, `crash`, `garble` and `lose`. As with a real driver, a process that
        met a lost GPU sees it again only after initialising NVML anew."""
        self._injections.clear()
        self._gpus = {index: replace(gpu, lost=False) for index, gpu in self._gpus.items()}
        self._write()

    def lose(self, gpu: int) -> None:
        """A GPU falls off the bus: every call about it says so."""
        self.change(gpu, lost=True)

    def reload_driver(self, version: str | None = None) -> None:
        """The driver is unloaded and loaded again: processes must initialise NVML anew."""
        self.driver = version or self.driver
        self._generation += 1
        self._write()

    def _inject(self, kind: str, function: str, gpu: int | None, value: int) -> None:
        self._injections.append((kind, function, -1 if gpu is None else gpu, value))
        self._write()

    def _facts(self) -> Iterator[tuple[object, ...]]:
        yield "driver", self.driver, self._generation
        for index, gpu in self._gpus.items():
            yield (
                *("gpu", index, gpu.uuid, gpu.name, gpu.total, gpu.reserved, gpu.hidden),
                *(gpu.utilization, gpu.temperature, gpu.milliwatts, int(gpu.mig), int(gpu.lost)),
            )
            for slot, part in enumerate(gpu.slices):
                if part.total:
                    yield "slice", index, slot, part.uuid, part.gpu_instance, part.total
        yield from self._processes
        yield from self._injections

    def _write(self) -> None:
        lines = ("\t".join(map(str, fact)) for fact in self._facts())
        fresh = self.directory / f"state.{os.getpid()}"
        fresh.write_text("".join(f"{line}\n" for line in lines))
        fresh.replace(self.directory / "state")
