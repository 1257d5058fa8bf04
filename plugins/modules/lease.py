#!/usr/bin/python
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: lease
version_added: 0.2.0
short_description: Renew the lease of a project's machines
description:
  - Sets the tag C(lightsout:expires), the time until which a machine may run, of all machines of a project, running and
    stopped, and of their disks and other parts that carry it.
  - A lease that already ends within a sixtieth of its length (at least a minute) of the time that was asked for is left
    as it is, so that a second run changes nothing.
  - What acts at that time reads the tag when it is told to, see the playbook C(renew.yml).
options:
  project:
    description:
      - The project's name.
    type: str
    required: true
  lease:
    description:
      - How long the machines may run from now, a number and C(s), C(m), C(h) or C(d), for example V(12h). It may be
        shorter than what was left.
    type: str
    required: true
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    support: full
    description: Nothing is changed; the result is what would be.
  diff_mode:
    support: full
    description: The end of each machine's lease before and after.
seealso:
  - module: lightsout.aws.ec2_machine
  - module: lightsout.aws.project_info
author:
  - The Lightsout authors (@lightsout)
"""

EXAMPLES = r"""
- name: Twelve more hours from now
  lightsout.aws.lease:
    project: rerank
    lease: 12h
  register: renewed

- name: Say until when
  ansible.builtin.debug:
    msg: "{{ item.name }} may run until {{ item.expires }}"
  loop: "{{ renewed.machines }}"
"""

RETURN = r"""
machines:
  description: The project's machines, by name.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: Its name., type: str, returned: always, sample: lightsout-rerank-machine-1}
    id: {description: Its instance id., type: str, returned: always, sample: i-0123456789abcdef0}
    state: {description: AWS's name of its state., type: str, returned: always, sample: running}
    spot_once:
      description: It is a spot machine that can only be terminated, not stopped.
      type: bool
      returned: always
    before:
      description: When its lease ended until now; empty without one.
      type: str
      returned: always
      sample: '2026-11-23T16:00:00Z'
    expires: {description: When its lease ends., type: str, returned: always, sample: '2026-11-24T04:00:00Z'}
"""

import datetime

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.lightsout.aws.plugins.module_utils import checks
from ansible_collections.lightsout.aws.plugins.module_utils.calls import Clients
from ansible_collections.lightsout.aws.plugins.module_utils.naming import (
    TAG_EXPIRES,
    expires_at,
    parse_lease,
    tags_as_list,
)
from ansible_collections.lightsout.aws.plugins.module_utils.resources import Resource, Scope, find_all
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import credentials_problem, explain, numbered

#: What a launch tags with the end of the lease.
KINDS = ("instance", "volume", "network_interface", "spot_request")

#: How many resources one CreateTags takes.
AT_ONCE = 1000


def is_close(before: str, after: str, lease: datetime.timedelta) -> bool:
    """Whether a lease already ends about when it should.

    Args:
        before: its end now, ISO 8601; anything else is not close.
        after: its end as asked for, ISO 8601.
        lease: its length, of which a sixtieth (at least a minute) does not matter.
    """
    try:
        apart = datetime.datetime.fromisoformat(after) - datetime.datetime.fromisoformat(before)
        return abs(apart) < max(lease / 60, datetime.timedelta(minutes=1))
    except (ValueError, TypeError):
        return False


def renewal(
    resources: list[Resource], lease: str, now: datetime.datetime | None = None
) -> tuple[list[dict], list[str]]:
    """What a renewal comes to: all of a project's machines get the same end, or none does.

    Returns:
        the machines as the module returns them, and the ids of what must get the new end.
    """
    length, until = parse_lease(lease), expires_at(lease, now)
    living = [resource for resource in resources if not resource.leaving]
    machines = [resource for resource in living if resource.kind == "instance"]
    tagged = [resource for resource in living if resource.kind != "instance" and TAG_EXPIRES in resource.tags]
    ours = [*machines, *tagged] if machines else []
    close = all(is_close(resource.tags.get(TAG_EXPIRES, ""), until, length) for resource in ours)
    once = {
        request.raw.get("InstanceId")
        for request in resources
        if request.kind == "spot_request" and request.raw.get("Type") == "one-time"
    }
    shown = []
    for machine in sorted(machines, key=lambda machine: machine.name):
        before = machine.tags.get(TAG_EXPIRES, "")
        named = {"name": machine.name, "id": machine.id, "state": machine.state, "spot_once": machine.id in once}
        shown.append({**named, "before": before, "expires": before if close else until})
    return shown, [] if close else [resource.id for resource in ours]


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={"project": {"required": True}, "lease": {"required": True}}, supports_check_mode=True
    )
    project, lease = module.params["project"], module.params["lease"]
    problems = checks.region_problems(module.region, None) + checks.project_problems(project, None, lease)
    if problems:
        module.fail_json(msg=numbered(problems))
    clients = Clients(module)
    found, missing = find_all(Scope(clients, module.region, project), KINDS)
    for error in missing.values():
        module.fail_json(msg=credentials_problem(error) or explain(error, f"list the machines of {project}"))
    machines, ids = renewal(found, lease)
    if not module.check_mode:
        try:
            for first in range(0, len(ids), AT_ONCE):
                tags = tags_as_list({TAG_EXPIRES: machines[0]["expires"]})
                clients("ec2").create_tags(Resources=ids[first : first + AT_ONCE], Tags=tags)
        except Exception as error:
            module.fail_json(msg=explain(error, f"renew the lease of {project}"))
    module.exit_json(
        changed=bool(ids),
        machines=machines,
        diff={
            key: {m["name"]: m[name] for m in machines} for key, name in (("before", "before"), ("after", "expires"))
        },
    )


if __name__ == "__main__":
    main()
