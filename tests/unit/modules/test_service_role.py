"""A service's role may do what it is told, on behalf of what it is told, and for nobody else."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lightsout.aws.plugins.modules import service_role

NAME = "lightsout-lab-stop-us-east-1"
WANTED = {
    "name": NAME,
    "service": "scheduler.amazonaws.com",
    "source": "arn:PARTITION:scheduler:us-east-1:ACCOUNT:schedule-group/lightsout-lab",
    "statements": [
        {"Effect": "Allow", "Action": "ec2:StopInstances", "Resource": "arn:PARTITION:ec2:us-east-1:ACCOUNT:instance/*"}
    ],
    "tags": {"lightsout:project": "lab"},
}
WRITES = ("Create", "Update", "Put", "Tag")


def wrote(aws) -> list[str]:
    return [call for call in aws.calls if call.startswith(WRITES)]


def test_it_is_made_below_our_path_with_tags_trust_and_policy(aws, run) -> None:
    result = run(service_role, **WANTED)
    assert result["changed"] and wrote(aws) == ["CreateRole", "PutRolePolicy"]
    role = aws.client("iam").get_role(RoleName=NAME)["Role"]
    assert (role["Arn"], role["Path"]) == (result["arn"], "/lightsout/us-east-1/")
    assert role["Tags"] == [{"Key": "lightsout:project", "Value": "lab"}]
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Condition"] == {
        "StringEquals": {"aws:SourceAccount": "123456789012"},
        "ArnLike": {"aws:SourceArn": "arn:aws:scheduler:us-east-1:123456789012:schedule-group/lightsout-lab"},
    }
    policy = aws.client("iam").get_role_policy(RoleName=NAME, PolicyName=NAME)["PolicyDocument"]
    assert policy["Statement"][0]["Resource"] == "arn:aws:ec2:us-east-1:123456789012:instance/*"


def test_a_second_time_changes_nothing(aws, run) -> None:
    run(service_role, **WANTED)
    aws.calls.clear()
    assert not run(service_role, **WANTED)["changed"] and wrote(aws) == []


@pytest.mark.parametrize(
    ("change", "calls"),
    [
        ({"statements": [{"Effect": "Allow", "Action": "ec2:*", "Resource": "*"}]}, ["PutRolePolicy"]),
        ({"service": "budgets.amazonaws.com"}, ["UpdateAssumeRolePolicy"]),
        ({"tags": {"team": "x"}}, ["TagRole"]),
        ({"permissions_boundary": "arn:PARTITION:iam::ACCOUNT:policy/b"}, ["PutRolePermissionsBoundary"]),
    ],
)
def test_only_what_differs_is_changed(aws, run, change: dict[str, Any], calls) -> None:
    run(service_role, **WANTED)
    aws.calls.clear()
    assert run(service_role, check=True, **{**WANTED, **change})["changed"] and wrote(aws) == []
    assert run(service_role, **{**WANTED, **change})["changed"] and wrote(aws) == calls
    assert not run(service_role, **{**WANTED, **change})["changed"]


def test_a_role_whose_policy_was_lost_gets_it_back(aws, run) -> None:
    run(service_role, **WANTED)
    aws.client("iam").delete_role_policy(RoleName=NAME, PolicyName=NAME)
    assert set(run(service_role, **WANTED)["changes"]) == {"policy"}


def test_somebody_elses_role_of_that_name_is_left_alone(aws, run) -> None:
    aws.client("iam").create_role(RoleName=NAME, AssumeRolePolicyDocument="{}")
    aws.calls.clear()
    assert "not ours" in run(service_role, **WANTED)["msg"] and wrote(aws) == []


def test_check_mode_tells_the_arn_that_it_will_have(aws, run) -> None:
    result = run(service_role, check=True, **WANTED)
    assert result["arn"] == f"arn:aws:iam::123456789012:role/lightsout/us-east-1/{NAME}" and wrote(aws) == []


def test_it_is_made_within_its_boundary_and_stays_there_when_nobody_asks(aws, run) -> None:
    boundary = "arn:PARTITION:iam::ACCOUNT:policy/lightsout-boundary"
    run(service_role, **WANTED, permissions_boundary=boundary)
    assert wrote(aws) == ["CreateRole", "PutRolePolicy"]
    role = aws.client("iam").get_role(RoleName=NAME)["Role"]
    arn = "arn:aws:iam::123456789012:policy/lightsout-boundary"
    assert role["PermissionsBoundary"]["PermissionsBoundaryArn"] == arn
    assert not run(service_role, **WANTED, permissions_boundary=boundary)["changed"]
    assert not run(service_role, **WANTED)["changed"]
