"""A machine compared with what is wanted."""

from __future__ import annotations

import datetime

import pytest
from ansible_collections.lightsout.aws.plugins.module_utils import machines
from ansible_collections.lightsout.aws.plugins.module_utils.machines import Wanted

SEEN = {
    "state": "running",
    "instance_type": "t3.medium",
    "image": "ubuntu-24.04",
    "volume_size": 30,
    "volume_id": "vol-1",
    "shutdown_behavior": "stop",
    "metadata_hop_limit": 1,
    "metadata_tokens": "required",
    "metadata_tags": False,
    "instance_profile": None,
    "security_group_ids": ["sg-1"],
    "termination_protection": False,
    "spot": False,
    "tags": {"lightsout:project": "lab", "theirs": "1"},
}


def test_an_empty_project_never_selects_anything():
    with pytest.raises(ValueError, match="empty project"):
        machines.find_machines(None, "")


def test_a_machine_that_is_right_needs_nothing():
    wanted = Wanted(state="running", instance_type="t3.medium", volume_size=30, security_group_ids=["sg-1"])
    assert machines.differences(SEEN, wanted) == {}
    assert machines.differences(SEEN, Wanted()) == {}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("state", "stopped"),
        ("instance_type", "t3.large"),
        ("volume_size", 40),
        ("shutdown_behavior", "terminate"),
        ("metadata_hop_limit", 2),
        ("metadata_tags", True),
        ("instance_profile", "p"),
        ("termination_protection", True),
        ("security_group_ids", ["sg-2"]),
    ],
)
def test_a_changed_setting_changes_just_that(setting, value):
    assert machines.differences(SEEN, Wanted(**{setting: value})) == {setting: (SEEN[setting], value)}


def test_a_machine_on_its_way_is_not_pushed_again():
    assert machines.differences({**SEEN, "state": "pending"}, Wanted(state="running")) == {}
    assert machines.differences({**SEEN, "state": "stopping"}, Wanted(state="stopped")) == {}


def test_imdsv1_is_never_left_on():
    assert machines.differences({**SEEN, "metadata_tokens": "optional"}, Wanted(metadata_hop_limit=1)) == {
        "metadata_tokens": ("optional", "required")
    }


def test_the_lease_is_not_renewed_by_the_way():
    wanted = Wanted(tags={"lightsout:project": "lab", "lightsout:expires": "later"})
    assert machines.differences(SEEN, wanted) == {}


@pytest.mark.parametrize(
    ("wanted", "right"),
    [
        (Wanted(volume_size=20), "set it to 30 or more"),
        (Wanted(image="debian-12"), "set it to 'ubuntu-24.04'"),
        (Wanted(spot=True), "set it to false"),
        (Wanted(instance_type="t4g.medium"), "another kind of processor"),
        (Wanted(instance_type="t3.large"), "ec2_machine_allow_stop=true"),
    ],
)
def test_what_cannot_be_granted_is_refused_with_the_way_out(wanted, right):
    (problem,) = machines.refusals("m", SEEN, wanted, allow_stop=False, prefix="ec2_machine_")
    assert problem.startswith("ec2_machine_") and right in problem and "\n" not in problem


def test_a_stopped_machine_or_one_that_may_stop_changes_its_type():
    wanted = Wanted(instance_type="t3.large")
    assert machines.refusals("m", SEEN, wanted, allow_stop=True) == []
    assert machines.refusals("m", {**SEEN, "state": "stopped"}, wanted, allow_stop=False) == []


def test_two_machines_of_a_name_are_both_shown():
    launched = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    two = [{"InstanceId": i, "State": {"Name": "running"}, "LaunchTime": launched} for i in ("i-1", "i-2")]
    sentence = machines.too_many(two, "m")
    assert "i-1" in sentence and "i-2" in sentence and "paid" in sentence
