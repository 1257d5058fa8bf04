"""A domain, a user profile and a space get from each state to each that is asked for, by the same ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
from ansible.module_utils import basic
from ansible_collections.lightsout.aws.plugins.modules import (
    sagemaker_domain,
    sagemaker_space,
    sagemaker_user_profile,
)

from tests.helpers.stubs import Stubs, stubbed

#: A domain that is made anew gets another ID.
DOMAIN, NEXT = "d-abcdefghijkl", "d-mnopqrstuvwx"
ARN = "arn:aws:sagemaker:us-east-1:123456789012:"
ROLE = "arn:aws:iam::123456789012:role/lightsout/us-east-1/lightsout-lab-studio"
TAGS = {"lightsout:project": "lab"}
TAG_LIST = [{"Key": "lightsout:project", "Value": "lab"}]
WHY = "no capacity for you"
VERBS = {"create", "update", "delete"}


def prefix(word: str) -> str:
    """How the service names what operations call so, for example ``UserProfile``."""
    return word.title().replace("_", "")


@dataclass(frozen=True)
class Case:
    """One kind of thing.

    Attributes:
        module: makes it.
        word: how operations and the module's result name it.
        title: what messages call it.
        key: the members that say which one; a domain's are known once it is found.
        arn: its ARN.
        named: the options that say which one.
        has: what the service shows of it, without key, ARN and state.
        new: the options that it was made with.
        made: what a creation sends, without key and tags.
        other: options that differ and can be updated.
        updated: what an update sends; also what the service shows afterwards.
        fixed: options that differ and cannot change.
        remade: what a creation with these sends, as ``made``; also what the service shows then.
        option: where the result has what ``other`` changes, and how that is and shall be.
        changed: how the result names it.
        inside: the listings that tell what is in it.
    """

    module: ModuleType
    word: str
    title: str
    key: dict[str, str]
    arn: str
    named: dict[str, Any]
    has: dict[str, Any]
    new: dict[str, Any]
    made: dict[str, Any]
    other: dict[str, Any]
    updated: dict[str, Any]
    fixed: dict[str, Any]
    remade: dict[str, Any]
    option: tuple[tuple[str, ...], Any, Any]
    changed: str
    inside: tuple[str, ...]

    @property
    def prefix(self) -> str:
        """How its own members begin."""
        return prefix(self.word)

    def options(self, asked: str) -> dict[str, Any]:
        """The module's options, for what is asked for."""
        more = {"other": self.other, "fixed": self.fixed}.get(asked, {})
        given = {"state": "absent"} if asked == "absent" else {**self.new, **more}
        return {**self.named, **given, "tags": TAGS}

    def value(self, thing: dict[str, Any]) -> Any:
        """What a result says of the option that can be updated."""
        for name in self.option[0]:
            thing = thing[name]
        return thing


SETTINGS = {"ExecutionRole": ROLE, "SecurityGroups": ["sg-12345678"]}
OTHER_SETTINGS = {**SETTINGS, "ExecutionRole": f"{ROLE}-2"}
NETWORK = {"VpcId": "vpc-12345678", "SubnetIds": ["subnet-12345678"]}
PERSON = {"SingleSignOnUserIdentifier": "UserName", "SingleSignOnUserValue": "ada"}
OF_ADA, PRIVATE = {"OwnerUserProfileName": "ada"}, {"SharingType": "Private"}


CONTENTS = {
    "app": {"DomainId": DOMAIN, "SpaceName": "lab", "AppType": "JupyterLab", "AppName": "default", "Status": "Pending"},
    "space": {"DomainId": DOMAIN, "SpaceName": "lab", "OwnershipSettingsSummary": OF_ADA, "Status": "Updating"},
    "user_profile": {"DomainId": DOMAIN, "UserProfileName": "ada", "Status": "Failed"},
}


def space_of(size: int) -> dict[str, Any]:
    return {
        "AppType": "JupyterLab",
        "SpaceStorageSettings": {"EbsStorageSettings": {"EbsVolumeSizeInGb": size}},
    }


