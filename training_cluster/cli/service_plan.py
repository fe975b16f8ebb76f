"""Works out what a unit has to say: which program, as whom, which folders, and whether it can."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import typer

from training_cluster.cli.systemd import ServiceRefused
from training_cluster.service_unit import Scope, Unit

OWN_USER = "training-cluster"
_ADD_USER = f"useradd --system --create-home --home-dir /var/lib/{OWN_USER} {OWN_USER}"
_SECONDS = 60


def plan_unit(
    scope: Scope,
    *,
    run_as: str | None,
    config: Path | None,
    writable: list[Path],
    serve_options: list[str],
) -> Unit:
    """The unit for these wishes. Raises ServiceRefused when it could not work."""
    flags = _checked(serve_options)
    program = _program()
    file = () if config is None else ("--config", str(config.absolute()))
    command = (*program, "serve", *file, *serve_options)
    account = _account(run_as) if scope is Scope.SYSTEM else pwd.getpwuid(os.getuid())
    settings = _settings_seen_by(account, (*program, "config", "show", "--json", *file))
    if scope is Scope.USER:
        return Unit(scope, command)
    folders = tuple(
        str(Path(flags.get(name) or settings[name]).absolute())
        for name in ("state_dir", "data_dir")
    )
    also = (account.pw_dir, *(str(path.absolute()) for path in writable))
    return Unit(scope, command, account.pw_name, folders, tuple(dict.fromkeys((*folders, *also))))


def make_folders(unit: Unit) -> None:
    """Make the folders that the service's sandbox lets it write to, for its user alone."""
    for folder in map(Path, unit.mounts):
        if not folder.exists():
            folder.mkdir(parents=True, mode=0o700)
            shutil.chown(folder, unit.user, pwd.getpwnam(unit.user or "root").pw_gid)


def _checked(options: list[str]) -> dict[str, Any]:
    """What these options of `serve` say. Raises a usage error when `serve` would not take them."""
    from training_cluster.cli.main import build

    tree: Any = typer.main.get_command(build(("serve",)))
    context = tree.commands["serve"].make_context("serve", list(options))
    if context.params.get("config") is not None:
        raise ServiceRefused("name the settings file before `--`: --config FILE")
    return dict(context.params)


def _program() -> tuple[str, ...]:
    """This program by an absolute path that an upgrade keeps."""
    beside = Path(sys.executable).parent / "training-cluster"
    if os.access(beside, os.X_OK):
        return (str(beside),)
    return (sys.executable, "-m", "training_cluster")


def _account(run_as: str | None) -> pwd.struct_passwd:
    """Who runs the service: who is named, the user of its own, or who asks; never root unasked."""
    for name in (run_as, OWN_USER, os.environ.get("SUDO_USER"), _own_name()):
        account = _find(name)
        if account is not None and (name == run_as or account.pw_uid != 0):
            return account
        if name is not None and name == run_as:
            raise ServiceRefused(f"there is no user {name}", hint=f"make one: {_ADD_USER}")
    raise ServiceRefused(
        "the service would run as root, and whatever a job runs with it",
        hint=f"make a user for it: {_ADD_USER}; or name one with --as",
    )


def _find(name: str | None) -> pwd.struct_passwd | None:
    try:
        return None if name is None else pwd.getpwnam(name)
    except KeyError:
        return None


def _own_name() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def _settings_seen_by(account: pwd.struct_passwd, command: tuple[str, ...]) -> dict[str, Any]:
    """The settings as the service will read them: by its program, its user, its environment."""
    if not Path(account.pw_dir).is_dir():
        hint = "give the user a home: models and caches go there"
        raise ServiceRefused(f"{account.pw_name}'s home {account.pw_dir} is missing", hint=hint)
    other = os.geteuid() == 0 and account.pw_uid != 0
    who: dict[str, Any] = {}
    if other:
        groups = os.getgrouplist(account.pw_name, account.pw_gid)
        who = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": groups}
    environment = {"HOME": account.pw_dir, "PATH": os.defpath, "USER": account.pw_name}
    try:
        done = subprocess.run(
            command, env=environment, cwd="/", capture_output=True, text=True, timeout=_SECONDS,
            check=False, **who,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServiceRefused(
            f"{account.pw_name} cannot run {command[0]}: {error}",
            hint="install the program where that user can read it, e.g. in a venv below /opt",
        ) from error
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["it ends without a word"])[0]
        raise ServiceRefused(
            f"as {account.pw_name}, `{' '.join(command)}` fails: {why.removeprefix('error: ')}"
        )
    return dict(json.loads(done.stdout)["settings"])
