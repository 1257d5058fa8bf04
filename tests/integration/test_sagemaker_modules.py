"""A notebook's and a training job's life by our modules: a check foretells each step, a second time does nothing."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Each module by itself; the playbooks on them are in test_sagemaker and test_studio, in every run.
pytestmark = [pytest.mark.cloud, pytest.mark.long, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
NAME = "lightsout-walk-notebook"
TAGS = {"lightsout:project": "walk"}
TRUST = {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
NOTEBOOK, CONFIG = "sagemaker_notebook_instance", "sagemaker_notebook_instance_lifecycle_config"
JOB, BUCKET = "sagemaker_training_job", "lightsout-walk"
SCRIPT = """
import json, os, pathlib, sys
settings = json.loads(pathlib.Path("/opt/ml/input/config/hyperparameters.json").read_text())
print("epochs", settings["epochs"], os.environ["WHERE"], flush=True)
pathlib.Path("/opt/ml/model/weights").write_text("1")
if settings["epochs"] == "0":
    pathlib.Path("/opt/ml/output/failure").write_text("nothing to learn from")
    sys.exit(3)
"""
TRAIN = {
    "image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/walk:latest",
    "instance_type": "ml.g5.xlarge",
    "output_s3_uri": f"s3://{BUCKET}/out/",
    "max_runtime": 300,
}
#: A container's first process hears only the signals that it traps.
FOR_LONG = ["sh", "-c", "trap 'exit 0' TERM; sleep 200 & wait"]
LEARN = {
    **TRAIN,
    "command": ["python", "/opt/ml/input/data/code/train.py"],
    "instance_count": 2,
    "inputs": {"code": f"s3://{BUCKET}/code/"},
    "environment": {"WHERE": "here"},
    "hyperparameters": {"epochs": 3},
    "checkpoint_s3_uri": f"s3://{BUCKET}/checkpoints/",
    "spot": True,
    "max_wait": 600,
}

#: What is asked for, by the name of the step, and which step comes first.
STEPS: dict[str, tuple[str, dict[str, Any]]] = {
    "scripts": (CONFIG, {"on_start": "#!/bin/bash\r\nexit 0\r\n"}),
    "create": (
        NOTEBOOK,
        {
            "state": "started",
            "instance_type": "ml.t3.medium",
            "volume_size": 10,
            "root_access": False,
            "minimum_imds_version": "2",
            "lifecycle_config_name": NAME,
        },
    ),
    "modify": (NOTEBOOK, {"instance_type": "ml.t3.large", "volume_size": 20, "lifecycle_config_name": ""}),
    "stop": (NOTEBOOK, {"state": "stopped"}),
    "start": (NOTEBOOK, {"state": "started"}),
    "delete": (NOTEBOOK, {"state": "absent"}),
    "no scripts": (CONFIG, {"state": "absent"}),
    "train": (JOB, LEARN),
    "train long": (JOB, {**TRAIN, "name": f"{NAME}-long", "command": FOR_LONG, "wait": False}),
    "stop training": (JOB, {"name": f"{NAME}-long", "state": "stopped"}),
}


def tasks(role: str, dest: Path) -> Iterator[dict[str, Any]]:
    """Each step as a check, in earnest, and again; and what is looked at in between."""
    for step, (module, given) in STEPS.items():
        options = {"name": NAME, "tags": TAGS, **given, **({"role_arn": role} if "instance_type" in given else {})}
        for how in ("check", "real", "again"):
            yield {"name": f"{step}: {how}", f"lightsout.aws.{module}": options, "check_mode": how == "check"}
        if step == "create":
            yield {
                "name": "info",
                f"lightsout.aws.{NOTEBOOK}_info": {"filters": {"name_contains": "walk", "tags": TAGS}},
            }
            link = {"notebook_instance_name": NAME, "landing": "lab", "dest": str(dest)}
            yield {"name": "link", "lightsout.aws.sagemaker_presigned_url": link}
        if step == "train":
            yield {"name": "train info", f"lightsout.aws.{JOB}_info": {"name": NAME, "logs": True}}
            other = {**options, "hyperparameters": {"epochs": 4}}
            yield {"name": "train otherwise", f"lightsout.aws.{JOB}": other, "ignore_errors": True}
            bad = {**options, "name": f"{NAME}-bad", "hyperparameters": {"epochs": 0}}
            yield {"name": "train in vain", f"lightsout.aws.{JOB}": bad, "ignore_errors": True}


@pytest.fixture(scope="module")
def walk(cloud, tmp_path_factory) -> dict[str, dict[str, Any]]:
    """The result of each task."""
    folder = tmp_path_factory.mktemp("sagemaker")
    trust = json.dumps({"Version": "2012-10-17", "Statement": [TRUST]})
    iam, s3 = cloud.client("iam"), cloud.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="code/train.py", Body=SCRIPT.encode())
    role = iam.create_role(RoleName=NAME, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    play = {"hosts": "localhost", "gather_facts": False, "tasks": list(tasks(role, folder / "link"))}
    book = folder / "walk.yml"
    book.write_text(json.dumps([play]))
    done = subprocess.run(
        ["ansible-playbook", "-i", "inventory/localhost.yml", str(book)],
        cwd=ROOT,
        env={**os.environ, **cloud.env, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"},
        capture_output=True,
        text=True,
        check=False,
    )
    iam.delete_role(RoleName=NAME)
    ran = json.loads(done.stdout[done.stdout.index("{") :])["plays"][0]["tasks"]
    results = {task["task"]["name"]: task["hosts"]["localhost"] for task in ran}
    assert done.returncode == 0, [(name, result["msg"]) for name, result in results.items() if result.get("failed")]
    made = [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
    for key in made:
        s3.delete_object(Bucket=BUCKET, Key=key)
    s3.delete_bucket(Bucket=BUCKET)
    return results | {"file": {"path": folder / "link"}, "s3": {"keys": made}}


@pytest.mark.parametrize("step", STEPS)
def test_a_check_foretells_each_step_and_a_second_time_does_nothing(walk, step: str) -> None:
    assert walk[f"{step}: check"]["changed"] and walk[f"{step}: real"]["changed"]
    assert walk[f"{step}: check"]["changes"] == walk[f"{step}: real"]["changes"]
    assert not walk[f"{step}: again"]["changed"], walk[f"{step}: again"]["changes"]


@pytest.mark.parametrize(
    ("step", "status"),
    [("create", "InService"), ("modify", "InService"), ("stop", "Stopped"), ("start", "InService"), ("delete", None)],
)
def test_each_step_ends_in_its_state(walk, step: str, status: str | None) -> None:
    assert walk[f"{step}: real"]["notebook_instance"].get("status") == status


def test_what_was_changed_is_so_and_it_runs_as_before(walk) -> None:
    result = walk["modify: real"]
    assert result["changes"]["status"] == "restart"
    seen = result["notebook_instance"]
    assert (seen["instance_type"], seen["volume_size"], seen["lifecycle_config_name"]) == ("ml.t3.large", 20, "")
    assert (seen["root_access"], seen["minimum_imds_version"], seen["tags"]) == (False, "2", TAGS)


def test_scripts_have_the_line_ends_of_unix(walk) -> None:
    result = walk["scripts: real"]
    assert result["line_ends_fixed"] == ["on_start"]
    assert result["lifecycle_config"]["on_start"] == "#!/bin/bash\nexit 0\n"


def test_it_was_found_and_had_a_link_that_nobody_else_saw(walk) -> None:
    assert [each["name"] for each in walk["info"]["notebook_instances"]] == [NAME]
    link = walk["file"]["path"].read_text().strip()
    assert link.endswith("&view=lab") or link.endswith("?view=lab")
    assert link not in json.dumps({name: result for name, result in walk.items() if name != "file"}, default=str)


def test_a_job_did_what_it_was_told_on_each_machine_once(walk) -> None:
    job = walk["train: real"]["training_job"]
    assert (job["status"], job["instance_count"], job["spot"], job["tags"]) == ("Completed", 2, True, TAGS)
    assert job["model_artifacts"].removeprefix(f"s3://{BUCKET}/") in walk["s3"]["keys"]
    (seen,) = walk["train info"]["training_jobs"]
    assert sorted(name[:6] for name in seen["logs"]) == ["algo-1", "algo-2"]
    assert all("epochs 3 here" in lines for lines in seen["logs"].values())


def test_other_settings_need_another_name(walk) -> None:
    assert walk["train otherwise"]["failed"] and "a new name" in walk["train otherwise"]["msg"]


def test_a_job_that_fails_says_why(walk) -> None:
    assert walk["train in vain"]["failed"] and "nothing to learn from" in walk["train in vain"]["msg"]


def test_a_stopped_job_is_stopped(walk) -> None:
    assert walk["train long: real"]["training_job"]["status"] == "InProgress"
    assert walk["stop training: real"]["training_job"]["status"] == "Stopped"


def test_nothing_is_left(walk, cloud) -> None:
    sagemaker = cloud.client("sagemaker")
    assert sagemaker.list_notebook_instances(NameContains=NAME)["NotebookInstances"] == []
    configs = sagemaker.list_notebook_instance_lifecycle_configs(NameContains=NAME)
    assert configs["NotebookInstanceLifecycleConfigs"] == []
