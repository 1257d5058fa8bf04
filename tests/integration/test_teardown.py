"""A teardown takes exactly what carries the project's tag, however much of it there is."""

from __future__ import annotations

import pytest

from tests.helpers.project import Project

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(900)]


@pytest.fixture
def projects(cloud, tmp_path):
    """Two projects whose names begin alike, and a thing of nobody's."""
    mine, others = Project(cloud, "thesis", tmp_path / "mine"), Project(cloud, "thesis-2", tmp_path / "others")
    nobodys = mine.ec2.create_security_group(GroupName="lightsout-thesis-notes", Description="no tag of ours")
    yield mine, others, nobodys["GroupId"]
    for project in (mine, others):
        project.run("teardown", teardown_confirm=False)
    mine.ec2.delete_security_group(GroupId=nobodys["GroupId"])


def test_what_a_half_done_provision_left_goes_and_what_is_not_the_projects_stays(projects) -> None:
    mine, others, nobodys = projects
    for project in projects[:2]:
        project.run("provision", ec2_machine_policies=["arn:aws:iam::aws:policy/CloudWatchAgentServerPolicy"])
    kept = others.owned()
    assert sorted(kept) == sorted(mine.owned()) == ["group", "key", "machine", "role", "volume"]
    # A run that was cut off after the machine had been launched, and a machine that is gone behind everybody's back.
    mine.ec2.delete_key_pair(KeyPairId=mine.owned()["key"][0])
    mine.ec2.terminate_instances(InstanceIds=mine.owned()["machine"])

    run = mine.run("teardown", teardown_confirm=False)
    assert "0 resources left" in run.output
    assert mine.owned() == {}
    assert others.owned() == kept
    assert mine.ec2.describe_security_groups(GroupIds=[nobodys])["SecurityGroups"]
    assert (mine.keys / "thesis.pem").exists()
    again = mine.watched("teardown", teardown_confirm=False)
    assert set(again.changed.values()) == {0}
    assert mine.changing_calls == []


@pytest.mark.parametrize("name", ["", " ", "Thesis", "*"])
def test_a_name_that_is_none_deletes_nothing(projects, name) -> None:
    mine, _others, _nobodys = projects
    line = Project(mine.cloud, name, mine.folder).refused("teardown", teardown_confirm=False)
    assert "lightsout_project" in line
