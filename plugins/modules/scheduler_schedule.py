#!/usr/bin/python
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: scheduler_schedule
version_added: 0.1.0
short_description: A schedule of EventBridge Scheduler, which calls an AWS API at its time
description:
  - Makes, changes and deletes one schedule. It runs on AWS and needs no computer of yours.
  - A target such as C(arn:aws:scheduler:::aws-sdk:ec2:stopInstances) calls that API with O(target.input).
  - C(ACCOUNT) and C(PARTITION) in O(target.arn) and in O(target.role_arn) stand for the caller's own.
  - Schedules themselves have no tags. Their groups do, and a group that is missing is made with O(group_tags).
options:
  name:
    description:
      - The schedule's name within its group. Letters, digits and C(-_.), at most 64.
    type: str
    required: true
  group:
    description:
      - The group that the schedule is in.
    type: str
    default: default
  group_tags:
    description:
      - Tags that the group shall have. Others stay. The group V(default) has none.
    type: dict
    default: {}
  state:
    description:
      - Whether there shall be such a schedule. V(absent) leaves the group.
    type: str
    choices: [present, absent]
    default: present
  expression:
    description:
      - When, as C(at(2026-11-23T17:00:00)), C(rate(12 hours)) or C(cron(0 20 ? * MON-FRI *)). Needed for V(present).
    type: str
  timezone:
    description:
      - In which time zone O(expression) is meant.
    type: str
    default: UTC
  target:
    description:
      - What is called. Needed for V(present).
    type: dict
    suboptions:
      arn:
        description: The target, for any API C(arn:aws:scheduler:::aws-sdk:SERVICE:ACTION).
        type: str
        required: true
      role_arn:
        description: The role that scheduler.amazonaws.com takes on for the call.
        type: str
        required: true
      input:
        description: The call's parameters, with the names of the API.
        type: dict
        default: {}
      retries:
        description: How often a call that failed is tried again.
        type: int
        default: 185
      retry_for:
        description: For how many seconds after its time it is tried again.
        type: int
        default: 86400
  description:
    description:
      - What it is for.
    type: str
    default: ""
  flexible_minutes:
    description:
      - Within how many minutes after its time it may run. V(0) means at its time.
    type: int
    default: 0
  enabled:
    description:
      - Whether it runs at all.
    type: bool
    default: true
  delete_after_completion:
    description:
      - Whether AWS deletes it after its last run.
    type: bool
    default: false
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
    description: Shows the schedule before and after.
seealso:
  - name: EventBridge Scheduler's universal targets
    description: Which APIs a schedule can call.
    link: https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-targets-universal.html
author:
  - The Lightsout authors (@lightsout)
"""

EXAMPLES = r"""
- name: The machine stops at five, whoever forgets it
  lightsout.aws.scheduler_schedule:
    name: lightsout-rerank-machine-1
    group: lightsout-rerank
    group_tags: {"lightsout:project": rerank}
    expression: at(2026-11-23T17:00:00)
    target:
      arn: arn:aws:scheduler:::aws-sdk:ec2:stopInstances
      role_arn: arn:aws:iam::123456789012:role/lightsout/us-east-1/lightsout-rerank-stop-us-east-1
      input: {InstanceIds: [i-0123456789abcdef0]}
    delete_after_completion: true

- name: No schedule any more
  lightsout.aws.scheduler_schedule:
    name: lightsout-rerank-machine-1
    group: lightsout-rerank
    state: absent
"""

RETURN = r"""
schedule:
  description: The schedule as it is now, in check mode as it is still. Empty when there is none.
  returned: always
  type: dict
  contains:
    arn: {description: Its ARN., type: str, returned: always}
    expression: {description: When., type: str, returned: always, sample: at(2026-11-23T17:00:00)}
    timezone: {description: In which time zone., type: str, returned: always, sample: UTC}
    target: {description: What is called., type: dict, returned: always}
    description: {description: What it is for., type: str, returned: always}
    flexible_minutes: {description: How late it may run., type: int, returned: always, sample: 0}
    enabled: {description: Whether it runs., type: bool, returned: always}
    delete_after_completion: {description: Whether it goes after its last run., type: bool, returned: always}
