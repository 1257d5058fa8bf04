"""What a machine leaves behind when it goes without a teardown is found, told with its price, and swept when asked."""

from __future__ import annotations

import pytest

from tests.helpers.project import LOOKS, Project

#: What a machine leaves: disk, key pair, security group, and what would have stopped it: schedules and their role.
LEFT = 5

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def project(cloud, tmp_path_factory) -> Project:
    """A project whose machine was terminated by hand, with a disk that nobody took along; and a young one."""
    made = Project(cloud, "bygone", tmp_path_factory.mktemp("bygone"))
    made.run("provision")
    (machine,) = made.machines()
    volume = made.ec2.create_volume(
        AvailabilityZone=machine["Placement"]["AvailabilityZone"],
        Size=30,
        TagSpecifications=[
            {"ResourceType": "volume", "Tags": [{"Key": "lightsout:project", "Value": made.name}]},
        ],
    )
    made.disk = volume["VolumeId"]
    made.ec2.terminate_instances(InstanceIds=[machine["InstanceId"]])
    return made


def sweep(project: Project, **variables):
    """Sweep this project alone: others run beside this test on the same cloud."""
    settings = {"sweep_project": project.name, "sweep_min_age": "0s", "sweep_all_regions": False, **variables}
    return project.watched("sweep", **settings)


def test_it_shows_what_is_left_with_its_price_and_changes_nothing(project: Project) -> None:
    before = project.owned()
    run = sweep(project, sweep_all_regions=True)
    for what in (project.disk, "lightsout-bygone-key", "its project has no machine any more", "USD 2.40 a month"):
        assert what in run.output
    assert all(call.startswith(LOOKS) for call in project.calls) and project.owned() == before


def test_what_is_young_is_left_alone(project: Project) -> None:
    run = sweep(project, sweep_min_age="1h")
    assert "Nothing is left over" in run.output and "Project bygone has no machine" in run.output


def test_cron_hears_of_it_by_the_exit_code(project: Project) -> None:
    run = sweep(project, sweep_fail=True, expect=2)
    assert f"{LEFT} things are left over" in run.output


def test_without_an_answer_nothing_is_deleted(project: Project) -> None:
    before = project.owned()
    run = sweep(project, sweep_delete=True, expect=2)
    assert "Nothing was deleted: the number was not typed" in run.output and project.owned() == before


def test_check_mode_says_what_would_go(project: Project) -> None:
    run = project.watched(
        "sweep", "--check", sweep_project=project.name, sweep_min_age="0s", sweep_delete=True, sweep_confirm=False
    )
    assert (
        f"{LEFT} of {LEFT} things would be deleted" in run.output and project.owned() and project.changing_calls == []
    )


def test_when_asked_all_of_it_goes_and_a_second_sweep_finds_nothing(project: Project) -> None:
    run = sweep(project, sweep_delete=True, sweep_confirm=False, sweep_fail=True)
    assert f"{LEFT} of {LEFT} things are deleted" in run.output and project.owned() == {}
    assert "Nothing is left over" in sweep(project, sweep_fail=True).output
