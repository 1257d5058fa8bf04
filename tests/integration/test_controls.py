"""What provision makes keeps the controls of docs/security.md; and each control fails where everything is wrong."""

from __future__ import annotations

import pytest

from tests.helpers.project import Project
from tools import canary, controls

# The flow asks the same of what it makes, in every run; here also of what is wrong.
pytestmark = [pytest.mark.cloud, pytest.mark.long, pytest.mark.timeout(600)]

#: What provision makes; other tests make the rest.
MADE = (controls.machines, controls.volumes, controls.groups, controls.roles)


@pytest.fixture(scope="module")
def project(cloud, tmp_path_factory):
    """One with a role, because its jobs write to a bucket."""
    cloud.client("s3").create_bucket(Bucket="of-controls")
    project = Project(cloud, "controls", tmp_path_factory.mktemp("controls"))
    project.run("provision", training_sync_to="s3://of-controls/results")
    return project  # the last test tears it down


@pytest.fixture(scope="module")
def right(project, cloud) -> dict[str, list[str]]:
    """What of that project fails each control."""
    there = controls.present(cloud.client, project.name)
    assert {title for title, lister, _ in controls.CONTROLS if lister in MADE} <= there
    return controls.offenders(cloud.client, project.name)


@pytest.fixture(scope="module")
def wrong(project, cloud) -> dict[str, list[str]]:
    """What fails it where everything is wrong."""
    (machine,) = project.machines()
    canary.make(cloud.client, machine["ImageId"])
    return controls.offenders(cloud.client, canary.PROJECT)


@pytest.mark.parametrize("title", [title for title, _, _ in controls.CONTROLS])
def test_what_provision_makes_keeps_it_and_the_canary_does_not(right, wrong, title) -> None:
    assert right[title] == []
    assert wrong[title] != []


def test_nothing_is_left_after_a_teardown(project, wrong, cloud) -> None:
    project.run("teardown", teardown_confirm=False)
    assert controls.present(cloud.client, project.name) == set()
    assert controls.present(cloud.client, canary.PROJECT) == set(wrong)
