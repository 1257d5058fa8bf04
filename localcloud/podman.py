"""Podman as the local cloud calls it: one function, sentences for errors, and settings only where they are needed."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

#: What this repository builds and keeps: never committed, removed by `make clean`.
CACHE = Path(__file__).resolve().parent.parent / ".cache/lightsout"

#: Lets podman work where it may raise no limits and has cgroups of both versions, as in a container or a small virtual
#: machine: runc instead of crun, limits that are already there, no systemd for cgroups, no journal for events.
MODEST_SETTINGS = """\
# Written by localcloud/podman.py, because podman's own settings do not work on this machine.
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
pids_limit = 0
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


class PodmanError(Exception):
    """Podman is missing or said no; the text is one line for the reader."""


def run(*args: str, check: bool = True, input: str | None = None) -> str:
    """What ``podman ARGS`` prints.

    Args:
        args: the words after ``podman``.
        check: raise where podman fails; otherwise a failure is an empty or partial answer.
        input: text for its standard input.

    Raises:
        PodmanError: podman is missing, or failed and ``check`` is set.
    """
    done = _call(*args, environment=environment(), input=input)
    if check and done.returncode:
        raise PodmanError(f"podman {args[0]}: {_reason(done.stderr)}")
    return done.stdout


@functools.cache
def environment() -> dict[str, str]:
    """The variables that podman needs here: ``CONTAINERS_CONF`` where its own settings do not work, else none.

    Raises:
        PodmanError: podman is missing, or works with neither.
    """
    for candidate in ({}, {"CONTAINERS_CONF": str(_modest_settings())}):
        problem = _problem(candidate)
        if not problem:
            return candidate
    raise PodmanError(f"podman cannot run a container on this machine: {problem}")


def rootful() -> bool:
    """Whether containers are started by root, so that they can have a network of their own."""
    return os.geteuid() == 0


def _modest_settings() -> Path:
    """The file with ``MODEST_SETTINGS``."""
    path = CACHE / "containers.conf"
    if not path.exists() or path.read_text() != MODEST_SETTINGS:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(MODEST_SETTINGS)
    return path


def _problem(candidate: dict[str, str]) -> str:
    """Why podman cannot start a container with these variables; empty when it can.

    The container has an empty root, so that no image is needed: podman works when it gets as far as missing the
    command (exit status 127).
    """
    with tempfile.TemporaryDirectory() as nothing:
        done = _call("run", "--rm", "--network", "none", "--rootfs", nothing, "/nothing", environment=candidate)
    return "" if done.returncode == 127 else _reason(done.stderr)


def _call(*args: str, environment: dict[str, str], input: str | None = None) -> subprocess.CompletedProcess[str]:
    if shutil.which("podman") is None:
        raise PodmanError(
            "podman is not installed. Install it: sudo apt-get install podman (or run `make setup-local`)"
        )
    return subprocess.run(
        ["podman", *args], env={**os.environ, **environment}, input=input, capture_output=True, text=True, check=False
    )


def _reason(stderr: str) -> str:
    """Podman's last complaint, without its prefix."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1].removeprefix("Error: ") if lines else "it gave no reason"
