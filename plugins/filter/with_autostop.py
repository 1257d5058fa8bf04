# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What autostop last said on each machine, beside what AWS says about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DOCUMENTATION = r"""
name: with_autostop
version_added: 0.2.0
short_description: Add what autostop last said to a list of resources
description:
  - Adds the member C(autostop) to each resource that M(lightsout.aws.project_info) returned. It is the last line of
    C(lightsout-autostop status), or why there is none; empty for what is not a machine that was asked.
positional: hosts
options:
  _input:
    description: The resources.
    type: list
    elements: dict
    required: true
  hosts:
    description:
      - The variables of all hosts, C(hostvars). A machine that was asked has C(aws_instance_id) and C(status_autostop).
    type: dict
    required: true
author:
  - The Lightsout authors (@lightsout)
"""

EXAMPLES = r"""
- name: Show what runs
  ansible.builtin.debug:
    msg: "{{ found.resources | lightsout.aws.with_autostop(hostvars) | lightsout.aws.table(columns) }}"
  vars:
    columns: {id: id, says: autostop}
"""

RETURN = r"""
_value:
  description: The resources, each with C(autostop).
  type: list
  elements: dict
"""


def sentence(answer: Mapping[str, Any]) -> str:
    """What a machine's answer comes to."""
    if answer.get("unreachable"):
        return "(not reachable from here)"
    if answer.get("rc") != 0 or not answer.get("stdout"):
        return "(nothing)"
    return answer["stdout"].splitlines()[-1]


def with_autostop(resources: list[dict[str, Any]], hosts: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The resources, each with what was last said about it."""
    said = {}
    for name in hosts:
        host = hosts[name]
        if "status_autostop" in host and "aws_instance_id" in host:
            said[host["aws_instance_id"]] = sentence(host["status_autostop"])
    return [{**resource, "autostop": said.get(resource["id"], "")} for resource in resources]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Name and function of each."""
        return {"with_autostop": with_autostop}
