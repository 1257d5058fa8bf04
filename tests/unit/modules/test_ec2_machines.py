"""Several machines, each kept by itself and all at the same time."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest
from ansible_collections.lightsout.aws.plugins.modules import ec2_machine, ec2_machines
from botocore.exceptions import ClientError

NAMES = [f"lightsout-lab-machine-{number}" for number in (1, 2, 3)]
GROUP = "lightsout-lab-group"


@pytest.fixture
def settings(aws) -> dict[str, Any]:
    """What it takes to launch, in a placement group that is there."""
    aws.ec2.create_placement_group(GroupName=GROUP, Strategy="cluster")
    security = aws.ec2.create_security_group(GroupName="lightsout-lab-access", Description="d")["GroupId"]
    return {
        "project": "lab",
        "names": NAMES,
        "instance_type": "c5.large",
        "image_id": aws.image("another"),
        "image": "ubuntu-24.04",
        "security_group_ids": [security],
        "placement_group": GROUP,
        "volume_size": 30,
        "lease": "12h",
    }


def places(aws) -> list[tuple[str | None, str]]:
    """Placement group and zone of each machine."""
    return [(m["Placement"].get("GroupName") or None, m["Placement"]["AvailabilityZone"]) for m in aws.machines()]


def test_each_is_made_once_in_the_same_group_and_zone(aws, run, settings) -> None:
    first = run(ec2_machines, **settings)
    assert [machine["name"] for machine in first["machines"]] == NAMES
    assert list(first["changes"]) == NAMES and first["machine"]["name"] == NAMES[0]
    assert places(aws) == [(GROUP, "us-east-1a")] * 3
    second = run(ec2_machines, **settings)
    assert not second["changed"] and second["changes"] == {}
    assert [m["id"] for m in second["machines"]] == [m["id"] for m in first["machines"]]
    assert aws.calls.count("RunInstances") == 3


def test_waiting_does_not_add_up(aws, run, settings) -> None:
    """All of them wait at the same moment; one after another they would wait for ever for the second."""
    meeting = threading.Barrier(3)

    def wait(_request: dict, go_on: Any) -> Any:
        meeting.wait(20)
        return go_on()

    run(ec2_machines, **settings)
    aws.on("StopInstances", wait, times=3)
    result = run(ec2_machines, project="lab", names=NAMES, state="stopped")
    assert {machine["state"] for machine in result["machines"]} == {"stopped"}


def test_a_missing_one_is_made_beside_the_others(aws, run, settings) -> None:
    subnets = {s["AvailabilityZone"]: s["SubnetId"] for s in aws.ec2.describe_subnets()["Subnets"]}
    run(ec2_machines, **settings | {"names": NAMES[:1], "subnet_ids": [subnets["us-east-1c"]]})
    run(ec2_machines, **settings)
    assert places(aws) == [(GROUP, "us-east-1c")] * 3
    result = run(
        ec2_machines, **settings | {"names": ["lightsout-lab-machine-4"], "subnet_ids": [subnets["us-east-1b"]]}
    )
    assert result["failed"] and "us-east-1c" in result["msg"] and "us-east-1b" in result["msg"]


def test_where_a_zone_is_full_all_go_to_the_next(aws, run, settings) -> None:
    aws.refuse("RunInstances", "InsufficientInstanceCapacity")
    run(ec2_machines, **settings)
    assert places(aws) == [(GROUP, "us-east-1b")] * 3


def test_one_failure_is_named_and_hides_no_other(aws, run, settings) -> None:
    def refuse(request: dict, go_on: Any) -> Any:
        tags = {tag["Key"]: tag["Value"] for tag in request["TagSpecifications"][0]["Tags"]}
        if tags["Name"] != NAMES[1]:
            return go_on()
        raise ClientError({"Error": {"Code": "InstanceLimitExceeded", "Message": "made up by a test"}}, "RunInstances")

    aws.on("RunInstances", refuse, times=3)
    result = run(ec2_machines, **settings)
    assert result["failed"] and NAMES[1] in result["msg"] and "\n" not in result["msg"]
    assert [machine["name"] for machine in result["machines"]] == [NAMES[0], NAMES[2]]
    assert len(aws.machines()) == 2
    again = run(ec2_machines, **settings)
    assert list(again["changes"]) == [NAMES[1]] and len(aws.machines()) == 3


def test_check_mode_predicts_and_launches_nothing(aws, run, settings) -> None:
    result = run(ec2_machines, check=True, **settings)
    assert result["changed"] and list(result["changes"]) == NAMES
    assert result["machines"] == [] and result["machine"] == {} and not aws.machines()


def test_a_machine_that_was_there_before_the_group_moves_only_when_it_may_stop(aws, run, settings) -> None:
    alone = {key: value for key, value in settings.items() if key not in ("names", "placement_group")}
    run(ec2_machine, **alone)
    result = run(ec2_machines, **settings)
    assert list(result["changes"]) == NAMES[1:]
    assert Counter(places(aws)) == {(None, "us-east-1a"): 1, (GROUP, "us-east-1a"): 2}
    result = run(ec2_machines, **settings, allow_stop=True)
    assert result["changes"] == {NAMES[0]: {"placement_group": [None, GROUP]}}
    assert Counter(places(aws)) == {(GROUP, "us-east-1a"): 3}
    assert {machine["State"]["Name"] for machine in aws.machines()} == {"running"}
