# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Monthly cost budgets: how one looks on AWS, what is wanted of it, and what has to change.

Budgets belong to an account, not to a region; AWS answers for them in us-east-1. They refresh about three times a day,
so that a budget is an alarm and not a brake.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.lightsout.aws.plugins.module_utils.calls import at_once, pages
from ansible_collections.lightsout.aws.plugins.module_utils.naming import TAG_PROJECT, tags_as_dict
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import error_code

REGION = "us-east-1"

#: At most so many notifications a budget has, and so many e-mail addresses one of them.
MOST_NOTIFICATIONS, MOST_EMAILS = 10, 10

#: What is told when nothing else is asked for: half, most and all of it spent; and all of it foreseen.
ALERTS = (("actual", 50.0), ("actual", 80.0), ("actual", 100.0), ("forecasted", 100.0))

EMAIL = re.compile(r"[^@\s,]+@[^@\s,]+\.[^@\s,]+")

#: One notification: who is told, by what is compared, at how many percent of the limit.
Alert = tuple[str, float]


@dataclass(frozen=True)
class Stop:
    """An action that stops machines when the money is spent.

    Attributes:
        threshold: percent of the limit.
        region: of the machines.
        instance_ids: the machines; AWS takes at most 100 and no tags.
        role_arn: what the action may do.
        emails: who is told that it ran.
    """

    threshold: float
    region: str
    instance_ids: tuple[str, ...]
    role_arn: str
    emails: tuple[str, ...]

    def request(self) -> dict[str, Any]:
        """As the API takes it, but for the budget that it belongs to."""
        return {
            "NotificationType": "ACTUAL",
            "ActionThreshold": {"ActionThresholdValue": self.threshold, "ActionThresholdType": "PERCENTAGE"},
            "Definition": {
                "SsmActionDefinition": {
                    "ActionSubType": "STOP_EC2_INSTANCES",
                    "Region": self.region,
                    "InstanceIds": list(self.instance_ids),
                }
            },
            "ExecutionRoleArn": self.role_arn,
            "ApprovalModel": "AUTOMATIC",
            "Subscribers": subscribers(self.emails),
        }


@dataclass
class Budget:
    """A budget as it is.

    Attributes:
        limit: USD a month; None where the limit is of another kind.
        project: the project whose tag it counts; None for the whole account.
        ours: it counts what we can count, by month: nothing else has been put into it.
        alerts: e-mail addresses by alert.
        foreign: notifications that are not in percent or tell others than e-mail addresses; left alone.
        stops: actions that stop machines, by id.
        spent, foreseen: USD of this month, None where AWS does not say.
    """

    name: str
    limit: float | None
    project: str | None
    ours: bool = True
    alerts: dict[Alert, tuple[str, ...]] = field(default_factory=dict)
    foreign: list[dict[str, Any]] = field(default_factory=list)
    stops: dict[str, Stop] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    spent: float | None = None
    foreseen: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """For a module's result."""
        return {
            "name": self.name,
            "limit": self.limit,
            "project": self.project,
            "alerts": [
                {"type": kind, "threshold": threshold, "emails": list(emails)}
                for (kind, threshold), emails in sorted(self.alerts.items())
            ],
            "stops": [
                {"id": key, "threshold": stop.threshold, "region": stop.region, "instance_ids": list(stop.instance_ids)}
                for key, stop in self.stops.items()
            ],
            "tags": self.tags,
            "spent": self.spent,
            "forecast": self.foreseen,
        }


def arn(account: str, name: str, partition: str = "aws") -> str:
    """What tags of a budget hang on."""
    return f"arn:{partition}:budgets::{account}:budget/{name}"


def subscribers(emails: tuple[str, ...]) -> list[dict[str, str]]:
    """E-mail addresses as the API takes them."""
    return [{"SubscriptionType": "EMAIL", "Address": address} for address in emails]


def request(name: str, limit: float, project: str | None) -> dict[str, Any]:
    """A monthly cost budget as the API takes it.

    Args:
        name: of the budget.
        limit: USD a month.
        project: count what carries this project's tag only; None for all that the account spends.
    """
    budget: dict[str, Any] = {
        "BudgetName": name,
        "BudgetType": "COST",
        "TimeUnit": "MONTHLY",
        "BudgetLimit": {"Amount": f"{limit:.2f}", "Unit": "USD"},
    }
    if project:
        budget["CostFilters"] = {"TagKeyValue": [f"user:{TAG_PROJECT}${project}"]}
    return budget


def wanted_alerts(emails: list[str], alerts: list[dict[str, Any]] | None) -> dict[Alert, tuple[str, ...]] | None:
    """E-mail addresses by alert; None where any are right.

    Args:
        emails: who is told where an alert does not say.
        alerts: with ``type``, ``threshold`` and ``emails`` each; None for the usual ones.
    """
    everybody = tuple(sorted(set(emails)))
    if alerts is None:
        return dict.fromkeys(ALERTS, everybody) if everybody else None
    return {
        (one.get("type") or "actual", float(one["threshold"])): tuple(sorted(set(one.get("emails") or everybody)))
        for one in alerts
    }


def notification(alert: Alert) -> dict[str, Any]:
    """An alert as the API takes it."""
    kind, threshold = alert
    return {
        "NotificationType": kind.upper(),
        "ComparisonOperator": "GREATER_THAN",
        "Threshold": threshold,
        "ThresholdType": "PERCENTAGE",
    }


