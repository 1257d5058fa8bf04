"""Studio's domains, user profiles, spaces and apps: states, refusals, the order of their end."""

from __future__ import annotations

from typing import Any

import pytest
from moto.ec2.models import ec2_backends
from moto.efs.models import efs_backends

from localcloud import sagemaker, sagemaker_studio
from localcloud.settings import ACCOUNT
from tests.helpers.moto import refusal

ROLE = f"arn:aws:iam::{ACCOUNT}:role/notebook"
USER = {"ExecutionRole": ROLE}
OWNED = {"OwnershipSettings": {"OwnerUserProfileName": "ada"}, "SpaceSharingSettings": {"SharingType": "Private"}}


@pytest.fixture
def sm(taught, client_of_sagemaker) -> Any:
    sagemaker_studio.apply()
    return client_of_sagemaker


@pytest.fixture
def network() -> dict[str, Any]:
    """Where a domain may be."""
    subnet = ec2_backends[ACCOUNT]["us-east-1"].get_default_subnets()["us-east-1a"]
    return {"VpcId": subnet.vpc_id, "SubnetIds": [subnet.id]}


@pytest.fixture
def domain(sm, backstage, network) -> dict[str, str]:
    """A domain in service, as calls name it."""
    made = sm.create_domain(DomainName="lab", AuthMode="IAM", DefaultUserSettings=USER, **network)
    backstage.work()
    return {"DomainId": made["DomainId"]}


@pytest.fixture
def space(sm, backstage, domain) -> dict[str, str]:
    """A space of a user's own, for JupyterLab."""
    sm.create_user_profile(**domain, UserProfileName="ada")
    sm.create_space(**domain, SpaceName="notes", SpaceSettings={"AppType": "JupyterLab"}, **OWNED)
    backstage.work()
    return {**domain, "SpaceName": "notes"}


@pytest.fixture
def app(sm, backstage, space) -> dict[str, str]:
    """An app that runs."""
    app = {**space, "AppType": "JupyterLab", "AppName": "default"}
    sm.create_app(**app)
    backstage.work()
    return app


def test_a_domain_is_described_as_it_was_asked_for_and_has_an_encrypted_file_system(sm, backstage, network):
    tags = [{"Key": "a", "Value": "b"}]
    made = sm.create_domain(DomainName="lab", AuthMode="IAM", DefaultUserSettings=USER, Tags=tags, **network)
    assert sm.describe_domain(DomainId=made["DomainId"])["Status"] == "Pending"
    backstage.work()
    found = sm.describe_domain(DomainId=made["DomainId"])
    assert (found["Status"], found["AppNetworkAccessType"]) == ("InService", "PublicInternetOnly")
    assert found["DefaultUserSettings"] == USER
    assert found["Url"] == made["Url"] == f"https://{made['DomainId']}.studio.us-east-1.sagemaker.aws"
    home = efs_backends[ACCOUNT]["us-east-1"].file_systems_by_id[found["HomeEfsFileSystemId"]]
    assert (home.encrypted, home.number_of_mount_targets) == (True, 1)
    assert sm.list_tags(ResourceArn=made["DomainArn"])["Tags"] == tags
    assert [each["DomainId"] for each in sm.list_domains()["Domains"]] == [made["DomainId"]]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            {"AuthMode": "none"},
            "at 'authMode' failed to satisfy constraint: Member must satisfy enum value set",
        ),
        ({"DomainName": "a_b"}, "at 'domainName' failed to satisfy constraint"),
        ({"SubnetIds": ["subnet-1"]}, "The subnet ID 'subnet-1' does not exist"),
        ({"VpcId": None}, "VpcId and SubnetIds must be specified"),
        ({"DefaultUserSettings": {}}, "ExecutionRole must be specified"),
        ({"DefaultUserSettings": {"ExecutionRole": ROLE + "s"}}, "Could not assume role"),
        ({"DefaultUserSettings": {**USER, "SecurityGroups": ["sg-1"]}}, "The security group 'sg-1' does not exist"),
    ],
)
def test_a_domain_that_cannot_be_is_refused(sm, network, words, complaint):
    asked = {"DomainName": "lab", "AuthMode": "IAM", "DefaultUserSettings": USER, **network, **words}
    code, message = refusal(sm.create_domain, **{name: value for name, value in asked.items() if value is not None})
    assert (code, complaint in message) == ("ValidationException", True), message
    assert sm.list_domains()["Domains"] == []


def test_an_update_changes_what_it_names(sm, backstage, domain):
    idle = {"AppLifecycleManagement": {"IdleSettings": {"LifecycleManagement": "ENABLED", "IdleTimeoutInMinutes": 60}}}
    sm.update_domain(**domain, DefaultUserSettings={"JupyterLabAppSettings": idle})
    assert sm.describe_domain(**domain)["Status"] == "Updating"
    assert refusal(sm.update_domain, **domain)[0] == "ResourceInUse"
    backstage.work()
    found = sm.describe_domain(**domain)
    assert (found["Status"], found["DefaultUserSettings"]) == ("InService", {**USER, "JupyterLabAppSettings": idle})
    idle["AppLifecycleManagement"]["IdleSettings"]["IdleTimeoutInMinutes"] = 59
    code, message = refusal(sm.update_domain, **domain, DefaultUserSettings={"JupyterLabAppSettings": idle})
    assert (code, "greater than or equal to 60" in message) == ("ValidationException", True)


