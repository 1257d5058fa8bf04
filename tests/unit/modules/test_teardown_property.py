"""Whatever an account holds: a teardown takes all of its project's things, and nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from ansible_collections.lightsout.aws.plugins.modules import project_teardown
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.modules.test_project import TRUST, everything

#: Whose a thing may be: ours; others', with names like ours; somebody's with another tag; nobody's.
OWNERS = st.sampled_from(["lab", "lab", "lab", "lab-2", "la", "l*", "LAB", "?ab", None, "other-key"])

NUMBERS = itertools.count()


def tags(owner: str | None) -> list[dict[str, str]]:
    if owner is None:
        return []
    if owner == "other-key":
        return [{"Key": "project", "Value": "lab"}, {"Key": "lightsout:projects", "Value": "lab"}]
    return [{"Key": "lightsout:project", "Value": owner}]


def specification(kind: str, owner: str | None) -> dict[str, Any]:
    return {"TagSpecifications": [{"ResourceType": kind, "Tags": tags(owner)}]} if owner else {}


class Maker:
    """Makes things; they may hang on one another, across owners."""

    def __init__(self, aws) -> None:
        self.aws, self.ec2, self.iam = aws, aws.ec2, aws.client("iam")
        self.scheduler = aws.client("scheduler")
        self.image = self.ec2.describe_images(Owners=["self"])["Images"][0]["ImageId"]
        self.subnet = self.ec2.describe_subnets()["Subnets"][0]["SubnetId"]

    def instance(self, owner: str | None) -> None:
        both = [{"ResourceType": kind, "Tags": tags(owner)} for kind in ("instance", "volume")] if owner else []
        self.ec2.run_instances(
            ImageId=self.image, MinCount=1, MaxCount=1, ClientToken=f"t{next(NUMBERS)}", TagSpecifications=both
        )

    def volume(self, owner: str | None) -> None:
        self.ec2.create_volume(AvailabilityZone="us-east-1a", Size=1, **specification("volume", owner))

    def snapshot(self, owner: str | None) -> None:
        volume = self.ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)["VolumeId"]
        self.ec2.create_snapshot(VolumeId=volume, **specification("snapshot", owner))

    def interface(self, owner: str | None) -> None:
        self.ec2.create_network_interface(SubnetId=self.subnet, **specification("network-interface", owner))

    def address(self, owner: str | None) -> None:
        self.ec2.allocate_address(Domain="vpc", **specification("elastic-ip", owner))

    def group(self, owner: str | None) -> None:
        # The names lie: only the tag says whose a thing is.
        name = f"lightsout-lab-access-{next(NUMBERS)}"
        self.ec2.create_security_group(GroupName=name, Description="d", **specification("security-group", owner))

    def key(self, owner: str | None) -> None:
        self.ec2.create_key_pair(KeyName=f"lightsout-lab-key-{next(NUMBERS)}", **specification("key-pair", owner))

    def role(self, owner: str | None) -> None:
        path = "/lightsout/us-east-1/"
        name = f"lightsout-lab-machine-{next(NUMBERS)}"
        self.iam.create_role(RoleName=name, Path=path, AssumeRolePolicyDocument=TRUST, Tags=tags(owner))

    def schedules(self, owner: str | None) -> None:
        name = f"lightsout-{owner if owner in ('lab', 'lab-2', 'la') else 'lab'}-{next(NUMBERS)}"
        self.scheduler.create_schedule_group(Name=name, Tags=tags(owner))


#: Things of every kind, of one or two owners each.
ACCOUNTS = st.fixed_dictionaries(
    {name: st.lists(OWNERS, min_size=1, max_size=2) for name in vars(Maker) if not name.startswith("_")}
)


def owned_by(aws, wanted: Callable[[str | None], bool]) -> dict[str, set[str]]:
    """What the account holds of the wanted owners, told by a look at the tags of each thing and not by a filter."""
    ec2, iam, scheduler = aws.ec2, aws.client("iam"), aws.client("scheduler")

    def owner(given_tags: list[dict[str, str]] | None) -> str | None:
        return next((t["Value"] for t in given_tags or [] if t["Key"] == "lightsout:project"), None)

    found = everything(aws)
    strangers: dict[str, set[str]] = {kind: set() for kind in found}
    for kind, items, key, tag_key in (
        ("volume", ec2.describe_volumes()["Volumes"], "VolumeId", "Tags"),
        ("snapshot", ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"], "SnapshotId", "Tags"),
        ("interface", ec2.describe_network_interfaces()["NetworkInterfaces"], "NetworkInterfaceId", "TagSet"),
        ("address", ec2.describe_addresses()["Addresses"], "AllocationId", "Tags"),
        ("group", ec2.describe_security_groups()["SecurityGroups"], "GroupId", "Tags"),
        ("key", ec2.describe_key_pairs()["KeyPairs"], "KeyPairId", "Tags"),
        (
            "instance",
            [i for r in ec2.describe_instances()["Reservations"] for i in r["Instances"]],
            "InstanceId",
            "Tags",
        ),
    ):
        strangers[kind] = {item[key] for item in items if not wanted(owner(item.get(tag_key)))}
    for name in found["role"]:
        if not wanted(owner(iam.get_role(RoleName=name)["Role"].get("Tags"))):
            strangers["role"].add(name)
    for group in scheduler.list_schedule_groups()["ScheduleGroups"]:
        told = scheduler.list_tags_for_resource(ResourceArn=group["Arn"])["Tags"]
        if not wanted(owner(told)):
            strangers["schedule group"].add(group["Name"])
    return {kind: names - strangers[kind] for kind, names in found.items()}


@settings(
    max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(account=ACCOUNTS)
def test_only_ours_go_and_all_of_ours_go(aws, run, account) -> None:
    maker = Maker(aws)
    for kind, owners in account.items():
        for owner in (*owners, "lab-2"):  # a neighbour of each kind, always
            getattr(maker, kind)(owner)
    others = owned_by(aws, lambda owner: owner != "lab")
    result = run(project_teardown, wait_timeout=30, project="lab")
    assert not result["failed"], result["msg"]
    assert owned_by(aws, lambda owner: owner != "lab") == others
    ours = owned_by(aws, lambda owner: owner == "lab")
    assert {kind: names for kind, names in ours.items() if names and kind not in ("profile", "schedule")} == {}
