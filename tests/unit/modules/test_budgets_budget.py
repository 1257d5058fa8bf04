"""A budget is as wanted, with the fewest calls, and what others put into it stays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.lightsout.aws.plugins.modules import budgets_budget
from moto.budgets.models import BudgetsBackend
from moto.budgets.responses import BudgetsResponse

from localcloud import budgets
from tests.helpers.moto import restored

ACCOUNT = "123456789012"
NAME = "lightsout-lab"
ROLE = "arn:aws:iam::123456789012:role/lightsout/us-east-1/lightsout-lab-budget"
WRITES = ("Create", "Update", "Delete", "Tag", "Untag")


@pytest.fixture(autouse=True)
def whole_service() -> Iterator[None]:
    with restored(BudgetsBackend, BudgetsResponse):
        budgets.apply()
        yield


@pytest.fixture
def keep(aws, run):
    """Runs the module on one budget; ``keep.wrote`` names the calls that changed something."""

    def keep(**params: Any) -> Any:
        aws.calls.clear()
        result = run(budgets_budget, **{"name": NAME, **params})
        keep.wrote = [call for call in aws.calls if call.startswith(WRITES)]
        return result

    return keep


def emails_of(aws, kind: str, threshold: float) -> list[str]:
    """Whom the account's budget tells, straight from AWS."""
    which = {"NotificationType": kind, "ComparisonOperator": "GREATER_THAN", "Threshold": threshold}
    told = aws.client("budgets").describe_subscribers_for_notification(
        AccountId=ACCOUNT, BudgetName=NAME, Notification={**which, "ThresholdType": "PERCENTAGE"}
    )
    return [one["Address"] for one in told["Subscribers"]]


def thresholds(aws) -> list[tuple[str, float]]:
    found = aws.client("budgets").describe_notifications_for_budget(AccountId=ACCOUNT, BudgetName=NAME)
    return sorted((one["NotificationType"], one["Threshold"]) for one in found["Notifications"])


def test_a_new_budget_is_one_call_with_its_four_alerts_and_its_tags(aws, keep) -> None:
    result = keep(limit=50, emails=["ada@example.org"], tags={"lightsout:project": "lab"})
    assert result["changed"] and keep.wrote == ["CreateBudget"]
    assert thresholds(aws) == [("ACTUAL", 50), ("ACTUAL", 80), ("ACTUAL", 100), ("FORECASTED", 100)]
    assert emails_of(aws, "ACTUAL", 80) == ["ada@example.org"]
    assert result["budget"]["tags"] == {"lightsout:project": "lab"}
    assert (result["budget"]["limit"], result["budget"]["project"]) == (50.0, None)


def test_a_second_time_changes_nothing(aws, keep) -> None:
    wanted = {"limit": 49.999, "emails": ["a@example.org", "b@example.org"], "project": "lab", "tags": {"k": "v"}}
    keep(**wanted)
    assert not keep(**wanted)["changed"] and keep.wrote == []


def test_check_mode_says_what_would_be_and_does_nothing(aws, run, keep) -> None:
    result = run(budgets_budget, check=True, name=NAME, limit=50, emails=["ada@example.org"])
    assert result["changed"] and result["changes"] == {"budget": "create"}
    assert aws.client("budgets").describe_budgets(AccountId=ACCOUNT)["Budgets"] == []
    keep(limit=50)
    result = run(budgets_budget, check=True, name=NAME, limit=60)
    assert result["changes"] == {"limit": [50.0, 60.0]} and result["budget"]["limit"] == 50.0
    assert run(budgets_budget, check=True, name=NAME, state="absent")["changes"] == {"budget": "delete"}
    assert not keep(limit=50)["changed"]


def test_another_limit_or_scope_is_one_call_and_keeps_the_alerts(aws, keep) -> None:
    keep(limit=50, emails=["ada@example.org"])
    result = keep(limit=70.5, project="lab", emails=["ada@example.org"])
    assert keep.wrote == ["UpdateBudget"]
    assert result["changes"] == {"limit": [50.0, 70.5], "scope": ["the whole account", "project lab"]}
    (budget,) = aws.client("budgets").describe_budgets(AccountId=ACCOUNT)["Budgets"]
    assert budget["CostFilters"] == {"TagKeyValue": ["user:lightsout:project$lab"]}
    assert budget["BudgetLimit"]["Amount"] == "70.50"
    assert len(thresholds(aws)) == 4