def test_what_does_not_exist_is_not_found(sm, domain):
    nobody = {**domain, "UserProfileName": "bob"}
    nowhere = {**domain, "SpaceName": "nowhere"}
    nothing = {**nowhere, "AppType": "JupyterLab", "AppName": "default"}
    for kind, names in (("user_profile", nobody), ("space", nowhere), ("app", nothing)):
        for verb in ("describe", "delete"):
            assert refusal(getattr(sm, f"{verb}_{kind}"), **names)[0] == "ResourceNotFound"
    for verb in ("describe", "update", "delete"):
        assert refusal(getattr(sm, f"{verb}_domain"), DomainId="d-000000000000")[0] == "ResourceNotFound"
    assert refusal(sm.create_user_profile, DomainId="d-000000000000", UserProfileName="ada")[0] == "ResourceNotFound"
    assert refusal(sm.create_space, **nowhere, **OWNED)[0] == "ResourceNotFound"


def test_names_are_taken_once(sm, domain, app, network):
    again = {"DomainName": "lab", "AuthMode": "IAM", "DefaultUserSettings": USER, **network}
    assert refusal(sm.create_domain, **again)[0] == "ResourceInUse"
    assert refusal(sm.create_user_profile, **domain, UserProfileName="ada")[0] == "ResourceInUse"
    assert refusal(sm.create_space, **domain, SpaceName="notes")[0] == "ResourceInUse"
    assert refusal(sm.create_app, **app)[0] == "ResourceInUse"


def test_everything_ends_in_its_order_only(sm, backstage, domain, space, app):
    profile = {**domain, "UserProfileName": "ada"}
    for call, names, by in (
        (sm.delete_domain, domain, "UserProfile"),
        (sm.delete_user_profile, profile, "Space"),
        (sm.delete_space, space, "App"),
    ):
        code, message = refusal(call, **names)
        assert (code, f"because {by}(s) are associated with it" in message) == ("ResourceInUse", True)
    sm.delete_app(**app)
    assert sm.describe_app(**app)["Status"] == "Deleting"
    assert refusal(sm.delete_space, **space)[0] == "ResourceInUse"
    backstage.work()
    assert sm.describe_app(**app)["Status"] == "Deleted"
    assert [each["Status"] for each in sm.list_apps()["Apps"]] == ["Deleted"]
    assert refusal(sm.delete_app, **app)[0] == "ResourceInUse"
    for call, names in ((sm.delete_space, space), (sm.delete_user_profile, profile), (sm.delete_domain, domain)):
        call(**names)
        backstage.work()
    left = sm.list_spaces()["Spaces"], sm.list_user_profiles()["UserProfiles"], sm.list_domains()["Domains"]
    assert left == ([], [], [])


@pytest.mark.parametrize(("policy", "left"), [(None, 1), ("Retain", 1), ("Delete", 0)])
def test_the_file_system_stays_unless_its_end_is_asked_for(sm, backstage, domain, policy, left):
    home = sm.describe_domain(**domain)["HomeEfsFileSystemId"]
    words = {"RetentionPolicy": {"HomeEfsFileSystem": policy}} if policy else {}
    sm.delete_domain(**domain, **words)
    assert sm.describe_domain(**domain)["Status"] == "Deleting"
    backstage.work()
    assert refusal(sm.describe_domain, **domain)[0] == "ResourceNotFound"
    efs = efs_backends[ACCOUNT]["us-east-1"]
    assert (home in efs.file_systems_by_id, len(efs.mount_targets_by_id)) == (bool(left), left)


def test_a_space_has_a_disk_that_only_grows_and_not_under_an_app(sm, backstage, space):
    def disk(size: int) -> dict[str, Any]:
        return {"SpaceStorageSettings": {"EbsStorageSettings": {"EbsVolumeSizeInGb": size}}}

    assert sm.describe_space(**space)["SpaceSettings"] == {"AppType": "JupyterLab", **disk(5)}
    sm.update_space(**space, SpaceSettings=disk(8))
    backstage.work()
    assert refusal(sm.update_space, **space, SpaceSettings=disk(7))[0] == "ValidationException"
    (listed,) = sm.list_spaces(SpaceNameContains="note")["Spaces"]
    assert listed["SpaceSettingsSummary"] == {
        "AppType": "JupyterLab",
        **{"SpaceStorageSettings": disk(8)["SpaceStorageSettings"]},
    }
    assert listed["OwnershipSettingsSummary"] == OWNED["OwnershipSettings"]
    sm.create_app(**space, AppType="JupyterLab", AppName="default")
    backstage.work()
    assert refusal(sm.update_space, **space, SpaceSettings=disk(9))[0] == "ResourceInUse"


