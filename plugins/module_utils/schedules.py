# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Schedules of EventBridge Scheduler, and the deadlines among them: the end of a machine's lease, enforced by AWS."""

from __future__ import annotations

import datetime
import json
import re
from typing import Any

from ansible_collections.lightsout.aws.plugins.module_utils.naming import TAG_EXPIRES
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import error_code

NOT_FOUND = "ResourceNotFoundException"

#: What we keep of a schedule, under the names of our module's options.
SETTINGS = (
    "expression",
    "timezone",
    "target",
    "description",
    "flexible_minutes",
    "enabled",
    "delete_after_completion",
)


def find(client, group: str, name: str) -> dict[str, Any] | None:
    """A schedule as AWS describes it, None when there is none."""
    try:
        return client.get_schedule(GroupName=group, Name=name)
    except Exception as error:
        if error_code(error) == NOT_FOUND:
            return None
        raise


def read(raw: dict[str, Any]) -> dict[str, Any]:
    """AWS's description under our names."""
    target, retry = raw["Target"], raw["Target"].get("RetryPolicy") or {}
    window = raw.get("FlexibleTimeWindow") or {}
    return {
        "arn": raw["Arn"],
        "expression": raw["ScheduleExpression"],
        "timezone": raw.get("ScheduleExpressionTimezone") or "UTC",
        "target": {
            "arn": target["Arn"],
            "role_arn": target["RoleArn"],
            "input": json.loads(target.get("Input") or "{}"),
            "retries": retry.get("MaximumRetryAttempts", 185),
            "retry_for": retry.get("MaximumEventAgeInSeconds", 86400),
        },
        "description": raw.get("Description") or "",
        "flexible_minutes": window.get("MaximumWindowInMinutes") or 0,
        "enabled": raw.get("State", "ENABLED") == "ENABLED",
        "delete_after_completion": raw.get("ActionAfterCompletion") == "DELETE",
    }


def request(wanted: dict[str, Any]) -> dict[str, Any]:
    """Our names as the API takes them."""
    target, minutes = wanted["target"], wanted["flexible_minutes"]
    found = {
        "ScheduleExpression": wanted["expression"],
        "ScheduleExpressionTimezone": wanted["timezone"],
        "Target": {
            "Arn": target["arn"],
            "RoleArn": target["role_arn"],
            "Input": json.dumps(target["input"]),
            "RetryPolicy": {
                "MaximumRetryAttempts": target["retries"],
                "MaximumEventAgeInSeconds": target["retry_for"],
            },
        },
        "FlexibleTimeWindow": {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": minutes} if minutes else {"Mode": "OFF"},
        "State": "ENABLED" if wanted["enabled"] else "DISABLED",
        "ActionAfterCompletion": "DELETE" if wanted["delete_after_completion"] else "NONE",
    }
    if wanted["description"]:
        found["Description"] = wanted["description"]
    return found


# -- deadlines --------------------------------------------------------------------------------------------------------
def deadline_name(machine: str) -> str:
    """The name of a machine's deadline, from the machine's own."""
    return re.sub(r"[^0-9a-zA-Z_.-]", "-", machine)[:64]


def at(expires: str) -> str:
    """The expression for the end of a lease, as the tag has it: ISO 8601 in UTC."""
    return f"at({expires.removesuffix('Z')})"


def deadline_is_right(raw: dict[str, Any] | None, machine: dict[str, Any], now: datetime.datetime) -> bool:
    """Whether AWS will stop this machine at the end of its lease.

    Args:
        raw: the schedule as AWS describes it; None for none.
        machine: with ``id`` and ``tags``.
        now: a machine whose lease is over already only needs a deadline that lies ahead.
    """
    expires = machine["tags"].get(TAG_EXPIRES, "")
    return stops_in_time(raw, {"InstanceIds": [machine["id"]]}, expires, now)


def stops_in_time(raw: dict[str, Any] | None, target: dict[str, Any], expires: str, now: datetime.datetime) -> bool:
    """Whether a schedule is about this and runs at the end of its lease.

    Args:
        raw: the schedule as AWS describes it; None for none.
        target: what the call that it makes is about.
        expires: the end of the lease, as the tag has it.
        now: a lease that is over already only needs a schedule that lies ahead.
    """
    if raw is None:
        return False
    schedule = read(raw)
    if schedule["target"]["input"] != target or not schedule["enabled"]:
        return False
    today = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return schedule["expression"] == at(expires) if expires > today else schedule["expression"] > at(today)
