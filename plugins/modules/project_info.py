#!/usr/bin/python
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: project_info
version_added: 0.1.0
short_description: List everything on AWS that carries a project's tag
description:
  - Lists every kind of thing that Lightsout can create and that carries the tag C(lightsout:project), all kinds at the
    same time from one process.
  - Machines that are terminated and other things that AWS only remembers are left out.
options:
  project:
    description:
      - The project's name. When not given, everything of every project.
    type: str
  kinds:
    description:
      - Only these kinds. When not given, all of them.
    type: list
    elements: str
    choices:
      - training_job
      - notebook_instance
      - notebook_lifecycle_config
      - endpoint
      - endpoint_config
      - model
      - studio_app
      - studio_space
      - studio_user_profile
      - studio_domain
      - file_system
      - log_group
      - bucket
      - spot_request
      - instance
      - address
      - network_interface
      - volume
      - image
      - snapshot
      - security_group
      - placement_group
      - key_pair
      - instance_profile
      - schedule_group
      - role
  all_regions:
    description:
      - Look in every region that the account may use, in all of them at the same time, and not only in I(region).
    type: bool
    default: false
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
seealso:
  - module: lightsout.aws.project_teardown
author:
  - The Lightsout authors (@lightsout)
"""

EXAMPLES = r"""
- name: What belongs to the project
  lightsout.aws.project_info:
    project: rerank
  register: project

- name: Which machines run in any project, anywhere
  lightsout.aws.project_info:
    all_regions: true
    kinds: [instance, volume]
  register: everything

- name: Show them
  ansible.builtin.debug:
    msg: "{{ everything.machines | selectattr('state', 'equalto', 'running') | map(attribute='name') }}"
