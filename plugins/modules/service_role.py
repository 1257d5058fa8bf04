#!/usr/bin/python
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: service_role
version_added: 0.1.0
short_description: A role of a project that an AWS service takes on, with one policy of its own
description:
  - Makes the role with its tags, who may take it on, and what it may do, or puts right what differs.
  - The service may take it on for this account only, and only on behalf of O(source).
  - C(ACCOUNT) and C(PARTITION) in O(source) and in O(statements) stand for the caller's own.
  - The role is made below C(/lightsout/<region>/), where M(lightsout.aws.project_teardown) finds it.
options:
  name:
    description:
      - The role's name, which is also the policy's.
    type: str
    required: true
  description:
    description:
      - What it is for.
    type: str
    default: ""
  service:
    description:
      - Who takes it on, as C(scheduler.amazonaws.com).
    type: str
    required: true
  source:
    description:
      - The ARN of the thing on whose behalf the service acts. May hold wildcards.
    type: str
    required: true
  statements:
    description:
      - What it may do, the statements of an IAM policy.
    type: list
    elements: dict
    required: true
  permissions_boundary:
    description:
      - The ARN of a policy that bounds what the role can ever do.
      - C(ACCOUNT) and C(PARTITION) stand for the caller's own.
      - When not given, whatever it is.
    type: str
  tags:
    description:
      - Tags that it shall have. Others stay.
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
    description: Shows trust, policy and tags before and after.
author:
  - The Lightsout authors (@lightsout)
