"""The doctor's examinations of trust: who gets in, who can read the queue, is it kept running."""

from __future__ import annotations

import ipaddress
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path

from training_cluster.cli.finding import Finding, ok, warn
from training_cluster.cli.systemd import ServiceRefused, Systemd
from training_cluster.service_unit import Scope
from training_cluster.settings import Settings

_INSTALL = "training-cluster service install"


def examine_trust(settings: Settings) -> Iterator[Finding]:
    """Access, the privacy of the state directory, the clock, the service."""
    yield _access(settings)
    yield from _named_users(settings)
    yield from _privacy(settings.state_dir)
    yield from _clock()
    yield from _service()


def _access(settings: Settings) -> Finding:
    where = f"{settings.host}:{settings.port}"
    if settings.auth == "open":
        who = "every user of this machine" if _is_loopback(settings.host) else "whoever reaches it"
        detail = f'auth is "open": at {where} {who} may submit jobs and read those of others'
        return warn("access", detail, 'set auth to "local" and hand out tokens')
    tunnel = f", a token always at {settings.tunnel}" if settings.tunnel else ""
    return ok("access", f"at {where} users of this machine, others with a token{tunnel}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _named_users(settings: Settings) -> Iterator[Finding]:
    """Users the settings name by name: one that is not there protects nobody."""
    misses = {
        "never_local": "whom it is meant for needs no token",
        "admins": "whoever gets that name will be an admin",
    }
    for setting, consequence in misses.items():
        for name in getattr(settings, setting):
            if not _is_user(name):
                why = f"{name} is no user of this machine: {consequence}"
                yield warn(setting, why, "correct the name")


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _privacy(state_dir: Path) -> Iterator[Finding]:
    try:
        mode = state_dir.stat().st_mode & 0o777
    except OSError:
        return
    if mode & 0o077:
        detail = f"{state_dir} has mode {mode:04o}: others can look into the queue and its logs"
        yield warn("privacy", detail, f"chmod 700 {state_dir}")
    else:
        yield ok("privacy", f"only its owner can look into {state_dir}")


def _clock() -> Iterator[Finding]:
    try:
        done = subprocess.run(
            ["timedatectl", "show", "--property=NTPSynchronized", "--value"],  # noqa: S607
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return
    if done.stdout.strip() == "no":
        why = "it is not synchronised: tokens end and signatures of webhooks count by it"
        yield warn("clock", why, "timedatectl set-ntp true")


def _service() -> Iterator[Finding]:
    for scope in Scope:
        manager = Systemd(scope)
        try:
            unit = manager.installed()
            if unit is None:
                continue
            if not manager.is_up_to_date(unit):
                why = f"{manager.file} is not what this version would write"
                yield warn("service", why, f"run `{_INSTALL}` with the same options as before")
                continue
            state = manager.state().get("ActiveState", "unknown")
        except (OSError, ServiceRefused) as error:
            yield warn("service", str(error), "see `training-cluster service status`")
            continue
        if state == "active":
            yield ok("service", f"{manager.file}: {state}")
        else:
            yield warn("service", f"{manager.file}: {state}", manager.log_command)