def observe(client, account: str, name: str) -> Budget | None:
    """The budget of that name, with everything that hangs on it; None when there is none.

    Costs three calls at the same time after the first, and one more for each notification.
    """
    which = {"AccountId": account, "BudgetName": name}
    try:
        raw = client.describe_budget(**which)["Budget"]
    except Exception as error:
        if error_code(error) == "NotFoundException":
            return None
        raise
    answers = _all(
        {
            "notifications": lambda: pages(client, "describe_notifications_for_budget", "Notifications", **which),
            "actions": lambda: pages(client, "describe_budget_actions_for_budget", "Actions", **which),
            "tags": lambda: client.list_tags_for_resource(ResourceARN=arn(account, name, _partition(client))),
        }
    )
    told = _all(
        {
            number: lambda one=one: pages(
                client, "describe_subscribers_for_notification", "Subscribers", Notification=_key(one), **which
            )
            for number, one in enumerate(answers["notifications"])
        }
    )
    budget = _read(raw)
    for number, one in enumerate(answers["notifications"]):
        alert = _alert(one, told[number])
        if alert is None:
            budget.foreign.append(_key(one))
        else:
            budget.alerts[alert] = tuple(sorted(each["Address"] for each in told[number]))
    for action in answers["actions"]:
        stop = _stop(action)
        if stop:
            budget.stops[action["ActionId"]] = stop
    budget.tags = tags_as_dict(answers["tags"].get("ResourceTags"))
    return budget


def _partition(client) -> str:
    return getattr(client.meta, "partition", None) or "aws"


def _all(calls: dict[Any, Any]) -> dict[Any, Any]:
    """Every answer.

    Raises:
        Exception: the first that a call raised.
    """
    answers = at_once(calls)
    for answer in answers.values():
        if isinstance(answer, Exception):
            raise answer
    return answers


def _key(one: dict[str, Any]) -> dict[str, Any]:
    """A notification without what only an answer holds."""
    return {key: value for key, value in one.items() if key != "NotificationState"}


def _read(raw: dict[str, Any]) -> Budget:
    limit, filters = raw.get("BudgetLimit"), raw.get("CostFilters") or {}
    values = filters.get("TagKeyValue") or []
    prefix = f"user:{TAG_PROJECT}$"
    project = values[0].removeprefix(prefix) if len(values) == 1 and values[0].startswith(prefix) else None
    plain = not filters or (set(filters) == {"TagKeyValue"} and project is not None)
    spend = raw.get("CalculatedSpend") or {}

    def amount(key: str) -> float | None:
        return float(spend[key]["Amount"]) if key in spend else None

    return Budget(
        name=raw["BudgetName"],
        limit=float(limit["Amount"]) if limit and limit["Unit"] == "USD" else None,
        project=project,
        ours=plain and raw["BudgetType"] == "COST" and raw["TimeUnit"] == "MONTHLY",
        spent=amount("ActualSpend"),
        foreseen=amount("ForecastedSpend"),
    )


def _alert(one: dict[str, Any], told: list[dict[str, str]]) -> Alert | None:
    """Which alert of ours a notification is; None for one of another making."""
    ours = (
        one["ComparisonOperator"] == "GREATER_THAN"
        and one.get("ThresholdType", "PERCENTAGE") == "PERCENTAGE"
        and all(each["SubscriptionType"] == "EMAIL" for each in told)
    )
    return (one["NotificationType"].lower(), float(one["Threshold"])) if ours else None


def _stop(action: dict[str, Any]) -> Stop | None:
    """What an action stops; None for one that does something else."""
    ssm = action["Definition"].get("SsmActionDefinition")
    if not ssm or ssm["ActionSubType"] != "STOP_EC2_INSTANCES":
        return None
    return Stop(
        threshold=float(action["ActionThreshold"]["ActionThresholdValue"]),
        region=ssm["Region"],
        instance_ids=tuple(sorted(ssm["InstanceIds"])),
        role_arn=action["ExecutionRoleArn"],
        emails=tuple(sorted(each["Address"] for each in action["Subscribers"])),
    )


def differences(
    now: Budget, limit: float | None, project: str | None, alerts: dict[Alert, tuple[str, ...]] | None
) -> dict[str, tuple[Any, Any]]:
    """What has to change of limit, scope and alerts, as ``{what: (is, shall be)}``; None means that any is right."""
    found: dict[str, tuple[Any, Any]] = {}
    if limit is not None and (now.limit is None or round(now.limit, 2) != round(limit, 2)):
        found["limit"] = (now.limit, limit)
    if limit is not None and (now.project != project or not now.ours):
        found["scope"] = (scope(now), f"project {project}" if project else "the whole account")
    if alerts is not None and now.alerts != alerts:
        found["alerts"] = (told(now.alerts), told(alerts))
    return found


def scope(budget: Budget) -> str:
    """What a budget counts, for people."""
    if not budget.ours:
        return "something else"
    return f"project {budget.project}" if budget.project else "the whole account"


def told(alerts: dict[Alert, tuple[str, ...]]) -> list[str]:
    """Alerts for people."""
    return [f"{threshold:g} % {kind} to {', '.join(emails)}" for (kind, threshold), emails in sorted(alerts.items())]
