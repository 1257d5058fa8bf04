"""A notebook instance gets from each state to each other one by the shortest way, and nobody else's is touched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.lightsout.aws.plugins.modules import sagemaker_notebook_instance
from botocore.awsrequest import AWSResponse

from tests.helpers.stubs import Stubs, stubbed, time_flies

NAME = "lightsout-lab-notebook"
ARN = f"arn:aws:sagemaker:us-east-1:123456789012:notebook-instance/{NAME}"
ROLE = "arn:aws:iam::123456789012:role/lightsout/us-east-1/lightsout-lab-sagemaker"
TAGS = {"lightsout:project": "lab"}
NEW = {"instance_type": "ml.t3.medium", "role_arn": ROLE, "volume_size": 20, "tags": TAGS}
VERBS = {"create", "update", "start", "stop", "delete"}
OPERATIONS = {verb: f"{verb}_notebook_instance" for verb in VERBS}


def described(status: str, **more: Any) -> dict[str, Any]:
    return {
        "NotebookInstanceArn": ARN,
        "NotebookInstanceName": NAME,
        "NotebookInstanceStatus": status,
        "InstanceType": "ml.t3.medium",
        "RoleArn": ROLE,
        "VolumeSizeInGB": 20,
        "DirectInternetAccess": "Enabled",
        "RootAccess": "Enabled",
        "PlatformIdentifier": "notebook-al2023-v1",
        **({"FailureReason": "no capacity for you"} if status == "Failed" else {}),
        **more,
    }


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubs]:
    with stubbed(monkeypatch) as stubs:
        yield stubs


@pytest.fixture
def expect(aws):
    """Expects calls: a state is a Describe that says so, ``none`` one that finds nothing, a verb is that call."""

    def expect(words: str, tags: dict[str, str] = TAGS, requests: dict[str, Any] | None = None, **more: Any) -> None:
        for word in words.split():
            if word == "none":
                aws.refuse("describe_notebook_instance", "ValidationException", "RecordNotFound")
            elif word == "tags":
                answer = {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
                aws.answer("list_tags", answer, ResourceArn=ARN)
            elif word in VERBS:
                answer = {"NotebookInstanceArn": ARN} if word == "create" else {}
                request = {"NotebookInstanceName": NAME, **(requests or {}).get(word, {})}
                # Creations and updates without an expected request are checked elsewhere.
                known = requests is not None or word not in ("create", "update")
                aws.answer(OPERATIONS[word], answer, **(request if known else {}))
            else:
                aws.answer("describe_notebook_instance", described(word, **more), NotebookInstanceName=NAME)

    return expect


@pytest.fixture
def keep(run):
    def keep(state: str, check: bool = False, **params: Any) -> Any:
        return run(sagemaker_notebook_instance, check=check, **{"name": NAME, "state": state, "tags": TAGS, **params})

    return keep


#: From each state to each that can be asked for: all calls, in order.
UP, DOWN, GONE = "start Pending InService", "stop Stopping Stopped", "delete Deleting none"
MADE = "create Pending InService"
WAYS = {
    "none": {
        "present": f"none {MADE}",
        "started": f"none {MADE}",
        "stopped": "none fails",
        "restarted": "none fails",
        "absent": "none",
    },
    "Pending": {
        "present": "Pending tags Pending InService",
        "started": "Pending tags Pending InService",
        "stopped": f"Pending tags Pending InService {DOWN}",
        "restarted": f"Pending tags Pending InService {DOWN} {UP}",
        "absent": f"Pending tags Pending InService {DOWN} {GONE}",
    },
    "InService": {
        "present": "InService tags",
        "started": "InService tags",
        "stopped": f"InService tags {DOWN}",
        "restarted": f"InService tags {DOWN} {UP}",
        "absent": f"InService tags {DOWN} {GONE}",
    },
    "Stopping": {
        "present": "Stopping tags Stopping Stopped",
        "started": f"Stopping tags Stopping Stopped {UP}",
        "stopped": "Stopping tags Stopping Stopped",
        "restarted": f"Stopping tags Stopping Stopped {UP}",
        "absent": f"Stopping tags Stopping Stopped {GONE}",
    },
    "Stopped": {
        "present": "Stopped tags",
        "started": f"Stopped tags {UP}",
        "stopped": "Stopped tags",
        "restarted": f"Stopped tags {UP}",
        "absent": f"Stopped tags {GONE}",
    },
    "Failed": {
        "present": "Failed tags",
        "started": f"Failed tags {UP}",
        "stopped": "Failed tags",
        "restarted": f"Failed tags {UP}",
        "absent": f"Failed tags {GONE}",
    },
    "Deleting": {
        "present": f"Deleting Deleting none {MADE}",
        "started": f"Deleting Deleting none {MADE}",
        "stopped": "Deleting Deleting none fails",
        "restarted": "Deleting Deleting none fails",
        "absent": "Deleting Deleting none",
    },
    "Updating": {
        "present": "Updating tags Updating Stopped",
        "started": f"Updating tags Updating Stopped {UP}",
        "stopped": "Updating tags Updating Stopped",
        "restarted": f"Updating tags Updating Stopped {UP}",
        "absent": f"Updating tags Updating Stopped {GONE}",
    },
    "PendingMaintenance": {
        "present": "PendingMaintenance tags PendingMaintenance InMaintenance InService",
        "started": "PendingMaintenance tags PendingMaintenance InMaintenance InService",
        "stopped": f"PendingMaintenance tags InMaintenance InService {DOWN}",
        "restarted": f"PendingMaintenance tags InMaintenance InService {DOWN} {UP}",
        "absent": f"PendingMaintenance tags InMaintenance InService {DOWN} {GONE}",
    },
    "InMaintenance": {
        "present": "InMaintenance tags InMaintenance InService",
        "started": "InMaintenance tags InMaintenance InService",
        "stopped": f"InMaintenance tags InMaintenance InService {DOWN}",
        "restarted": f"InMaintenance tags InMaintenance InService {DOWN} {UP}",
        "absent": f"InMaintenance tags InMaintenance InService {DOWN} {GONE}",
    },
}
TABLE = [(status, state) for status, ways in WAYS.items() for state in ways]


def test_the_table_knows_every_state_of_the_service(aws) -> None:
    shape = aws.client("sagemaker").meta.service_model.shape_for("NotebookInstanceStatus")
    assert {*shape.enum, "none"} == set(WAYS)
    assert {len(ways) for ways in WAYS.values()} == {5}


@pytest.mark.parametrize(("status", "state"), TABLE)
def test_each_state_leads_to_each(status: str, state: str, expect, keep) -> None:
    way, fails, _ = WAYS[status][state].partition(" fails")
    expect(way)
    result = keep(state, **NEW)
    assert result["failed"] is bool(fails), result.get("msg")
    if fails:
        assert f"There is no notebook instance {NAME}" in result["msg"] and "make it" in result["msg"]
        return
    words = way.split()
    assert result["changed"] is bool(VERBS & set(words)), result["changes"]
    assert result["previous_status"] == ("" if status == "none" else status)
    final = [word for word in words if word not in VERBS | {"tags"}][-1]
    assert result["notebook_instance"].get("status", "none") == final


@pytest.mark.parametrize(("status", "state"), TABLE)
def test_a_check_says_the_same_and_does_nothing(status: str, state: str, expect, keep) -> None:
    way, fails, _ = WAYS[status][state].partition(" fails")
    expect(status if status in ("none", "Deleting") else f"{status} tags")
    result = keep(state, check=True, **NEW)
    assert result["failed"] is bool(fails), result.get("msg")
    assert fails or result["changed"] is bool(VERBS & set(way.split())), result["changes"]


# -- calls ------------------------------------------------------------------------------------------------------------


def test_a_run_that_changes_nothing_asks_twice(aws, expect, keep) -> None:
    expect("InService tags")
    assert not keep("started", **NEW, root_access=True, security_group_ids=[])["changed"]
    assert aws.calls == ["DescribeNotebookInstance", "ListTags"]


def test_a_new_one_has_everything_that_was_asked_for(expect, keep) -> None:
    request = {
        "InstanceType": "ml.t3.medium",
        "RoleArn": ROLE,
        "VolumeSizeInGB": 20,
        "SubnetId": "subnet-1",
        "SecurityGroupIds": ["sg-1"],
        "DirectInternetAccess": "Disabled",
        "RootAccess": "Disabled",
        "KmsKeyId": "key",
        "PlatformIdentifier": "notebook-al2023-v1",
        "LifecycleConfigName": "idle",
        "DefaultCodeRepository": "https://git.example/a",
        "AdditionalCodeRepositories": ["https://git.example/b"],
        "InstanceMetadataServiceConfiguration": {"MinimumInstanceMetadataServiceVersion": "2"},
        "IpAddressType": "dualstack",
        "Tags": [{"Key": "lightsout:project", "Value": "lab"}],
    }
    expect("none create Pending InService", requests={"create": request})
    result = keep(
        "present",
        **NEW,
        subnet_id="subnet-1",
        security_group_ids=["sg-1"],
        direct_internet_access=False,
        root_access=False,
        kms_key_id="key",
        platform_identifier="notebook-al2023-v1",
        lifecycle_config_name="idle",
        default_code_repository="https://git.example/a",
        additional_code_repositories=["https://git.example/b"],
        minimum_imds_version="2",
        ip_address_type="dualstack",
    )
    assert result["changes"] == {"notebook_instance": "create"}
    assert result["notebook_instance"]["tags"] == TAGS


CHANGE = {"instance_type": "ml.g5.xlarge", "volume_size": 50, "minimum_imds_version": "2", "root_access": False}
CHANGED = {
    "InstanceType": "ml.g5.xlarge",
    "VolumeSizeInGB": 50,
    "RootAccess": "Disabled",
    "InstanceMetadataServiceConfiguration": {"MinimumInstanceMetadataServiceVersion": "2"},
}


@pytest.mark.parametrize(
    ("state", "way"),
    [
        ("present", "InService tags stop Stopping Stopped update Updating Stopped start Pending InService"),
        ("started", "InService tags stop Stopping Stopped update Updating Stopped start Pending InService"),
        ("restarted", "InService tags stop Stopping Stopped update Updating Stopped start Pending InService"),
        ("stopped", "InService tags stop Stopping Stopped update Updating Stopped"),
        ("present", "Stopped tags update Updating Stopped"),
        ("stopped", "Stopped tags update Updating Stopped"),
        ("started", "Stopped tags update Updating Stopped start Pending InService"),
        ("present", "Failed tags update Updating Stopped"),
        ("started", "Pending tags Failed update Updating Stopped start Pending InService"),
    ],
)
def test_several_changes_are_one_update_of_what_stands_still(state: str, way: str, expect, keep) -> None:
    expect(way, requests={"update": CHANGED})
    result = keep(state, **{**NEW, **CHANGE})
    assert not result["failed"], result["msg"]
    changes = dict(result["changes"])
    status = changes.pop("status", None)
    assert changes == {
        "instance_type": ["ml.t3.medium", "ml.g5.xlarge"],
        "volume_size": [20, 50],
        "root_access": [True, False],
        "minimum_imds_version": ["1", "2"],
    }
    assert status == (
        "restart" if {"stop", "start"} <= set(way.split()) else status if {"stop", "start"} & set(way.split()) else None
    )


def test_what_runs_is_not_stopped_without_consent(expect, keep) -> None:
    expect("InService tags")
    result = keep("started", **{**NEW, **CHANGE, "allow_stop": False})
    assert result["failed"] and "can change only while it is stopped" in result["msg"]


def test_without_waiting_a_change_still_ends_as_it_began(expect, keep) -> None:
    expect("InService tags stop Stopping Stopped update Updating Stopped start Pending", requests={"update": CHANGED})
    result = keep("present", wait=False, **{**NEW, **CHANGE})
    assert result["notebook_instance"]["status"] == "Pending"


@pytest.mark.parametrize(
    ("state", "way"),
    [
        ("started", "Stopped tags start Pending"),
        ("stopped", "InService tags stop Stopping"),
        ("stopped", "Stopping tags"),
        ("started", "Pending tags"),
        ("absent", "Stopped tags delete Deleting"),
        ("absent", "Deleting"),
        ("present", "none create Pending"),
    ],
)
def test_without_waiting_it_returns_at_once(state: str, way: str, expect, keep) -> None:
    expect(way)
    assert not keep(state, wait=False, **NEW)["failed"]


def test_what_is_detached_is_told_so(expect, keep) -> None:
    had = {
        "NotebookInstanceLifecycleConfigName": "idle",
        "DefaultCodeRepository": "https://git.example/a",
        "AdditionalCodeRepositories": ["https://git.example/b"],
    }
    request = {
        "DisassociateLifecycleConfig": True,
        "DisassociateDefaultCodeRepository": True,
        "DisassociateAdditionalCodeRepositories": True,
    }
    expect("Stopped tags update", requests={"update": request}, **had)
    expect("Stopped")
    result = keep("present", lifecycle_config_name="", default_code_repository="", additional_code_repositories=[])
    assert result["changes"]["lifecycle_config_name"] == ["idle", ""]


def test_what_is_left_out_stays(expect, keep) -> None:
    expect("Stopped tags", NotebookInstanceLifecycleConfigName="idle", DefaultCodeRepository="https://git.example/a")
    assert not keep("present")["changed"]


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"volume_size": 10}, "volume_size is 20 GiB and cannot shrink to 10"),
        ({"subnet_id": "subnet-2"}, "subnet_id is subnet-1 and cannot become subnet-2"),
        ({"security_group_ids": ["sg-2"]}, "that needs a new one"),
        ({"kms_key_id": "other"}, "kms_key_id is not set and cannot become other"),
        ({"direct_internet_access": False}, "direct_internet_access is True and cannot become False"),
        ({"volume_size": 10, "subnet_id": "subnet-2"}, "2 things are to be put right"),
    ],
)
def test_what_cannot_change_is_refused_with_a_sentence(wrong, words, expect, keep) -> None:
    expect("InService tags", SubnetId="subnet-1", SecurityGroups=["sg-1"])
    result = keep("present", **{**NEW, **wrong})
    assert result["failed"] and words in result["msg"]


def test_the_same_groups_in_another_order_and_a_key_by_its_id_are_no_change(expect, keep) -> None:
    key = "arn:aws:kms:us-east-1:123456789012:key/1234"
    expect("InService tags", SubnetId="subnet-1", SecurityGroups=["sg-1", "sg-2"], KmsKeyId=key)
    assert not keep("present", security_group_ids=["sg-2", "sg-1"], kms_key_id="1234")["changed"]


@pytest.mark.parametrize("state", ["present", "started", "stopped", "restarted", "absent"])
@pytest.mark.parametrize("tags", [{}, {"lightsout:project": "other"}])
def test_somebody_elses_is_left_alone(state: str, tags, expect, keep) -> None:
    expect("InService tags", tags=tags)
    result = keep(state, **NEW)
    assert result["failed"] and "not ours" in result["msg"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"name": "x" * 64}, "has 64 characters: SageMaker allows 63"),
        ({"name": "lab_notebook"}, "name is 'lab_notebook': use letters"),
        ({"name": "-lab"}, "name is '-lab'"),
        ({"lifecycle_config_name": "a b"}, "lifecycle_config_name is 'a b'"),
        ({"instance_type": "t3.medium"}, "instance_type is 't3.medium'"),
        ({"role_arn": "sagemaker"}, "role_arn is 'sagemaker'"),
        ({"volume_size": 4}, "5 to 16384"),
        ({"additional_code_repositories": ["a", "b", "c", "d"]}, "allows 3"),
        ({"security_group_ids": list("abcdef")}, "allows 5"),
        ({"wait_timeout": 0}, "wait_timeout is 0"),
    ],
)
def test_what_cannot_be_is_said_before_anybody_is_asked(aws, keep, wrong, words) -> None:
    result = keep("present", **{**NEW, **wrong})
    assert result["failed"] and words in result["msg"] and "\n" not in result["msg"] and aws.calls == []


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({}, "instance_type is missing"),
        ({"instance_type": "ml.t3.medium"}, "role_arn is missing"),
        ({**NEW, "security_group_ids": ["sg-1"]}, "need subnet_id"),
        ({**NEW, "direct_internet_access": False}, "needs subnet_id and security_group_ids"),
    ],
)
def test_what_a_new_one_needs_is_said(expect, keep, params, words) -> None:
    expect("none")
    assert words in keep("present", **params)["msg"]


# -- races and failures -----------------------------------------------------------------------------------------------

DUPLICATE = f"Cannot create a duplicate Notebook Instance ({ARN})"


@pytest.mark.parametrize("code", ["ValidationException", "ResourceInUse"])
def test_another_run_that_was_first_is_as_good(code: str, aws, expect, keep) -> None:
    expect("none")
    aws.refuse("create_notebook_instance", code, DUPLICATE)
    expect("Pending tags Pending InService")
    result = keep("present", **NEW)
    assert not result["changed"] and result["notebook_instance"]["status"] == "InService"


def test_somebody_elses_that_was_first_is_refused(aws, expect, keep) -> None:
    expect("none")
    aws.refuse("create_notebook_instance", "ValidationException", DUPLICATE)
    expect("Pending tags", tags={})
    assert "not ours" in keep("present", **NEW)["msg"]


def test_a_role_that_is_new_is_waited_for(aws, expect, keep) -> None:
    expect("none")
    for _ in range(3):
        aws.refuse("create_notebook_instance", "ValidationException", "Could not assume role. Please ensure …")
    expect("create Pending InService")
    assert keep("present", **NEW)["changed"]


@pytest.mark.parametrize(
    "way", ["none create Pending Failed", "Stopped tags start Pending Failed", "Pending tags Failed"]
)
def test_one_that_fails_says_why(way: str, expect, keep) -> None:
    expect(way)
    result = keep("started", **NEW)
    assert result["failed"] and "no capacity for you" in result["msg"] and "state absent" in result["msg"]


def test_one_that_had_failed_shows_why(expect, keep) -> None:
    expect("Failed tags")
    assert keep("present", **NEW)["notebook_instance"]["failure_reason"] == "no capacity for you"


def test_a_refused_change_leaves_it_running(aws, expect, keep) -> None:
    expect("InService tags stop Stopping Stopped")
    aws.refuse("update_notebook_instance", "ResourceLimitExceeded", "0 instances of ml.g5.xlarge")
    expect("start Pending InService")
    result = keep("present", **{**NEW, **CHANGE})
    assert result["failed"] and "0 instances of ml.g5.xlarge" in result["msg"] and "started again" in result["msg"]


def test_a_refused_change_that_cannot_run_again_says_both(aws, expect, keep) -> None:
    expect("InService tags stop Stopping Stopped")
    aws.refuse("update_notebook_instance", "ResourceLimitExceeded", "0 instances of ml.g5.xlarge")
    aws.refuse("start_notebook_instance", "ResourceLimitExceeded", "none of the other either")
    expect("Stopped")
    msg = keep("present", **{**NEW, **CHANGE})["msg"]
    assert "0 instances of ml.g5.xlarge" in msg and "It is stopped now" in msg and "none of the other either" in msg


def test_an_idle_script_that_stops_it_first_is_no_failure(aws, expect, keep) -> None:
    expect("InService tags")
    words = "Status (Stopping) not in ([InService]). Unable to transition to (Stopping) for Notebook Instance"
    aws.refuse("stop_notebook_instance", "ValidationException", words)
    expect("Stopping Stopping Stopped")
    assert keep("stopped", **NEW)["notebook_instance"]["status"] == "Stopped"


def test_one_that_vanishes_while_it_is_waited_for_is_gone(expect, keep) -> None:
    expect("Stopping tags Stopping none")
    assert keep("absent")["notebook_instance"] == {}
    expect("Stopping tags Stopping none")
    assert "deleted while" in keep("started")["msg"]


def test_a_wait_ends_with_the_state_in_its_message(expect, keep) -> None:
    expect("InMaintenance tags" + " InMaintenance" * 8)
    msg = keep("started", wait_timeout=50, **NEW)["msg"]
    assert "still InMaintenance after 50 seconds" in msg and "run this again" in msg


def test_throttling_is_waited_out_by_the_client(monkeypatch: pytest.MonkeyPatch, run) -> None:
    """Through botocore's own retries, which the Stubber bypasses: answers come from where HTTP would be."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "stub")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "stub")
    time_flies(monkeypatch)
    bodies = {"DescribeNotebookInstance": {"NotebookInstanceArn": ARN, "NotebookInstanceStatus": "Stopped"}}
    sent = []

    def send(_session: Any, request: Any) -> AWSResponse:
        operation = request.headers["X-Amz-Target"].decode().partition(".")[2]
        sent.append(operation)
        busy = sent.count(operation) < 3
        body = {"__type": "ThrottlingException", "message": "x"} if busy else bodies.get(operation, {"Tags": []})
        response = AWSResponse(request.url, 400 if busy else 200, {}, None)
        response._content = json.dumps(body).encode()
        return response

    monkeypatch.setattr("botocore.httpsession.URLLib3Session.send", send)
    assert run(sagemaker_notebook_instance, name=NAME, state="stopped")["notebook_instance"]["status"] == "Stopped"
    assert sent == ["DescribeNotebookInstance"] * 3 + ["ListTags"] * 3