CASES = [
    Case(
        module=sagemaker_domain,
        word="domain",
        title="Studio domain lab",
        key={"DomainId": DOMAIN},
        arn=f"{ARN}domain/{DOMAIN}",
        named={"name": "lab"},
        has={
            "DomainName": "lab",
            "AuthMode": "IAM",
            "HomeEfsFileSystemId": "fs-12345678",
            "DefaultUserSettings": SETTINGS,
            **NETWORK,
        },
        new={
            "execution_role": ROLE,
            "security_group_ids": ["sg-12345678"],
            "vpc_id": "vpc-12345678",
            "subnet_ids": ["subnet-12345678"],
        },
        made={"DomainName": "lab", "AuthMode": "IAM", "DefaultUserSettings": SETTINGS, **NETWORK},
        other={"execution_role": f"{ROLE}-2"},
        updated={"DefaultUserSettings": OTHER_SETTINGS},
        fixed={"vpc_id": "vpc-2"},
        remade={"VpcId": "vpc-2"},
        option=(("default_user_settings", "execution_role"), ROLE, f"{ROLE}-2"),
        changed="default_user_settings.execution_role",
        inside=("app", "space", "user_profile"),
    ),
    Case(
        module=sagemaker_user_profile,
        word="user_profile",
        title="Studio user profile ada",
        key={"DomainId": DOMAIN, "UserProfileName": "ada"},
        arn=f"{ARN}user-profile/{DOMAIN}/ada",
        named={"domain_id": DOMAIN, "name": "ada"},
        has={"UserSettings": SETTINGS, **PERSON},
        new={"execution_role": ROLE, "security_group_ids": ["sg-12345678"], "sso_user_name": "ada"},
        made={"UserSettings": SETTINGS, **PERSON},
        other={"execution_role": f"{ROLE}-2"},
        updated={"UserSettings": OTHER_SETTINGS},
        fixed={"sso_user_name": "bob"},
        remade={"SingleSignOnUserValue": "bob"},
        option=(("user_settings", "execution_role"), ROLE, f"{ROLE}-2"),
        changed="user_settings.execution_role",
        inside=("app", "space"),
    ),
    Case(
        module=sagemaker_space,
        word="space",
        title="Studio space lab",
        key={"DomainId": DOMAIN, "SpaceName": "lab"},
        arn=f"{ARN}space/{DOMAIN}/lab",
        named={"domain_id": DOMAIN, "name": "lab"},
        has={"SpaceSettings": space_of(20), "OwnershipSettings": OF_ADA, "SpaceSharingSettings": PRIVATE},
        new={"owner_user_profile_name": "ada", "kind": "JupyterLab", "volume_size": 20},
        made={"SpaceSettings": space_of(20), "OwnershipSettings": OF_ADA, "SpaceSharingSettings": PRIVATE},
        other={"volume_size": 30},
        updated={"SpaceSettings": space_of(30)},
        fixed={"owner_user_profile_name": "bob"},
        remade={"OwnershipSettings": {"OwnerUserProfileName": "bob"}},
        option=(("settings", "space_storage_settings", "ebs_storage_settings", "ebs_volume_size_in_gb"), 20, 30),
        changed="ebs_storage_settings.ebs_volume_size_in_gb",
        inside=("app",),
    ),
]

