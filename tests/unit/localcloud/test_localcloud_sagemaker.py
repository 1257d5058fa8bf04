"""SageMaker's notebook instances as its API tells them: states, refusals, lists, tags."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
import regex
from moto.core.utils import get_service_model
from moto.ec2.models import ec2_backends

from localcloud import sagemaker, sagemaker_notebooks
from localcloud.settings import ACCOUNT
from tests.helpers.moto import refusal

ROLE = f"arn:aws:iam::{ACCOUNT}:role/notebook"
ARN = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:notebook-instance/one"
SCRIPT = [{"Content": base64.b64encode(b"#!/bin/sh\n").decode()}]


class Machines(sagemaker_notebooks.Nobody):
    """Notes what would happen to machines; `broken` makes the next start fail."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.broken = ""

    def start(self, record: sagemaker.Record, *, new: bool) -> None:
        self.done.append("create" if new else "start")
        if self.broken:
            raise RuntimeError(self.broken)

    def stop(self, record: sagemaker.Record) -> None:
        self.done.append("stop")

    def remove(self, record: sagemaker.Record) -> None:
        self.done.append("remove")


@pytest.fixture
def machines() -> Machines:
    return Machines()


@pytest.fixture
def sm(taught, machines, client_of_sagemaker) -> Any:
    sagemaker_notebooks.apply(machines)
    return client_of_sagemaker


@pytest.fixture
def make(sm, backstage) -> Callable[..., None]:
    """Makes a notebook instance, and waits until it is in service."""

    def make(name: str = "one", **words: Any) -> None:
        sm.create_notebook_instance(**{**asked(name), **words})
        backstage.work()

    return make


def asked(name: str = "one") -> dict[str, Any]:
    return {"NotebookInstanceName": name, "InstanceType": "ml.t3.medium", "RoleArn": ROLE}


def status(sm: Any, name: str = "one") -> str:
    return sm.describe_notebook_instance(NotebookInstanceName=name)["NotebookInstanceStatus"]


def test_every_pattern_of_the_model_can_be_checked():
    model = get_service_model("sagemaker")
    patterns = {model.shape_for(name).metadata.get("pattern") for name in model.shape_names} - {None}
    assert len(patterns) > 100
    broken = []
    for pattern in patterns:
        try:
            regex.compile(pattern)
        except regex.error:
            broken.append(pattern)
    assert all("1,128" in pattern or "1,256" in pattern or "uD7FF" in pattern for pattern in broken), broken


def test_a_notebook_instance_is_described_as_it_was_asked_for(sm, backstage):
    words = {
        "VolumeSizeInGB": 20,
        "RootAccess": "Disabled",
        "PlatformIdentifier": "notebook-al2023-v1",
        "InstanceMetadataServiceConfiguration": {"MinimumInstanceMetadataServiceVersion": "2"},
        "DefaultCodeRepository": "https://example.org/one.git",
        "Tags": [{"Key": "team", "Value": "é a"}],
    }
    assert sm.create_notebook_instance(**asked(), **words)["NotebookInstanceArn"] == ARN
    found = sm.describe_notebook_instance(NotebookInstanceName="one")
    assert {name: found[name] for name in words if name != "Tags"} == {k: v for k, v in words.items() if k != "Tags"}
    assert (found["NotebookInstanceStatus"], found["DirectInternetAccess"]) == ("Pending", "Enabled")
    assert found["Url"] == "one.notebook.us-east-1.sagemaker.aws"
    assert sm.list_tags(ResourceArn=ARN)["Tags"] == words["Tags"]
    backstage.work()
    assert status(sm) == "InService"


def test_imdsv1_is_allowed_unless_asked_otherwise_and_the_smallest_volume_is_the_default(sm, make):
    make()
    found = sm.describe_notebook_instance(NotebookInstanceName="one")
    assert found["InstanceMetadataServiceConfiguration"] == {"MinimumInstanceMetadataServiceVersion": "1"}
    assert (found["VolumeSizeInGB"], found["RootAccess"]) == (5, "Enabled")


