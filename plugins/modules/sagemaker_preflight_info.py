#!/usr/bin/python
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: sagemaker_preflight_info
version_added: 0.2.0
short_description: Check all settings of a notebook instance or training job at once and tell what it costs
description:
  - Validates every setting by itself and reports all problems together, one line each, before anything is asked.
  - Then asks AWS whether there is such a thing already, and whether somebody watches over the money. A budget is only
    asked for where something that costs money would be made.
  - Creates and changes nothing.
options:
  owner:
    description:
      - Who answers for the bill.
    type: str
    required: true
  lease:
    description:
      - How long a notebook instance may run from its start, a number and one of V(s), V(m), V(h) and V(d).
    type: str
    default: 12h
  renew:
    description:
      - Whether the lease begins anew, also where one has not ended.
    type: bool
    default: false
  budget:
    description:
      - The budget that there must be before something is made, as the option
        O(lightsout.aws.preflight_info#module:budget).
    type: dict
    suboptions:
      limit:
        description: USD a month. When not given, there must be such a budget. V(0) means that none is wanted.
        type: str
      emails:
        description: Who is told.
        type: list
        elements: str
        default: []
      count:
        description: Whether all that the account spends is counted, or only what carries the project's tag.
        type: str
        choices: [account, project]
        default: account
      alerts:
        description: When somebody is told, as the option O(lightsout.aws.budgets_budget#module:alerts).
        type: list
        elements: dict
  notebook:
    description:
      - The notebook instance that is wanted, with the settings of the role P(lightsout.aws.sagemaker_notebook#role).
    type: dict
    suboptions:
      name: {description: Its name., type: str, required: true}
      instance_type: {description: Its type., type: str, required: true}
      volume_size: {description: The size of its volume in GiB., type: int, required: true}
      platform: {description: What it boots., type: str, required: true}
      subnet_id: {description: Its subnet., type: str, default: ''}
      security_group_ids: {description: Its security groups., type: list, elements: str, default: []}
      direct_internet: {description: Whether it reaches the internet by itself., type: bool, default: true}
      repositories: {description: What it clones., type: list, elements: str, default: []}
      buckets: {description: Which buckets it may use., type: list, elements: str, default: []}
      idle: {description: After which time without use it is stopped., type: str, default: ''}
      idle_hard_limit: {description: The same for one that cannot be judged., type: str, default: ''}
      on_create: {description: The script for its creation., type: str, default: ''}
      on_start: {description: The script for each start., type: str, default: ''}
  training:
    description:
      - The training job that is wanted, with the settings of the role P(lightsout.aws.sagemaker_training#role).
    type: dict
    suboptions:
      name: {description: Its name on SageMaker., type: str, required: true}
      job: {description: Its name., type: str, required: true}
      image: {description: The image that it runs in., type: str, default: ''}
      command: {description: What it runs., type: str, default: ''}
      source: {description: The file or folder that it needs., type: path, default: ''}
      instance_type: {description: The type of its machines., type: str, required: true}
      instance_count: {description: How many machines., type: int, default: 1}
      volume_size: {description: The size of the volume of each in GiB., type: int, default: 30}
      spot: {description: Whether they are spot machines., type: bool, default: true}
      max_runtime: {description: How long it may run., type: str, required: true}
      max_wait: {description: How long it may run and wait for spot machines., type: str, required: true}
      data: {description: Channels and the S3 URI of each., type: dict, default: {}}
      bucket: {description: Where source and results are kept. Empty for the project's own., type: str, default: ''}
      subnet_id: {description: Their subnet., type: str, default: ''}
      security_group_ids: {description: Their security groups., type: list, elements: str, default: []}
extends_documentation_fragment:
  - lightsout.aws.project
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
seealso:
  - module: lightsout.aws.preflight_info
  - module: lightsout.aws.sagemaker_notebook_instance
author:
  - The Lightsout authors (@lightsout)
"""

EXAMPLES = r"""
- name: What would this notebook cost
  lightsout.aws.sagemaker_preflight_info:
    project: rerank
    owner: ada
    notebook:
      name: lightsout-rerank-notebook
      instance_type: ml.t3.medium
      volume_size: 20
      platform: notebook-al2023-v1
  register: preflight

- name: Show it
  ansible.builtin.debug:
    msg: "{{ preflight.plan.lines }}"
"""

RETURN = r"""
plan:
  description: What there is, what would change and what it costs.
  returned: success
  type: dict
  contains:
    account: {description: The AWS account., type: str, returned: always, sample: '123456789012'}
    partition: {description: The caller's partition., type: str, returned: always, sample: aws}
    caller: {description: The caller's ARN., type: str, returned: always}
    status: {description: The state of what there is; empty where there is nothing., type: str, returned: always}
    tags: {description: Its tags., type: dict, returned: always}
    expires: {description: When the lease ends, with a new one if it begins., type: str, returned: with O(notebook)}
    bucket: {description: Where source and results are kept., type: str, returned: with O(training)}
    changes:
      description: C(budget) and C(deadline), where they are to be made or changed.
      type: dict
      returned: always
      sample: {budget: create, deadline: set}
    prices:
      description: USD an hour (null when unknown) and for a stopped month, with date and region of the list.
      type: dict
      returned: always
      sample: {hour: 0.0538, stopped_month: 2.8, as_of: '2026-03-01', region: us-east-1}
    lines: {description: The plan for people., type: list, elements: str, returned: always}
problems:
  description: What is wrong with the settings, a sentence each.
  returned: failure
  type: list
  elements: str
"""

import datetime
from typing import Any

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.lightsout.aws.plugins.module_utils import (
    budgets,
    checks,
    prices,
    sagemaker,
    sagemaker_checks,
    schedules,
)
from ansible_collections.lightsout.aws.plugins.module_utils.calls import Clients, at_once
from ansible_collections.lightsout.aws.plugins.module_utils.naming import TAG_EXPIRES, expires_at, span_of
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import credentials_problem, explain, numbered

LONGEST_BUCKET = 63

#: States in which a notebook instance has run until now: its lease goes on.
RUNNING = ("InService", "Pending", "Updating", "PendingMaintenance", "InMaintenance")


class Preflight:
    """One look at the settings and at AWS.

    Args:
        module: the AnsibleAWSModule with our options.
    """

    def __init__(self, module) -> None:
        self.params, self.region = module.params, module.region or ""
        self.project: str = module.params["project"]
        self.group = f"lightsout-{self.project}"
        self.notebook: dict[str, Any] = module.params["notebook"] or {}
        self.training: dict[str, Any] = module.params["training"] or {}
        self.budget: dict[str, Any] | None = module.params["budget"]
        self.client = Clients(module)
        self.problems: list[str] = []
        self.plan: dict[str, Any] = {"changes": {}, "status": "", "tags": {}}

    def check_alone(self) -> None:
        """The settings by themselves."""
        self.problems += checks.region_problems(self.region, None)
        self.problems += checks.project_problems(self.project, self.params["owner"], self.params["lease"])
        if self.notebook:
            self.problems += sagemaker_checks.notebook_problems(self.notebook)
        if self.training:
            self.problems += sagemaker_checks.training_problems(self.training)
        if self.budget:
            self.problems += checks.budget_problems(self.budget)
            if self.budget["limit"] is not None and checks.is_amount(self.budget["limit"]):
                self.budget["limit"] = float(self.budget["limit"])

    def ask(self, **calls: Any) -> dict[str, Any]:
        """Every question at once; the first error ends it.

        Raises:
            Exception: what a call raised.
        """
        answers = at_once(calls)
        for answer in answers.values():
            if isinstance(answer, Exception):
                raise answer
        return answers

    def look(self) -> None:
        """What there is: two rounds, since tags and budget depend on the first."""
        self.client("sagemaker")  # the largest model loads once, before the threads want it
        calls = {"caller": lambda: self.client("sts").get_caller_identity(), "raw": self.describe}
        if self.notebook:
            calls["deadline"] = self.find_deadline
        answers = self.ask(**calls)
        caller, raw = answers["caller"], answers["raw"]
        self.plan |= {"account": caller["Account"], "caller": caller["Arn"], "partition": caller["Arn"].split(":")[1]}
        if raw:
            self.plan["status"] = raw.get("NotebookInstanceStatus") or raw["TrainingJobStatus"]
            arn = raw.get("NotebookInstanceArn") or raw["TrainingJobArn"]
            self.plan["tags"] = sagemaker.read_tags(self.client("sagemaker"), arn)
        elif self.budget and self.budget["limit"] != 0:
            self.read_budget()
        if self.notebook:
            self.read_lease(answers["deadline"])
        else:
            self.read_training()

    def describe(self) -> dict[str, Any] | None:
        """The notebook instance or training job as SageMaker describes it."""
        client = self.client("sagemaker")
        if self.training:
            return sagemaker.describe(client.describe_training_job, TrainingJobName=self.training["name"])
        return sagemaker.describe(client.describe_notebook_instance, NotebookInstanceName=self.notebook["name"])

    def find_deadline(self) -> dict[str, Any] | None:
        """The schedule by which AWS stops it at the end of its lease."""
        return schedules.find(self.client("scheduler"), self.group, schedules.deadline_name(self.notebook["name"]))

    def read_budget(self) -> None:
        """Whether somebody will be told before the money is gone."""
        client = self.client("budgets", budgets.REGION)
        try:
            now: Any = budgets.observe(client, self.plan["account"], self.group)
        except Exception as error:
            now = error
        problems, change = checks.budget_against(now, self.budget, self.project)
        self.problems += problems
        if change:
            self.plan["changes"]["budget"] = change

    def read_lease(self, deadline: dict[str, Any] | None) -> None:
        """When it ends, and whether AWS will stop the instance then."""
        expires = self.plan["tags"].get(TAG_EXPIRES, "")
        if self.params["renew"] or not expires or self.plan["status"] not in RUNNING:
            expires = expires_at(self.params["lease"])
        self.plan["expires"] = expires
        now = datetime.datetime.now(datetime.UTC)
        target = {"NotebookInstanceName": self.notebook["name"]}
        if not schedules.stops_in_time(deadline, target, expires, now):
            self.plan["changes"]["deadline"] = "set" if deadline is None else "move"

    def read_training(self) -> None:
        """Where its files are, and what is missing to start it."""
        own = f"lightsout-{self.project}-{self.plan['account']}-{self.region}"
        self.plan["bucket"] = self.training["bucket"] or own
        if self.plan["status"]:
            return
        self.problems += sagemaker_checks.new_training_problems(self.training)
        if len(self.plan["bucket"]) > LONGEST_BUCKET:
            self.problems.append(
                f"sagemaker_training_bucket is empty, and our own would be '{own}', of {len(own)} characters: "
                f"a bucket's name has {LONGEST_BUCKET}; give one, or the project a shorter name."
            )

    def tell_training(self) -> None:
        """The plan for people."""
        training, count = self.training, self.training["instance_count"]
        cost = prices.notebook(training["instance_type"], training["volume_size"])
        hour = None if cost["hour"] is None else cost["hour"] * count
        longest = span_of(training["max_runtime"]).total_seconds() / 3600
        price = "price unknown" if hour is None else f"USD {hour:.4g} an hour, at most {hour * longest:.2f} in all"
        spot = "; spot is cheaper" if training["spot"] else ""
        machines = training["instance_type"] if count == 1 else f"{count} x {training['instance_type']}"
        self.plan["prices"] = {"hour": hour, "as_of": cost["as_of"], "region": cost["region"]}
        self.plan["lines"] = [
            f"Project  {self.project} in {self.region} (account {self.plan['account']}, {self.plan['caller']})",
            f"Job      {training['name']} on {machines}: {training['command']}",
            f"Files    s3://{self.plan['bucket']}/{training['job']}/",
            f"Lights   it ends with its command, and after {training['max_runtime']} in any case",
            f"Price    {price}{spot} (list prices for {cost['region']}, {cost['as_of']}, no tax)",
        ]

    def tell(self) -> None:
        """The plan for people."""
        if self.training:
            self.tell_training()
            return
        notebook = self.notebook
        cost = prices.notebook(notebook["instance_type"], notebook["volume_size"])
        hour = "price unknown" if cost["hour"] is None else f"USD {cost['hour']:.4g} an hour"
        idle = f"stopped after {notebook['idle']} without use" if notebook["idle"] else "not stopped when it is idle"
        way = "straight to the internet" if notebook["direct_internet"] else f"through {notebook['subnet_id']} only"
        self.plan["prices"] = cost
        self.plan["lines"] = [
            f"Project  {self.project} in {self.region} (account {self.plan['account']}, {self.plan['caller']})",
            f"Notebook {notebook['name']}: {notebook['instance_type']}, {notebook['volume_size']} GiB, "
            f"{self.plan['status'] or 'to be made'}",
            f"Network  {way}; in only by a link that AWS signs for you",
            f"Lights   {idle}; by AWS itself at {self.plan['expires']}, the end of its lease",
            f"Price    {hour} (list prices for {cost['region']}, {cost['as_of']}, no tax)",
            f"         stopped, it still costs USD {cost['stopped_month']:.2f} a month for its volume",
        ]


def main() -> None:
    """Run as an Ansible module."""
    text, names = {"default": ""}, {"type": "list", "elements": "str", "default": []}
    notebook = {
        "name": {"required": True},
        "instance_type": {"required": True},
        "volume_size": {"type": "int", "required": True},
        "platform": {"required": True},
        "subnet_id": text,
        "security_group_ids": names,
        "direct_internet": {"type": "bool", "default": True},
        "repositories": names,
        "buckets": names,
        "idle": text,
        "idle_hard_limit": text,
        "on_create": text,
        "on_start": text,
    }
    training = {
        "name": {"required": True},
        "job": {"required": True},
        "image": text,
        "command": text,
        "source": {"type": "path", "default": ""},
        "instance_type": {"required": True},
        "instance_count": {"type": "int", "default": 1},
        "volume_size": {"type": "int", "default": 30},
        "spot": {"type": "bool", "default": True},
        "max_runtime": {"required": True},
        "max_wait": {"required": True},
        "data": {"type": "dict", "default": {}},
        "bucket": text,
        "subnet_id": text,
        "security_group_ids": names,
    }
    module = AnsibleAWSModule(
        argument_spec={
            "project": {"required": True},
            "owner": {"required": True},
            "lease": {"default": "12h"},
            "renew": {"type": "bool", "default": False},
            "budget": {
                "type": "dict",
                "options": {
                    "limit": {},
                    "emails": names,
                    "count": {"choices": ["account", "project"], "default": "account"},
                    "alerts": {"type": "list", "elements": "dict"},
                },
            },
            "notebook": {"type": "dict", "options": notebook},
            "training": {"type": "dict", "options": training},
        },
        required_one_of=[("notebook", "training")],
        mutually_exclusive=[("notebook", "training")],
        supports_check_mode=True,
    )
    preflight = Preflight(module)
    preflight.check_alone()
    if not preflight.problems:
        try:
            preflight.look()
            if not preflight.problems:
                preflight.tell()
        except Exception as error:
            preflight.problems.append(credentials_problem(error) or explain(error, "look at the project"))
    if preflight.problems:
        module.fail_json(msg=numbered(preflight.problems), problems=preflight.problems)
    module.exit_json(changed=False, plan=preflight.plan)


if __name__ == "__main__":
    main()
