#!/usr/bin/python
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: orphans_info
version_added: 0.1.0
short_description: Find what carries our tag and nobody needs any more, in every region
description:
  - Lists everything that carries the tag C(lightsout:project), of every kind that M(lightsout.aws.project_info) knows.
  - A thing is an orphan when its project has no machine of any kind and no image in that region, or when it hangs on
    nothing, as a disk without a machine does.
  - Changes nothing. M(lightsout.aws.project_teardown) deletes, by I(ids).
options:
  all_regions:
    description:
      - Look in every region that the account may use, in all of them at the same time, and not only in I(region).
    type: bool
    default: true
  grace:
    description:
      - What is younger than so many minutes is left out, and so is a project that has something so young.
    type: int
    default: 60
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
  - module: lightsout.aws.project_info
  - module: lightsout.aws.project_teardown
author:
  - The Lightsout authors (@lightsout)
"""

EXAMPLES = r"""
- name: What does nobody need any more
  lightsout.aws.orphans_info:
  register: sweep

- name: Show it
  ansible.builtin.debug:
    msg: "{{ sweep.orphans | lightsout.aws.table({'what': 'title', 'id': 'id', 'region': 'region', 'why': 'why'}) }}"
"""

RETURN = r"""
orphans:
  description:
    - What nobody needs, as items of M(lightsout.aws.project_info) with C(since), C(cost_month) in USD and C(why).
  returned: always
  type: list
  elements: dict
groups:
  description: The same by project and region, for M(lightsout.aws.project_teardown).
  returned: always
  type: list
  elements: dict
  sample: [{project: rerank, region: us-east-1, ids: [vol-0123456789abcdef0]}]
cost_month:
  description: USD a month of all of them, as far as it is known.
  returned: always
  type: float
unlisted:
  description: What could not be listed, each with the reason. Empty when the list is complete.
  returned: always
  type: dict
regions:
  description: The regions that were looked in.
  returned: always
  type: list
  elements: str
"""

import datetime

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.lightsout.aws.plugins.module_utils import checks, orphans
from ansible_collections.lightsout.aws.plugins.module_utils.calls import Clients, at_once
from ansible_collections.lightsout.aws.plugins.module_utils.resources import KINDS, Scope, find_all, regions_of
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import credentials_problem, explain, numbered


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={"all_regions": {"type": "bool", "default": True}, "grace": {"type": "int", "default": 60}},
        supports_check_mode=True,
    )
    problems = checks.region_problems(module.region, None)
    if module.params["grace"] < 0:
        problems.append(f"grace is {module.params['grace']}: give minutes, 0 or more.")
    if problems:
        module.fail_json(msg=numbered(problems))
    clients, regions = Clients(module), [module.region or ""]
    failure = None
    if module.params["all_regions"]:
        try:
            regions = regions_of(clients)
        except Exception as error:
            failure = credentials_problem(error) or explain(error, "list the regions")
    if failure:
        module.fail_json(msg=failure)
    answers = at_once({name: lambda name=name: find_all(Scope(clients, name, None), KINDS) for name in regions})
    found, unlisted = [], {}
    for region, answer in answers.items():
        if isinstance(answer, Exception):
            unlisted[region] = explain(answer, f"look in {region}")
            continue
        found += answer[0]
        for kind, error in answer[1].items():
            what = f"{KINDS[kind].plural} in {region}"
            unlisted[what] = explain(error, f"list the {what}")
    grace = datetime.timedelta(minutes=module.params["grace"])
    # Where a kind could not be listed, a project may live by just that: nothing there is called an orphan.
    blind = {region for region, answer in answers.items() if isinstance(answer, Exception) or answer[1]}
    swept = [
        (resource, why)
        for resource, why in orphans.orphans(found, datetime.datetime.now(datetime.UTC), grace)
        if resource.region not in blind
    ]
    rows = [orphans.described(resource, why) for resource, why in swept]
    groups: dict[tuple[str, str], list[str]] = {}
    for resource, _why in swept:
        groups.setdefault((resource.project, resource.region), []).append(resource.id)
    module.exit_json(
        changed=False,
        orphans=rows,
        groups=[{"project": project, "region": region, "ids": ids} for (project, region), ids in groups.items()],
        cost_month=round(sum(row["cost_month"] or 0.0 for row in rows), 2),
        unlisted=unlisted,
        regions=regions,
    )


if __name__ == "__main__":
    main()
