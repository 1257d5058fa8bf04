"""lightsout-sync calls rclone as S3 wants it: the job's place, the machine's role, and nobody's configuration."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest

from tests.helpers.job_machine import RUNNER

SYNC = RUNNER.with_name("lightsout_sync.py")
#: Writes down how it was called; a source that is not there is what it says with 3.
RCLONE = f"""#!{sys.executable}
import json, os, sys
ours = {{key: value for key, value in os.environ.items() if key.startswith(("RCLONE_", "AWS_"))}}
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps([sys.argv[1:], ours]) + "\\n")
sys.exit(int(os.environ.get("CODE", 0)))
"""


class Job:
    """A job's folder, and rclone before all others on the path."""

    def __init__(self, folder: pathlib.Path, **sync: str) -> None:
        self.folder = folder / "deep"
        (self.folder / "source/results").mkdir(parents=True)
        (self.folder / "job.json").write_text(json.dumps({"sync": {"to": "s3://bucket/lab/", **sync}}))
        (self.folder / "log").write_text("began\n")
        (self.folder / "environment").write_text(json.dumps({"AWS_ACCESS_KEY_ID": "mine", "TOKEN": "secret"}))
        program = folder / "bin/rclone"
        program.parent.mkdir()
        program.write_text(RCLONE)
        program.chmod(0o755)
        self.calls = folder / "calls"

    def sync(self, *words: str, code: int = 0) -> int:
        """Run `lightsout-sync WORDS`; its exit code."""
        path = f"{self.calls.parent / 'bin'}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "CALLS": str(self.calls), "CODE": str(code), "RCLONE_VERBOSE": "3"}
        return subprocess.run(
            [sys.executable, "-I", SYNC, *words, self.folder], env=environment, check=False
        ).returncode

    def made(self) -> list[tuple[list[str], dict[str, str]]]:
        """The calls of rclone: their words and variables."""
        return [tuple(json.loads(line)) for line in self.calls.read_text().splitlines()]


def paths(words: list[str]) -> list[str]:
    """A call without its options."""
    return [word for word in words if not word.startswith("--")]


def test_results_go_first_and_then_log_and_record(tmp_path: pathlib.Path) -> None:
    job = Job(tmp_path)
    assert job.sync("push") == 0
    results = [f"{job.folder}/source/results/", ":s3:bucket/lab/deep/results/"]
    others = [[f"{job.folder}/{name}", ":s3:bucket/lab/deep/"] for name in ("log", "job.json")]
    assert [paths(words) for words, _ in job.made()] == [["copy", *pair] for pair in (results, *others)]
    assert not any("environment" in word for words, _ in job.made() for word in words)


def test_on_aws_it_is_awss_own_and_the_role_or_the_jobs_keys_sign(tmp_path: pathlib.Path) -> None:
    job = Job(tmp_path, region="eu-central-1")
    job.sync("push")
    words, variables = job.made()[0]
    assert "--config=" in words
    assert variables["RCLONE_S3_PROVIDER"] == "AWS" and variables["RCLONE_S3_REGION"] == "eu-central-1"
    assert variables["RCLONE_S3_ENV_AUTH"] == variables["RCLONE_S3_NO_CHECK_BUCKET"] == "true"
    assert variables["AWS_ACCESS_KEY_ID"] == "mine"
    assert "RCLONE_S3_ENDPOINT" not in variables and "RCLONE_VERBOSE" not in variables


def test_another_s3_is_reached_at_its_endpoint(tmp_path: pathlib.Path) -> None:
    job = Job(tmp_path, endpoint="http://10.213.7.1:5601")
    job.sync("push")
    _, variables = job.made()[0]
    assert (variables["RCLONE_S3_PROVIDER"], variables["RCLONE_S3_ENDPOINT"]) == ("Other", "http://10.213.7.1:5601")


def test_in_the_end_contents_are_compared(tmp_path: pathlib.Path) -> None:
    job = Job(tmp_path)
    job.sync("push", "--verify")
    assert "--checksum" in job.made()[0][0]
    last, _ = job.made()[-1]
    assert paths(last) == ["check", f"{job.folder}/source/results/", ":s3:bucket/lab/deep/results/"]
    assert "--one-way" in last


@pytest.mark.parametrize(("code", "answer"), [(0, 0), (3, 0), (1, 1)], ids=["there", "nothing there yet", "broken"])
def test_results_come_back_if_there_are_any(tmp_path: pathlib.Path, code: int, answer: int) -> None:
    job = Job(tmp_path)
    assert job.sync("pull", code=code) == answer
    ((words, _),) = job.made()
    assert paths(words) == ["copy", ":s3:bucket/lab/deep/results/", f"{job.folder}/source/results/"]


def test_a_push_that_fails_says_so(tmp_path: pathlib.Path) -> None:
    assert Job(tmp_path).sync("push", "--verify", code=5) == 5


def test_without_rclone_one_line_says_what_is_missing(tmp_path: pathlib.Path) -> None:
    job = Job(tmp_path)
    (tmp_path / "bin/rclone").unlink()
    done = subprocess.run(
        [sys.executable, "-I", SYNC, "push", job.folder],
        env={"PATH": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 127 and done.stderr == "lightsout-sync: there is no rclone on this machine\n"