def test_addresses_change_one_by_one_and_alerts_come_and_go(aws, keep) -> None:
    keep(limit=50, emails=["ada@example.org"], alerts=[{"threshold": 50}, {"threshold": 90}])
    alerts = [{"threshold": 90, "emails": ["grace@example.org"]}, {"type": "forecasted", "threshold": 120}]
    keep(emails=["ada@example.org"], alerts=alerts)
    assert sorted(keep.wrote) == ["CreateNotification", "CreateSubscriber", "DeleteNotification", "DeleteSubscriber"]
    assert thresholds(aws) == [("ACTUAL", 90), ("FORECASTED", 120)]
    assert emails_of(aws, "ACTUAL", 90) == ["grace@example.org"]
    assert not keep(emails=["ada@example.org"], alerts=alerts)["changed"]
    keep(alerts=[])
    assert thresholds(aws) == []


def test_what_others_put_into_it_stays(aws, keep) -> None:
    keep(limit=50, emails=["ada@example.org"])
    foreign = {"NotificationType": "ACTUAL", "ComparisonOperator": "GREATER_THAN", "Threshold": 45.0}
    aws.client("budgets").create_notification(
        AccountId=ACCOUNT,
        BudgetName=NAME,
        Notification={**foreign, "ThresholdType": "ABSOLUTE_VALUE"},
        Subscribers=[{"SubscriptionType": "EMAIL", "Address": "boss@example.org"}],
    )
    assert not keep(limit=50, emails=["ada@example.org"])["changed"]
    keep(limit=50, alerts=[])
    assert thresholds(aws) == [("ACTUAL", 45.0)]


def test_a_budget_that_was_put_to_another_use_is_put_right(aws, keep) -> None:
    aws.client("budgets").create_budget(
        AccountId=ACCOUNT,
        Budget={
            "BudgetName": NAME,
            "BudgetType": "COST",
            "TimeUnit": "DAILY",
            "BudgetLimit": {"Amount": "50", "Unit": "USD"},
        },
    )
    assert keep(limit=50)["changes"] == {"scope": ["something else", "the whole account"]}
    assert aws.client("budgets").describe_budgets(AccountId=ACCOUNT)["Budgets"][0]["TimeUnit"] == "MONTHLY"


def test_machines_are_stopped_by_an_action_that_follows_them(aws, keep) -> None:
    def stop(*ids: str) -> dict[str, Any]:
        stop = {"region": "us-east-1", "instance_ids": list(ids), "role_arn": ROLE}
        return keep(limit=50, emails=["ada@example.org"], stop=stop)

    def actions() -> list[dict[str, Any]]:
        found = aws.client("budgets").describe_budget_actions_for_budget(AccountId=ACCOUNT, BudgetName=NAME)
        return found["Actions"]

    stop("i-1")
    assert keep.wrote == ["CreateBudget", "CreateBudgetAction"]
    (action,) = actions()
    assert action["ActionType"] == "RUN_SSM_DOCUMENTS" and action["ApprovalModel"] == "AUTOMATIC"
    assert action["Definition"]["SsmActionDefinition"]["ActionSubType"] == "STOP_EC2_INSTANCES"
    assert not stop("i-1")["changed"]
    assert stop("i-2", "i-1")["changes"] == {"stop": [["i-1"], ["i-1", "i-2"]]}
    assert keep.wrote == ["UpdateBudgetAction"]
    assert [one["ActionId"] for one in actions()] == [action["ActionId"]]
    assert not keep(limit=50)["changed"], "an action that nobody asks about stays"
    stop()
    assert keep.wrote == ["DeleteBudgetAction"] and actions() == []


def test_absent_takes_it_away_once(aws, keep) -> None:
    keep(limit=50, emails=["ada@example.org"])
    assert keep(state="absent")["budget"] == {} and keep.wrote == ["DeleteBudget"]
    assert not keep(state="absent")["changed"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"limit": 0}, "limit is 0"),
        ({"limit": 5, "emails": ["ada"]}, "emails holds 'ada'"),
        ({"limit": 5, "alerts": [{"threshold": 50}]}, "tells nobody"),
        ({"limit": 5, "emails": [f"{n}@example.org" for n in range(11)]}, "at most 10"),
        ({"limit": 5, "emails": ["a@b.org"], "alerts": [{"threshold": n + 1} for n in range(11)]}, "at most 10"),
        ({"limit": 5, "stop": {"region": "us-east-1", "instance_ids": ["i-1"]}}, "role_arn"),
        ({"name": "a:b", "limit": 5}, "name is 'a:b'"),
    ],
)
def test_what_cannot_be_is_said_before_anybody_is_asked(aws, keep, wrong, words) -> None:
    result = keep(**wrong)
    assert result["failed"] and words in result["msg"] and aws.calls == []


def test_a_new_budget_needs_a_limit(keep) -> None:
    assert "give its limit" in keep(emails=["ada@example.org"])["msg"] and keep.wrote == []
