"""A notebook instance's life by our modules: a check foretells each step, and a second time does nothing."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
NAME = "lightsout-walk-notebook"
TAGS = {"lightsout:project": "walk"}
TRUST = {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
NOTEBOOK, CONFIG = "sagemaker_notebook_instance", "sagemaker_notebook_instance_lifecycle_config"

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
}


def tasks(role: str, dest: Path) -> Iterator[dict[str, Any]]:
    """Each step as a check, in earnest, and again; and what is looked at in between."""
    for step, (module, given) in STEPS.items():
        options = {"name": NAME, "tags": TAGS, **given, **({"role_arn": role} if step == "create" else {})}
        for how in ("check", "real", "again"):
            yield {"name": f"{step}: {how}", f"lightsout.aws.{module}": options, "check_mode": how == "check"}
        if step == "create":
            yield {"name": "restart", f"lightsout.aws.{NOTEBOOK}": {**options, "state": "restarted"}}
            yield {
                "name": "info",
                f"lightsout.aws.{NOTEBOOK}_info": {"filters": {"name_contains": "walk", "tags": TAGS}},
            }
            link = {"notebook_instance_name": NAME, "landing": "lab", "dest": str(dest)}
            yield {"name": "link", "lightsout.aws.sagemaker_presigned_url": link}


@pytest.fixture(scope="module")
def walk(cloud, tmp_path_factory) -> dict[str, dict[str, Any]]:
    """The result of each task."""
    folder = tmp_path_factory.mktemp("sagemaker")
    trust = json.dumps({"Version": "2012-10-17", "Statement": [TRUST]})
    iam = cloud.client("iam")
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
    return results | {"file": {"path": folder / "link"}}


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


def test_nothing_is_left(walk, cloud) -> None:
    sagemaker = cloud.client("sagemaker")
    assert sagemaker.list_notebook_instances(NameContains=NAME)["NotebookInstances"] == []
    configs = sagemaker.list_notebook_instance_lifecycle_configs(NameContains=NAME)
    assert configs["NotebookInstanceLifecycleConfigs"] == []
