"""Schedules run at their time, once, and what EventBridge Scheduler refuses is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.scheduler.exceptions import ValidationException
from moto.scheduler.models import EventBridgeSchedulerBackend
from moto.scheduler.responses import EventBridgeSchedulerResponse

from localcloud import schedules
from localcloud.schedules import Runner, Times
from tests.helpers.moto import restored

ROLE = "arn:aws:iam::123456789012:role/stop"
STOP = "arn:aws:scheduler:::aws-sdk:ec2:stopInstances"


class Clock:
    """A time that tests move."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC).replace(microsecond=0)

    def __call__(self) -> datetime:
        return self.now

    def at(self, seconds: int, zone: timedelta = timedelta()) -> str:
        """The expression for so many seconds from now, on a wall clock that is ``zone`` ahead of UTC."""
        return f"at({(self.now + timedelta(seconds=seconds) + zone):%Y-%m-%dT%H:%M:%S})"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def scheduler(monkeypatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with restored(EventBridgeSchedulerBackend, EventBridgeSchedulerResponse), mock_aws():
        schedules.apply()
        yield boto3.client("scheduler", region_name="eu-central-1")


@pytest.fixture
def called() -> list[tuple[Any, ...]]:
    return []


@pytest.fixture
def runner(clock, called) -> Runner:
    return Runner(lambda *words: called.append(words), clock)


@pytest.fixture
def schedule(scheduler) -> Callable[..., None]:
    def schedule(expression: str, **words: Any) -> None:
        target = {"Arn": STOP, "RoleArn": ROLE, "Input": '{"InstanceIds": ["i-1"]}'}
        asked = {"Name": "one", "FlexibleTimeWindow": {"Mode": "OFF"}, "Target": target, **words}
        scheduler.create_schedule(ScheduleExpression=expression, **asked)

    return schedule


def names(scheduler) -> list[str]:
    return [one["Name"] for one in scheduler.list_schedules()["Schedules"]]


def test_it_calls_the_api_of_its_region_at_its_time_and_not_before(scheduler, schedule, runner, clock, called) -> None:
    schedule(clock.at(60), ActionAfterCompletion="DELETE")
    clock.now += timedelta(seconds=59)
    runner.look()
    assert called == []
    clock.now += timedelta(seconds=1)
    runner.look()
    runner.look()
    assert called == [("eu-central-1", "ec2", "stopInstances", {"InstanceIds": ["i-1"]})]
    assert names(scheduler) == []


def test_a_time_that_passed_while_nobody_looked_is_made_up_for_once(scheduler, schedule, runner, clock, called) -> None:
    schedule(clock.at(-3600))
    runner.look()
    runner.look()
    assert len(called) == 1 and names(scheduler) == ["one"]


def test_the_wall_clock_of_its_time_zone_counts(schedule, runner, clock, called) -> None:
    schedule(clock.at(60, timedelta(hours=5, minutes=30)), ScheduleExpressionTimezone="Asia/Kolkata")
    runner.look()
    assert called == []
    clock.now += timedelta(seconds=61)
    runner.look()
    assert len(called) == 1


def test_a_disabled_one_rests_and_a_moved_one_runs_at_its_new_time(scheduler, schedule, runner, clock, called) -> None:
    schedule(clock.at(10), State="DISABLED")
    clock.now += timedelta(seconds=20)
    runner.look()
    assert called == []
    same = {"Name": "one", "FlexibleTimeWindow": {"Mode": "OFF"}, "ActionAfterCompletion": "DELETE"}
    scheduler.update_schedule(
        ScheduleExpression=clock.at(30), Target={"Arn": STOP, "RoleArn": ROLE, "Input": "{}"}, **same
    )
    runner.look()
    assert called == [] and scheduler.get_schedule(Name="one")["State"] == "ENABLED"
    clock.now += timedelta(seconds=31)
    runner.look()
    assert len(called) == 1 and names(scheduler) == []


def test_what_failed_is_tried_again_as_often_as_its_policy_says(scheduler, schedule, clock) -> None:
    tries = []

    def broken(*_words: Any) -> None:
        tries.append(clock.now)
        raise ClientError({"Error": {"Code": "IncorrectInstanceState", "Message": "pending"}}, "StopInstances")

    target = {"Arn": STOP, "RoleArn": ROLE, "RetryPolicy": {"MaximumRetryAttempts": 2, "MaximumEventAgeInSeconds": 600}}
    schedule(clock.at(0), Target=target, ActionAfterCompletion="DELETE")
    runner = Runner(broken, clock)
    for _ in range(60):
        runner.look()
        clock.now += timedelta(seconds=1)
    assert len(tries) == 3 and names(scheduler) == []


def test_a_rate_runs_again_and_again(schedule, runner, clock, called) -> None:
    schedule("rate(2 minutes)")
    for _ in range(30):
        runner.look()
        clock.now += timedelta(seconds=10)
    assert len(called) == 2


@pytest.mark.parametrize(
    ("expression", "zone", "following"),
    [
        ("cron(0 20 ? * MON-FRI *)", "UTC", "2026-11-23T20:00:00+00:00"),  # the 21st is a Saturday
        ("cron(0 20 ? * MON-FRI *)", "Europe/Berlin", "2026-11-23T19:00:00+00:00"),
        ("cron(*/15 * * * ? *)", "UTC", "2026-11-21T12:15:00+00:00"),
        ("cron(30 6 1 JAN,JUL ? *)", "UTC", "2027-01-01T06:30:00+00:00"),
        ("cron(0 0 1 1 ? 2025)", "UTC", None),
        ("at(2026-11-21T11:59:59)", "UTC", None),
    ],
)
def test_times(expression, zone, following) -> None:
    now = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
    found = Times(expression, zone).next(now, now)
    assert (found.astimezone(UTC).isoformat() if found else None) == following


@pytest.mark.parametrize(
    ("expression", "zone"),
    [
        ("at(2026-13-01T00:00:00)", "UTC"),
        ("rate(0 minutes)", "UTC"),
        ("cron(0 20 * * MON *)", "UTC"),
        ("cron(61 20 * * ? *)", "UTC"),
        ("soon", "UTC"),
        ("at(2026-11-21T11:59:59)", "Mars/Olympus"),
    ],
)
def test_what_means_nothing_is_refused(expression, zone) -> None:
    with pytest.raises(ValidationException):
        Times(expression, zone)


def test_refusals_of_the_api(scheduler, schedule, clock) -> None:
    def code(call: Callable[..., Any], **words: Any) -> str:
        with pytest.raises(ClientError) as error:
            call(**words)
        return error.value.response["Error"]["Code"]

    looking = {"Arn": "arn:aws:scheduler:::aws-sdk:ec2:describeInstances", "RoleArn": ROLE}
    when = {"expression": clock.at(5)}
    assert code(schedule, **when, Target=looking) == "ValidationException"
    assert code(schedule, **when, Target={"Arn": STOP, "RoleArn": ROLE, "Input": "no"}) == "ValidationException"
    assert code(schedule, **when, GroupName="none") == "ResourceNotFoundException"
    scheduler.create_schedule_group(Name="mine")
    assert code(scheduler.create_schedule_group, Name="mine") == "ConflictException"
    scheduler.delete_schedule_group(Name="mine")
    assert code(scheduler.delete_schedule_group, Name="mine") == "ResourceNotFoundException"
    assert code(scheduler.delete_schedule_group, Name="default") == "ValidationException"
