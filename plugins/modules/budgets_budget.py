#!/usr/bin/python
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: budgets_budget
version_added: 0.1.0
short_description: A monthly cost budget that tells people, and by choice stops machines
description:
  - Makes, changes and deletes one monthly cost budget of AWS Budgets with its e-mail alerts and its tags.
  - A budget is an alarm and not a brake. AWS compares about three times a day.
  - Budgets belong to the account. They are the same from every region, and AWS answers for them in us-east-1.
  - Notifications of another making (to SNS, in USD) and actions of another kind are left alone.
options:
  name:
    description:
      - The budget's name, unique in the account.
    type: str
    required: true
  state:
    description:
      - Whether there shall be one. With V(absent) its notifications and actions go with it.
    type: str
    choices: [present, absent]
    default: present
  limit:
    description:
      - USD a month. Needed for a new budget. When not given, limit and scope stay as they are.
    type: float
  project:
    description:
      - Count only what carries the tag C(lightsout:project) with this value. AWS sees a tag in its bills only after it
        has been activated as a cost allocation tag, and from then on; until then such a budget counts nothing.
      - When not given, all that the account spends is counted.
    type: str
  emails:
    description:
      - Who is told, for alerts and actions that name nobody themselves. At most ten.
    type: list
    elements: str
    default: []
  alerts:
    description:
      - When somebody is told. At most ten. An empty list takes all of them away.
      - When not given, at 50, 80 and 100 % of actual and at 100 % of forecasted cost if there are O(emails), and
        otherwise what there is stays.
    type: list
    elements: dict
    suboptions:
      type:
        description: What is compared, the money that is spent or the money that AWS foresees for the month.
        type: str
        choices: [actual, forecasted]
        default: actual
      threshold:
        description: Percent of the limit.
        type: float
        required: true
      emails:
        description: Who is told. When not given, O(emails).
        type: list
        elements: str
  stop:
    description:
      - What stops machines by itself when the money is spent (the document AWS-StopEC2Instance, run by AWS).
      - AWS knows machines by their ids only. Without O(stop.instance_ids) the region's action is taken away.
      - When not given, actions stay as they are.
    type: dict
    suboptions:
      threshold:
        description: Percent of the limit, of actual cost.
        type: float
        default: 100.0
      region:
        description: Where the machines are.
        type: str
        required: true
      instance_ids:
        description: The machines, at most 100.
        type: list
        elements: str
        default: []
      role_arn:
        description: The role that budgets.amazonaws.com takes on to stop them.
        type: str
  tags:
    description:
      - Tags that the budget shall have. Others stay.
    type: dict
    default: {}
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    support: full
    description: Says what would change, changes nothing.
  diff_mode:
    support: full
    description: Shows limit, scope, alerts, stops and tags before and after.
seealso:
  - name: Managing your costs with AWS Budgets
    description: What AWS says about budgets.
    link: https://docs.aws.amazon.com/cost-management/latest/userguide/budgets-managing-costs.html
author:
  - The Lightsout authors (@lightsout)
"""

EXAMPLES = r"""
- name: No month shall cost more than 50 dollars unnoticed
  lightsout.aws.budgets_budget:
    name: lightsout-rerank
    limit: 50
    emails: [ada@example.org]

- name: Other alerts, and the machines stop when all is spent
  lightsout.aws.budgets_budget:
    name: lightsout-rerank
    limit: 50
    emails: [ada@example.org]
    alerts:
      - threshold: 90
      - {type: forecasted, threshold: 120, emails: [ada@example.org, grace@example.org]}
    stop:
      region: eu-central-1
      instance_ids: [i-0123456789abcdef0]
      role_arn: arn:aws:iam::123456789012:role/lightsout/eu-central-1/lightsout-rerank-budget

- name: No budget any more
  lightsout.aws.budgets_budget:
    name: lightsout-rerank
    state: absent
"""

RETURN = r"""
budget:
  description: The budget as it is now, in check mode as it is still. Empty when there is none.
  returned: always
  type: dict
  contains:
    name: {description: Its name., type: str, returned: always, sample: lightsout-rerank}
    limit: {description: USD a month., type: float, returned: always, sample: 50.0}
    project: {description: The project that is counted; null for the account., type: str, returned: always}
    alerts:
      description: Type, threshold in percent and e-mail addresses of each.
      type: list
      elements: dict
      returned: always
    stops:
      description: Id, threshold, region and machines of each action that stops machines.
      type: list
      elements: dict
      returned: always
    tags: {description: All its tags., type: dict, returned: always}
    spent: {description: USD of this month as far as AWS has counted., type: float, returned: always, sample: 12.3}
    forecast: {description: USD that AWS foresees for this month., type: float, returned: always, sample: 41.0}
