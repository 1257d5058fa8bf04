"""A forgotten machine stops at the end of its lease, with nobody there; and somebody watches over the money."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.helpers.project import Project

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(900)]

ACCOUNT = "123456789012"


@pytest.fixture(scope="module")
def lab(cloud, tmp_path_factory):
    project = Project(cloud, "guarded", tmp_path_factory.mktemp("guarded"))
    project.run("provision", cost_guard_stop_machines=True)
    yield project
    project.run("teardown", teardown_confirm=False, teardown_delete_budget=True)
    assert project.owned() == {}
    groups = cloud.client("scheduler").list_schedule_groups(NamePrefix="lightsout-guarded")
    assert groups["ScheduleGroups"] == []
    roles = cloud.client("iam").list_roles(PathPrefix="/lightsout/")["Roles"]
    assert [role["RoleName"] for role in roles if "-guarded-" in role["RoleName"]] == []
    names = [one["BudgetName"] for one in cloud.client("budgets").describe_budgets(AccountId=ACCOUNT)["Budgets"]]
    assert "lightsout-guarded" not in names


def deadline(lab: Project) -> dict[str, Any]:
    """The machine's schedule, as AWS has it."""
    return lab.cloud.client("scheduler").get_schedule(GroupName="lightsout-guarded", Name="lightsout-guarded-machine-1")


def tag(lab: Project, key: str) -> str:
    return {tag["Key"]: tag["Value"] for tag in lab.machines()[0]["Tags"]}[key]


def test_there_was_a_budget_before_the_machine_and_it_can_stop_it(lab) -> None:
    client = lab.cloud.client("budgets")
    which = {"AccountId": ACCOUNT, "BudgetName": "lightsout-guarded"}
    budget = client.describe_budget(**which)["Budget"]
    assert budget["LastUpdatedTime"] <= lab.machines()[0]["LaunchTime"]
    (action,) = client.describe_budget_actions_for_budget(**which)["Actions"]
    assert action["Definition"]["SsmActionDefinition"]["InstanceIds"] == [lab.machines()[0]["InstanceId"]]


def test_without_limit_and_budget_nothing_is_made(cloud, tmp_path) -> None:
    bare = Project(cloud, "unguarded", tmp_path)
    assert "cost_guard_monthly_limit" in bare.refused("provision", cost_guard_monthly_limit="")
    assert bare.owned() == {}


def test_its_deadline_is_the_end_of_its_lease_and_starting_moves_it(lab) -> None:
    first = tag(lab, "lightsout:expires")
    assert deadline(lab)["ScheduleExpression"] == f"at({first.removesuffix('Z')})"
    lab.run("stop")
    lab.run("start", lightsout_lease="2d")
    assert tag(lab, "lightsout:expires") > first
    assert deadline(lab)["ScheduleExpression"] == f"at({tag(lab, 'lightsout:expires').removesuffix('Z')})"


def test_the_role_may_stop_machines_of_this_project_only(lab) -> None:
    name = "lightsout-guarded-stop-us-east-1"
    policy = lab.iam.get_role_policy(RoleName=name, PolicyName=name)["PolicyDocument"]
    (statement,) = policy["Statement"]
    assert sorted(statement["Action"]) == [
        "ec2:StopInstances",
        "sagemaker:DeleteApp",
        "sagemaker:StopNotebookInstance",
    ]
    assert statement["Condition"] == {"StringEquals": {"aws:ResourceTag/lightsout:project": "guarded"}}
    assert deadline(lab)["Target"]["RoleArn"].endswith(f":role/lightsout/us-east-1/{name}")


def test_with_nobody_there_the_machine_stops_at_its_time(lab) -> None:
    """No playbook runs: the schedule that provision made is only brought forward, as time would."""
    scheduler, made = lab.cloud.client("scheduler"), deadline(lab)
    soon = datetime.now(UTC) + timedelta(seconds=3)
    kept = ("Name", "GroupName", "FlexibleTimeWindow", "Target", "ActionAfterCompletion", "State")
    scheduler.update_schedule(**{key: made[key] for key in kept}, ScheduleExpression=f"at({soon:%Y-%m-%dT%H:%M:%S})")
    assert lab.machines()[0]["State"]["Name"] == "running"
    until = time.monotonic() + 60
    while lab.machines()[0]["State"]["Name"] != "stopped" and time.monotonic() < until:
        time.sleep(0.5)
    assert lab.machines()[0]["State"]["Name"] == "stopped"
    assert datetime.now(UTC) >= soon.replace(microsecond=0)
    while scheduler.list_schedules(GroupName="lightsout-guarded")["Schedules"] and time.monotonic() < until:
        time.sleep(0.5)
    assert scheduler.list_schedules(GroupName="lightsout-guarded")["Schedules"] == []
