#!/usr/bin/python
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: ec2_machines
version_added: 0.2.0
short_description: Keep several EC2 instances of a project as they should be, all at the same time
description:
  - Does for each name what M(lightsout.aws.ec2_machine) does for one, at the same time and from one process. Waiting
    for ten machines takes as long as waiting for the slowest.
  - Each machine is found, launched and changed by itself. When one fails, the others are finished, and the message
    says which one failed.
  - With O(placement_group) all machines are launched in one zone, that of the machines that are there already, or the
    first that has a machine to give.
options:
  names:
    description:
      - The machines' names, their tags C(Name).
    type: list
    elements: str
    required: true
extends_documentation_fragment:
  - lightsout.aws.project
  - lightsout.aws.machine
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    support: full
    description: Predicts what would change, changes nothing.
  diff_mode:
    support: full
    description: Shows each setting of each machine before and after.
seealso:
  - module: lightsout.aws.ec2_machine
  - module: lightsout.aws.preflight_info
author:
  - The Lightsout authors (@lightsout)
"""

EXAMPLES = r"""
- name: Two machines beside each other
  lightsout.aws.ec2_machines:
    project: rerank
    names: [lightsout-rerank-machine-1, lightsout-rerank-machine-2]
    instance_type: g5.xlarge
    image_id: ami-0123456789abcdef0
    image: deep-learning
    login_user: ubuntu
    security_group_ids: [sg-0123456789abcdef0]
    placement_group: lightsout-rerank-group
    lease: 12h

- name: Stop both for the night
  lightsout.aws.ec2_machines:
    project: rerank
    names: [lightsout-rerank-machine-1, lightsout-rerank-machine-2]
    state: stopped
"""

RETURN = r"""
machines:
  description: The machines that there are, in the order of O(names), each as M(lightsout.aws.ec2_machine) returns it.
  returned: always
  type: list
  elements: dict
machine:
  description: The first of them; empty when there is none.
  returned: always
  type: dict
changes:
  description: What was changed, or would be in check mode, by name. A machine that is as it should be is not in it.
  returned: always
  type: dict
  sample: {lightsout-rerank-machine-2: {volume_size: [120, 200]}}
"""

import threading
from typing import Any

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.lightsout.aws.plugins.module_utils import checks
from ansible_collections.lightsout.aws.plugins.module_utils.calls import Clients, at_once
from ansible_collections.lightsout.aws.plugins.module_utils.machines import find_machines
from ansible_collections.lightsout.aws.plugins.module_utils.one_machine import OPTIONS, Machine, shown
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import LightsoutError, explain, numbered


class Fleet:
    """Several machines, and the zone that they share.

    Args:
        module: the AnsibleAWSModule with our options.
    """

    def __init__(self, module) -> None:
        clients = Clients(module)
        self.ec2 = clients("ec2")
        self.project: str = module.params["project"]
        self.group: str | None = module.params["placement_group"]
        self.machines = {name: Neighbor(module, self, name, clients) for name in module.params["names"]}
        self.choosing = threading.Lock()
        self.zone: str | None = None
        self.settled = False

    def ensure(self) -> dict[str, Any]:
        """Make all of them so; what ``Machine.ensure`` returns for each name, or the exception that it raised."""
        if self.group:
            self.find_zone()
        return at_once({name: machine.ensure for name, machine in self.machines.items()})

    def find_zone(self) -> None:
        """The zone of the group's machines, which all others must share; or else of the oldest machine."""
        found = find_machines(self.ec2, self.project)
        members = [machine for machine in found if machine["Placement"].get("GroupName") == self.group]
        self.settled = bool(members)
        for machine in [*members, *found][:1]:
            self.zone = machine["Placement"]["AvailabilityZone"]


class Neighbor(Machine):
    """One of them."""

    def __init__(self, module, fleet: Fleet, name: str, clients: Clients) -> None:
        super().__init__(module, name, clients)
        self.fleet = fleet

    def subnets(self) -> list[tuple[str, str]]:
        """Those of the shared zone. While the group is empty, the others come after them."""
        found, fleet = super().subnets(), self.fleet
        near = [place for place in found if place[1] == fleet.zone]
        if not fleet.settled:
            return near + [place for place in found if place not in near]
        if not near:
            raise LightsoutError(
                f"{self.name} must be launched in {fleet.zone}, where the machines of placement group {fleet.group} "
                f"are, but the subnets to launch in are in {', '.join(zone for _subnet, zone in found)}."
            )
        return near

    def launch(self) -> dict:
        """With a placement group, the first machine that is launched settles the zone."""
        fleet = self.fleet
        if not fleet.group:
            return super().launch()
        with fleet.choosing:
            if not fleet.settled:
                machine = super().launch()
                fleet.zone, fleet.settled = machine["Placement"]["AvailabilityZone"], True
                return machine
        return super().launch()


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={**OPTIONS, "names": {"type": "list", "elements": "str", "required": True}},
        supports_check_mode=True,
    )
    problems = checks.region_problems(module.region, None)
    problems += checks.project_problems(module.params["project"], None, module.params["lease"])
    if problems:
        module.fail_json(msg=numbered(problems))
    try:
        answers = Fleet(module).ensure()
    except Exception as error:
        failure = explain(error, f"look for the machines of {module.params['project']}")
    else:
        failure = None
    if failure:
        module.fail_json(msg=failure)
    done = {name: answer for name, answer in answers.items() if not isinstance(answer, Exception)}
    changes = {name: changed for name, (_machine, changed) in done.items() if changed}
    machines = [shown(machine, module.params["volume_size"]) for machine, _changed in done.values() if machine]
    result = {
        "changed": bool(changes),
        "machines": machines,
        "machine": machines[0] if machines else {},
        "changes": {name: {key: list(change) for key, change in each.items()} for name, each in changes.items()},
        "diff": {
            "before": {name: {key: change[0] for key, change in each.items()} for name, each in changes.items()},
            "after": {name: {key: change[1] for key, change in each.items()} for name, each in changes.items()},
        },
    }
    failures = [
        explain(answer, f"bring machine {name} to its state")
        for name, answer in answers.items()
        if isinstance(answer, Exception)
    ]
    if failures:
        # What befalls all of them alike, such as keys that have expired, is said once.
        module.fail_json(msg="\n".join(dict.fromkeys(failures)), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
