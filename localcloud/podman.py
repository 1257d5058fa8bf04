"""Podman as the local cloud calls it: one function, sentences for errors, and settings only where they are needed."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

#: What this repository builds and keeps: never committed, removed by `make clean`.
CACHE = Path(__file__).resolve().parent.parent / ".cache/lightsout"

#: Every container and network of a local cloud carries this label, with the cloud's name as its value.
LABEL = "localcloud"

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


def begin(*args: str) -> subprocess.Popen[str]:
    """Begin ``podman ARGS``, and read along what it prints.

    Raises:
        PodmanError: podman is missing.
    """
    return subprocess.Popen(
        ["podman", *args],
        env={**os.environ, **environment()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )


def containers_of(name: str) -> list[str]:
    """The ids of a cloud's containers, in whatever state."""
    return run("ps", "--all", "--quiet", "--filter", f"label={LABEL}={name}").split()


def remove_containers(name: str) -> int:
    """Remove a cloud's containers, their volumes and the images made of them; how many containers there were."""
    found = containers_of(name)
    if found:
        run("rm", "--force", "--time", "0", *found)
    # An image keeps the labels of the container that it was made of.
    if baked := run("images", "--all", "--quiet", "--filter", f"label={LABEL}={name}").split():
        run("rmi", "--force", *baked, check=False)
    if volumes := run("volume", "ls", "--quiet", "--filter", f"label={LABEL}={name}").split():
        run("volume", "rm", "--force", *volumes, check=False)
    return len(found)


def clouds() -> set[str]:
    """The names of all clouds, alive or dead, that have a container or a network on this computer."""
    containers = run("ps", "--all", "--filter", f"label={LABEL}", "--format", f'{{{{index .Labels "{LABEL}"}}}}')
    networks = run("network", "ls", "--format", "{{.Name}}").split()
    return {*containers.split(), *(name.removeprefix("localcloud-") for name in networks if is_ours(name))}


def is_ours(network: str) -> bool:
    """Whether a network of podman's is a local cloud's."""
    return network.startswith("localcloud-")


@functools.cache
def environment() -> dict[str, str]:
    """The variables that podman needs here: ``CONTAINERS_CONF`` where its own settings do not work, else none.

    To find out takes a container, so the answer is kept until podman, its settings or the running system change.

    Raises:
        PodmanError: podman is missing, or works with neither.
    """
    kept, signature = CACHE / "podman.json", _signature()
    try:
        answer = json.loads(kept.read_text())
        if answer["signature"] == signature and all(Path(path).exists() for path in answer["environment"].values()):
            return answer["environment"]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # nothing is kept yet, or nothing that can be used
    for candidate in ({}, {"CONTAINERS_CONF": str(_modest_settings())}):
        problem = _problem(candidate)
        if not problem:
            _replace(kept, json.dumps({"signature": signature, "environment": candidate}))
            return candidate
    raise PodmanError(f"podman cannot run a container on this machine: {problem}")


def rootful() -> bool:
    """Whether containers are started by root, so that they can have a network of their own."""
    return os.geteuid() == 0


def _signature() -> list[str]:
    """What the answer of `environment` hangs on: who asks, which system runs, podman and its settings files."""
    settings = os.environ.get("CONTAINERS_CONF", "")
    files = [shutil.which("podman"), "/etc/containers/containers.conf", settings, "/proc/sys/kernel/random/boot_id"]
    files += [str(Path.home() / ".config/containers/containers.conf")]
    signature = [str(os.geteuid()), settings]
    for file in files:
        try:
            status = Path(file or "-").stat()
            boot = Path(file).read_text().strip() if file.endswith("boot_id") else ""
            signature.append(boot or f"{file} {status.st_mtime_ns} {status.st_size}")
        except OSError:
            signature.append("")
    return signature


def _modest_settings() -> Path:
    """The file with ``MODEST_SETTINGS``."""
    path = CACHE / "containers.conf"
    if not path.exists() or path.read_text() != MODEST_SETTINGS:
        _replace(path, MODEST_SETTINGS)
    return path


def _replace(path: Path, text: str) -> None:
    """Write a file in one move: several processes may do it at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        file.write(text)
    Path(file.name).chmod(0o644)
    Path(file.name).rename(path)


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
