"""A local cloud for as long as a tool, a test or a benchmark needs it."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3

from localcloud.settings import ROOT


def environment(state_dir: Path) -> dict[str, str]:
    """What the file ``env`` of a running cloud sets, for whoever is not a shell."""
    words = shlex.split((state_dir / "env").read_text().replace("export ", ""))
    return dict(word.split("=", 1) for word in words)


def client(env: Mapping[str, str], service: str) -> Any:
    """The boto3 client of a service, on the cloud that these variables point at."""
    return boto3.client(
        service,
        endpoint_url=env["AWS_ENDPOINT_URL"],
        region_name=env["AWS_REGION"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
    )


@contextlib.contextmanager
def running(name: str, state_dir: Path) -> Iterator[dict[str, str]]:
    """A cloud with a port of its own; the variables that point at it."""
    words = [sys.executable, "-m", "localcloud"]
    state = ["--state-dir", str(state_dir)]
    subprocess.run([*words, "start", "--name", name, "--port", "0", *state], cwd=ROOT, check=True)
    try:
        yield environment(state_dir)
    finally:
        subprocess.run([*words, "stop", *state], cwd=ROOT, check=False)