#: From each state to each that can be asked for: all calls, in order. A state is a Describe that says so, ``none`` one
#: that finds nothing, ``inside`` lists what is in it, and ``apps`` what runs in a space; for the others it is nothing.
MADE, UPDATED, GONE = "create Pending InService", "apps update Updating InService", "delete Deleting none"
WAYS = {
    "none": {
        "same": f"none {MADE}",
        "other": f"none {MADE}",
        "fixed": f"none {MADE}",
        "absent": "none",
    },
    "Pending": {
        "same": "Pending tags Pending InService",
        "other": f"Pending tags Pending InService {UPDATED}",
        "fixed": "Pending tags Pending InService fails: cannot become",
        "absent": f"Pending tags inside Pending Pending InService {GONE}",
    },
    "InService": {
        "same": "InService tags",
        "other": f"InService tags {UPDATED}",
        "fixed": "InService tags fails: cannot become",
        "absent": f"InService tags inside InService {GONE}",
    },
    "Updating": {
        "same": "Updating tags Updating InService",
        "other": f"Updating tags Updating InService {UPDATED}",
        "fixed": "Updating tags Updating InService fails: cannot become",
        "absent": f"Updating tags inside Updating Updating InService {GONE}",
    },
    "Deleting": {
        "same": f"Deleting Deleting none {MADE}",
        "other": f"Deleting Deleting none {MADE}",
        "fixed": f"Deleting Deleting none {MADE}",
        "absent": "Deleting Deleting none",
    },
    "Failed": {
        "same": f"Failed tags fails: {WHY}",
        "other": f"Failed tags fails: {WHY}",
        "fixed": f"Failed tags fails: {WHY}",
        "absent": f"Failed tags inside Failed {GONE}",
    },
    "Update_Failed": {
        "same": "Update_Failed tags",
        "other": f"Update_Failed tags {UPDATED}",
        "fixed": "Update_Failed tags fails: cannot become",
        "absent": f"Update_Failed tags inside Update_Failed {GONE}",
    },
    "Delete_Failed": {
        "same": f"Delete_Failed tags fails: {WHY}",
        "other": f"Delete_Failed tags fails: {WHY}",
        "fixed": f"Delete_Failed tags fails: {WHY}",
        "absent": f"Delete_Failed tags inside Delete_Failed {GONE}",
    },
}
TABLE = [(status, asked) for status, ways in WAYS.items() for asked in ways]
Ask = Callable[..., Any]


@pytest.fixture(params=CASES, ids=lambda case: case.word)
def case(request) -> Case:
    return request.param


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubs]:
    with stubbed(monkeypatch) as stubs:
        yield stubs


@pytest.fixture
def ask(aws: Stubs, case: Case, run) -> Ask:
    """Runs the module on its way through some calls."""

    def ask(
        asked: str, way: str, check: bool = False, tags: dict[str, str] = TAGS, full: bool = False, **more: Any
    ) -> Any:
        expect(aws, case, asked, way.split(), tags, full)
        return run(case.module, check=check, **{**case.options(asked), **more})

    return ask


def expect(
    aws: Stubs, case: Case, asked: str, words: list[str], tags: dict[str, str] = TAGS, full: bool = False
) -> None:
    """Expect the calls of a way, with all that they send; a full thing has something of each kind in it."""
    is_domain, key, now = case.word == "domain", case.key, case.has
    wanted = {"other": case.updated, "fixed": case.remade}.get(asked, {})
    for place, word in enumerate(words):
        if is_domain and (place == 0 or words[place - 1] == "taken"):
            found = [] if word == "none" else [{**key, "DomainName": "lab", "Status": word}]
            aws.answer("list_domains", {"Domains": found})
            if word == "none":
                continue
        if word == "none":
            aws.refuse(f"describe_{case.word}", "ResourceNotFound", "does not exist")
        elif word == "taken":
            aws.refuse(f"create_{case.word}", "ResourceInUse", "already exists")
        elif word == "tags":
            answer = [{"Key": name, "Value": value} for name, value in tags.items()]
            aws.answer("list_tags", {"Tags": answer}, ResourceArn=case.arn)
        elif word in ("apps", "inside"):
            for listing in case.inside if word == "inside" or case.word == "space" else ():
                found = [CONTENTS[listing]] if full else []
                aws.answer(f"list_{listing}s", {f"{prefix(listing)}s": found}, DomainIdEquals=DOMAIN)
        elif word == "becomes":  # no call: another run has changed it
            now = {**now, **wanted}
        elif word == "create":
            # The ID of a new domain is in the answer; that of one before it has no place in the request.
            request = {**({} if is_domain else key), **case.made, **wanted, "Tags": TAG_LIST}
            key = {"DomainId": NEXT} if is_domain else key
            arn = f"{ARN}domain/{NEXT}" if is_domain else case.arn
            aws.answer(f"create_{case.word}", {f"{case.prefix}Arn": arn}, **request)
            now = {**now, **wanted}
        elif word == "update":
            aws.answer(f"update_{case.word}", {}, **key, **case.updated)
            now = {**now, **wanted}
        elif word == "delete":
            policy = {"RetentionPolicy": {"HomeEfsFileSystem": "Retain"}} if is_domain else {}
            aws.answer(f"delete_{case.word}", {}, **key, **policy)
        else:
            failed = {"FailureReason": WHY} if "Failed" in word else {}
            answer = {**key, f"{case.prefix}Arn": case.arn, "Status": word, **now, **failed}
            aws.answer(f"describe_{case.word}", answer, **key)


