"""Settings for SageMaker by themselves: each mistake is a sentence that names the variable and what is right."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lightsout.aws.plugins.module_utils import sagemaker_checks as checks

NOTEBOOK: dict[str, Any] = {
    "instance_type": "ml.t3.medium",
    "volume_size": 20,
    "platform": "notebook-al2023-v1",
    "subnet_id": "",
    "security_group_ids": [],
    "direct_internet": True,
    "repositories": ["https://example.org/code.git", "named-here"],
    "buckets": ["my-data"],
    "idle": "60m",
    "idle_hard_limit": "4h",
    "on_create": "",
    "on_start": "true",
}
TRAINING: dict[str, Any] = {
    "name": "lightsout-lab-first",
    "job": "first",
    "instance_type": "ml.m5.large",
    "instance_count": 1,
    "volume_size": 30,
    "spot": True,
    "max_runtime": "4h",
    "max_wait": "8h",
    "data": {"train": "s3://my-data/train/"},
    "bucket": "",
    "subnet_id": "",
    "security_group_ids": [],
}
GROUPS = [f"sg-{number:08x}" for number in range(6)]


def test_what_is_right_is_right() -> None:
    assert checks.notebook_problems(NOTEBOOK) == []
    assert checks.notebook_problems({**NOTEBOOK, "idle": "", "idle_hard_limit": ""}) == []
    inside = {"subnet_id": "subnet-0123abcd", "security_group_ids": GROUPS[:5], "direct_internet": False}
    assert checks.notebook_problems({**NOTEBOOK, **inside}) == []
    assert checks.training_problems(TRAINING) == []
    assert checks.training_problems({**TRAINING, "spot": False, "max_wait": "1s"}) == []


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("instance_type", "ml.t3.mediun", "did you mean 'ml.t3.medium'"),
        ("volume_size", 4, "5 to 16384"),
        ("volume_size", 16385, "5 to 16384"),
        ("platform", "notebook-al2-v3", "notebook-al2023-v1"),
        ("subnet_id", "net-1", "subnet-0123abcd"),
        ("subnet_id", "subnet-0123abcd", "without sagemaker_notebook_security_group_ids"),
        ("security_group_ids", ["x"], "sg-0123abcd"),
        ("security_group_ids", GROUPS, "at most 5"),
        ("direct_internet", False, "sagemaker_notebook_subnet_id is empty"),
        ("buckets", ["Mine"], "not a bucket's name"),
        ("repositories", ["git@example.org:x"], "https://"),
        ("repositories", ["a", "b", "c", "d", "e"], "at most 4"),
        ("idle", "0s", "60m"),
        ("idle", "5h", "shorter than"),
        ("on_create", "x" * 12289, "has 16388 characters"),
    ],
)
def test_a_notebooks_mistakes(setting: str, value: Any, words: str) -> None:
    problems = checks.notebook_problems({**NOTEBOOK, setting: value})
    assert any(words in problem and f"sagemaker_notebook_{setting}" in problem for problem in problems), problems


def test_a_script_may_be_just_as_long_as_sagemaker_takes() -> None:
    assert checks.notebook_problems({**NOTEBOOK, "on_create": "x" * 12288}) == []


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("job", "a_b", "letters, digits and hyphens"),
        ("instance_count", 0, "1 to 1000"),
        ("max_runtime", "29d", "at most 28d"),
        ("max_wait", "1h", "includes the run"),
        ("data", {"source": "s3://x/y"}, "other than 'source'"),
        ("data", {"train": "/tmp"}, "S3 URI"),
        ("bucket", "s3://x", "not a bucket's name"),
    ],
)
def test_a_training_jobs_mistakes(setting: str, value: Any, words: str) -> None:
    (problem,) = checks.training_problems({**TRAINING, setting: value})
    assert words in problem and f"sagemaker_training_{setting}" in problem


def test_a_jobs_whole_name_counts() -> None:
    (problem,) = checks.training_problems({**TRAINING, "job": "j" * 50, "name": "lightsout-lab-" + "j" * 50})
    assert "64 characters: SageMaker allows 63" in problem


def test_what_a_new_job_needs_is_told_at_once(tmp_path) -> None:
    assert len(checks.new_training_problems({"image": "", "command": " ", "source": ""})) == 3
    gone = {"image": "x", "command": "y", "source": str(tmp_path / "gone")}
    assert "which is not there" in checks.new_training_problems(gone)[0]