changes:
  description: What was changed, C(create), C(delete), or what was and is.
  returned: always
  type: dict
  sample: {expression: [at(2026-11-23T17:00:00), at(2026-11-24T05:00:00)]}
"""

import json
import re
import time
from typing import Any

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.lightsout.aws.plugins.module_utils import schedules
from ansible_collections.lightsout.aws.plugins.module_utils.calls import Clients
from ansible_collections.lightsout.aws.plugins.module_utils.naming import tags_as_dict, tags_as_list, tags_to_set
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import (
    error_code,
    error_message,
    explain,
    numbered,
)

_NAME = re.compile(r"[0-9a-zA-Z_.-]{1,64}")
_EXPRESSION = re.compile(
    r"at\(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\)|rate\([1-9]\d* (minute|hour|day)s?\)|cron\(\S+( \S+){5}\)"
)

#: A role that has just been made is not known everywhere for some seconds.
PATIENCE = 60


def problems(params: dict[str, Any]) -> list[str]:
    """What is wrong with the options by themselves."""
    found = [
        f"{key} is '{params[key]}': use 1 to 64 letters, digits and - _ ."
        for key in ("name", "group")
        if not _NAME.fullmatch(params[key])
    ]
    if params["state"] == "absent":
        return found
    expression = params["expression"]
    if not expression or not _EXPRESSION.fullmatch(expression):
        found.append(
            f"expression is '{expression or ''}': write at(2026-11-23T17:00:00), rate(12 hours) or "
            "cron(0 20 ? * MON-FRI *)."
        )
    if not params["target"]:
        found.append("target is missing: give arn, role_arn and input.")
    elif not 0 <= params["target"]["retries"] <= 185 or not 60 <= params["target"]["retry_for"] <= 86400:
        found.append("target: retries are 0 to 185, retry_for is 60 to 86400 seconds.")
    if not 0 <= params["flexible_minutes"] <= 1440:
        found.append(f"flexible_minutes is {params['flexible_minutes']}: give 0 to 1440.")
    return found


class Keeper:
    """Brings one schedule to what is wanted.

    Args:
        module: the AnsibleAWSModule with our options.
    """

    def __init__(self, module) -> None:
        self.params, self.check = module.params, module.check_mode
        clients = Clients(module)
        self.client = clients("scheduler")
        if target := self.params["target"]:
            self.params["target"] = self.named(target, clients)
        self.which = {"Name": module.params["name"], "GroupName": module.params["group"]}
        self.changes: dict[str, Any] = {}

    @staticmethod
    def named(target: dict[str, Any], clients: Clients) -> dict[str, Any]:
        """A target with the caller's own account and partition."""
        arns = {key: target[key] for key in ("arn", "role_arn")}
        if not any(word in arn for arn in arns.values() for word in ("ACCOUNT", "PARTITION")):
            return target
        caller = clients("sts").get_caller_identity()
        account, partition = caller["Account"], caller["Arn"].split(":")[1]
        return target | {k: v.replace("ACCOUNT", account).replace("PARTITION", partition) for k, v in arns.items()}

    def observe(self) -> dict[str, Any] | None:
        """The schedule under the names of our options."""
        raw = schedules.find(self.client, self.params["group"], self.params["name"])
        return schedules.read(raw) if raw else None

    def ensure(self) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """Before and after."""
        before = self.observe()
        if self.params["state"] == "absent":
            self.ensure_absent(before)
        else:
            self.ensure_group(before)
            self.ensure_present(before)
        return before, before if self.check or not self.changes else self.observe()

    def ensure_absent(self, now: dict[str, Any] | None) -> None:
        """No schedule; one that ran in this moment is gone as well."""
        if now is None:
            return
        self.changes["schedule"] = "delete"
        if not self.check:
            try:
                self.client.delete_schedule(**self.which)
            except Exception as error:
                if error_code(error) != schedules.NOT_FOUND:
                    raise

    def ensure_group(self, now: dict[str, Any] | None) -> None:
        """A group with its tags: schedules cannot say themselves whose they are."""
        name, tags = self.params["group"], self.params["group_tags"]
        if name == "default" or (now and not tags):
            return
        try:
            arn = now["arn"].rpartition("/")[0].replace(":schedule/", ":schedule-group/") if now else self.group_arn()
        except Exception as error:
            if error_code(error) != schedules.NOT_FOUND:
                raise
            self.changes["group"] = "create"
            if not self.check:
                self.create_group()
            return
        current = tags_as_dict(self.client.list_tags_for_resource(ResourceArn=arn)["Tags"]) if tags else {}
        missing = tags_to_set(current, tags)
        if missing:
            self.changes["group_tags"] = ({key: current.get(key) for key in missing}, missing)
            if not self.check:
                self.client.tag_resource(ResourceArn=arn, Tags=tags_as_list(missing))

    def group_arn(self) -> str:
        """The ARN of the group."""
        return self.client.get_schedule_group(Name=self.params["group"])["Arn"]

    def create_group(self) -> None:
        """A group, unless another run was first."""
        try:
            self.client.create_schedule_group(Name=self.params["group"], Tags=tags_as_list(self.params["group_tags"]))
        except Exception as error:
            if error_code(error) != "ConflictException":
                raise

    def ensure_present(self, now: dict[str, Any] | None) -> None:
        """A schedule as wanted. UpdateSchedule replaces all of it, so all of it is sent."""
        params = self.params
        wanted = {key: params[key] for key in schedules.SETTINGS}
        if now is None:
            self.changes["schedule"] = "create"
        else:
            self.changes |= {key: (now[key], wanted[key]) for key in wanted if now[key] != wanted[key]}
            if not set(self.changes) & set(wanted):
                return
        if self.check:
            return
        operation = self.client.create_schedule if now is None else self.client.update_schedule
        self.patiently(operation, {**self.which, **schedules.request(wanted)})

    def patiently(self, operation: Any, request: dict[str, Any]) -> None:
        """The call, tried again while AWS does not know the new role yet."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                operation(**request)
                return
            except Exception as error:
                young = error_code(error) == "ValidationException" and "role" in error_message(error)
                if not young or time.monotonic() > deadline:
                    raise
            time.sleep(2)


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={
            "name": {"required": True},
            "group": {"default": "default"},
            "group_tags": {"type": "dict", "default": {}},
            "state": {"choices": ["present", "absent"], "default": "present"},
            "expression": {},
            "timezone": {"default": "UTC"},
            "target": {
                "type": "dict",
                "options": {
                    "arn": {"required": True},
                    "role_arn": {"required": True},
                    "input": {"type": "dict", "default": {}},
                    "retries": {"type": "int", "default": 185},
                    "retry_for": {"type": "int", "default": 86400},
                },
            },
            "description": {"default": ""},
            "flexible_minutes": {"type": "int", "default": 0},
            "enabled": {"type": "bool", "default": True},
            "delete_after_completion": {"type": "bool", "default": False},
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
        failure = explain(error, f"bring schedule {module.params['name']} to its state")
    else:
        failure = None
    if failure:
        module.fail_json(msg=failure)
    changes = {key: list(change) if isinstance(change, tuple) else change for key, change in keeper.changes.items()}
    module.exit_json(
        changed=bool(changes),
        schedule=after or {},
        changes=changes,
        diff={
            "before": json.loads(json.dumps(before or {})),
            "after": changes if module.check_mode and changes else after or {},
        },
    )


if __name__ == "__main__":
    main()
