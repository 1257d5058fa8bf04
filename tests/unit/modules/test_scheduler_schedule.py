"""A schedule is as wanted, in a group that says whose it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.lightsout.aws.plugins.modules import scheduler_schedule
from moto.scheduler.models import EventBridgeSchedulerBackend
from moto.scheduler.responses import EventBridgeSchedulerResponse

from localcloud import schedules
from tests.helpers.moto import restored

NAME, GROUP = "lightsout-lab-machine-1", "lightsout-lab"
ROLE = "arn:aws:iam::123456789012:role/lightsout/us-east-1/lightsout-lab-stop-us-east-1"
STOP = "arn:aws:scheduler:::aws-sdk:ec2:stopInstances"
WANTED = {
    "group": GROUP,
    "group_tags": {"lightsout:project": "lab"},
    "expression": "at(2026-11-23T17:00:00)",
    "target": {"arn": STOP, "role_arn": ROLE, "input": {"InstanceIds": ["i-1"]}},
    "delete_after_completion": True,
}
WRITES = ("Create", "Update", "Delete", "Tag")


@pytest.fixture(autouse=True)
def whole_service() -> Iterator[None]:
    with restored(EventBridgeSchedulerBackend, EventBridgeSchedulerResponse):
        schedules.apply()
        yield


@pytest.fixture
def keep(aws, run):
    """Runs the module on one schedule; ``keep.wrote`` names the calls that changed something."""

    def keep(check: bool = False, **params: Any) -> Any:
        aws.calls.clear()
        result = run(scheduler_schedule, check=check, **{"name": NAME, **params})
        keep.wrote = [call for call in aws.calls if call.startswith(WRITES)]
        return result

    return keep


def stored(aws) -> dict[str, Any]:
    return aws.client("scheduler").get_schedule(Name=NAME, GroupName=GROUP)


def test_a_new_schedule_comes_with_its_group_and_the_groups_tags(aws, keep) -> None:
    result = keep(**WANTED)
    assert result["changed"] and keep.wrote == ["CreateScheduleGroup", "CreateSchedule"]
    made = stored(aws)
    assert (made["ScheduleExpression"], made["State"], made["ActionAfterCompletion"]) == (
        "at(2026-11-23T17:00:00)",
        "ENABLED",
        "DELETE",
    )
    assert json.loads(made["Target"]["Input"]) == {"InstanceIds": ["i-1"]}
    arn = aws.client("scheduler").get_schedule_group(Name=GROUP)["Arn"]
    tags = aws.client("scheduler").list_tags_for_resource(ResourceArn=arn)["Tags"]
    assert tags == [{"Key": "lightsout:project", "Value": "lab"}]


def test_a_second_time_changes_nothing_and_asks_twice(aws, keep) -> None:
    keep(**WANTED)
    assert not keep(**WANTED)["changed"]
    assert aws.calls == ["GetSchedule", "ListTagsForResource"]


def test_whoever_calls_need_not_know_his_account(aws, keep) -> None:
    nameless = {"arn": STOP.replace(":aws:", ":PARTITION:", 1), "role_arn": "arn:PARTITION:iam::ACCOUNT:role/x"}
    keep(**{**WANTED, "target": {**WANTED["target"], **nameless}})
    target = stored(aws)["Target"]
    assert (target["Arn"], target["RoleArn"]) == (STOP, "arn:aws:iam::123456789012:role/x")
    assert not keep(**{**WANTED, "target": {**WANTED["target"], **nameless}})["changed"]


def test_a_later_time_is_one_call_and_keeps_everything_else(aws, keep) -> None:
    keep(**WANTED)
    result = keep(**{**WANTED, "expression": "at(2026-11-24T05:00:00)"})
    assert keep.wrote == ["UpdateSchedule"]
    assert result["changes"] == {"expression": ["at(2026-11-23T17:00:00)", "at(2026-11-24T05:00:00)"]}
    assert (stored(aws)["ActionAfterCompletion"], stored(aws)["Target"]["RoleArn"]) == ("DELETE", ROLE)


def test_check_mode_changes_nothing(aws, keep) -> None:
    assert keep(check=True, **WANTED)["changes"] == {"group": "create", "schedule": "create"}
    assert keep.wrote == []
    keep(**WANTED)
    assert keep(check=True, **{**WANTED, "enabled": False})["changes"] == {"enabled": [True, False]}
    assert keep(check=True, group=GROUP, state="absent")["changes"] == {"schedule": "delete"}
    assert stored(aws)["State"] == "ENABLED"


def test_a_group_that_lost_its_tag_gets_it_back(aws, keep) -> None:
    aws.client("scheduler").create_schedule_group(Name=GROUP, Tags=[{"Key": "team", "Value": "x"}])
    keep(**WANTED)
    assert keep.wrote == ["TagResource", "CreateSchedule"]
    assert not keep(**WANTED)["changed"]


def test_absent_leaves_the_group(aws, keep) -> None:
    keep(**WANTED)
    assert keep(group=GROUP, state="absent")["schedule"] == {}
    assert not keep(group=GROUP, state="absent")["changed"]
    assert aws.client("scheduler").get_schedule_group(Name=GROUP)["Name"] == GROUP


def test_a_role_that_aws_does_not_know_yet_is_waited_for(aws, keep) -> None:
    aws.refuse("CreateSchedule", "ValidationException", times=3, message="The execution role you provide must allow …")
    assert keep(**WANTED)["changed"]
    assert keep.wrote.count("CreateSchedule") == 4


def test_two_runs_at_once_make_one_group(aws, keep) -> None:
    def other_run_first(_request: dict, go_on: Any) -> Any:
        go_on()
        return go_on()

    aws.on("CreateScheduleGroup", other_run_first)
    assert keep(**WANTED)["changed"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"expression": "tomorrow"}, "expression is 'tomorrow'"),
        ({"expression": "at(2026-11-23 17:00)"}, "at(2026-11-23T17:00:00)"),
        ({"name": "a b"}, "name is 'a b'"),
        ({"target": None}, "target is missing"),
        ({"flexible_minutes": 9999}, "flexible_minutes"),
    ],
)
def test_what_cannot_be_is_said_before_anybody_is_asked(aws, keep, wrong, words) -> None:
    result = keep(**{**WANTED, **wrong})
    assert result["failed"] and words in result["msg"] and aws.calls == []
