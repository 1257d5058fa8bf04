#!/usr/bin/python
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: cost_explorer_info
version_added: 0.1.0
short_description: What was spent by day and service, and what AWS foresees for the month
description:
  - Asks Cost Explorer, which bills USD 0.01 for each request and each further page. The answer is remembered, and says
    what it cost.
  - AWS counts several times a day and is up to a day behind.
options:
  project:
    description:
      - Count only what carries the tag C(lightsout:project) with this value, which must have been activated as a cost
        allocation tag. When not given, all that the account spends.
    type: str
  days:
    description:
      - How many days to look back, today included. The whole current month is always among them.
    type: int
    default: 30
  forecast:
    description:
      - Whether to ask for the forecast of this month, too.
    type: bool
    default: true
  cache:
    description:
      - A file on this computer in which the answer is remembered. When not given, AWS is asked each time.
    type: path
  max_age:
    description:
      - For how many hours a remembered answer serves.
    type: int
    default: 12
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    support: full
    description: Changes nothing in any mode.
  diff_mode:
    support: none
    description: Changes nothing.
author:
  - The Lightsout authors (@lightsout)
"""

EXAMPLES = r"""
- name: What the last four weeks cost
  lightsout.aws.cost_explorer_info:
    days: 28
    cache: ~/.cache/lightsout/costs.json
  register: costs

- name: Show it
  ansible.builtin.debug:
    msg: "USD {{ costs.month }} this month; asking cost USD {{ costs.request_cost }}"
"""

RETURN = r"""
days:
  description: USD of each day, in all and by service, oldest first.
  returned: always
  type: list
  elements: dict
  sample: [{date: '2026-11-23', total: 1.2, services: {EC2 - Other: 0.1}}]
services:
  description: USD of all these days by service, most expensive first.
  returned: always
  type: list
  elements: dict
  sample: [{service: EC2 - Other, total: 0.1}]
total:
  description: USD of all these days.
  returned: always
  type: float
month:
  description: USD of this month so far.
  returned: always
  type: float
forecast:
  description:
    - USD that AWS foresees for the rest of the month, with the bounds of its 80 % interval. Empty where it does not.
  returned: always
  type: dict
  sample: {mean: 20.0, low: 15.0, high: 25.0}
month_expected:
  description: USD of the whole month as foreseen; null where AWS does not say.
  returned: always
  type: float
requests:
  description: How many requests this run was billed for; 0 when the answer was remembered.
  returned: always
  type: int
request_cost:
  description: What these requests cost in USD.
  returned: always
  type: float
as_of:
  description: When AWS was asked.
  returned: always
  type: str
  sample: '2026-11-23T16:00:00Z'
