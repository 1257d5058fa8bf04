"""What tests share: one local cloud for the whole session, with a name and a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from localcloud import podman
from localcloud.running import client, environment

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Cloud:
    """A running local cloud.

    Attributes:
        env: the variables that point AWS tools at it.
        settings: its file of extra variables, for ``-e @``.
    """

    name: str
    state_dir: Path
    env: dict[str, str]

    @property
    def endpoint(self) -> str:
        """The URL of its API."""
        return self.env["AWS_ENDPOINT_URL"]

    @property
    def settings(self) -> Path:
        """Extra variables for playbooks."""
        return self.state_dir / "settings.yml"

    def client(self, service: str):
        """A boto3 client of this cloud."""
        return client(self.env, service)

    def containers(self) -> list[str]:
        """The names of its containers, in whatever state."""
        label = f"label=localcloud={self.name}"
        return podman.run("ps", "--all", "--filter", label, "--format", "{{.Names}}").split()


def localcloud(*words: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Run ``python -m localcloud`` with these words."""
    command = [sys.executable, "-m", "localcloud", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)


def start_cloud(name: str, state_dir: Path, *words: str) -> Cloud:
    """Start a local cloud; fails with its own words where it cannot."""
    done = localcloud("start", "--name", name, "--state-dir", str(state_dir), "--port", "0", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return Cloud(name, state_dir, environment(state_dir))


@pytest.fixture(scope="session")
def cloud(tmp_path_factory) -> Iterator[Cloud]:
    """A local cloud that ends with the tests, and leaves no container."""
    name = f"test-{os.getpid()}"
    running = start_cloud(name, tmp_path_factory.mktemp("cloud"))
    yield running
    done = localcloud("stop", "--state-dir", str(running.state_dir))
    assert done.returncode == 0, done.stdout + done.stderr
    assert running.containers() == []
