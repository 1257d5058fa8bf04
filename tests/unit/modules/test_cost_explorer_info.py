"""What was spent, what asking cost, and no second question while the answer is fresh; on the local cloud's ledger."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible_collections.lightsout.aws.plugins.modules import cost_explorer_info
from moto.ce.responses import CostExplorerResponse

from localcloud import costs
from localcloud.costs import COMPUTE, DISKS, Invalid, Ledger, cost_and_usage, cost_forecast
from tests.helpers.moto import restored

LAB = frozenset({("lightsout:project", "lab")})


class Clock:
    """A time that tests move."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def running() -> list[tuple[str, Any, float]]:
    """What costs: service, tags, USD per hour."""
    return [(COMPUTE, LAB, 1.0), (DISKS, frozenset(), 0.25)]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(running, clock) -> Iterator[Ledger]:
    """Books in which an hour has passed yesterday, and an hour today."""
    now, clock.now = clock.now, clock.now.replace(hour=12) - timedelta(days=1)
    ledger = Ledger(lambda: iter(running), clock)
    for hours in (1, 0):
        clock.now += timedelta(hours=hours)
        ledger.tick()
    ledger._last = now - timedelta(hours=2)
    clock.now = now
    with restored(CostExplorerResponse):
        costs.apply(ledger)
        yield ledger


@pytest.fixture
def ask(aws, run, ledger, tmp_path):
    def ask(**params: Any) -> Any:
        return run(cost_explorer_info, **{"cache": str(tmp_path / "costs.json"), **params})

    return ask


def test_cost_by_day_and_service_most_expensive_first(ask) -> None:
    result = ask()
    assert [one["service"] for one in result["services"]] == [COMPUTE, DISKS]
    yesterday, today = result["days"][-2:]
    assert yesterday["services"] == {COMPUTE: pytest.approx(1.0), DISKS: pytest.approx(0.25)}
    assert today["total"] == pytest.approx(2.5, abs=0.01)
    assert result["total"] == pytest.approx(3.75, abs=0.01)
    assert len(result["days"]) >= 30


def test_asking_is_billed_once_and_then_remembered(aws, ask) -> None:
    first = ask()
    assert (first["requests"], first["request_cost"]) == (2, 0.02)
    aws.calls.clear()
    again = ask()
    assert (again["requests"], again["request_cost"], again["total"]) == (0, 0.0, first["total"])
    assert aws.calls == ["GetCallerIdentity"]
    assert ask(project="lab")["requests"] == 2, "another question has another answer"


def test_an_old_answer_or_another_accounts_is_not_used(aws, ask) -> None:
    ask()
    assert ask(max_age=-1)["requests"] == 2
    aws.on("GetCallerIdentity", lambda *_: {"Account": "999999999999", "Arn": "arn:aws:iam::999999999999:user/x"})
    assert ask()["requests"] == 2


def test_one_project_is_counted_by_its_tag(ask) -> None:
    result = ask(project="lab")
    assert [one["service"] for one in result["services"]] == [COMPUTE]
    assert ask(project="other")["total"] == 0


def test_every_page_is_read_and_counted(aws, ask) -> None:
    def first_page(_request: dict, go_on: Any) -> Any:
        return {**go_on(), "NextPageToken": "more"}

    aws.on("GetCostAndUsage", first_page)

    def second_page(request: dict, _go_on: Any) -> Any:
        assert request["NextPageToken"] == "more"
        return {"ResultsByTime": []}

    aws.faults.append(
        lambda name, request, go_on: second_page(request, go_on) if request.get("NextPageToken") else go_on()
    )
    result = ask()
    assert (result["requests"], result["request_cost"]) == (3, 0.03)
    assert result["total"] == pytest.approx(3.75, abs=0.01)


def test_the_forecast_is_what_runs_now_and_none_where_nothing_does(ask, running) -> None:
    result = ask()
    assert result["month_expected"] == pytest.approx(result["month"] + result["forecast"]["mean"])
    assert result["forecast"]["low"] < result["forecast"]["mean"] < result["forecast"]["high"]
    running.clear()
    assert (ask(days=7)["forecast"], ask(days=7)["month_expected"]) == ({}, None)


@pytest.mark.parametrize("days", [0, 401])
def test_days_out_of_range_reach_no_api(aws, ask, days) -> None:
    assert "days is" in ask(days=days)["msg"] and aws.calls == []


def test_who_may_not_ask_is_told_which_permission(aws, ask) -> None:
    aws.refuse("GetCostAndUsage", "AccessDeniedException", times=9)
    assert "ask Cost Explorer" in ask()["msg"] and "permission" in ask()["msg"]


def test_the_local_cost_explorer_refuses_what_it_cannot_answer(ledger, clock) -> None:
    day = {"Start": "2026-11-01", "End": "2026-11-02"}
    good = {"TimePeriod": day, "Granularity": "DAILY", "Metrics": ["UnblendedCost"]}
    assert cost_and_usage(ledger, good)["ResultsByTime"][0]["Total"]
    for wrong in (
        {"TimePeriod": {"Start": "2026-11-02", "End": "2026-11-02"}},
        {"Granularity": "YEARLY"},
        {"Metrics": []},
        {"Filter": {"Tags": {}, "Not": {}}},
        {"Filter": {"CostCategories": {}}},
    ):
        with pytest.raises(Invalid):
            cost_and_usage(ledger, {**good, **wrong})
    with pytest.raises(Invalid, match="no later than"):
        cost_forecast(ledger, {"TimePeriod": {"Start": "2020-01-01", "End": "2099-01-01"}}, clock.now)
