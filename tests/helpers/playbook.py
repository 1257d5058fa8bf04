"""Runs playbooks the way a user does, and reads what they say."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

RECAP = re.compile(r"^(\S+)\s+: ok=(\d+) changed=(\d+) unreachable=(\d+) failed=(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """One finished ``ansible-playbook``."""

    command: list[str]
    returncode: int
    output: str

    @property
    def changed(self) -> dict[str, int]:
        """The number of changed tasks of each host, from the recap."""
        return {host: int(changed) for host, _ok, changed, _unreachable, _failed in RECAP.findall(self.output)}

    @property
    def failures(self) -> list[str]:
        """The lines that tell of a failure."""
        return [line.strip() for line in self.output.splitlines() if line.strip().startswith("✗")]


def play(
    name: str,
    env: Mapping[str, str],
    *arguments: str,
    settings: Path | None = None,
    cwd: Path = ROOT,
    timeout: float = 600,
    expect: int | None = 0,
    **variables: Any,
) -> Run:
    """Run ``playbooks/<name>.yml``.

    Args:
        name: the playbook's verb, or a path that ends in ``.yml``, or an FQCN.
        env: variables added to this process's environment (the local cloud's endpoint and keys).
        arguments: further words for the command line, such as ``--check``.
        settings: a file of variables (``-e @file``).
        cwd: the folder to run in; seconds to wait at most are ``timeout``.
        expect: the exit status that must come; None for any.
        variables: extra variables, sent as JSON so that types survive.

    Raises:
        AssertionError: another exit status came; the message holds the whole output.
    """
    book = name if name.endswith(".yml") or "." in name else f"playbooks/{name}.yml"
    command = ["ansible-playbook", book, *arguments]
    if settings is not None:
        command += ["-e", f"@{settings}"]
    if variables:
        command += ["-e", json.dumps(variables)]
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    run = Run(command, done.returncode, done.stdout)
    if expect is not None:
        assert done.returncode == expect, f"{command} exited with {done.returncode}:\n{done.stdout}"
    return run