@pytest.mark.parametrize("kind", ["ml.g5.xlarge", "ml.g4dn.xlarge", "ml.p4d.24xlarge"])
def test_types_with_a_gpu_are_known(sm, make, kind):
    make(InstanceType=kind)
    assert status(sm) == "InService"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            {"NotebookInstanceName": "a_b"},
            "at 'notebookInstanceName' failed to satisfy constraint: Member must satisfy",
        ),
        ({"NotebookInstanceName": "a" * 64}, "Member must have length less than or equal to 63"),
        ({"InstanceType": "t3.micro"}, "Value 't3.micro' at 'instanceType' failed to satisfy constraint: Member must"),
        ({"RoleArn": None}, "Value null at 'roleArn' failed to satisfy constraint: Member must not be null"),
        (
            {"RoleArn": "me"},
            "at 'roleArn' failed to satisfy constraint: Member must have length greater than or equal to 20",
        ),
        (
            {"VolumeSizeInGB": 4},
            "Value '4' at 'volumeSizeInGB' failed to satisfy constraint: Member must have value gre",
        ),
        ({"VolumeSizeInGB": 16385}, "Member must have value less than or equal to 16384"),
        (
            {"SecurityGroupIds": ["sg-1"] * 6},
            "at 'securityGroupIds' failed to satisfy constraint: Member must have length",
        ),
        ({"Tags": [{"Key": "k"}]}, "Value null at 'tags.1.member.value' failed to satisfy constraint"),
        (
            {"Tags": [{"Key": "k?", "Value": ""}]},
            "at 'tags.1.member.key' failed to satisfy constraint: Member must sat",
        ),
        ({"PlatformIdentifier": "notebook-al3"}, "at 'platformIdentifier' failed to satisfy constraint"),
        ({"InstanceMetadataServiceConfiguration": {}}, "minimumInstanceMetadataServiceVersion' failed"),
        ({"SecurityGroupIds": ["sg-1"]}, "SubnetId must be specified"),
        ({"DirectInternetAccess": "Disabled"}, "SubnetId and SecurityGroupIds must be specified"),
        ({"SubnetId": "subnet-1"}, "The subnet ID 'subnet-1' does not exist"),
        ({"RoleArn": ROLE + "s"}, "Could not assume role"),
        (
            {"LifecycleConfigName": "none"},
            "notebook-instance-lifecycle-config/none'. (Details: Notebook Instance Lifecycle",
        ),
    ],
)
def test_what_sagemaker_refuses_is_refused_in_its_words(sm, words, complaint):
    request = {name: value for name, value in {**asked(), **words}.items() if value is not None}
    code, message = refusal(sm.create_notebook_instance, **request)
    assert code == "ValidationException"
    assert complaint in message
    assert sm.list_notebook_instances()["NotebookInstances"] == []


def test_all_problems_of_a_request_are_told_at_once(sm):
    _code, message = refusal(sm.create_notebook_instance, NotebookInstanceName="-", InstanceType="x")
    assert message.startswith("3 validation errors detected: ")


def test_a_member_of_the_wrong_type_is_no_request(sm):
    assert refusal(sm.create_notebook_instance, **asked(), VolumeSizeInGB=[1])[0] == "SerializationException"
    assert refusal(sm.list_notebook_instances, MaxResults=True)[0] == "SerializationException"