changes:
  description: What was changed, C(create), C(delete), or what was and is.
  returned: always
  type: dict
  sample: {limit: [30, 50]}
"""

import re
from typing import Any

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.lightsout.aws.plugins.module_utils import budgets
from ansible_collections.lightsout.aws.plugins.module_utils.calls import Clients
from ansible_collections.lightsout.aws.plugins.module_utils.naming import tags_as_list, tags_to_set
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import LightsoutError, explain, numbered

_NAME = re.compile(r"[^:\\]{1,100}")


def problems(params: dict[str, Any]) -> list[str]:
    """What is wrong with the options by themselves."""
    found = []
    if not _NAME.fullmatch(params["name"]) or "/action/" in params["name"]:
        found.append(f"name is '{params['name']}': a budget's name has 1 to 100 characters and neither : nor \\.")
    if params["limit"] is not None and params["limit"] <= 0:
        found.append(f"limit is {params['limit']:g}: give USD a month above 0.")
    alerts = params["alerts"] or []
    if len(alerts) > budgets.MOST_NOTIFICATIONS:
        found.append(f"alerts holds {len(alerts)}: AWS takes at most {budgets.MOST_NOTIFICATIONS}.")
    for alert in alerts:
        emails = alert["emails"] or params["emails"]
        if not emails:
            found.append(f"the alert at {alert['threshold']:g} % tells nobody: give emails.")
        if alert["threshold"] <= 0:
            found.append(f"an alert's threshold is {alert['threshold']:g}: give percent above 0.")
    for emails in (params["emails"], *(alert["emails"] or [] for alert in alerts)):
        if len(emails) > budgets.MOST_EMAILS:
            found.append(f"emails holds {len(emails)}: AWS takes at most {budgets.MOST_EMAILS}.")
        found += [
            f"emails holds '{one}', which is no e-mail address." for one in emails if not budgets.EMAIL.fullmatch(one)
        ]
    stop = params["stop"]
    if stop and stop["instance_ids"] and not (stop["role_arn"] and params["emails"]):
        found.append("stop needs a role_arn, and emails of those who are told that machines were stopped.")
    if stop and len(stop["instance_ids"]) > 100:
        found.append(f"stop.instance_ids holds {len(stop['instance_ids'])}: AWS takes at most 100.")
    return list(dict.fromkeys(found))


class Keeper:
    """Brings one budget to what is wanted, with the fewest calls.

    Args:
        module: the AnsibleAWSModule with our options.
    """

    def __init__(self, module) -> None:
        self.params, self.check = module.params, module.check_mode
        clients = Clients(module)
        self.client = clients("budgets", budgets.REGION)
        self.account: str = clients("sts").get_caller_identity()["Account"]
        self.which = {"AccountId": self.account, "BudgetName": module.params["name"]}
        self.alerts = budgets.wanted_alerts(module.params["emails"], module.params["alerts"])
        self.changes: dict[str, Any] = {}

    def observe(self) -> budgets.Budget | None:
        """The budget as it is."""
        return budgets.observe(self.client, self.account, self.params["name"])

    def ensure(self) -> tuple[budgets.Budget | None, budgets.Budget | None]:
        """Before and after; equal when nothing was to be done, or nothing may be."""
        before = self.observe()
        if self.params["state"] == "absent":
            self.ensure_absent(before)
        elif before is None:
            self.create()
        else:
            self.change(before)
        return before, before if self.check or not self.changes else self.observe()

    def ensure_absent(self, now: budgets.Budget | None) -> None:
        """No budget."""
        if now is None:
            return
        self.changes["budget"] = "delete"
        if not self.check:
            self.client.delete_budget(**self.which)

    def create(self) -> None:
        """A budget with its alerts and tags in one call; only an action needs another."""
        if self.params["limit"] is None:
            raise LightsoutError(f"There is no budget {self.params['name']}: give its limit in USD a month.")
        self.changes["budget"] = "create"
        stop = self.wanted_stop()
        if stop:
            self.changes["stop"] = (None, list(stop.instance_ids))
        if self.check:
            return
        self.client.create_budget(
            AccountId=self.account,
            Budget=budgets.request(self.params["name"], self.params["limit"], self.params["project"]),
            NotificationsWithSubscribers=[
                {"Notification": budgets.notification(alert), "Subscribers": budgets.subscribers(emails)}
                for alert, emails in (self.alerts or {}).items()
            ],
            ResourceTags=tags_as_list(self.params["tags"]),
        )
        if stop:
            self.client.create_budget_action(ActionType="RUN_SSM_DOCUMENTS", **self.which, **stop.request())

    def change(self, now: budgets.Budget) -> None:
        """Only what differs."""
        params = self.params
        self.changes = dict(budgets.differences(now, params["limit"], params["project"], self.alerts))
        tags = tags_to_set(now.tags, params["tags"])
        if tags:
            self.changes["tags"] = ({key: now.tags.get(key) for key in tags}, tags)
        stops = self.stop_changes(now)
        if self.check:
            return
        if {"limit", "scope"} & set(self.changes):
            wanted = budgets.request(params["name"], params["limit"], params["project"])
            self.client.update_budget(AccountId=self.account, NewBudget=wanted)
        if "alerts" in self.changes:
            self.change_alerts(now.alerts, self.alerts or {})
        if tags:
            partition = getattr(self.client.meta, "partition", "aws")
            self.client.tag_resource(
                ResourceARN=budgets.arn(self.account, params["name"], partition), ResourceTags=tags_as_list(tags)
            )
        for call in stops:
            call()

    def change_alerts(
        self, now: dict[budgets.Alert, tuple[str, ...]], wanted: dict[budgets.Alert, tuple[str, ...]]
    ) -> None:
        """Notifications come and go whole; of one that stays, addresses come before others go: it needs one always."""
        for alert in now.keys() - wanted.keys():
            self.client.delete_notification(**self.which, Notification=budgets.notification(alert))
        for alert, emails in wanted.items():
            about = {**self.which, "Notification": budgets.notification(alert)}
            if alert not in now:
                self.client.create_notification(**about, Subscribers=budgets.subscribers(emails))
                continue
            for one in budgets.subscribers(tuple(sorted(set(emails) - set(now[alert])))):
                self.client.create_subscriber(**about, Subscriber=one)
            for one in budgets.subscribers(tuple(sorted(set(now[alert]) - set(emails)))):
                self.client.delete_subscriber(**about, Subscriber=one)

    def wanted_stop(self) -> budgets.Stop | None:
        """The action that is wanted; None for none."""
        stop = self.params["stop"]
        if not stop or not stop["instance_ids"]:
            return None
        return budgets.Stop(
            threshold=stop["threshold"],
            region=stop["region"],
            instance_ids=tuple(sorted(set(stop["instance_ids"]))),
            role_arn=stop["role_arn"],
            emails=tuple(sorted(set(self.params["emails"]))),
        )

    def stop_changes(self, now: budgets.Budget) -> list[Any]:
        """The calls that make the region's action right; notes the change."""
        if self.params["stop"] is None:
            return []
        wanted, region = self.wanted_stop(), self.params["stop"]["region"]
        there = {key: stop for key, stop in now.stops.items() if stop.region == region}
        if list(there.values()) == ([wanted] if wanted else []):
            return []
        ids = sorted({one for stop in there.values() for one in stop.instance_ids})
        self.changes["stop"] = (ids or None, list(wanted.instance_ids) if wanted else None)
        keep = next(iter(there), None) if wanted else None
        calls = [
            lambda key=key: self.client.delete_budget_action(**self.which, ActionId=key) for key in there if key != keep
        ]
        if wanted and keep:
            calls.append(lambda: self.client.update_budget_action(**self.which, ActionId=keep, **wanted.request()))
        elif wanted:
            calls.append(
                lambda: self.client.create_budget_action(
                    ActionType="RUN_SSM_DOCUMENTS", **self.which, **wanted.request()
                )
            )
        return calls


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={
            "name": {"required": True},
            "state": {"choices": ["present", "absent"], "default": "present"},
            "limit": {"type": "float"},
            "project": {},
            "emails": {"type": "list", "elements": "str", "default": []},
            "alerts": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "type": {"choices": ["actual", "forecasted"], "default": "actual"},
                    "threshold": {"type": "float", "required": True},
                    "emails": {"type": "list", "elements": "str"},
                },
            },
            "stop": {
                "type": "dict",
                "options": {
                    "threshold": {"type": "float", "default": 100.0},
                    "region": {"required": True},
                    "instance_ids": {"type": "list", "elements": "str", "default": []},
                    "role_arn": {},
                },
            },
            "tags": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    wrong = problems(module.params)
    if wrong:
        module.fail_json(msg=numbered(wrong))
    try:
        keeper = Keeper(module)
        before, after = keeper.ensure()
    except Exception as error:
        failure = explain(error, f"bring budget {module.params['name']} to its state")
    else:
        failure = None
    if failure:
        module.fail_json(msg=failure)
    changes = {key: list(change) if isinstance(change, tuple) else change for key, change in keeper.changes.items()}
    module.exit_json(
        changed=bool(changes),
        budget=after.as_dict() if after else {},
        changes=changes,
        diff={
            "before": before.as_dict() if before else {},
            "after": changes if module.check_mode and changes else after.as_dict() if after else {},
        },
    )


if __name__ == "__main__":
    main()
