"""Where a local cloud keeps its things, and what it is called."""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent

#: The keys that the local cloud hands out. Its API takes any; these cannot be mistaken for real ones.
ACCESS_KEY = "LOCALCLOUDACCESSKEY0"
SECRET_KEY = "local-cloud-only-no-real-secret"  # noqa: S105
REGION = "us-east-1"
#: The account that everybody is in; moto's own.
ACCOUNT = "123456789012"


class CloudError(Exception):
    """The local cloud cannot do what was asked; the text is one line for the reader."""


def log(*words: object) -> None:
    """A line in the cloud's log."""
    print(time.strftime("%H:%M:%S"), *words, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Settings:
    """One local cloud.

    Attributes:
        name: labels its containers and names its network; two clouds at once need two names.
        state_dir: holds lock, log, environment and settings files, and the seeds of its machines.
        port: TCP port of its API, on 127.0.0.1 and on the address that its machines see.
        network: ``bridge`` (machines have addresses of their own; needs root) or ``forward`` (loopback addresses).
    """

    name: str
    state_dir: Path
    port: int
    network: str

    @property
    def endpoint(self) -> str:
        """The URL for ``AWS_ENDPOINT_URL``."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """What the running cloud writes."""
        return self.state_dir / "log"

    @property
    def seeds(self) -> Path:
        """A folder for each machine: cloud-init's seed, and what is mounted into it."""
        return self.state_dir / "machines"

    def environment(self) -> dict[str, str]:
        """The variables that point AWS tools at this cloud, and at nothing else."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def __post_init__(self) -> None:
        """The name becomes part of container, network and host names."""
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,30}", self.name):
            raise CloudError(f"name: '{self.name}' must be 1 to 31 lower-case letters, digits and hyphens")

    def write_files(self, variables: dict[str, str | bool]) -> None:
        """Write ``env`` (for the shell) and ``settings.yml`` (for ``ansible-playbook -e @``)."""
        lines = [f"export {key}={value}" for key, value in self.environment().items()]
        (self.state_dir / "env").write_text("\n".join(lines) + "\n")
        # JSON is YAML; nothing to quote wrongly.
        yaml = "".join(f"{key}: {json.dumps(value)}\n" for key, value in variables.items())
        (self.state_dir / "settings.yml").write_text(
            "---\n# Written by the local cloud: what a place without the internet must be told.\n" + yaml
        )

    def remember(self, pid: int) -> None:
        """Write down what `stop` and `status` need to know."""
        record = {"pid": pid, "name": self.name, "port": self.port, "network": self.network}
        new = self.state_dir / "cloud.json.new"
        new.write_text(json.dumps(record))
        new.rename(self.state_dir / "cloud.json")  # whoever reads it finds all of it


def recorded(state_dir: Path) -> dict[str, str | int]:
    """What a cloud with this state directory last wrote about itself; empty when there is none."""
    try:
        return json.loads((state_dir / "cloud.json").read_text())
    except (OSError, ValueError):
        return {}


def take_lock(path: Path) -> IO[str] | None:
    """An open file that holds the lock as long as it is open (and its process lives), or None where another has it.

    The file names the process that has the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def holder(path: Path) -> int | None:
    """The process that holds a lock; None where nobody does."""
    lock = take_lock(path)
    if lock is not None:
        lock.close()
        return None
    for _ in range(50):  # who has just taken it may not have signed yet
        if text := path.read_text():
            return int(text)
        time.sleep(0.02)
    raise CloudError(f"somebody holds {path} and does not say who: end that process first")


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def claim(what: str) -> socket.socket | None:
    """Take something of which this computer has one for each user; None where another process has it.

    Containers and networks carry a cloud's name, not its folder. The claim ends with the process, and leaves no file.
    """
    mark = socket.socket(socket.AF_UNIX)
    try:
        mark.bind(f"\0localcloud-{os.getuid()}-{what}")
    except OSError:
        mark.close()
        return None
    return mark
