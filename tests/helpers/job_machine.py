"""A machine for the job runner, as its users call it: real processes in a temporary folder."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable

RUNNER = pathlib.Path(__file__).resolve().parents[2] / "roles/training/files/lightsout_job.py"
#: Seconds that something which takes a moment may take on a busy machine.
SOON = 20.0
#: A stand-in for screen: runs the command in a session of its own, in the background, as `screen -d -m` does.
SCREEN = """#!/bin/sh
[ ! -e "$LIGHTSOUT_JOBS/../no-screen" ] || { echo "Cannot open your terminal" >&2; exit 1; }
shift 5
setsid "$@" </dev/null >/dev/null 2>&1 &
"""


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds; fails when it does not come true soon."""
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, "this did not happen in time"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Machine:
    """A home for jobs in a temporary folder, and the runner as its users call it."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.jobs = folder / "jobs"
        self.programs = folder / "bin"
        self.programs.mkdir()
        self.program("screen", SCREEN)
        path = f"{self.programs}:{os.environ['PATH']}"
        self.environment = {**os.environ, "LIGHTSOUT_JOBS": str(self.jobs), "PATH": path}
        self.runners: list[subprocess.Popen] = []

    def program(self, name: str, text: str) -> None:
        """Put a program before those of the system."""
        (self.programs / name).write_text(text)
        (self.programs / name).chmod(0o755)

    def hide(self, name: str) -> None:
        """Let the machine be without a program: only what stands beside the others is found then."""
        folders = self.environment["PATH"].split(":")
        kept = [folder for folder in folders if not (pathlib.Path(folder) / name).exists()]
        self.environment["PATH"] = ":".join(kept)

    def call(self, *words: str, stdin: object = None) -> subprocess.CompletedProcess:
        """`lightsout-job WORDS`."""
        return subprocess.run(
            [sys.executable, "-I", RUNNER, *words],
            input=None if stdin is None else json.dumps(stdin),
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def ask(self, *words: str, stdin: object = None) -> dict:
        """The same, for verbs that answer in JSON; fails when the runner does."""
        done = self.call(*words, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def prepare(
        self, name: str = "job", check: bool = False, rerun: bool = False, replace: bool = False, **definition
    ) -> dict:
        """Agree on a job; what is not said is a quiet screen job."""
        environment = definition.pop("environment", {})
        definition = {"launcher": "screen", "python": sys.executable, "grace": 5, **definition}
        if "script" not in definition:
            definition.setdefault("command", "true")
        definition["digest"] = hashlib.sha256(json.dumps([definition, environment]).encode()).hexdigest()
        request = {"definition": definition, "environment": environment, "rerun": rerun, "replace": replace}
        return self.ask("prepare", name, *["--check"] * check, stdin=request)

    def upload(self, name: str = "job", **files: str) -> pathlib.Path:
        """Put files into a prepared job (`train_py` becomes `train.py`)."""
        source = self.jobs / name / "source"
        for file, content in files.items():
            (source / file.replace("_", ".")).write_bytes(content.encode())
        return source

    def run(self, name: str = "job") -> int:
        """Do what a launcher does, and wait; returns the exit code."""
        return self.begin(name).wait(timeout=60)

    def begin(self, name: str = "job") -> subprocess.Popen:
        """Do what a launcher does, and wait only until the job runs."""
        runner = subprocess.Popen(
            [sys.executable, "-I", RUNNER, "run", name],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.runners.append(runner)
        eventually(lambda: self.state(name).get("state") not in ("uploading", "queued") or runner.poll() is not None)
        return runner

    def state(self, name: str = "job") -> dict:
        """What state.json says."""
        return json.loads((self.jobs / name / "state.json").read_text())

    def view(self, name: str = "job") -> dict:
        """What `list` says of a job."""
        return next(job for job in self.ask("list", "--json", "--all")["jobs"] if job["name"] == name)

    def log(self, name: str = "job") -> str:
        """The whole log."""
        return (self.jobs / name / "log").read_text()

    def lines(self, name: str = "job") -> list[str]:
        """What the job itself has printed."""
        return [line for line in self.log(name).splitlines() if not line.startswith("[lightsout] ")]
