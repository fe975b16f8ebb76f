"""How a fake trainer comes to use GPU memory; standard library only, may be pasted into a program.

The claim is a file named after device and pid. It counts while this very process lives, so killing
the process frees the memory, as with a real driver.
"""

from __future__ import annotations

import os
from pathlib import Path


def claim_gpu_memory(
    mib: int, devices: str | None = None, state_dir: str | None = None, pid: int | None = None
) -> None:
    """Use `mib` MiB on each of `devices`, the words of CUDA_VISIBLE_DEVICES (its value if None).
    Claiming again replaces what was claimed before; 0 gives it back."""
    if devices is None:
        devices = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    claims = Path(state_dir or os.environ["FAKE_NVML_DIR"]) / "claims"
    pid = os.getpid() if pid is None else pid
    start = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    for device in filter(None, (word.strip() for word in devices.split(","))):
        fresh = claims.parent / f"claim.{device}.{pid}"
        fresh.write_text(f"{mib * 1024**2} {start}\n")
        fresh.replace(claims / f"{device}.{pid}")
