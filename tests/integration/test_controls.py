"""What provision makes keeps the controls of docs/security.md; and each assertion fails where everything is wrong."""

from __future__ import annotations

import pytest

from judges import canary, own
from judges.estate import Estate
from tests.helpers.project import Project

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(600)]

PROVISIONED = (
    own.imdsv2_required,
    own.metadata_one_hop,
    own.volumes_encrypted,
    own.disks_end_with_machines,
    own.closed_to_everybody,
    own.default_group_unused,
    own.groups_in_use,
    own.roles_narrow,
    own.keys_tagged,
    own.one_interface,
)


@pytest.fixture(scope="module")
def wrong(cloud):
    """What a project has in which everything is wrong."""
    canary.plant(cloud.client)
    return Estate(cloud.client, canary.PROJECT)


@pytest.fixture(scope="module")
def project(cloud, tmp_path_factory):
    """One with a role, because its jobs write to a bucket."""
    cloud.client("s3").create_bucket(Bucket="of-controls")
    project = Project(cloud, "controls", tmp_path_factory.mktemp("controls"))
    project.run("provision", training_sync_to="s3://of-controls/results")
    yield project
    project.run("teardown", teardown_confirm=False)


@pytest.fixture(scope="module")
def right(project, cloud):
    """What that project has."""
    estate = Estate(cloud.client, project.name)
    # Nothing is proven about what is not there.
    assert estate.machines, "no machine"
    assert estate.volumes, "no volume"
    assert estate.groups, "no group"
    assert estate.keys, "no key"
    assert "lightsout-controls-machine" in estate.roles
    return estate


@pytest.mark.parametrize("control", PROVISIONED, ids=lambda control: control.__name__)
def test_what_provision_makes_keeps_it_and_the_canary_does_not(right, wrong, control) -> None:
    assert control(right) == []
    assert control(wrong) != []


def test_no_group_is_left_after_a_teardown(project, wrong, cloud) -> None:
    project.run("teardown", teardown_confirm=False)
    left = Estate(cloud.client, project.name)
    assert own.groups_in_use(left) == left.groups == left.roles == left.keys == []
    assert own.groups_in_use(wrong) != []
