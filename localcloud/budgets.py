"""AWS Budgets, as far as moto lacks it: changes, subscribers, tags and actions, with the service's own limits.

https://docs.aws.amazon.com/aws-cost-management/latest/APIReference/API_Operations_AWS_Budgets.html
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

from moto.budgets.exceptions import DuplicateRecordException, NotFoundException
from moto.budgets.models import Budget, BudgetsBackend, Notification
from moto.budgets.responses import BudgetsResponse
from moto.core.exceptions import JsonRESTError

#: Of one budget; of one notification: ten e-mail addresses and a topic.
MOST_NOTIFICATIONS, MOST_SUBSCRIBERS = 10, 11


class InvalidParameter(JsonRESTError):
    """What Budgets would not take."""

    code = 400

    def __init__(self, message: str) -> None:
        super().__init__("InvalidParameterException", message)


class CreationLimitExceeded(JsonRESTError):
    """More than one may have."""

    code = 400

    def __init__(self, message: str) -> None:
        super().__init__("CreationLimitExceededException", message)


def apply() -> None:
    """All of it."""
    create = BudgetsBackend.create_budget

    def created(backend: BudgetsBackend, account_id: str, budget: dict[str, Any], notifications: list[Any]) -> None:
        _check_budget(budget)
        if len(notifications) > MOST_NOTIFICATIONS:
            raise CreationLimitExceeded(f"A budget has at most {MOST_NOTIFICATIONS} notifications.")
        for one in notifications:
            _check_subscribers(one["Subscribers"])
        create(backend, account_id, budget, notifications)

    notify = BudgetsBackend.create_notification

    def notified(
        backend: BudgetsBackend, account_id: str, budget_name: str, notification: Any, subscribers: Any
    ) -> None:
        budget = _budget(backend, account_id, budget_name)
        if any(_same(one.details, notification) for one in budget.notifications):
            raise DuplicateRecordException("notification", budget_name)
        if len(budget.notifications) >= MOST_NOTIFICATIONS:
            raise CreationLimitExceeded(f"A budget has at most {MOST_NOTIFICATIONS} notifications.")
        _check_subscribers(subscribers)
        notify(backend, account_id, budget_name, notification, subscribers)

    def silenced(backend: BudgetsBackend, account_id: str, budget_name: str, notification: Any) -> None:
        budget = _budget(backend, account_id, budget_name)
        budget.notifications.remove(_notification(budget, notification))

    def listed(backend: BudgetsBackend, account_id: str, budget_name: str) -> list[dict[str, Any]]:
        budget = _budget(backend, account_id, budget_name)
        return [{**one.details, "NotificationState": "OK"} for one in budget.notifications]

    BudgetsBackend.create_budget, BudgetsBackend.create_notification = created, notified
    BudgetsBackend.delete_notification, BudgetsBackend.describe_notifications_for_budget = silenced, listed
    _tag_at_creation()
    for operation in (
        update_budget,
        describe_subscribers_for_notification,
        create_subscriber,
        delete_subscriber,
        tag_resource,
        untag_resource,
        list_tags_for_resource,
        create_budget_action,
        update_budget_action,
        delete_budget_action,
        describe_budget_actions_for_budget,
    ):
        setattr(BudgetsResponse, operation.__name__, _answering(operation))


def _answering(operation: Callable[[BudgetsResponse, dict[str, Any]], dict[str, Any]]) -> Callable[..., str]:
    return lambda response: json.dumps(operation(response, json.loads(response.body)))


def _tag_at_creation() -> None:
    create = BudgetsResponse.create_budget

    def created(response: BudgetsResponse) -> str:
        answer = create(response)
        asked = json.loads(response.body)
        budget = _budget(response.backend, asked["AccountId"], asked["Budget"]["BudgetName"])
        budget.tags = {tag["Key"]: tag["Value"] for tag in asked.get("ResourceTags") or []}
        return answer

    BudgetsResponse.create_budget = created


# -- looking things up ------------------------------------------------------------------------------------------------
def _budget(backend: BudgetsBackend, account_id: str, name: str) -> Budget:
    try:
        return backend.budgets[account_id][name]
    except KeyError:
        raise NotFoundException(f"Unable to get budget: {name} - the budget doesn't exist.") from None


def _asked_budget(response: BudgetsResponse, asked: dict[str, Any]) -> Budget:
    return _budget(response.backend, asked["AccountId"], asked["BudgetName"])


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    def key(details: dict[str, Any]) -> tuple[Any, ...]:
        kind = details.get("ThresholdType", "PERCENTAGE")
        return details["NotificationType"], details["ComparisonOperator"], float(details["Threshold"]), kind

    return key(one) == key(other)


def _notification(budget: Budget, details: dict[str, Any]) -> Notification:
    for one in budget.notifications:
        if _same(one.details, details):
            return one
    raise NotFoundException("Unable to get notification - the notification doesn't exist.")


def _of_arn(response: BudgetsResponse, asked: dict[str, Any]) -> Budget:
    account, _, name = asked["ResourceARN"].partition(":budgets::")[2].partition(":budget/")
    return _budget(response.backend, account, name)


# -- what Budgets takes -----------------------------------------------------------------------------------------------
def _check_budget(budget: dict[str, Any]) -> None:
    limit = budget.get("BudgetLimit")
    if limit and not float(limit["Amount"]) > 0:
        raise InvalidParameter("Unable to create/update budget - the budget limit must be positive.")
    if budget["BudgetType"] == "COST" and limit and limit["Unit"] != "USD":
        raise InvalidParameter("Unable to create/update budget - the unit of a cost budget is the account's currency.")


def _check_subscribers(subscribers: list[dict[str, str]]) -> None:
    emails = [one for one in subscribers if one["SubscriptionType"] == "EMAIL"]
    if not subscribers or len(subscribers) > MOST_SUBSCRIBERS or len(emails) > MOST_SUBSCRIBERS - 1:
        raise InvalidParameter("A notification has 1 to 10 e-mail subscribers and at most one SNS topic.")
    for one in emails:
        if "@" not in one["Address"]:
            raise InvalidParameter(f"Invalid email address: {one['Address']}")


# -- operations -------------------------------------------------------------------------------------------------------
def update_budget(response: BudgetsResponse, asked: dict[str, Any]) -> dict[str, Any]:
    """UpdateBudget: the whole budget is replaced; notifications, tags and actions stay."""
    new = asked["NewBudget"]
    _check_budget(new)
    old = _budget(response.backend, asked["AccountId"], new["BudgetName"])
    if new["BudgetType"] != old.budget["BudgetType"]:
        raise InvalidParameter("Unable to update budget - the type of a budget cannot change.")
    changed = Budget(new, [])
    changed.budget.setdefault("TimePeriod", old.budget["TimePeriod"])
    old.budget = changed.budget
    return {}


def describe_subscribers_for_notification(response: BudgetsResponse, asked: dict[str, Any]) -> dict[str, Any]:
    """DescribeSubscribersForNotification."""
    return {"Subscribers": _notification(_asked_budget(response, asked), asked["Notification"]).subscribers}


def create_subscriber(response: BudgetsResponse, asked: dict[str, Any]) -> dict[str, Any]:
    """CreateSubscriber."""
    one = _notification(_asked_budget(response, asked), asked["Notification"])
    if asked["Subscriber"] in one.subscribers:
        raise DuplicateRecordException("subscriber", asked["Subscriber"]["Address"])
    _check_subscribers([*one.subscribers, asked["Subscriber"]])
    one.subscribers.append(asked["Subscriber"])
    return {}


def delete_subscriber(response: BudgetsResponse, asked: dict[str, Any]) -> dict[str, Any]:
    """DeleteSubscriber: with the last of them the notification goes."""
    budget = _asked_budget(response, asked)
    one = _notification(budget, asked["Notification"])
    if asked["Subscriber"] not in one.subscribers:
        raise NotFoundException("Unable to delete subscriber - the subscriber doesn't exist.")
    one.subscribers.remove(asked["Subscriber"])
    if not one.subscribers:
        budget.notifications.remove(one)
    return {}


def tag_resource(response: BudgetsResponse, asked: dict[str, Any]) -> dict[str, Any]:
    """TagResource."""
    budget = _of_arn(response, asked)
    budget.tags = {**getattr(budget, "tags", {}), **{tag["Key"]: tag["Value"] for tag in asked["ResourceTags"]}}
    return {}


def untag_resource(response: BudgetsResponse, asked: dict[str, Any]) -> dict[str, Any]:
    """UntagResource."""
    budget = _of_arn(response, asked)
    gone = set(asked["ResourceTagKeys"])
    budget.tags = {key: value for key, value in getattr(budget, "tags", {}).items() if key not in gone}
    return {}


def list_tags_for_resource(response: BudgetsResponse, asked: dict[str, Any]) -> dict[str, Any]:
    """ListTagsForResource."""
    tags = getattr(_of_arn(response, asked), "tags", {})
    return {"ResourceTags": [{"Key": key, "Value": value} for key, value in tags.items()]}


def _actions(budget: Budget) -> dict[str, dict[str, Any]]:
    if not hasattr(budget, "actions"):
        budget.actions = {}
    return budget.actions


def _action(budget: Budget, asked: dict[str, Any]) -> dict[str, Any]:
    try:
        return _actions(budget)[asked["ActionId"]]
    except KeyError:
        raise NotFoundException(f"Unable to get action: {asked['ActionId']} - the action doesn't exist.") from None


#: What an action says of itself.
_ACTION = (
    "BudgetName",
    "NotificationType",
    "ActionType",
    "ActionThreshold",
    "Definition",
    "ExecutionRoleArn",
    "ApprovalModel",
    "Subscribers",
)


def create_budget_action(response: BudgetsResponse, asked: dict[str, Any]) -> dict[str, Any]:
    """CreateBudgetAction; nothing here spends real money, so that it stays in STANDBY."""
    budget = _asked_budget(response, asked)
    kind = {"RUN_SSM_DOCUMENTS": "SsmActionDefinition", "APPLY_IAM_POLICY": "IamActionDefinition"}
    if kind.get(asked["ActionType"], "ScpActionDefinition") not in asked["Definition"]:
        raise InvalidParameter(f"The definition does not belong to an action of type {asked['ActionType']}.")
    _check_subscribers(asked["Subscribers"])
    action = {"ActionId": str(uuid.uuid4()), "Status": "STANDBY", **{key: asked[key] for key in _ACTION}}
    _actions(budget)[action["ActionId"]] = action
    return {key: asked.get(key, action.get(key)) for key in ("AccountId", "BudgetName", "ActionId")}


def update_budget_action(response: BudgetsResponse, asked: dict[str, Any]) -> dict[str, Any]:
    """UpdateBudgetAction: what is named changes."""
    action = _action(_asked_budget(response, asked), asked)
    old = dict(action)
    action |= {key: asked[key] for key in _ACTION if key in asked}
    return {"AccountId": asked["AccountId"], "BudgetName": asked["BudgetName"], "OldAction": old, "NewAction": action}


def delete_budget_action(response: BudgetsResponse, asked: dict[str, Any]) -> dict[str, Any]:
    """DeleteBudgetAction."""
    budget = _asked_budget(response, asked)
    action = _action(budget, asked)
    del _actions(budget)[asked["ActionId"]]
    return {"AccountId": asked["AccountId"], "BudgetName": asked["BudgetName"], "Action": action}


def describe_budget_actions_for_budget(response: BudgetsResponse, asked: dict[str, Any]) -> dict[str, Any]:
    """DescribeBudgetActionsForBudget."""
    return {"Actions": list(_actions(_asked_budget(response, asked)).values())}
