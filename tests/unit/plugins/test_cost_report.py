"""One page that needs nothing else, and says what was spent."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.lightsout.aws.plugins.filter.cost_report import COLOURS, cost_report, usd

COSTS: dict[str, Any] = {
    "days": [
        {"date": "2026-11-21", "total": 3.0, "services": {"EC2": 2.0, "S3 <&>": 1.0}},
        {"date": "2026-11-22", "total": 0.0, "services": {}},
        {"date": "2026-11-23", "total": 1.5, "services": {"EC2": 1.5}},
    ],
    "services": [{"service": "EC2", "total": 3.5}, {"service": "S3 <&>", "total": 1.0}],
    "month": 4.5,
    "month_expected": 12.0,
    "as_of": "2026-11-23T16:00:00Z",
}


class Page(HTMLParser):
    """The tags of a page with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_it_needs_no_other_file_and_is_made_for_light_and_dark() -> None:
    text = cost_report(COSTS, "the whole account", 50)
    page = Page(text)
    assert "://" not in text and not page.all("script") and not page.all("link") and not page.all("img")
    assert not [a for _tag, a in page.tags if {"src", "href"} & set(a)]
    assert "prefers-color-scheme:dark" in text


def test_a_bar_for_each_service_and_day_as_high_as_its_cost() -> None:
    bars = Page(cost_report(COSTS, "x")).all("rect")
    assert len(bars) == 3
    heights = [float(bar["height"] or 0) for bar in bars]
    assert heights[0] == pytest.approx(2 * heights[1], abs=0.2)
    assert heights[2] == pytest.approx(1.5 * heights[1], abs=0.2)


def test_names_are_escaped_and_figures_are_there() -> None:
    text = cost_report(COSTS, "project <lab>", 50)
    assert "S3 &lt;&amp;&gt;" in text and "project &lt;lab&gt;" in text and "<lab>" not in text
    for figure in ("USD 4.50", "USD 12.00", "USD 50.00", "9%"):
        assert figure in text


def test_the_budgets_line_is_there_when_it_does_not_flatten_the_bars() -> None:
    assert len(Page(cost_report(COSTS, "x", 60)).all("path")) == 1
    assert Page(cost_report(COSTS, "x", 6000)).all("path") == []
    assert Page(cost_report(COSTS, "x")).all("path") == []


def test_nothing_spent_and_more_services_than_colours() -> None:
    empty = {**COSTS, "days": [], "services": [], "month": 0.0, "month_expected": None}
    assert "Nothing was spent" in cost_report(empty, "x", 50)
    many = [{"service": f"s{n}", "total": 1.0} for n in range(20)]
    assert COLOURS[-1] in cost_report({**COSTS, "services": many}, "x")


def test_small_amounts_keep_their_figures() -> None:
    assert [usd(one) for one in (0.0, 0.000213, 0.5, 1234.5)] == ["0.00", "0.000213", "0.5", "1,234.50"]


def test_what_is_no_answer_of_cost_explorer_is_refused() -> None:
    with pytest.raises(AnsibleFilterError):
        cost_report({"days": []}, "x")