def test_the_role_must_trust_sagemaker(sm):
    iam = boto3.client("iam", region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s")
    role = iam.create_role(RoleName="ec2", AssumeRolePolicyDocument='{"Statement": []}')["Role"]["Arn"]
    assert (
        "allows principal 'sagemaker.amazonaws.com'"
        in refusal(sm.create_notebook_instance, **{**asked(), "RoleArn": role})[1]
    )


def test_its_name_is_taken_even_while_it_is_deleted(sm, make, backstage):
    make()
    expected = ("ValidationException", f"Cannot create a duplicate Notebook Instance ({ARN})")
    assert refusal(sm.create_notebook_instance, **asked()) == expected
    sm.stop_notebook_instance(NotebookInstanceName="one")
    backstage.work()
    sm.delete_notebook_instance(NotebookInstanceName="one")
    assert refusal(sm.create_notebook_instance, **asked()) == expected
    backstage.work()
    make()


def test_the_way_of_its_life(sm, make, backstage, machines):
    make()
    steps = [
        (sm.stop_notebook_instance, "Stopping", "Stopped"),
        (sm.start_notebook_instance, "Pending", "InService"),
        (sm.stop_notebook_instance, "Stopping", "Stopped"),
    ]
    for call, during, then in steps:
        call(NotebookInstanceName="one")
        assert status(sm) == during
        backstage.work()
        assert status(sm) == then
    sm.delete_notebook_instance(NotebookInstanceName="one")
    assert status(sm) == "Deleting"
    backstage.work()
    assert refusal(sm.describe_notebook_instance, NotebookInstanceName="one") == (
        "ValidationException",
        "RecordNotFound",
    )
    assert machines.done == ["create", "stop", "start", "stop", "remove"]


@pytest.mark.parametrize(
    ("state", "allowed"),
    [
        ("Pending", {}),
        ("InService", {"stop"}),
        ("Stopping", {}),
        ("Stopped", {"start", "update", "delete"}),
        ("Failed", {"start", "update", "delete"}),
        ("Deleting", {}),
        ("Updating", {}),
    ],
)
@pytest.mark.parametrize("verb", ["start", "stop", "update", "delete"])
def test_each_state_admits_only_what_it_may(sm, make, state, allowed, verb):
    make()
    (record,) = next(iter(sagemaker.backends())).notebook_instances.values()
    record.status = state
    call = getattr(sm, f"{verb}_notebook_instance")
    if verb in allowed:
        call(NotebookInstanceName="one")
        return
    states = "InService" if verb == "stop" else "Stopped, Failed"
    target = {"start": "Pending", "stop": "Stopping", "update": "Updating", "delete": "Deleting"}[verb]
    assert refusal(call, NotebookInstanceName="one") == (
        "ValidationException",
        f"Status ({state}) not in ([{states}]). Unable to transition to ({target}) for Notebook Instance ({ARN}).",
    )
    assert status(sm) == state


def test_a_machine_that_fails_says_why_and_can_be_started_again(sm, make, backstage, machines):
    machines.broken = "the script said no"
    make()
    found = sm.describe_notebook_instance(NotebookInstanceName="one")
    assert (found["NotebookInstanceStatus"], found["FailureReason"]) == ("Failed", "the script said no")
    machines.broken = ""
    sm.start_notebook_instance(NotebookInstanceName="one")
    backstage.work()
    found = sm.describe_notebook_instance(NotebookInstanceName="one")
    assert (found["NotebookInstanceStatus"], found.get("FailureReason")) == ("InService", None)


def test_an_update_changes_what_it_names_and_drops_what_it_shall(sm, make, backstage):
    sm.create_notebook_instance_lifecycle_config(NotebookInstanceLifecycleConfigName="idle", OnStart=SCRIPT)
    make(LifecycleConfigName="idle", VolumeSizeInGB=10, DefaultCodeRepository="https://example.org/one.git")
    sm.stop_notebook_instance(NotebookInstanceName="one")
    backstage.work()
    sm.update_notebook_instance(
        NotebookInstanceName="one",
        InstanceType="ml.g5.xlarge",
        VolumeSizeInGB=12,
        DisassociateDefaultCodeRepository=True,
    )
    assert status(sm) == "Updating"
    backstage.work()
    found = sm.describe_notebook_instance(NotebookInstanceName="one")
    assert (found["NotebookInstanceStatus"], found["InstanceType"]) == ("Stopped", "ml.g5.xlarge")
    assert (found["VolumeSizeInGB"], found["NotebookInstanceLifecycleConfigName"]) == (12, "idle")
    assert "DefaultCodeRepository" not in found
    sm.update_notebook_instance(NotebookInstanceName="one", DisassociateLifecycleConfig=True)
    backstage.work()
    assert "NotebookInstanceLifecycleConfigName" not in sm.describe_notebook_instance(NotebookInstanceName="one")


def test_a_volume_does_not_shrink_and_nothing_is_given_and_taken_at_once(sm, make, backstage):
    make(VolumeSizeInGB=10)
    sm.stop_notebook_instance(NotebookInstanceName="one")
    backstage.work()
    sm.create_notebook_instance_lifecycle_config(NotebookInstanceLifecycleConfigName="idle")
    for words in (
        {"VolumeSizeInGB": 9},
        {"LifecycleConfigName": "idle", "DisassociateLifecycleConfig": True},
        {"LifecycleConfigName": "other"},
    ):
        code, _ = refusal(sm.update_notebook_instance, NotebookInstanceName="one", **words)
        assert code == "ValidationException"
    assert status(sm) == "Stopped"


def test_lists_are_filtered_sorted_and_paged(sm, make, backstage):
    for number in range(12):
        make(f"nb-{number:02d}")
    sm.stop_notebook_instance(NotebookInstanceName="nb-03")
    backstage.work()

    def names(**words: Any) -> list[str]:
        return [each["NotebookInstanceName"] for each in sm.list_notebook_instances(**words)["NotebookInstances"]]

    assert names() == [f"nb-{number:02d}" for number in range(10)]
    assert names(StatusEquals="Stopped") == ["nb-03"]
    assert names(NameContains="1", MaxResults=100) == ["nb-01", "nb-10", "nb-11"]
    assert names(SortOrder="Descending", MaxResults=2) == ["nb-11", "nb-10"]
    assert names(SortBy="CreationTime", SortOrder="Descending", MaxResults=1) == ["nb-11"]
    assert names(CreationTimeAfter=datetime.now(UTC) + timedelta(hours=1)) == []
    assert len(names(CreationTimeAfter=datetime.now(UTC) - timedelta(hours=1), MaxResults=100)) == 12
    pages = sm.get_paginator("list_notebook_instances").paginate(MaxResults=5, SortOrder="Descending")
    found = [[each["NotebookInstanceName"] for each in page["NotebookInstances"]] for page in pages]
    assert [len(page) for page in found] == [5, 5, 2]
    assert [name for page in found for name in page] == [f"nb-{number:02d}" for number in reversed(range(12))]
    assert refusal(sm.list_notebook_instances, NextToken="moo")[0] == "ValidationException"
    assert refusal(sm.list_notebook_instances, MaxResults=101)[0] == "ValidationException"


def test_tags_are_added_replaced_and_removed(sm, make):
    make(Tags=[{"Key": "a", "Value": "1"}])
    sm.add_tags(ResourceArn=ARN, Tags=[{"Key": "a", "Value": "2"}, {"Key": "b", "Value": "3"}])
    assert sm.list_tags(ResourceArn=ARN)["Tags"] == [{"Key": "a", "Value": "2"}, {"Key": "b", "Value": "3"}]
    sm.delete_tags(ResourceArn=ARN, TagKeys=["a"])
    assert sm.list_tags(ResourceArn=ARN)["Tags"] == [{"Key": "b", "Value": "3"}]
    assert refusal(sm.list_tags, ResourceArn=ARN + "s")[0] == "ValidationException"


def test_an_interface_in_the_subnet_holds_its_security_group_until_the_end(sm, make, backstage):
    ec2 = ec2_backends[ACCOUNT]["us-east-1"]
    subnet = ec2.get_default_subnets()["us-east-1a"]
    group = ec2.create_security_group("notebook", "test", vpc_id=subnet.vpc_id)
    make(SubnetId=subnet.id, SecurityGroupIds=[group.id], DirectInternetAccess="Disabled")
    found = sm.describe_notebook_instance(NotebookInstanceName="one")
    interface = ec2.enis[found["NetworkInterfaceId"]]
    assert [each.id for each in interface.group_set] == [group.id] == found["SecurityGroups"]
    sm.stop_notebook_instance(NotebookInstanceName="one")
    backstage.work()
    sm.delete_notebook_instance(NotebookInstanceName="one")
    backstage.work()
    assert interface.id not in ec2.enis


def test_a_link_only_to_one_that_is_in_service_and_for_a_session_of_the_allowed_length(sm, make, backstage):
    sm.create_notebook_instance(**asked())
    assert (
        "Status (Pending) not in ([InService])"
        in refusal(sm.create_presigned_notebook_instance_url, NotebookInstanceName="one")[1]
    )
    backstage.work()
    first, second = (
        sm.create_presigned_notebook_instance_url(NotebookInstanceName="one")["AuthorizedUrl"] for _ in "12"
    )
    assert first.startswith("https://one.notebook.us-east-1.sagemaker.aws")
    assert first != second
    for seconds in (1799, 43201):
        code, _ = refusal(
            sm.create_presigned_notebook_instance_url,
            NotebookInstanceName="one",
            SessionExpirationDurationInSeconds=seconds,
        )
        assert code == "ValidationException"


def test_a_quota_an_exhausted_type_and_throttled_calls(sm, make, backstage):
    sagemaker.limits.order({"quotas": {"ml.g5.xlarge": 1}, "exhausted": ["ml.p3.2xlarge"]})
    make("first", InstanceType="ml.g5.xlarge")
    code, message = refusal(sm.create_notebook_instance, **{**asked(), "InstanceType": "ml.g5.xlarge"})
    assert code == "ResourceLimitExceeded"
    assert "'ml.g5.xlarge for notebook instance usage' is 1 Instances, with current utilization of 1" in message
    make("second", InstanceType="ml.p3.2xlarge")
    assert status(sm, "second") == "Failed"
    sagemaker.limits.order({"throttled": 1})
    assert refusal(sm.list_notebook_instances)[0] == "ThrottlingException"
    assert len(sm.list_notebook_instances()["NotebookInstances"]) == 2


def test_lifecycle_configurations(sm, make):
    name = {"NotebookInstanceLifecycleConfigName": "idle"}
    made = sm.create_notebook_instance_lifecycle_config(**name, OnStart=SCRIPT, Tags=[{"Key": "a", "Value": "b"}])
    place = made["NotebookInstanceLifecycleConfigArn"]
    assert sm.list_tags(ResourceArn=place)["Tags"] == [{"Key": "a", "Value": "b"}]
    assert "already exists" in refusal(sm.create_notebook_instance_lifecycle_config, **name)[1]
    sm.update_notebook_instance_lifecycle_config(**name, OnCreate=SCRIPT)
    found = sm.describe_notebook_instance_lifecycle_config(**name)
    assert (found["OnCreate"], found["OnStart"]) == (SCRIPT, SCRIPT)
    (listed,) = sm.list_notebook_instance_lifecycle_configs(NameContains="IDL")["NotebookInstanceLifecycleConfigs"]
    assert listed["NotebookInstanceLifecycleConfigArn"] == place
    make(LifecycleConfigName="idle")
    assert "is in use by one" in refusal(sm.delete_notebook_instance_lifecycle_config, **name)[1]
    other = {"NotebookInstanceLifecycleConfigName": "other"}
    for script in ("a" * 16385, "no base64!"):
        code, _ = refusal(sm.create_notebook_instance_lifecycle_config, **other, OnStart=[{"Content": script}])
        assert code == "ValidationException"
    for verb in ("describe", "update", "delete"):
        call = getattr(sm, f"{verb}_notebook_instance_lifecycle_config")
        expected = (
            f"Unable to {verb} Notebook Instance Lifecycle Config '{place[:-4]}other'. (Details: Notebook Instance "
        )
        assert refusal(call, **other) == ("ValidationException", f"{expected}Lifecycle Config does not exist.)")