def states(way: str) -> list[str]:
    """The states that are seen on a way, in order."""
    return [word for word in way.split() if word in WAYS]


def changes(case: Case, words: set[str]) -> dict[str, Any]:
    """What the module says that it does on a way."""
    if "update" in words:
        return {case.changed: list(case.option[1:])}
    done = VERBS & words
    return {case.word: done.pop()} if done else {}


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the module warned of."""
    said: list[str] = []
    monkeypatch.setattr(basic.AnsibleModule, "warn", lambda _self, text, **_rest: said.append(text))
    return said


# -- the table --------------------------------------------------------------------------------------------------------


def test_the_table_knows_every_state_of_the_service(aws, case) -> None:
    shape = aws.client("sagemaker").meta.service_model.shape_for(f"{case.prefix}Status")
    assert {*shape.enum, "none"} == set(WAYS)
    assert all(set(ways) == {"same", "other", "fixed", "absent"} for ways in WAYS.values())


@pytest.mark.parametrize(("status", "asked"), TABLE)
def test_each_state_leads_to_each(status: str, asked: str, case, ask) -> None:
    way, _, says = WAYS[status][asked].partition(" fails: ")
    result = ask(asked, way)
    assert result["failed"] is bool(says), result.get("msg")
    if says:
        assert says in result["msg"] and case.title in result["msg"] and "state absent" in result["msg"]
        return
    assert result["changes"] == changes(case, set(way.split()))
    assert result["changed"] is bool(result["changes"])
    assert result["previous_status"] == ("" if status == "none" else status)
    thing, final = result[case.word], states(way)[-1]
    assert thing.get("status", "none") == final == ("none" if asked == "absent" else final)
    assert asked == "absent" or case.value(thing) == case.option[2 if asked == "other" else 1]
    assert result["diff"]["after"] == thing


@pytest.mark.parametrize(("status", "asked"), TABLE)
def test_a_check_says_the_same_and_does_nothing(status: str, asked: str, case, aws, ask) -> None:
    way, _, says = WAYS[status][asked].partition(" fails: ")
    words = way.split()
    result = ask(asked, " ".join([status, *(word for word in ("tags", "inside", "apps") if word in words)]), check=True)
    assert [call for call in aws.calls if not call.startswith(("Describe", "List"))] == []
    assert result["failed"] is bool(says), result.get("msg")
    if says:
        assert says in result["msg"] and case.title in result["msg"]
        return
    assert result["changes"] == changes(case, set(words))
    assert result["changed"] is bool(result["changes"])
    # What is being deleted already counts as gone.
    assert result[case.word].get("status", "none") == ("none" if status == "Deleting" else status)
    before, after = result["diff"]["before"], result["diff"]["after"]
    assert before == result[case.word]
    if asked == "absent":
        assert after == {}
        return
    assert case.value(after) == case.option[2 if asked == "other" else 1]
    assert after["tags"] == TAGS
    # A new one has no state, and a new domain no ID, before it is there.
    assert {"id", "arn", "status"} & set(after) == {"id", "arn", "status"} & set(before)


@pytest.mark.parametrize("check", [False, True], ids=["run", "check"])
@pytest.mark.parametrize(("status", "asked"), [(s, a) for s, a in TABLE if s not in ("none", "Deleting")])
def test_somebody_elses_is_left_alone_in_each(status: str, asked: str, check: bool, case, ask) -> None:
    result = ask(asked, f"{status} tags", check=check, tags={"lightsout:project": "theirs"})
    assert result["failed"] and f"{case.title} already, of project theirs, so it is not ours" in result["msg"]


@pytest.mark.parametrize("asked", WAYS["InService"])
def test_what_has_no_project_is_left_alone(asked: str, case, ask) -> None:
    assert "without the tag lightsout:project, so it is not ours" in ask(asked, "InService tags", tags={})["msg"]


@pytest.mark.parametrize("check", [False, True], ids=["run", "check"])
@pytest.mark.parametrize("status", [s for s in WAYS if s not in ("none", "Deleting")])
def test_what_has_something_in_it_stays_in_each(status: str, check: bool, case, ask) -> None:
    msg = ask("absent", f"{status} tags inside", check=check, full=True)["msg"]
    names = ["Studio app JupyterLab default of lab", "Studio space lab", "Studio user profile ada"]
    assert f"is not empty, and nothing was deleted: {', '.join(names[: len(case.inside)])}." in msg


@pytest.mark.parametrize("case", [CASES[-1]], ids=["space"], indirect=True)
@pytest.mark.parametrize("way", ["InService tags apps", "Update_Failed tags apps"])
@pytest.mark.parametrize("check", [False, True], ids=["run", "check"])
def test_a_space_in_which_something_runs_stays_as_it_is(way: str, check: bool, case, ask) -> None:
    assert "can change only while nothing runs in it" in ask("other", way, check=check, full=True)["msg"]


# -- waits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "way"),
    [
        ("same", "none create Pending Failed"),
        ("same", "Pending tags Pending Failed"),
        ("other", "Pending tags Failed"),
        ("fixed", "Pending tags Failed"),
        ("other", "InService tags apps update Updating Update_Failed"),
        ("same", "Deleting Deleting Delete_Failed"),
        ("absent", "Deleting Deleting Delete_Failed"),
        ("absent", "InService tags inside InService delete Deleting Delete_Failed"),
        ("absent", "Pending tags inside Failed delete Deleting Delete_Failed"),
    ],
)
def test_what_ends_badly_says_why(asked: str, way: str, case, ask) -> None:
    msg = ask(asked, way)["msg"]
    assert case.title in msg and WHY in msg


def test_a_failure_without_a_reason_says_that_there_is_none(case, ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.WHY", "")
    assert f"{case.title} is Failed: SageMaker gives no reason." in ask("same", "Failed tags")["msg"]


@pytest.mark.parametrize("way", ["Update_Failed tags", "Updating tags Updating Update_Failed"])
def test_a_change_that_failed_before_is_a_warning(way: str, case, ask, warned) -> None:
    result = ask("same", way)
    assert not result["changed"] and result[case.word]["failure_reason"] == WHY
    assert warned == [f"The last change of the {case.title} failed: {WHY}."]


@pytest.mark.parametrize(
    "way",
    [
        "Deleting none",
        "InService tags inside none none",
        "InService tags inside Deleting Deleting none",
        "Pending tags inside Pending Pending none none",
    ],
)
def test_what_goes_by_itself_is_gone_and_no_change(way: str, case, ask) -> None:
    result = ask("absent", way)
    assert result[case.word] == {} and result["changes"] == {} and not result["changed"]
    assert result.get("retained_efs", "") == ""  # whether it was kept, who deleted the domain knows


@pytest.mark.parametrize("status", ["Pending", "Updating"])
def test_what_becomes_as_wanted_by_itself_is_no_change(status: str, case, ask) -> None:
    result = ask("other", f"{status} tags becomes InService")
    assert result["changes"] == {} and case.value(result[case.word]) == case.option[2]


def test_what_goes_while_it_is_wanted_is_told(case, ask) -> None:
    assert "was deleted while it was waited for" in ask("same", "Updating tags Updating none")["msg"]


@pytest.mark.parametrize(
    ("asked", "way"),
    [
        ("same", "none create Pending"),
        ("same", "Pending tags Pending"),
        ("other", "Pending tags Pending"),
        ("fixed", "Pending tags Pending"),
        ("absent", "Pending tags inside Pending Pending"),
        ("same", "Updating tags Updating"),
        ("other", "Updating tags Updating"),
        ("fixed", "Updating tags Updating"),
        ("absent", "Updating tags inside Updating Updating"),
        ("same", "Deleting Deleting"),
        ("other", "Deleting Deleting"),
        ("fixed", "Deleting Deleting"),
        ("absent", "Deleting Deleting"),
        ("other", "InService tags apps update Updating"),
        ("absent", "InService tags inside InService delete Deleting"),
    ],
)
def test_a_state_that_never_ends_is_told(asked: str, way: str, case, ask) -> None:
    stuck = states(way)[-1]
    msg = ask(asked, f"{way} {stuck} {stuck}", wait_timeout=5)["msg"]
    assert f"{case.title} is still {stuck} after 5 seconds" in msg and "run this again" in msg


@pytest.mark.parametrize(
    ("asked", "way"),
    [
        ("same", "none create Pending"),
        ("same", "Pending tags"),
        ("same", "Updating tags"),
        ("same", "Deleting none create Pending"),
        ("other", "InService tags apps update Updating"),
        ("other", "Pending tags InService apps update Updating"),
        ("absent", "InService tags inside InService delete Deleting"),
        ("absent", "Deleting"),
    ],
)
def test_without_waiting_it_returns_as_soon_as_it_can(asked: str, way: str, case, ask) -> None:
    result = ask(asked, way, wait=False)
    assert result["changes"] == changes(case, set(way.split()))
    assert result[case.word]["status"] == states(way)[-1]
    assert result["diff"]["after"] == result[case.word]


# -- races ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["none taken InService tags", "Deleting none taken Pending tags Pending InService"])
def test_another_run_that_was_first_is_as_good(way: str, case, ask) -> None:
    result = ask("same", way)
    assert not result["changed"] and result[case.word]["status"] == "InService"


def test_somebody_elses_that_was_first_is_refused(case, ask) -> None:
    assert "not ours" in ask("same", "none taken Pending tags", tags={})["msg"]


# -- what cannot change -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "wrong", "says"),
    [
        ("domain", {"vpc_id": "vpc-2"}, "VpcId is vpc-12345678 and cannot become vpc-2"),
        ("domain", {"auth_mode": "SSO"}, "AuthMode is IAM and cannot become SSO"),
        ("domain", {"kms_key_id": "key"}, "KmsKeyId is not set and cannot become key"),
        ("user_profile", {"sso_user_name": "bob"}, "SingleSignOnUserValue is ada and cannot become bob"),
        ("space", {"owner_user_profile_name": "bob"}, "OwnerUserProfileName is ada and cannot become bob"),
        ("space", {"sharing": "Shared"}, "SharingType is Private and cannot become Shared"),
        ("space", {"kind": "CodeEditor"}, "AppType is JupyterLab and cannot become CodeEditor"),
        ("space", {"volume_size": 10}, "volume_size is 20 GiB and cannot shrink to 10"),
    ],
)
@pytest.mark.parametrize("check", [False, True], ids=["run", "check"])
def test_each_thing_that_cannot_change_is_refused(word: str, wrong, says: str, check: bool, aws, run) -> None:
    case = next(case for case in CASES if case.word == word)
    expect(aws, case, "same", ["InService", "tags"])
    assert says in run(case.module, check=check, **{**case.options("same"), **wrong})["msg"]
