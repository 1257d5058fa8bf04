"""Several machines of a project: made once, near each other, open to each other only, and gone without a trace."""

from __future__ import annotations

import re

import pytest

from tests.helpers.project import LOOKS, Project

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(900)]

#: A type that a cluster placement group takes, and how many.
TWO = {"ec2_machine_instance_type": "c5.large", "ec2_machine_count": 2}

#: A port that no rule for addresses opens.
PORT = 29500


@pytest.fixture(scope="module")
def fleet(cloud, tmp_path_factory):
    """A project of two machines, torn down at the end."""
    project = Project(cloud, "fleet", tmp_path_factory.mktemp("fleet"))
    project.first = project.run("provision", **TWO)
    yield project
    project.run("teardown", teardown_confirm=False)


@pytest.fixture(scope="module")
def stranger(cloud, tmp_path_factory):
    """Another project on the same cloud, torn down at the end."""
    project = Project(cloud, "stranger", tmp_path_factory.mktemp("stranger"))
    project.run("provision")
    yield project
    project.run("teardown", teardown_confirm=False)


def name(machine: dict) -> str:
    """A machine's name."""
    return next(tag["Value"] for tag in machine["Tags"] if tag["Key"] == "Name")


def ordered(project: Project) -> list[dict]:
    """The machines by name."""
    return sorted(project.machines(), key=name)


def reaches(project: Project, machine: dict, address: str) -> bool:
    """Whether a machine of a project can talk to the port at an address."""
    script = f"import socket; socket.create_connection(('{address}', {PORT}), 5).close(); print('yes')"
    answer = project.ssh_to(machine, f'python3 -c "{script}" 2>&1 || true')
    assert "yes" in answer or "refused" in answer, answer
    return "yes" in answer


def test_all_are_made_near_each_other_and_told_with_their_addresses(fleet) -> None:
    first, second = ordered(fleet)
    assert [name(first), name(second)] == ["lightsout-fleet-machine-1", "lightsout-fleet-machine-2"]
    assert {m["Placement"]["GroupName"] for m in (first, second)} == {"lightsout-fleet-group"}
    assert first["SubnetId"] == second["SubnetId"]
    (group,) = fleet.ec2.describe_placement_groups(Filters=fleet.mine)["PlacementGroups"]
    tags = {tag["Key"]: tag["Value"] for tag in group["Tags"]}
    assert group["Strategy"] == "cluster"
    assert {"lightsout:project", "lightsout:owner", "lightsout:schema"} <= set(tags)
    for machine in (first, second):
        line = next(line for line in fleet.first.output.splitlines() if machine["InstanceId"] in line)
        assert name(machine) in line and machine["PublicIpAddress"] in line and machine["PrivateIpAddress"] in line
    assert re.search(r"2 machines: USD 0\.1866 an hour", fleet.first.output)


def test_a_second_run_changes_nothing(fleet) -> None:
    run = fleet.watched("provision", **TWO)
    assert set(run.changed.values()) == {0}
    assert all(call.startswith(LOOKS) for call in fleet.calls)
    assert "lightsout-fleet-machine-2" in run.output
    # Fifteen for one machine with budget and deadline (test_provision), three for each further one, and type and group.
    assert len(fleet.calls) == 15 + 3 + 2, fleet.calls


def test_a_smaller_number_changes_nothing_and_names_what_is_more(fleet) -> None:
    run = fleet.watched("provision", **{**TWO, "ec2_machine_count": 1})
    assert set(run.changed.values()) == {0} and fleet.changing_calls == []
    second = ordered(fleet)[1]
    line = next(line for line in run.output.splitlines() if "ec2_machine_count is 1" in line)
    assert (
        name(second) in line and f"terminate-instances --region us-east-1 --instance-ids {second['InstanceId']}" in line
    )


def test_they_reach_each_other_on_a_port_that_no_address_may_enter_and_a_strangers_machine_does_not(
    fleet, stranger
) -> None:
    first, second = ordered(fleet)
    (other,) = stranger.machines()
    fleet.ssh_to(
        second,
        f"sudo systemd-run --quiet python3 -m http.server {PORT}; for i in $(seq 50); do "
        f"python3 -c \"import socket; socket.create_connection(('127.0.0.1', {PORT}), 1)\" && break; "
        "sleep 0.2; done",
    )
    assert reaches(fleet, first, second["PublicIpAddress"])
    assert not reaches(stranger, other, second["PublicIpAddress"])
    assert not reaches(stranger, other, second["PrivateIpAddress"])
    addresses = fleet.ssh_to(second, "ip -4 -oneline address show dev eth0")
    # Where this computer needs that network for itself, machines have public addresses only.
    if second["PrivateIpAddress"] in addresses:
        assert reaches(fleet, first, second["PrivateIpAddress"])
    rules = {(r["IpProtocol"], r.get("FromPort")): r for r in fleet.group()["IpPermissions"]}
    (pair,) = rules["-1", None]["UserIdGroupPairs"]
    assert pair["GroupId"] == fleet.group()["GroupId"] and not rules["-1", None]["IpRanges"]
    assert {port for protocol, port in rules if protocol == "tcp"} == {22}


@pytest.mark.parametrize(
    ("variables", "right"),
    [
        ({"ec2_machine_count": 0}, "from 1 to 100"),
        ({"ec2_machine_count": "many"}, "ec2_machine_count"),
        ({"ec2_machine_count": 2, "ec2_machine_name": "mine"}, "ec2_machine_name is 'mine'"),
    ],
    ids=["none", "not a number", "a name of its own"],
)
def test_bad_numbers_are_one_line_before_anything_is_made(fleet, variables, right) -> None:
    line = fleet.refused("provision", **{**TWO, **variables})
    assert "ec2_machine_count" in line and right in line


def test_burstable_machines_are_placed_anywhere_and_that_is_said(cloud, tmp_path) -> None:
    project = Project(cloud, "bursts", tmp_path)
    run = project.run("check", ec2_machine_count=2)
    assert "a t3.medium cannot be in a cluster placement group" in run.output
    assert "for 2 machines" in run.output and not project.owned()


def test_stop_and_start_take_all_of_them(fleet) -> None:
    fleet.run("stop")
    assert {machine["State"]["Name"] for machine in fleet.machines()} == {"stopped"}
    run = fleet.run("start")
    assert {machine["State"]["Name"] for machine in fleet.machines()} == {"running"}
    assert all(machine["PublicIpAddress"] in run.output for machine in fleet.machines())
    shown = fleet.run("status").output
    assert shown.index("lightsout-fleet-machine-1") < shown.index("lightsout-fleet-machine-2")


def test_a_larger_number_adds_machines_and_teardown_leaves_nothing(fleet) -> None:
    before = {machine["InstanceId"] for machine in fleet.machines()}
    fleet.run("provision", **{**TWO, "ec2_machine_count": 3})
    after = fleet.machines()
    assert before < {machine["InstanceId"] for machine in after} and len(after) == 3
    assert {machine["Placement"]["GroupName"] for machine in after} == {"lightsout-fleet-group"}
    run = fleet.run("teardown", teardown_confirm=False)
    assert "0 resources left" in run.output
    assert fleet.owned() == {}
    assert fleet.ec2.describe_placement_groups(Filters=fleet.mine)["PlacementGroups"] == []
