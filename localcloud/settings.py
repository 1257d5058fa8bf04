"""Where a local cloud keeps its things, and what it is called."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent

#: The keys that the local cloud hands out. Its API takes any; these cannot be mistaken for real ones.
ACCESS_KEY = "LOCALCLOUDACCESSKEY0"
SECRET_KEY = "local-cloud-only-no-real-secret"  # noqa: S105
REGION = "us-east-1"


class CloudError(Exception):
    """The local cloud cannot do what was asked; the text is one line for the reader."""


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

    def write_files(self, variables: dict[str, str]) -> None:
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
        (self.state_dir / "cloud.json").write_text(json.dumps(record))


def recorded(state_dir: Path) -> dict[str, str | int]:
    """What a cloud with this state directory last wrote about itself; empty when there is none."""
    try:
        return json.loads((state_dir / "cloud.json").read_text())
    except (OSError, ValueError):
        return {}


def take_lock(path: Path) -> IO[str] | None:
    """An open file that holds the lock as long as it is open (and its process lives), or None where another has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def name_lock(name: str) -> Path:
    """One lock for each name on this computer: containers and networks carry the name, not the folder."""
    return Path(os.environ.get("XDG_RUNTIME_DIR", "/tmp")) / f"localcloud-{os.getuid()}-{name}.lock"  # noqa: S108
