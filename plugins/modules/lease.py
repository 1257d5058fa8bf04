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
    stopped, and of their disks and other parts that carry it; of its notebook instances and apps of Studio, too.
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
  kinds:
    description:
      - Which kinds of things are meant, of V(instance), V(notebook_instance) and V(studio_app).
    type: list
    elements: str
    default: [instance, notebook_instance, studio_app]
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
    kind:
      description: C(instance), C(notebook_instance) or C(studio_app).
      type: str
      returned: always
      sample: instance
    name: {description: Its name., type: str, returned: always, sample: lightsout-rerank-machine-1}
    id: {description: Its id; SageMaker's have a name only., type: str, returned: always, sample: i-0123456789abcdef0}
    state: {description: AWS's name of its state., type: str, returned: always, sample: running}
    runs: {description: It runs now., type: bool, returned: always}
    app:
      description: Which app of Studio it is, as SageMaker's requests name it.
      type: dict
      returned: for an app of Studio
      sample: {DomainId: d-abcdefghijkl, SpaceName: lightsout-rerank-space, AppType: JupyterLab, AppName: default}
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
from ansible_collections.lightsout.aws.plugins.module_utils.calls import Clients, at_once
from ansible_collections.lightsout.aws.plugins.module_utils.naming import (
    TAG_EXPIRES,
    expires_at,
    parse_lease,
    tags_as_list,
)
from ansible_collections.lightsout.aws.plugins.module_utils.resources import Resource, Scope, find_all
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import credentials_problem, explain, numbered
from ansible_collections.lightsout.aws.plugins.module_utils.studio import APP

#: What runs, and is stopped at the end of its lease.
MACHINES = ("instance", "notebook_instance", "studio_app")

#: What a launch tags with the end of an instance's lease, besides the instance.
PARTS = ("volume", "network_interface", "spot_request")

#: States in which something runs, as EC2 and SageMaker call them.
RUNS = ("running", "InService")

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
) -> tuple[list[dict], list[Resource]]:
    """What a renewal comes to: all of a project's machines get the same end, or none does.

    Returns:
        the machines as the module returns them, and what must get the new end.
    """
    length, until = parse_lease(lease), expires_at(lease, now)
    living = [resource for resource in resources if not resource.leaving]
    machines = [resource for resource in living if resource.kind in MACHINES]
    tagged = [resource for resource in living if resource.kind not in MACHINES and TAG_EXPIRES in resource.tags]
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
        named = {
            "kind": machine.kind,
            "name": machine.name,
            "id": machine.id,
            "state": machine.state,
            "runs": machine.state in RUNS,
            "spot_once": machine.id in once,
        }
        which = {"app": APP.key_of(machine.raw)} if machine.kind == "studio_app" else {}
        shown.append({**named, **which, "before": before, "expires": before if close else until})
    return shown, [] if close else ours


def write(clients: Clients, resources: list[Resource], expires: str) -> None:
    """Give all of them the new end.

    Raises:
        Exception: of the first call that failed; the others are made.
    """
    tags = tags_as_list({TAG_EXPIRES: expires})
    arns = {"notebook_instance": "NotebookInstanceArn", "studio_app": "arn"}
    in_ec2 = [resource.id for resource in resources if resource.kind not in arns]
    in_sagemaker = [resource.raw[arns[resource.kind]] for resource in resources if resource.kind in arns]
    calls = {}
    for first in range(0, len(in_ec2), AT_ONCE):
        some = in_ec2[first : first + AT_ONCE]
        calls[some[0]] = lambda some=some: clients("ec2").create_tags(Resources=some, Tags=tags)
    for arn in in_sagemaker:
        calls[arn] = lambda arn=arn: clients("sagemaker").add_tags(ResourceArn=arn, Tags=tags)
    for answer in at_once(calls).values():
        if isinstance(answer, Exception):
            raise answer


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={
            "project": {"required": True},
            "lease": {"required": True},
            "kinds": {"type": "list", "elements": "str", "default": list(MACHINES)},
        },
        supports_check_mode=True,
    )
    project, lease = module.params["project"], module.params["lease"]
    problems = checks.region_problems(module.region, None) + checks.project_problems(project, None, lease)
    problems += [
        f"kinds holds '{kind}': what has a lease is one of {', '.join(MACHINES)}."
        for kind in module.params["kinds"]
        if kind not in MACHINES
    ]
    if problems:
        module.fail_json(msg=numbered(problems))
    clients = Clients(module)
    kinds = [*module.params["kinds"], *(PARTS if "instance" in module.params["kinds"] else ())]
    found, missing = find_all(Scope(clients, module.region, project), kinds)
    for error in missing.values():
        module.fail_json(msg=credentials_problem(error) or explain(error, f"list the machines of {project}"))
    machines, ours = renewal(found, lease)
    if ours and not module.check_mode:
        try:
            write(clients, ours, machines[0]["expires"])
        except Exception as error:
            module.fail_json(msg=explain(error, f"renew the lease of {project}"))
    module.exit_json(
        changed=bool(ours),
        machines=machines,
        diff={
            key: {m["name"]: m[name] for m in machines} for key, name in (("before", "before"), ("after", "expires"))
        },
    )


if __name__ == "__main__":
    main()