"""

EXAMPLES = r"""
- name: The scheduler may stop what carries the project's tag, and nothing else
  lightsout.aws.service_role:
    name: lightsout-rerank-stop-us-east-1
    service: scheduler.amazonaws.com
    source: arn:PARTITION:scheduler:us-east-1:ACCOUNT:schedule-group/lightsout-rerank
    statements:
      - Effect: Allow
        Action: ec2:StopInstances
        Resource: arn:PARTITION:ec2:us-east-1:ACCOUNT:instance/*
        Condition: {StringEquals: {"aws:ResourceTag/lightsout:project": rerank}}
    tags: {"lightsout:project": rerank}
"""

RETURN = r"""
arn:
  description: The role's ARN; in check mode also the one that it would have.
  returned: always
  type: str
  sample: arn:aws:iam::123456789012:role/lightsout/us-east-1/lightsout-rerank-stop-us-east-1
account:
  description: The caller's account.
  returned: always
  type: str
  sample: '123456789012'
partition:
  description: The caller's partition.
  returned: always
  type: str
  sample: aws
changes:
  description: What was changed, C(create) or the names of what differed.
  returned: always
  type: dict
  sample: {role: create}
"""

import json
from typing import Any
from urllib.parse import unquote

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.lightsout.aws.plugins.module_utils import checks
from ansible_collections.lightsout.aws.plugins.module_utils.calls import Clients
from ansible_collections.lightsout.aws.plugins.module_utils.naming import (
    iam_path,
    tags_as_dict,
    tags_as_list,
    tags_to_set,
)
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import (
    LightsoutError,
    error_code,
    explain,
    numbered,
)


def document(given: Any) -> dict[str, Any]:
    """A policy as AWS returns it: a dictionary, or its text, percent-encoded."""
    return json.loads(unquote(given)) if isinstance(given, str) else given


class Role:
    """Brings one role to what is wanted.

    Args:
        module: the AnsibleAWSModule with our options.
    """

    def __init__(self, module) -> None:
        self.params, self.check = module.params, module.check_mode
        clients = Clients(module)
        caller = clients("sts").get_caller_identity()
        self.iam = clients("iam")
        self.account: str = caller["Account"]
        self.partition: str = caller["Arn"].split(":")[1]
        self.name: str = module.params["name"]
        self.path = iam_path(module.region)
        self.arn = f"arn:{self.partition}:iam::{self.account}:role{self.path}{self.name}"
        boundary = module.params["permissions_boundary"] or ""
        self.boundary = boundary.replace("ACCOUNT", self.account).replace("PARTITION", self.partition)
        self.changes: dict[str, Any] = {}
        self.before: dict[str, Any] = {}

    @property
    def wanted(self) -> dict[str, Any]:
        """Trust, policy and tags as they shall be."""
        trust = {
            "Effect": "Allow",
            "Principal": {"Service": self.params["service"]},
            "Action": "sts:AssumeRole",
            "Condition": {
                "StringEquals": {"aws:SourceAccount": self.account},
                "ArnLike": {"aws:SourceArn": self.params["source"]},
            },
        }
        wanted = {"trust": [trust], "policy": self.params["statements"]}
        text = json.dumps(wanted).replace("ACCOUNT", self.account).replace("PARTITION", self.partition)
        return {key: {"Version": "2012-10-17", "Statement": statements} for key, statements in json.loads(text).items()}

    def ensure(self) -> None:
        """Look, and put right what differs."""
        now, wanted = self.observe(), self.wanted
        if now is None:
            self.changes["role"] = "create"
            if not self.check:
                self.create(wanted)
            return
        self.before = now
        self.changes = {key: [now[key], wanted[key]] for key in wanted if now[key] != wanted[key]}
        tags = tags_to_set(now["tags"], self.params["tags"])
        if tags:
            self.changes["tags"] = [{key: now["tags"].get(key) for key in tags}, tags]
        if self.boundary and now["permissions_boundary"] != self.boundary:
            self.changes["permissions_boundary"] = [now["permissions_boundary"], self.boundary]
        if self.check:
            return
        if "permissions_boundary" in self.changes:
            self.iam.put_role_permissions_boundary(RoleName=self.name, PermissionsBoundary=self.boundary)
        if "trust" in self.changes:
            self.iam.update_assume_role_policy(RoleName=self.name, PolicyDocument=json.dumps(wanted["trust"]))
        if tags:
            self.iam.tag_role(RoleName=self.name, Tags=tags_as_list(tags))
        if "policy" in self.changes:
            self.write_policy(wanted)

    def observe(self) -> dict[str, Any] | None:
        """The role as it is, None when there is none.

        Raises:
            LightsoutError: somebody else has one of that name.
        """
        try:
            role = self.iam.get_role(RoleName=self.name)["Role"]
        except Exception as error:
            if error_code(error) == "NoSuchEntity":
                return None
            raise
        if role["Path"] != self.path:
            raise LightsoutError(
                f"There is a role {self.name} below {role['Path']} already, which is not ours ({self.path}): rename or "
                "delete it."
            )
        policy: dict[str, Any] = {}
        try:
            answer = self.iam.get_role_policy(RoleName=self.name, PolicyName=self.name)
            policy = document(answer["PolicyDocument"])
        except Exception as error:
            if error_code(error) != "NoSuchEntity":
                raise
        trust = document(role["AssumeRolePolicyDocument"])
        return {
            "trust": trust,
            "policy": policy,
            "permissions_boundary": role.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn"),
            "tags": tags_as_dict(role.get("Tags")),
        }

    def create(self, wanted: dict[str, Any]) -> None:
        """A role with its tags in one call, then its policy."""
        self.iam.create_role(
            RoleName=self.name,
            Path=self.path,
            Description=self.params["description"],
            AssumeRolePolicyDocument=json.dumps(wanted["trust"]),
            Tags=tags_as_list(self.params["tags"]),
            **({"PermissionsBoundary": self.boundary} if self.boundary else {}),
        )
        self.write_policy(wanted)

    def write_policy(self, wanted: dict[str, Any]) -> None:
        """What it may do."""
        self.iam.put_role_policy(RoleName=self.name, PolicyName=self.name, PolicyDocument=json.dumps(wanted["policy"]))


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={
            "name": {"required": True},
            "description": {"default": ""},
            "service": {"required": True},
            "source": {"required": True},
            "statements": {"type": "list", "elements": "dict", "required": True},
            "permissions_boundary": {},
            "tags": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    problems = checks.region_problems(module.region, None)
    if not module.params["statements"]:
        problems.append("statements is empty: a role that may do nothing is of no use.")
    if problems:
        module.fail_json(msg=numbered(problems))
    try:
        role = Role(module)
        role.ensure()
    except Exception as error:
        failure = explain(error, f"bring role {module.params['name']} to its state")
    else:
        failure = None
    if failure:
        module.fail_json(msg=failure)
    bounded = {"permissions_boundary": role.boundary} if role.boundary else {}
    after = {**role.wanted, **bounded, "tags": {**role.before.get("tags", {}), **module.params["tags"]}}
    module.exit_json(
        changed=bool(role.changes),
        arn=role.arn,
        account=role.account,
        partition=role.partition,
        changes=role.changes,
        diff={"before": role.before, "after": after},
    )


if __name__ == "__main__":
    main()