"""

import datetime
import json
from pathlib import Path
from typing import Any

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.lightsout.aws.plugins.module_utils import checks
from ansible_collections.lightsout.aws.plugins.module_utils.calls import Clients
from ansible_collections.lightsout.aws.plugins.module_utils.naming import TAG_PROJECT
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import error_code, explain, numbered

#: USD for a request, and for each further page.
REQUEST = 0.01

#: Cost Explorer keeps about 14 months by day.
LONGEST = 400


class Explorer:
    """Asks Cost Explorer, and counts what that costs.

    Args:
        client: a boto3 client of ``ce``.
        project: whose tag; None for the whole account.
        today: the date.
    """

    def __init__(self, client, project: str | None, today: datetime.date) -> None:
        self.client, self.today = client, today
        self.filter = {"Filter": {"Tags": {"Key": TAG_PROJECT, "Values": [project]}}} if project else {}
        self.requests = 0

    def days(self, count: int) -> list[dict[str, Any]]:
        """Every day, oldest first; days without cost are among them."""
        first = min(self.today - datetime.timedelta(days=count - 1), self.today.replace(day=1))
        request: dict[str, Any] = {
            "TimePeriod": {"Start": first.isoformat(), "End": (self.today + datetime.timedelta(days=1)).isoformat()},
            "Granularity": "DAILY",
            "Metrics": ["UnblendedCost"],
            "GroupBy": [{"Type": "DIMENSION", "Key": "SERVICE"}],
            **self.filter,
        }
        found: dict[str, dict[str, float]] = {}
        while True:
            self.requests += 1
            answer = self.client.get_cost_and_usage(**request)
            for row in answer["ResultsByTime"]:
                services = found.setdefault(row["TimePeriod"]["Start"], {})
                for group in row["Groups"]:
                    amount = float(group["Metrics"]["UnblendedCost"]["Amount"])
                    if amount:
                        services[group["Keys"][0]] = services.get(group["Keys"][0], 0.0) + amount
            if not answer.get("NextPageToken"):
                break
            request["NextPageToken"] = answer["NextPageToken"]
        return [
            {"date": day, "total": sum(services.values()), "services": services}
            for day, services in sorted(found.items())
        ]

    def forecast(self) -> dict[str, float]:
        """The rest of this month; empty where AWS has seen too little to say."""
        following = (self.today.replace(day=1) + datetime.timedelta(days=32)).replace(day=1)
        self.requests += 1
        try:
            answer = self.client.get_cost_forecast(
                TimePeriod={"Start": self.today.isoformat(), "End": following.isoformat()},
                Metric="UNBLENDED_COST",
                Granularity="MONTHLY",
                PredictionIntervalLevel=80,
                **self.filter,
            )
        except Exception as error:
            if error_code(error) == "DataUnavailableException":
                return {}
            raise
        rows, mean = answer["ForecastResultsByTime"], float(answer["Total"]["Amount"])
        return {
            "mean": mean,
            "low": sum(float(row.get("PredictionIntervalLowerBound", row["MeanValue"])) for row in rows),
            "high": sum(float(row.get("PredictionIntervalUpperBound", row["MeanValue"])) for row in rows),
        }


def told(days: list[dict[str, Any]], forecast: dict[str, float], now: datetime.datetime) -> dict[str, Any]:
    """The answer, added up."""
    services: dict[str, float] = {}
    for day in days:
        for name, amount in day["services"].items():
            services[name] = services.get(name, 0.0) + amount
    month = sum(day["total"] for day in days if day["date"].startswith(f"{now:%Y-%m}"))
    return {
        "days": days,
        "services": [
            {"service": name, "total": amount}
            for name, amount in sorted(services.items(), key=lambda item: (-item[1], item[0]))
        ],
        "total": sum(day["total"] for day in days),
        "month": month,
        "forecast": forecast,
        "month_expected": month + forecast["mean"] if forecast else None,
        "as_of": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def remembered(file: Path | None, key: str, oldest: str) -> dict[str, Any] | None:
    """The answer to the same question, if it is not too old."""
    try:
        kept = json.loads(file.read_text())[key] if file else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return kept if kept and kept["as_of"] >= oldest else None


def remember(file: Path | None, key: str, answer: dict[str, Any]) -> None:
    """Keep the answer; where that cannot be, AWS is asked again."""
    if file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({key: answer}))
        file.chmod(0o600)
    except OSError:
        return


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={
            "project": {},
            "days": {"type": "int", "default": 30},
            "forecast": {"type": "bool", "default": True},
            "cache": {"type": "path"},
            "max_age": {"type": "int", "default": 12},
        },
        supports_check_mode=True,
    )
    params = module.params
    problems = checks.project_problems(params["project"], None, None) if params["project"] is not None else []
    if not 1 <= params["days"] <= LONGEST:
        problems.append(f"days is {params['days']}: give 1 to {LONGEST}, which is as far as Cost Explorer looks back.")
    if problems:
        module.fail_json(msg=numbered(problems))
    clients = Clients(module)
    client = clients("ce", "us-east-1")
    try:
        account = clients("sts").get_caller_identity()[
            "Account"
        ]  # asking this is free; another account is another answer
    except Exception as error:
        account, failure = "", explain(error, "find out who you are")
    if not account:
        module.fail_json(msg=failure)
    now = datetime.datetime.now(datetime.UTC)
    file = Path(params["cache"]).expanduser() if params["cache"] else None
    key = json.dumps([client.meta.endpoint_url, account, params["project"], params["days"], params["forecast"]])
    oldest = (now - datetime.timedelta(hours=params["max_age"])).strftime("%Y-%m-%dT%H:%M:%SZ")
    kept = remembered(file, key, oldest)
    if kept:
        module.exit_json(changed=False, requests=0, request_cost=0.0, **kept)
    explorer = Explorer(client, params["project"], now.date())
    try:
        days = explorer.days(params["days"])
        answer = told(days, explorer.forecast() if params["forecast"] else {}, now)
    except Exception as error:
        failure = explain(error, "ask Cost Explorer what was spent")
    else:
        failure = None
    if failure:
        module.fail_json(msg=failure)
    remember(file, key, answer)
    module.exit_json(
        changed=False, requests=explorer.requests, request_cost=round(explorer.requests * REQUEST, 2), **answer
    )


if __name__ == "__main__":
    main()
