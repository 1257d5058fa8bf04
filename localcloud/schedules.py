"""EventBridge Scheduler: what moto lacks of its API, and somebody who carries the schedules out.

Schedules run their universal targets (``arn:aws:scheduler:::aws-sdk:ec2:stopInstances``) by calling this cloud's API.

https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import boto3
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from moto.core.exceptions import JsonRESTError
from moto.scheduler.exceptions import ScheduleGroupNotFound, ValidationException
from moto.scheduler.models import EventBridgeSchedulerBackend, Schedule, ScheduleGroup, scheduler_backends
from moto.scheduler.responses import EventBridgeSchedulerResponse

from localcloud.settings import ACCESS_KEY, SECRET_KEY, log

#: Seconds between two looks at the schedules; AWS's own are precise to a minute.
LOOK_EVERY = 0.5

_AT = re.compile(r"at\((\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\)")
_RATE = re.compile(r"rate\(([1-9]\d*) (minute|hour|day)s?\)")
_CRON = re.compile(r"cron\((\S+) (\S+) (\S+) (\S+) (\S+) (\S+)\)")
_UNIVERSAL = re.compile(r"arn:aws[a-z-]*:scheduler:::aws-sdk:([a-z0-9]+):([a-zA-Z0-9]+)")

_MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]


class GroupExists(JsonRESTError):
    """There is such a group already."""

    code = 409

    def __init__(self, name: str) -> None:
        super().__init__("ConflictException", f"Schedule group {name} already exists.")


# -- times ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Times:
    """When a schedule runs.

    Raises:
        ValidationException: AWS would not take the expression or the time zone either.
    """

    expression: str
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        try:
            ZoneInfo(self.timezone)
            once = _AT.fullmatch(self.expression)
            if once:
                datetime.fromisoformat(once[1])
            elif cron := _CRON.fullmatch(self.expression):
                _cron_fields(cron.groups())
            elif not _RATE.fullmatch(self.expression):
                raise ValueError
        except (ValueError, KeyError, OSError) as error:
            raise ValidationException(f"Invalid Schedule Expression {self.expression}.") from error

    @property
    def once(self) -> bool:
        """Whether it runs a single time."""
        return bool(_AT.fullmatch(self.expression))

    def next(self, after: datetime, made: datetime) -> datetime | None:
        """The first time later than ``after``; None when there is none.

        Args:
            after: with a time zone.
            made: when the schedule was made; rates count from then.
        """
        if once := _AT.fullmatch(self.expression):
            when = datetime.fromisoformat(once[1]).replace(tzinfo=ZoneInfo(self.timezone))
            return when if when > after else None
        if rate := _RATE.fullmatch(self.expression):
            step = timedelta(**{f"{rate[2]}s": int(rate[1])})
            passed = max((after - made) // step, 0)
            return made + step * (passed + 1)
        return _next_of_cron(_cron_fields(_CRON.fullmatch(self.expression).groups()), after, ZoneInfo(self.timezone))


def _numbers(text: str, low: int, high: int, names: list[str] | None = None) -> set[int]:
    """One field of a cron expression.

    Raises:
        ValueError: it is none that we know; the letters L, W and # among them.
    """

    def number(word: str) -> int:
        if names and word.upper() in names:
            return names.index(word.upper()) + 1
        value = int(word)
        if not low <= value <= high:
            raise ValueError(word)
        return value

    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        if span in ("*", "?"):
            first, last = low, high
        else:
            begin, _, end = span.partition("-")
            first = number(begin)
            last = number(end) if end else high if step else first
        found |= set(range(first, last + 1, int(step) if step else 1))
    return found


def _cron_fields(fields: tuple[str, ...]) -> list[set[int]]:
    """Minutes, hours, days of the month, months, days of the week (1 is Sunday), years."""
    minute, hour, day, month, weekday, year = fields
    if (day == "?") == (weekday == "?"):
        raise ValueError("one of the two kinds of days must be ?, and the other not")
    return [
        _numbers(minute, 0, 59),
        _numbers(hour, 0, 23),
        _numbers(day, 1, 31),
        _numbers(month, 1, 12, _MONTHS),
        _numbers(weekday, 1, 7, _DAYS),
        _numbers(year, 1970, 2199),
    ]


def _next_of_cron(fields: list[set[int]], after: datetime, zone: ZoneInfo) -> datetime | None:
    """Day by day, then the first hour and minute of it; None when no year is left."""
    minutes, hours, days, months, weekdays, years = fields
    local = after.astimezone(zone)
    day = local.replace(hour=0, minute=0, second=0, microsecond=0)
    for _ in range(366 * 5):
        fits = day.day in days and day.month in months and day.year in years and day.isoweekday() % 7 + 1 in weekdays
        for hour in sorted(hours) if fits else ():
            for minute in sorted(minutes):
                when = day.replace(hour=hour, minute=minute)
                if when > after:
                    return when
        day = (day + timedelta(days=1)).replace(hour=0)
    return None


# -- the API ----------------------------------------------------------------------------------------------------------
def apply() -> None:
    """What moto lacks: groups that must exist, expressions with a meaning, updates of ActionAfterCompletion."""
    create, update = EventBridgeSchedulerBackend.create_schedule, EventBridgeSchedulerResponse.update_schedule

    def created(backend: EventBridgeSchedulerBackend, *args: Any, **words: Any) -> Schedule:
        backend.get_schedule_group(words["group_name"])
        Times(words["schedule_expression"], words["schedule_expression_timezone"] or "UTC")
        check_target(words["target"])
        return create(backend, *args, **words)

    def updated(response: EventBridgeSchedulerResponse) -> str:
        Times(response._get_param("ScheduleExpression"), response._get_param("ScheduleExpressionTimezone") or "UTC")
        check_target(response._get_param("Target"))
        answer = update(response)
        name = response.uri.split("?")[0].split("/")[-1]
        schedule = response.scheduler_backend.get_schedule(response._get_param("GroupName"), name)
        schedule.action_after_completion = response._get_param("ActionAfterCompletion") or "NONE"
        schedule.state = schedule.state or "ENABLED"
        return answer

    make = EventBridgeSchedulerBackend.create_schedule_group

    def grouped(backend: EventBridgeSchedulerBackend, name: str, tags: list[dict[str, str]]) -> ScheduleGroup:
        if name in backend.schedule_groups:
            raise GroupExists(name)
        return make(backend, name, tags or [])

    remove = EventBridgeSchedulerBackend.delete_schedule_group

    def ungrouped(backend: EventBridgeSchedulerBackend, name: str | None) -> None:
        if name not in backend.schedule_groups:
            raise ScheduleGroupNotFound(name or "default")
        if name == "default":
            raise ValidationException("The default schedule group cannot be deleted.")
        remove(backend, name)

    EventBridgeSchedulerBackend.create_schedule, EventBridgeSchedulerResponse.update_schedule = created, updated
    EventBridgeSchedulerBackend.create_schedule_group = grouped
    EventBridgeSchedulerBackend.delete_schedule_group = ungrouped


def check_target(target: dict[str, Any]) -> None:
    """A universal target names an API that changes something, and its input is JSON.

    Raises:
        ValidationException: it does not.
    """
    universal = _UNIVERSAL.fullmatch(target["Arn"])
    if universal and universal[2].startswith(("get", "describe", "list")):
        raise ValidationException(f"Read-only API actions such as {universal[2]} are not supported.")
    try:
        json.loads(target.get("Input") or "{}")
    except ValueError as error:
        raise ValidationException("Provided Input is not valid JSON.") from error


# -- carrying out -----------------------------------------------------------------------------------------------------
class Runner:
    """Runs what is due.

    Args:
        call: makes a call; receives region, service, action and parameters, and raises when it fails.
        now: the time.
    """

    def __init__(
        self,
        call: Callable[[str, str, str, dict[str, Any]], Any],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._call, self._now = call, now
        self._due: dict[int, tuple[tuple[Any, ...], Schedule, datetime | None]] = {}
        self._failed: dict[int, tuple[int, datetime]] = {}

    @staticmethod
    def schedules() -> Iterator[tuple[str, ScheduleGroup, Schedule]]:
        """Region, group and schedule, of all accounts."""
        for account in list(scheduler_backends.values()):
            for region, backend in list(account.items()):
                for group in list(backend.schedule_groups.values()):
                    for schedule in list(group.schedules.values()):
                        yield region, group, schedule

    def look(self) -> None:
        """Run what is due now, once."""
        there = list(self.schedules())
        alive = {id(schedule) for _region, _group, schedule in there}
        self._due = {key: due for key, due in self._due.items() if key in alive}
        for region, group, schedule in there:
            due = self._time_of(schedule)
            if due and schedule.state != "DISABLED" and due <= self._now():
                self._run(region, group, schedule, due)

    def _time_of(self, schedule: Schedule) -> datetime | None:
        """When it runs next; a changed schedule is reckoned anew. One time that has passed already is due at once."""
        version = (schedule.schedule_expression, schedule.schedule_expression_timezone, schedule.last_modified_date)
        known = self._due.get(id(schedule))
        if known is None or known[0] != version:
            times = Times(schedule.schedule_expression, schedule.schedule_expression_timezone)
            made = datetime.fromtimestamp(schedule.last_modified_date, UTC)
            begin = datetime.min.replace(tzinfo=UTC) if times.once else made
            self._failed.pop(id(schedule), None)
            self._due[id(schedule)] = (version, schedule, times.next(begin, made))
        return self._due[id(schedule)][2]

    def _run(self, region: str, group: ScheduleGroup, schedule: Schedule, due: datetime) -> None:
        tries, again = self._failed.get(id(schedule), (0, due))
        if self._now() < again:
            return
        try:
            self._target(region, schedule)
            log(f"schedule {group.name}/{schedule.name}: {schedule.target['Arn'].rpartition('aws-sdk:')[2]}")
        except (BotoCoreError, ClientError, LookupError, AttributeError, TypeError) as error:
            log(f"schedule {group.name}/{schedule.name} failed: {error}")
            policy = schedule.target["RetryPolicy"]
            age = (self._now() - due).total_seconds()
            if tries < policy["MaximumRetryAttempts"] and age < policy["MaximumEventAgeInSeconds"]:
                self._failed[id(schedule)] = (tries + 1, self._now() + timedelta(seconds=min(2**tries, 60)))
                return
        self._failed.pop(id(schedule), None)
        self._completed(group, schedule)

    def _target(self, region: str, schedule: Schedule) -> None:
        universal = _UNIVERSAL.fullmatch(schedule.target["Arn"])
        if not universal:
            raise LookupError(f"the local cloud runs universal targets only, not {schedule.target['Arn']}")
        self._call(region, universal[1], universal[2], json.loads(schedule.target.get("Input") or "{}"))

    def _completed(self, group: ScheduleGroup, schedule: Schedule) -> None:
        version, _schedule, _due = self._due[id(schedule)]
        times = Times(schedule.schedule_expression, schedule.schedule_expression_timezone)
        made = datetime.fromtimestamp(schedule.last_modified_date, UTC)
        following = None if times.once else times.next(self._now(), made)
        self._due[id(schedule)] = (version, schedule, following)
        if following is None and schedule.action_after_completion == "DELETE":
            group.schedules.pop(schedule.name, None)

    def forever(self) -> None:
        """Look again and again; a fault in one look does not end it."""
        while True:
            time.sleep(LOOK_EVERY)
            try:
                self.look()
            except Exception as error:
                log("schedules:", repr(error))


def caller(endpoint: str) -> Callable[[str, str, str, dict[str, Any]], Any]:
    """Calls this cloud's own API."""
    session = boto3.Session(aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY)

    def call(region: str, service: str, action: str, parameters: dict[str, Any]) -> Any:
        client = session.client(
            service, region_name=region, endpoint_url=endpoint, config=Config(retries={"total_max_attempts": 1})
        )
        return getattr(client, xform_name(action[0].upper() + action[1:]))(**parameters)

    return call


def start(endpoint: str) -> None:
    """Carry schedules out in the background until the process ends."""
    threading.Thread(target=Runner(caller(endpoint)).forever, name="schedules", daemon=True).start()
