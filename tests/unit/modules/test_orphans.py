"""What nobody needs is found and said why; what somebody may need is not."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lightsout.aws.plugins.module_utils.orphans import PARTS
from ansible_collections.lightsout.aws.plugins.module_utils.resources import KINDS
from ansible_collections.lightsout.aws.plugins.modules import orphans_info, project_teardown

from tests.unit.modules.test_project import furnish, tags


@pytest.fixture
def sweep(run):
    def sweep(**params: Any) -> Any:
        return run(orphans_info, **{"all_regions": False, "grace": 0, **params})

    return sweep


def volume(aws, project: str | None) -> str:
    tagged = [{"ResourceType": "volume", "Tags": tags(project)}] if project else []
    return aws.ec2.create_volume(AvailabilityZone="us-east-1a", Size=10, TagSpecifications=tagged)["VolumeId"]


def in_use(aws) -> None:
    """A project of which everything is in use."""
    furnish(aws, "lab")
    for name in ("Volumes", "Snapshots", "NetworkInterfaces"):
        low = {"Volumes": "volume", "Snapshots": "snapshot", "NetworkInterfaces": "network_interface"}[name]
        mine = [{"Name": "tag:lightsout:project", "Values": ["lab"]}]
        for one in getattr(aws.ec2, f"describe_{low}s")(Filters=mine)[name]:
            if one.get("State", one.get("Status")) != "in-use":
                key = f"{name[:-1]}Id"
                getattr(aws.ec2, f"delete_{low}")(**{key: one[key]})


def test_a_living_project_has_no_orphans_but_what_hangs_on_nothing(aws, sweep) -> None:
    in_use(aws)
    assert sweep()["orphans"] == []
    loose = volume(aws, "lab")
    volume(aws, None)
    (found,) = sweep()["orphans"]
    assert (found["id"], found["why"], found["cost_month"]) == (loose, "a disk that no machine has", 0.8)
    assert sweep()["groups"] == [{"project": "lab", "region": "us-east-1", "ids": [loose]}]


def test_what_a_dead_project_left_is_all_found(aws, run, sweep) -> None:
    in_use(aws)
    (machine,) = aws.machines()
    aws.ec2.terminate_instances(InstanceIds=[machine["InstanceId"]])
    found = sweep()["orphans"]
    assert {"security_group", "key_pair", "role", "instance_profile", "schedule_group"} <= {
        one["kind"] for one in found
    }
    assert {one["why"] for one in found} == {"project lab has no machine in us-east-1"}


def test_what_is_young_may_still_be_being_made(aws, sweep) -> None:
    furnish(aws, "lab")
    (machine,) = aws.machines()
    aws.ec2.terminate_instances(InstanceIds=[machine["InstanceId"]])
    assert sweep(grace=60)["orphans"] == []
    assert sweep(grace=0)["orphans"] != []


def test_images_are_kept_on_purpose_with_the_snapshots_that_they_are_made_of(aws, sweep) -> None:
    image = aws.image("lightsout-images-1")
    (mapping,) = aws.ec2.describe_images(ImageIds=[image])["Images"][0]["BlockDeviceMappings"]
    aws.ec2.create_tags(Resources=[image, mapping["Ebs"]["SnapshotId"]], Tags=tags("images"))
    assert sweep()["orphans"] == []
    aws.ec2.deregister_image(ImageId=image)
    assert [one["kind"] for one in sweep()["orphans"]] == ["snapshot"]


def test_where_not_everything_can_be_seen_nothing_is_called_an_orphan(aws, sweep) -> None:
    volume(aws, "gone")
    aws.refuse("DescribeInstances", "UnauthorizedOperation", times=9)
    result = sweep()
    assert result["orphans"] == [] and "machines in us-east-1" in result["unlisted"]


def test_only_what_was_shown_is_deleted(aws, run, sweep) -> None:
    in_use(aws)
    loose = volume(aws, "lab")
    (group,) = sweep()["groups"]
    later = volume(aws, "lab")
    result = run(project_teardown, wait_timeout=5, **{key: group[key] for key in ("project", "ids")})
    assert [one["id"] for one in result["deleted"]] == [loose]
    assert later in {one["VolumeId"] for one in aws.ec2.describe_volumes()["Volumes"]} and len(aws.machines()) == 1
    assert not run(project_teardown, wait_timeout=5, project="lab", ids=[])["changed"]
    assert len(aws.machines()) == 1


def test_a_kind_that_nobody_thought_of_keeps_its_project_alive() -> None:
    assert set(KINDS) >= PARTS
    assert {"instance", "image", "spot_request"} & PARTS == set()