"""

RETURN = r"""
resources:
  description: Everything that was found.
  returned: always
  type: list
  elements: dict
  contains:
    kind: {description: The kind's name, one of the choices of I(kinds)., type: str, returned: always, sample: volume}
    title: {description: The kind for people., type: str, returned: always, sample: volume}
    id: {description: What AWS calls it., type: str, returned: always, sample: vol-0123456789abcdef0}
    name: {description: What people call it., type: str, returned: always, sample: lightsout-rerank-machine-1}
    project: {description: Its project., type: str, returned: always, sample: rerank}
    region: {description: Where it is., type: str, returned: always, sample: us-east-1}
    state: {description: AWS's name of its state, may be empty., type: str, returned: always, sample: in-use}
    tags: {description: All its tags., type: dict, returned: always}
    size: {description: The type of its machine or how much it holds., type: str, returned: always, sample: t3.medium}
    owner: {description: Who answers for it., type: str, returned: always, sample: ada}
    expires: {description: When its lease ends., type: str, returned: always, sample: '2026-11-24T09:00:00Z'}
    since:
      description: Since when it is in its state or, where AWS does not say that, exists; null where it says neither.
      type: str
      returned: always
    cost_hour: {description: USD an hour at list prices; null where nobody knows., type: float, returned: always}
    spent: {description: USD since I(since) at that price., type: float, returned: always}
    cost_month: {description: USD a month at list prices; null where nobody knows., type: float, returned: always}
machines:
  description:
    - The machines among them, with addresses and prices, as M(lightsout.aws.ec2_machine) returns them.
    - C(spent) is USD since a running one was started, at list prices.
  returned: always
  type: list
  elements: dict
projects:
  description: How many things each project has.
  returned: always
  type: dict
  sample: {rerank: 5}
unlisted:
  description:
    - What could not be listed, each with the reason, such as C(volumes in eu-west-3), or C(volumes in all regions)
      where it is the same everywhere. Empty when the list is complete.
  returned: always
  type: dict
  sample: {}
regions:
  description: The regions that were looked in.
  returned: always
  type: list
  elements: str
  sample: [us-east-1]
"""

import datetime
from collections import Counter

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.lightsout.aws.plugins.module_utils import checks
from ansible_collections.lightsout.aws.plugins.module_utils.calls import Clients
from ansible_collections.lightsout.aws.plugins.module_utils.leftovers import described
from ansible_collections.lightsout.aws.plugins.module_utils.machines import summary
from ansible_collections.lightsout.aws.plugins.module_utils.naming import by_number
from ansible_collections.lightsout.aws.plugins.module_utils.resources import (
    KINDS,
    Resource,
    ask_spot_prices,
    find_everywhere,
    regions_of,
)
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import (
    credentials_problem,
    error_code,
    explain,
    numbered,
)


def machines(resources: list[Resource]) -> list[dict]:
    """The machines with the size of all disks that hang on them."""
    disks: Counter = Counter()
    for resource in resources:
        if resource.kind == "volume":
            for attachment in resource.raw.get("Attachments", []):
                disks[attachment["InstanceId"]] += resource.raw["Size"]
    found = [
        {**machine, "region": r.region, "spent": spent(machine)}
        for r in resources
        if r.kind == "instance" and (machine := summary(r.raw, disks[r.id]))
    ]
    return sorted(found, key=lambda m: (m["project"], m["region"], by_number(m["name"])))


def spent(machine: dict) -> float | None:
    """USD since a running machine was started, at list prices; None for one that does not run or has no known price."""
    if machine["state"] != "running" or machine["price"]["hour"] is None:
        return None
    since = datetime.datetime.fromisoformat(machine["launched"])
    hours = (datetime.datetime.now(datetime.UTC) - since).total_seconds() / 3600
    return round(machine["price"]["hour"] * max(hours, 0.0), 4)


def unlisted(failed: dict[tuple[str, str], Exception], regions: list[str]) -> dict[str, str]:
    """Why kinds could not be listed, as sentences: one for all regions where it is the same in each."""
    reasons: dict[str, dict[str, Exception]] = {}
    for (kind, region), error in failed.items():
        reasons.setdefault(kind, {})[region] = error
    sentences = {}
    for kind, errors in reasons.items():
        what = KINDS[kind].plural
        everywhere = len(regions) > 1 and len(errors) == len(regions)
        if everywhere and len({error_code(error) for error in errors.values()}) == 1:
            error = next(iter(errors.values()))
            sentences[f"{what} in all regions"] = explain(error, f"list the {what} in any of {len(regions)} regions")
        else:
            sentences |= {f"{what} in {name}": explain(e, f"list the {what} in {name}") for name, e in errors.items()}
    return sentences


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={
            "project": {},
            "kinds": {"type": "list", "elements": "str", "choices": list(KINDS)},
            "all_regions": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    project, kinds = module.params["project"], module.params["kinds"] or list(KINDS)
    problems = checks.region_problems(module.region, None)
    if project is not None:
        problems += checks.project_problems(project, None, None)
    if problems:
        module.fail_json(msg=numbered(problems))
    clients, regions = Clients(module), [module.region or ""]
    if module.params["all_regions"]:
        try:
            regions = regions_of(clients)
        except Exception as error:
            module.fail_json(msg=credentials_problem(error) or explain(error, "list the regions"))
    resources, failed = find_everywhere(clients, regions, project, kinds)
    # A region that is not for everyone may refuse credentials that are right elsewhere.
    home = [error for (_kind, region), error in failed.items() if region == (module.region or "")]
    problem = next(filter(None, map(credentials_problem, home)), None)
    if problem or len(failed) == len(kinds) * len(regions):
        module.fail_json(msg=problem or explain(next(iter(failed.values())), "list the project's resources"))
    ask_spot_prices(clients, resources)
    module.exit_json(
        changed=False,
        resources=[described(resource) for resource in resources],
        machines=machines(resources),
        projects=dict(Counter(resource.project for resource in resources)),
        regions=regions,
        unlisted=unlisted(failed, regions),
    )


if __name__ == "__main__":
    main()
