"""Studio's things are made, changed and deleted in the right order, and nobody else's is touched."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.lightsout.aws.plugins.modules import (
    sagemaker_app,
    sagemaker_domain,
    sagemaker_space,
    sagemaker_studio_info,
    sagemaker_user_profile,
)

from tests.helpers.stubs import Stubs, stubbed

DOMAIN, TAGS = "d-abcdefghijkl", {"lightsout:project": "lab"}
ROLE = "arn:aws:iam::123456789012:role/lightsout/us-east-1/lightsout-lab-studio"
ARN = f"arn:aws:sagemaker:us-east-1:123456789012:app/{DOMAIN}/lab/jupyterlab/default"
APP = {"DomainId": DOMAIN, "SpaceName": "lab", "AppType": "JupyterLab", "AppName": "default"}
NEW_DOMAIN = {"execution_role": ROLE, "vpc_id": "vpc-12345678", "subnet_ids": ["subnet-12345678"]}


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubs]:
    with stubbed(monkeypatch) as stubs:
        yield stubs


def tags(aws: Stubs, has: dict[str, str] = TAGS) -> None:
    aws.answer("list_tags", {"Tags": [{"Key": key, "Value": value} for key, value in has.items()]})


def app(aws: Stubs, words: str, spec: str = "ml.t3.medium") -> None:
    """Expect calls: a state is a Describe that says so, ``none`` one that finds nothing, ``vanished`` a late Delete."""
    for word in words.split():
        if word == "none":
            aws.refuse("describe_app", "ResourceNotFound", "App [default] does not exist.")
        elif word == "vanished":
            aws.refuse("delete_app", "ResourceNotFound", "App [default] does not exist.")
        elif word == "tags":
            tags(aws)
        elif word in ("create", "delete"):
            aws.answer(f"{word}_app", {"AppArn": ARN} if word == "create" else {})
        else:
            failed = {"FailureReason": "no capacity"} if word == "Failed" else {}
            answer = {**APP, "AppArn": ARN, "Status": word, "ResourceSpec": {"InstanceType": spec}, **failed}
            aws.answer("describe_app", answer, **APP)


@pytest.mark.parametrize(
    ("state", "words", "changed"),
    [
        ("present", "none create Pending InService", True),
        ("present", "Deleted create Pending InService", True),
        ("present", "InService tags", False),
        ("present", "Pending tags Pending InService", False),
        ("present", "Deleting Deleting Deleted create InService", True),
        ("present", "Failed tags Failed delete Deleting Deleted create InService", True),
        ("absent", "none", False),
        ("absent", "Deleted", False),
        ("absent", "Deleting Deleting Deleted", False),
        ("absent", "InService tags InService delete Deleting Deleted", True),
        ("absent", "Pending tags Pending Pending InService delete Deleting none", True),
        ("absent", "Failed tags Failed delete Deleted", True),
        ("absent", "InService tags InService vanished none", False),
    ],
)
def test_an_app_from_each_state_to_each(aws, run, state: str, words: str, changed: bool) -> None:
    app(aws, words)
    result = run(
        sagemaker_app, state=state, domain_id=DOMAIN, space_name="lab", kind="JupyterLab", tags=TAGS,
        **({"instance_type": "ml.t3.medium"} if state == "present" else {}),
    )  # fmt: skip
    assert not result["failed"], result
    assert result["changed"] is changed
    assert result["app"].get("status") == ("InService" if state == "present" else None)


def test_a_wait_that_takes_too_long_says_the_state(aws, run) -> None:
    app(aws, "none create Pending Pending")
    msg = run(sagemaker_app, domain_id=DOMAIN, space_name="lab", kind="JupyterLab", wait_timeout=1)["msg"]
    assert "still Pending after 1 seconds" in msg


def test_an_app_that_did_not_come_up_says_why(aws, run) -> None:
    app(aws, "none create Pending Failed")
    msg = run(sagemaker_app, domain_id=DOMAIN, space_name="lab", kind="JupyterLab")["msg"]
    assert "Studio app JupyterLab default of lab is Failed" in msg and "no capacity" in msg


def test_an_app_on_another_machine_is_refused(aws, run) -> None:
    app(aws, "InService tags")
    result = run(sagemaker_app, domain_id=DOMAIN, space_name="lab", kind="JupyterLab", instance_type="ml.g5.xlarge")
    assert result["failed"] and "ml.t3.medium and cannot become ml.g5.xlarge" in result["msg"]


def test_a_check_makes_no_app(aws, run) -> None:
    app(aws, "none")
    result = run(sagemaker_app, check=True, domain_id=DOMAIN, space_name="lab", kind="JupyterLab", tags=TAGS)
    assert result["changed"] and result["changes"] == {"app": "create"} and result["app"] == {}


# -- domains ----------------------------------------------------------------------------------------------------------
def domain(aws: Stubs, status: str | None = "InService", **more: Any) -> None:
    if status is None:
        aws.refuse("describe_domain", "ResourceNotFound", "Domain does not exist.")
        return
    aws.answer(
        "describe_domain",
        {
            "DomainId": DOMAIN,
            "DomainArn": f"arn:aws:sagemaker:us-east-1:123456789012:domain/{DOMAIN}",
            "DomainName": "lab",
            "Status": status,
            "AuthMode": "IAM",
            "VpcId": "vpc-12345678",
            "SubnetIds": ["subnet-12345678"],
            "HomeEfsFileSystemId": "fs-12345678",
            "DefaultUserSettings": {"ExecutionRole": ROLE, "SecurityGroups": ["sg-12345678"]},
            **more,
        },
        DomainId=DOMAIN,
    )


def listed(aws: Stubs, *names: str) -> None:
    aws.answer(
        "list_domains", {"Domains": [{"DomainId": n, "DomainName": "lab", "Status": "InService"} for n in names]}
    )


def contents(aws: Stubs, full: bool) -> None:
    here = {"DomainId": DOMAIN, "Status": "InService"}
    apps = [{**APP, "UserProfileName": "ada", "Status": status} for status in ("InService", "Deleted")]
    profiles = [{**here, "UserProfileName": "ada"}]
    aws.answer("list_apps", {"Apps": apps if full else []})
    aws.answer("list_spaces", {"Spaces": [{**here, "SpaceName": "lab"}] if full else []})
    aws.answer("list_user_profiles", {"UserProfiles": profiles if full else []})


def test_a_new_domain_is_asked_for_with_all_that_was_given(aws, run) -> None:
    listed(aws)
    idle = {"AppLifecycleManagement": {"IdleSettings": {"LifecycleManagement": "ENABLED", "IdleTimeoutInMinutes": 60}}}
    aws.answer(
        "create_domain",
        {"DomainArn": f"arn:aws:sagemaker:us-east-1:123456789012:domain/{DOMAIN}"},
        DomainName="lab",
        AuthMode="IAM",
        VpcId="vpc-12345678",
        SubnetIds=["subnet-12345678"],
        AppNetworkAccessType="VpcOnly",
        KmsKeyId="some-key",
        DefaultUserSettings={"ExecutionRole": ROLE, "JupyterLabAppSettings": idle, "CodeEditorAppSettings": idle},
        Tags=[{"Key": "lightsout:project", "Value": "lab"}],
    )
    domain(aws, "Pending")
    domain(aws)
    more = {"idle_timeout": 60, "network_access": "VpcOnly", "kms_key_id": "some-key", "tags": TAGS}
    assert run(sagemaker_domain, name="lab", **NEW_DOMAIN, **more)["domain"]["id"] == DOMAIN


def test_a_domain_that_is_as_wanted_stays(aws, run) -> None:
    listed(aws, DOMAIN)
    domain(aws)
    tags(aws)
    assert run(sagemaker_domain, name="lab", **NEW_DOMAIN, tags=TAGS)["changed"] is False


def test_a_change_leaves_what_is_set_beside_it(aws, run) -> None:
    listed(aws, DOMAIN)
    domain(aws)
    tags(aws)
    aws.answer(
        "update_domain",
        {},
        DomainId=DOMAIN,
        DefaultUserSettings={"ExecutionRole": f"{ROLE}-2", "SecurityGroups": ["sg-12345678"]},
    )
    domain(aws, "Updating")
    domain(aws)
    result = run(sagemaker_domain, name="lab", execution_role=f"{ROLE}-2")
    assert result["changes"] == {"default_user_settings.execution_role": [ROLE, f"{ROLE}-2"]}


@pytest.mark.parametrize(("option", "value"), [("vpc_id", "vpc-2"), ("kms_key_id", "k"), ("auth_mode", "SSO")])
def test_what_only_a_new_domain_can_have_is_refused(aws, run, option: str, value: str) -> None:
    listed(aws, DOMAIN)
    domain(aws)
    tags(aws)
    assert f"cannot become {value}" in run(sagemaker_domain, name="lab", **{option: value})["msg"]


def test_a_domain_with_something_in_it_stays(aws, run) -> None:
    listed(aws, DOMAIN)
    domain(aws)
    tags(aws)
    contents(aws, full=True)
    msg = run(sagemaker_domain, name="lab", state="absent", tags=TAGS)["msg"]
    assert (
        "is not empty" in msg
        and "Studio app JupyterLab default of lab, Studio space lab, Studio user profile ada" in msg
    )


def test_one_that_is_being_deleted_does_not_count_beside_its_successor(aws, run) -> None:
    both = [("d-old", "Deleting"), (DOMAIN, "InService")]
    aws.answer(
        "list_domains", {"Domains": [{"DomainId": i, "DomainName": "lab", "Status": status} for i, status in both]}
    )
    domain(aws)
    tags(aws)
    assert run(sagemaker_domain, name="lab", check=True, tags=TAGS)["domain"]["id"] == DOMAIN


@pytest.mark.parametrize("retain", [True, False])
def test_force_takes_what_is_in_it_in_the_right_order(aws, run, retain: bool) -> None:
    listed(aws, DOMAIN)
    domain(aws)
    tags(aws)
    contents(aws, full=True)
    app(aws, "InService delete Deleting Deleted")
    for word, prefix, name in (("space", "Space", "lab"), ("user_profile", "UserProfile", "ada")):
        key = {"DomainId": DOMAIN, f"{prefix}Name": name}
        aws.answer(f"describe_{word}", {**key, "Status": "InService"}, **key)
        aws.answer(f"delete_{word}", {}, **key)
        aws.refuse(f"describe_{word}", "ResourceNotFound")
    domain(aws)
    policy = {"HomeEfsFileSystem": "Retain" if retain else "Delete"}
    aws.answer("delete_domain", {}, DomainId=DOMAIN, RetentionPolicy=policy)
    domain(aws, "Deleting")
    domain(aws, None)
    result = run(sagemaker_domain, name="lab", state="absent", force=True, retain_efs=retain, tags=TAGS)
    assert result["changed"] and result["retained_efs"] == ("fs-12345678" if retain else "")


def test_another_projects_domain_is_refused(aws, run) -> None:
    listed(aws, DOMAIN)
    domain(aws)
    tags(aws, {"lightsout:project": "theirs"})
    assert "of project theirs" in run(sagemaker_domain, name="lab", state="absent", force=True, tags=TAGS)["msg"]


def test_a_space_changes_only_while_nothing_runs_and_never_shrinks(aws, run) -> None:
    storage = {"EbsStorageSettings": {"EbsVolumeSizeInGb": 20}}
    for _ in range(2):
        answer = {"SpaceSettings": {"AppType": "JupyterLab", "SpaceStorageSettings": storage}, "Status": "InService"}
        aws.answer("describe_space", {"DomainId": DOMAIN, "SpaceName": "lab", "SpaceArn": ARN, **answer})
        tags(aws)
    aws.answer("list_apps", {"Apps": [{**APP, "Status": "InService"}]})
    asked = {"domain_id": DOMAIN, "name": "lab", "tags": TAGS}
    assert "cannot shrink to 10" in run(sagemaker_space, volume_size=10, **asked)["msg"]
    assert "delete the app first" in run(sagemaker_space, volume_size=30, **asked)["msg"]


@pytest.mark.parametrize(
    ("module", "wrong", "says"),
    [
        (sagemaker_domain, {"name": "a_b"}, "name is 'a_b'"),
        (sagemaker_domain, {"name": "x" * 64}, "64 characters"),
        (sagemaker_domain, {"name": "lab", "idle_timeout": 59}, "idle_timeout is 59"),
        (sagemaker_domain, {"name": "lab", "idle_timeout": 525601}, "60 to 525600 minutes"),
        (sagemaker_domain, {"name": "lab", "idle_timeout": 90, "idle_timeout_max": 60}, "idle_timeout_max is 60"),
        (sagemaker_domain, {"name": "lab", "execution_role": "me"}, "execution_role is 'me'"),
        (sagemaker_domain, {"name": "lab", "subnet_ids": []}, "subnet_ids has 0 entries"),
        (sagemaker_user_profile, {"domain_id": "lab", "name": "ada"}, "domain_id is 'lab'"),
        (sagemaker_user_profile, {"domain_id": DOMAIN, "name": "-ada"}, "name is '-ada'"),
        (sagemaker_space, {"domain_id": DOMAIN, "name": "lab", "volume_size": 4}, "5 to 16384 GiB"),
        (sagemaker_space, {"domain_id": DOMAIN, "name": "lab", "kind": "CodeEditor", "idle_timeout": 0}, "is 0"),
        (
            sagemaker_app,
            {"domain_id": DOMAIN, "space_name": "lab", "kind": "CodeEditor", "instance_type": "t3"},
            "instance_type is 't3'",
        ),
        (sagemaker_studio_info, {"filters": {"domain_id": "lab"}}, "domain_id is 'lab'"),
    ],
)
def test_bad_options_are_told_before_any_call(aws, run, module, wrong: dict[str, Any], says: str) -> None:
    result = run(module, **wrong)
    assert result["failed"] and says in result["msg"] and aws.calls == []


def test_what_there_is_is_found_through_all_pages(aws, run) -> None:
    aws.answer("list_apps", {"Apps": [{**APP, "Status": "Deleted"}], "NextToken": "more"})
    aws.answer("list_apps", {"Apps": [{**APP, "UserProfileName": "ada", "Status": "InService"}]})
    app(aws, "InService tags")
    result = run(sagemaker_studio_info, kinds=["app"], filters={"space_name": "lab", "tags": TAGS})
    assert [(one["kind"], one["status"]) for one in result["apps"]] == [("JupyterLab", "InService")]
    assert result["domains"] == []