def test_an_app_is_in_a_space_of_its_kind(sm, domain, space):
    for words, complaint in (
        ({**space, "AppType": "CodeEditor"}, "is for AppType JupyterLab, not CodeEditor"),
        ({**space, "AppType": "JupyterServer"}, "no longer supported"),
        ({**domain, "AppType": "JupyterLab"}, "Either UserProfileName or SpaceName"),
        ({**domain, "UserProfileName": "ada", "AppType": "JupyterLab"}, "SpaceName must be specified"),
        ({**space, "AppType": "JupyterLab", "AppName": "mine"}, "must be default"),
        ({**space, "AppType": "JupyterLab", "ResourceSpec": {"InstanceType": "t3"}}, "at 'resourceSpec.instanceType'"),
    ):
        code, message = refusal(sm.create_app, **{"AppName": "default", **words})
        assert (code, complaint in message) == ("ValidationException", True), message
    assert sm.list_apps()["Apps"] == []


def test_an_app_runs_again_after_it_was_deleted(sm, backstage, app, space):
    assert sm.describe_app(**app)["ResourceSpec"] == {"InstanceType": "ml.t3.medium"}
    sm.delete_app(**app)
    backstage.work()
    sm.create_app(**app, ResourceSpec={"InstanceType": "ml.g5.xlarge"})
    assert sm.describe_app(**app)["Status"] == "Pending"
    backstage.work()
    (listed,) = sm.list_apps(DomainIdEquals=app["DomainId"], SpaceNameEquals="notes")["Apps"]
    assert (listed["Status"], listed["ResourceSpec"]["InstanceType"]) == ("InService", "ml.g5.xlarge")
    assert sm.list_apps(SpaceNameEquals="other")["Apps"] == []


def test_an_app_without_a_machine_left_has_failed_and_one_too_many_is_refused(sm, backstage, space):
    app, kind = (
        {**space, "AppType": "JupyterLab", "AppName": "default"},
        {"ResourceSpec": {"InstanceType": "ml.g5.xlarge"}},
    )
    sagemaker.limits.order({"quotas": {"ml.g5.xlarge": 0}})
    assert refusal(sm.create_app, **app, **kind)[0] == "ResourceLimitExceeded"
    sagemaker.limits.order({"quotas": {}, "exhausted": ["ml.g5.xlarge"]})
    sm.create_app(**app, **kind)
    backstage.work()
    found = sm.describe_app(**app)
    assert (found["Status"], "InsufficientCapacityError" in found["FailureReason"]) == ("Failed", True)
    sm.delete_app(**app)


def test_a_link_is_for_a_user_and_lives_as_long_as_is_allowed(sm, backstage, domain):
    assert refusal(sm.create_presigned_domain_url, **domain, UserProfileName="ada")[0] == "ResourceNotFound"
    sm.create_user_profile(**domain, UserProfileName="ada")
    assert refusal(sm.create_presigned_domain_url, **domain, UserProfileName="ada")[0] == "ResourceInUse"
    backstage.work()
    url = sm.create_presigned_domain_url(**domain, UserProfileName="ada")["AuthorizedUrl"]
    assert url.startswith(f"https://{domain['DomainId']}.studio.us-east-1.sagemaker.aws/auth?token=")
    code, _ = refusal(sm.create_presigned_domain_url, **domain, UserProfileName="ada", ExpiresInSeconds=301)
    assert code == "ValidationException"


def test_tags_of_all_kinds_are_found_by_their_arn(sm, domain, app):
    arns = [
        sm.describe_domain(**domain)["DomainArn"],
        sm.describe_user_profile(**domain, UserProfileName="ada")["UserProfileArn"],
        sm.describe_space(**domain, SpaceName="notes")["SpaceArn"],
        sm.describe_app(**app)["AppArn"],
    ]
    for place in arns:
        sm.add_tags(ResourceArn=place, Tags=[{"Key": "k", "Value": place[-20:]}])
    for place in arns:
        assert sm.list_tags(ResourceArn=place)["Tags"] == [{"Key": "k", "Value": place[-20:]}]
    (backend,) = sagemaker.backends()
    assert {each.arn for each in backend.iter_tagged_resources()} == set(arns)


def test_lifecycle_configurations(sm):
    made = sm.create_studio_lifecycle_config(
        StudioLifecycleConfigName="idle", StudioLifecycleConfigContent="aWQK", StudioLifecycleConfigAppType="JupyterLab"
    )
    found = sm.describe_studio_lifecycle_config(StudioLifecycleConfigName="idle")
    assert (found["StudioLifecycleConfigArn"], found["StudioLifecycleConfigContent"]) == (
        made["StudioLifecycleConfigArn"],
        "aWQK",
    )
    assert len(sm.list_studio_lifecycle_configs(AppTypeEquals="JupyterLab")["StudioLifecycleConfigs"]) == 1
    assert sm.list_studio_lifecycle_configs(AppTypeEquals="CodeEditor")["StudioLifecycleConfigs"] == []
    sm.delete_studio_lifecycle_config(StudioLifecycleConfigName="idle")
    assert refusal(sm.describe_studio_lifecycle_config, StudioLifecycleConfigName="idle")[0] == "ResourceNotFound"
