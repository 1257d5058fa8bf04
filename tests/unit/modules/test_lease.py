"""A lease is renewed for all of a project's machines and their parts, once, and for nobody else's."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from ansible_collections.lightsout.aws.plugins.modules import ec2_machine, lease

NOW = datetime.datetime(2026, 11, 23, 4, tzinfo=datetime.UTC)


@pytest.fixture
def machine(aws, run) -> Any:
    """Launches a machine of a project; its id."""
    ami = aws.image("another")
    groups: dict[str, str] = {}

    def launch(project: str = "lab", name: str | None = None) -> str:
        if project not in groups:
            groups[project] = aws.ec2.create_security_group(GroupName=project, Description="d")["GroupId"]
        made = run(
            ec2_machine,
            project=project,
            name=name,
            instance_type="t3.medium",
            image_id=ami,
            security_group_ids=[groups[project]],
            volume_size=8,
            lease="12h",
        )
        return made["machine"]["id"]

    return launch


def ends(aws) -> dict[str, str]:
    """The end of the lease of everything that has one."""
    found = aws.ec2.describe_tags(Filters=[{"Name": "key", "Values": ["lightsout:expires"]}])["Tags"]
    return {tag["ResourceId"]: tag["Value"] for tag in found}


def hours_left(end: str) -> float:
    return (datetime.datetime.fromisoformat(end) - datetime.datetime.now(datetime.UTC)).total_seconds() / 3600


def test_all_machines_and_parts_of_the_project_get_the_same_end_and_nobody_elses(aws, run, machine) -> None:
    machine(), machine(name="lightsout-lab-machine-2"), machine("other")
    before = ends(aws)
    result = run(lease, project="lab", lease="3d")
    assert result["changed"] and [m["name"][-1] for m in result["machines"]] == ["1", "2"]
    after = ends(aws)
    changed = {key for key in after if after[key] != before[key]}
    assert len({after[key] for key in changed}) == 1
    assert {key.split("-")[0] for key in changed} >= {"i", "vol"}
    projects = aws.ec2.describe_tags(Filters=[{"Name": "key", "Values": ["lightsout:project"]}])["Tags"]
    assert {tag["Value"] for tag in projects if tag["ResourceId"] in changed} == {"lab"}
    assert all(71.9 < hours_left(m["expires"]) <= 72 for m in result["machines"])


def test_a_second_renewal_changes_nothing(aws, run, machine) -> None:
    machine()
    assert not run(lease, project="lab", lease="12h")["changed"]  # it was made just now
    assert run(lease, project="lab", lease="2d")["changed"]
    before = ends(aws)
    assert not run(lease, project="lab", lease="2d")["changed"]
    assert ends(aws) == before


def test_a_lease_may_become_shorter(aws, run, machine) -> None:
    machine()
    (shown,) = run(lease, project="lab", lease="1h")["machines"]
    assert 0.9 < hours_left(shown["expires"]) <= 1 < hours_left(shown["before"])


def test_check_mode_changes_nothing_and_says_what_it_would(aws, run, machine) -> None:
    machine()
    before = ends(aws)
    result = run(lease, project="lab", lease="3d", check=True)
    assert result["changed"] and ends(aws) == before
    assert hours_left(result["machines"][0]["expires"]) > 71


def test_stopped_machines_are_renewed_and_dead_ones_are_not(aws, run, machine) -> None:
    stopped, dead = machine(), machine(name="lightsout-lab-machine-2")
    aws.ec2.stop_instances(InstanceIds=[stopped])
    aws.ec2.terminate_instances(InstanceIds=[dead])
    result = run(lease, project="lab", lease="3d")
    assert [(m["id"], m["state"]) for m in result["machines"]] == [(stopped, "stopped")]


def test_a_project_without_machines_is_nothing_to_renew(aws, run) -> None:
    result = run(lease, project="lab", lease="3d")
    assert (result["changed"], result["machines"]) == (False, [])


def test_what_cannot_be_meant_is_told_at_once(aws, run) -> None:
    result = run(lease, project="No", lease="forever")
    assert result["failed"]
    assert "lightsout_project is 'No'" in result["msg"] and "lightsout_lease is 'forever'" in result["msg"]
    assert not aws.calls


def test_a_machine_that_may_not_be_tagged_is_told_in_a_sentence(aws, run, machine) -> None:
    machine()
    aws.refuse("CreateTags", "UnauthorizedOperation")
    result = run(lease, project="lab", lease="3d")
    assert result["failed"] and "renew the lease of lab" in result["msg"]


@pytest.mark.parametrize(
    ("before", "close"),
    [
        ("2026-11-23T16:00:00Z", True),
        ("2026-11-23T15:49:00Z", True),
        ("2026-11-23T15:47:00Z", False),
        ("2026-11-23T16:13:00Z", False),
        ("", False),
        ("soon", False),
        ("2026-11-23", False),
    ],
)
def test_what_counts_as_renewed_already(before: str, close: bool) -> None:
    assert lease.is_close(before, "2026-11-23T16:00:00Z", datetime.timedelta(hours=12)) is close


def test_a_kind_without_a_lease_is_refused(aws, run) -> None:
    assert "kinds holds 'volume'" in run(lease, project="lab", lease="1h", kinds=["volume"])["msg"]
