"""A real systemd of our own, in namespaces of this machine: the unit is tried, not only read.

It sees this machine's files but changes none, and has a user `training-cluster` of its own. It
takes root to make one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.daemon_process import ROOT, eventually

ASKED_FOR = "TRAINING_CLUSTER_TEST_SYSTEMD"
PROGRAM = Path("/lib/systemd/systemd")
HOME = "/var/lib/training-cluster"
_UID = 64123
_PLACES = (str(ROOT), sys.prefix, sys.base_prefix)
_UNITS = ("test", "sysinit", "basic", "multi-user", "shutdown", "umount", "network")
# Nothing of this reaches the machine: all files are an overlay over its own, kept in memory, and
# of its units and generators none is there, or they would set the machine up as at its start.
_BOOT = """
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs /run
cd /run
mkdir upper work root
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
cd root
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 none sys/fs/cgroup
mount -t tmpfs -o mode=0755 tmpfs dev
for name in null zero full random urandom tty; do cp -a /dev/$name dev/; done
mkdir dev/shm
mount -t tmpfs -o mode=1777 tmpfs dev/shm
for name in run tmp var/tmp etc/systemd/system usr/lib/systemd/system \\
  usr/lib/systemd/system-generators; do mount -t tmpfs tmpfs $name; done
chmod 1777 tmp var/tmp
for name in {units}; do
  printf '[Unit]\\nDescription=%s\\n' $name >usr/lib/systemd/system/$name.target
done
echo 'training-cluster:x:{uid}:{uid}::{home}:/bin/sh' >>etc/passwd
echo 'training-cluster:x:{uid}:' >>etc/group
mkdir -p .{home}
chown {uid}:{uid} .{home}
for folder in {ways}; do chmod a+rx .$folder; done
pivot_root . mnt
umount -l /mnt
cd /
# whatever went wrong above: no systemd over the machine's own files
test "$(stat -f -c %T /)" = overlayfs
test "$(stat -f -c %T /tmp)" = tmpfs
export container=test
exec setpriv --bounding-set -sys_time,-sys_module,-sys_rawio,-syslog \\
  {program} --system --unit=test.target --log-target=console --show-status=0
"""


def why_not() -> str | None:
    """Why there can be none here; None when there can.

    It is asked for by name: whoever runs all tests as root has not agreed to boot a systemd."""
    if not os.environ.get(ASKED_FOR):
        return f"boots a systemd in namespaces of this machine: asked for with {ASKED_FOR}=1"
    if os.geteuid() != 0:
        return "it takes root to run a systemd of our own"
    if not PROGRAM.exists() or not all(map(shutil.which, ("unshare", "nsenter", "setpriv"))):
        return "systemd, unshare, nsenter or setpriv is not installed"
    device = os.stat("/").st_dev
    if any(os.stat(place).st_dev != device for place in _PLACES):
        return "this checkout does not lie on the root file system"
    return None


class PrivateSystemd:
    """Runs commands beside the systemd whose process is `pid`."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def run(self, *words: str, check: bool = True) -> str:
        """Run a command as root in its namespaces; returns all that it prints."""
        done = subprocess.run(
            ["nsenter", "-t", str(self._pid), "-a", *words],
            capture_output=True, text=True, timeout=120, check=False,
            env={"PATH": os.environ["PATH"], "HOME": "/root"},
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def property(self, name: str) -> str:
        """A property of the service."""
        return self.run("systemctl", "show", "training-cluster", f"-P{name}").strip()

    def training_cluster(self, *words: str, check: bool = True) -> str:
        """Run our program in there."""
        return self.run(str(Path(sys.executable).parent / "training-cluster"), *words, check=check)


@contextlib.contextmanager
def private_systemd(log: Path) -> Iterator[PrivateSystemd]:
    """A systemd that is up; everything in it ends with it."""
    script = _BOOT.format(
        uid=_UID, home=HOME, program=PROGRAM, units=" ".join(_UNITS), ways=" ".join(_ways())
    )
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                "unshare", "--mount", "--pid", "--fork", "--kill-child", "--cgroup", "--uts",
                "--ipc", "sh", "-c", script,
            ],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=ROOT,
            preexec_fn=_own_cgroup,
        )  # fmt: skip
    try:
        systemd = PrivateSystemd(eventually(lambda: _child(process, log), 20))
        eventually(lambda: "running" in systemd.run("systemctl", "is-system-running", check=False))
        yield systemd
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        eventually(_remove_cgroups)


def _ways() -> list[str]:
    """The folders on the way to our program, which may lie where only root can go."""
    return sorted({str(folder) for place in _PLACES for folder in Path(place).parents} - {"/"})


def _child(process: subprocess.Popen[bytes], log: Path) -> int | None:
    assert process.poll() is None, log.read_text()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for pid in map(int, children):
        if Path(f"/proc/{pid}/comm").read_text().strip() == "systemd":
            return pid
    return None


def _cgroup() -> Path:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind = line.split()[:3]
        if kind == "cgroup2":
            return Path(where) / f"training-cluster-test-{os.getuid()}"
    raise AssertionError("there is no cgroup2")


def _own_cgroup() -> None:
    folder = _cgroup()
    folder.mkdir(exist_ok=True)
    (folder / "cgroup.procs").write_text("0")


def _remove_cgroups() -> bool:
    folder = _cgroup()
    with contextlib.suppress(OSError):
        for below in sorted(folder.rglob("*"), key=lambda path: -len(path.parts)):
            if below.is_dir():
                below.rmdir()
        folder.rmdir()
    return not folder.exists()
