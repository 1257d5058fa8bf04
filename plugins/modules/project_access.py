#!/usr/bin/python
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: project_access
version_added: 0.2.0
short_description: Let the machines of a project be reached from where you are now
description:
  - Makes the project's security group let in what is asked for here and nothing else from outside. What is new is
    opened before what is old is closed.
  - The rule by which several machines reach each other stays.
options:
  project:
    description:
      - The project's name.
    type: str
    required: true
  access_cidrs:
    description:
      - Who is let in. V(auto) is the address that you are calling from; or an address, a network, or a list.
    type: list
    elements: str
    default: [auto]
  ports:
    description:
      - The TCP ports that they reach. None means that nobody gets in from outside.
    type: list
    elements: int
    default: [22]
  allow_world:
    description:
      - Whether O(access_cidrs) may be as wide as the whole internet.
    type: bool
    default: false
  checkip_url:
    description:
      - Answers with the caller's address in plain text. Asked when O(access_cidrs) holds V(auto).
    type: str
    default: https://checkip.amazonaws.com
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    support: full
    description: Says what would be opened and closed, changes nothing.
  diff_mode:
    support: full
    description: The rules before and after.
seealso:
  - module: lightsout.aws.preflight_info
  - module: amazon.aws.ec2_security_group
author:
  - The Lightsout authors (@lightsout)
"""

EXAMPLES = r"""
- name: This computer has another address now
  lightsout.aws.project_access:
    project: rerank
    ports: [22]

- name: The whole laboratory
  lightsout.aws.project_access:
    project: rerank
    access_cidrs: [auto, 198.51.100.0/24]
    ports: [22, 8888]
"""

RETURN = r"""
cidrs:
  description: Who is let in, with V(auto) resolved.
  returned: always
  type: list
  elements: str
  sample: [203.0.113.7/32]
opened:
  description: What was opened, in check mode what would be.
  returned: always
  type: list
  elements: str
  sample: [22 from 203.0.113.7/32]
closed:
  description: What was closed, in check mode what would be.
  returned: always
  type: list
  elements: str
  sample: [22 from 198.51.100.9/32]
"""

from typing import Any

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.lightsout.aws.plugins.module_utils import access, checks
from ansible_collections.lightsout.aws.plugins.module_utils.calls import Clients
from ansible_collections.lightsout.aws.plugins.module_utils.naming import TAG_PROJECT, resource_name, tags_as_dict
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import (
    LightsoutError,
    error_code,
    explain,
    numbered,
)


def find_group(ec2, project: str, region: str) -> dict[str, Any]:
    """The project's security group.

    Raises:
        LightsoutError: there is none that carries the project's tag.
    """
    filters = [
        {"Name": "group-name", "Values": [resource_name(project, "access")]},
        {"Name": f"tag:{TAG_PROJECT}", "Values": [project]},
    ]
    found = ec2.describe_security_groups(Filters=filters)["SecurityGroups"]
    for group in found:
        if tags_as_dict(group.get("Tags")).get(TAG_PROJECT) == project:
            return group
    raise LightsoutError(
        f"Project {project} has no security group in {region}. "
        f"Make it: ansible-playbook playbooks/provision.yml -e lightsout_project={project}"
    )


def change(call, group_id: str, rules: dict[tuple[Any, str], dict], done_already: str) -> None:
    """Open or close; another run that does the same at the same moment is no failure."""
    for rule in rules.values():
        try:
            call(GroupId=group_id, IpPermissions=[rule])
        except Exception as error:
            if error_code(error) != done_already:
                raise


def told(pairs) -> list[str]:
    """Rules for people."""
    return sorted(f"{port} from {source}" for port, source in pairs)


def adjust(ec2, group: dict[str, Any], wanted: set[tuple[int, str]], check_mode: bool) -> dict[str, Any]:
    """The module's work, and its result."""
    opened, closed = access.corrections(group, wanted)
    if not check_mode:
        change(ec2.authorize_security_group_ingress, group["GroupId"], opened, "InvalidPermission.Duplicate")
        change(ec2.revoke_security_group_ingress, group["GroupId"], closed, "InvalidPermission.NotFound")
    before = access.rules_of(group)
    return {
        "changed": bool(opened or closed),
        "opened": told(opened),
        "closed": told(closed),
        "diff": {"before": {"rules": told(before)}, "after": {"rules": told((before - set(closed)) | set(opened))}},
    }


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={
            "project": {"required": True},
            "access_cidrs": {"type": "list", "elements": "str", "default": ["auto"]},
            "ports": {"type": "list", "elements": "int", "default": [22]},
            "allow_world": {"type": "bool", "default": False},
            "checkip_url": {"default": "https://checkip.amazonaws.com"},
        },
        supports_check_mode=True,
    )
    params = module.params
    cidrs, wrong = checks.access_problems(params["access_cidrs"], params["allow_world"])
    problems = checks.region_problems(module.region, None)
    problems += checks.project_problems(params["project"], None, None) + wrong + checks.port_problems(params["ports"])
    if problems:
        module.fail_json(msg=numbered(problems))
    try:
        if checks.AUTO in cidrs:
            own = access.own_address(params["checkip_url"])
            cidrs = list(dict.fromkeys(own if cidr == checks.AUTO else cidr for cidr in cidrs))
        ec2 = Clients(module)("ec2")
        group = find_group(ec2, params["project"], module.region)
        wanted = {(port, cidr) for port in params["ports"] for cidr in cidrs}
        result = adjust(ec2, group, wanted, module.check_mode)
    except Exception as error:
        module.fail_json(msg=explain(error, f"change who reaches the machines of {params['project']}"))
    module.exit_json(cidrs=sorted(cidrs), **result)


if __name__ == "__main__":
    main()