def test_a_service_that_throttles_for_ever_is_one_line(aws, keep) -> None:
    aws.refuse("describe_notebook_instance", "ThrottlingException", "Rate exceeded")
    result = keep("present", **NEW)
    assert result["failed"] and "Rate exceeded (ThrottlingException)" in result["msg"] and "\n" not in result["msg"]


# -- tags and diff ----------------------------------------------------------------------------------------------------


def test_tags_are_added_and_only_purged_when_asked(aws, expect, keep) -> None:
    had = {**TAGS, "team": "x", "aws:cloudformation:stack-name": "y"}
    expect("InService tags", tags=had)
    aws.answer("add_tags", {}, ResourceArn=ARN, Tags=[{"Key": "a", "Value": "b"}])
    assert keep("present", tags={**TAGS, "a": "b"})["notebook_instance"]["tags"] == {**had, "a": "b"}
    expect("InService tags", tags=had)
    aws.answer("delete_tags", {}, ResourceArn=ARN, TagKeys=["team"])
    result = keep("present", purge_tags=True)
    assert result["changes"]["tags"] == [had, {k: v for k, v in had.items() if k != "team"}]


def test_check_mode_shows_the_diff(expect, keep) -> None:
    expect("InService tags")
    result = keep("started", check=True, **{**NEW, **CHANGE, "tags": {**TAGS, "a": "b"}})
    assert result["changes"]["status"] == "restart"
    assert result["notebook_instance"]["instance_type"] == "ml.t3.medium"
    before, after = result["diff"]["before"], result["diff"]["after"]
    assert (before["instance_type"], after["instance_type"]) == ("ml.t3.medium", "ml.g5.xlarge")
    assert after["tags"] == {**TAGS, "a": "b"}
    expect("none")
    assert keep("present", check=True, **NEW)["diff"]["before"] == {}
    expect("Stopped tags")
    assert keep("absent", check=True)["diff"]["after"] == {}
