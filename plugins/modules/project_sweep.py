#!/usr/bin/python
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: project_sweep
version_added: 0.2.0
short_description: Find what carries our tag and is of no use any more, and delete it when asked
description:
  - Looks at everything that carries the tag C(lightsout:project), of every project, in every region at the same time.
  - A project lives while it has a machine, running or stopped, an image, a notebook instance, a Studio domain, an
    endpoint, or a training job that runs. Of a project that does not, everything is left over; of one that does, what
    AWS says nothing uses, such as a disk without a machine.
  - Buckets are not looked at; what is in them was put there to stay.
  - Deletes nothing unless O(delete) says so, and then only what it lists, after a last look at the tag.
options:
  project:
    description:
      - Only this project. When not given, all of them.
    type: str
  min_age:
    description:
      - What was made less than this ago may be half of something that is being made, and is left alone (s, m, h, d).
        When the newest thing of a project without a machine is that young, all of the project is.
    type: str
    default: 1h
  all_regions:
    description:
      - Look in every region that the account may use, and not only in I(region).
    type: bool
    default: true
  delete:
    description:
      - Delete what was found, and look again.
    type: bool
    default: false
  only:
    description:
      - Ids of the only things to delete, for example those that were shown to a person. An empty list deletes nothing.
        When not given, all that was found.
    type: list
    elements: str
  wait_timeout:
    description:
      - After how many seconds to stop waiting for deletions.
    type: int
    default: 600
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    support: full
    description: Says what would be deleted.
  diff_mode:
    support: none
    description: The list itself is the difference.
seealso:
  - module: lightsout.aws.project_info
  - module: lightsout.aws.project_teardown
author:
  - The Lightsout authors (@lightsout)
"""

EXAMPLES = r"""
- name: What costs money for nothing, anywhere
  lightsout.aws.project_sweep:
  register: swept

- name: Be rid of it
  lightsout.aws.project_sweep:
    delete: true
    only: "{{ swept.leftovers | map(attribute='id') }}"
"""

RETURN = r"""
leftovers:
  description: What was found, each as M(lightsout.aws.project_info) returns it, and more.
  returned: always
  type: list
  elements: dict
  contains:
    why: {description: Why it is of no use., type: str, returned: always, sample: no machine has it}
cost_month:
  description: What all of it costs in a month, in USD at list prices of us-east-1.
  returned: always
  type: float
  sample: 2.4
young:
  description: Projects without a machine that were left alone because something of theirs is younger than I(min_age).
  returned: always
  type: list
  elements: str
deleted:
  description: What is gone now, in check mode what would be.
  returned: always
  type: list
  elements: dict
remaining:
  description: What should be gone and is not, each item with the I(reason). Empty when the module succeeds.
  returned: always
  type: list
  elements: dict
unlisted:
  description: What could not be listed, each with the reason, such as C(volumes in eu-west-3).
  returned: always
  type: dict
regions:
  description: The regions that were looked in.
  returned: always
  type: list
  elements: str
"""

import datetime
from collections import defaultdict

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.lightsout.aws.plugins.module_utils import checks
from ansible_collections.lightsout.aws.plugins.module_utils.calls import Clients, at_once
from ansible_collections.lightsout.aws.plugins.module_utils.leftovers import Leftover, leftovers
from ansible_collections.lightsout.aws.plugins.module_utils.naming import span_of
from ansible_collections.lightsout.aws.plugins.module_utils.resources import (
    KINDS,
    Scope,
    as_dict,
    find_everywhere,
    regions_of,
)
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import credentials_problem, explain, numbered
from ansible_collections.lightsout.aws.plugins.module_utils.teardown import Outcome, Teardown

#: What a sweep looks at.
SWEPT = [kind for kind in KINDS if kind != "bucket"]


def delete(clients: Clients, left: list[Leftover], timeout: float) -> list[Outcome | Exception]:
    """Delete them, those of each project and region by themselves and all at the same time."""
    places: dict[tuple[str, str], list[Leftover]] = defaultdict(list)
    for one in left:
        places[one.resource.project, one.resource.region].append(one)

    def sweep(project: str, region: str, mine: list[Leftover]) -> Outcome:
        keys = {one.resource.key for one in mine}
        kinds = [kind for kind in KINDS if kind in {kind for kind, _id in keys}]
        return Teardown(Scope(clients, region, project), kinds, timeout, only=keys).run()

    return list(at_once({place: lambda p=place, m=mine: sweep(*p, m) for place, mine in places.items()}).values())


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={
            "project": {},
            "min_age": {"default": "1h"},
            "all_regions": {"type": "bool", "default": True},
            "delete": {"type": "bool", "default": False},
            "only": {"type": "list", "elements": "str"},
            "wait_timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    params = module.params
    problems = checks.region_problems(module.region, None)
    if params["project"] is not None:
        problems += checks.project_problems(params["project"], None, None)
    min_age = span_of(params["min_age"])
    if min_age is None:
        problems.append(f"min_age is '{params['min_age']}': write a number and s, m, h or d, for example 1h.")
    if problems:
        module.fail_json(msg=numbered(problems))
    clients, regions = Clients(module), [module.region or ""]
    if params["all_regions"]:
        try:
            regions = regions_of(clients)
        except Exception as error:
            module.fail_json(msg=credentials_problem(error) or explain(error, "list the regions"))
    found, failed = find_everywhere(clients, regions, params["project"], SWEPT)
    if len(failed) == len(SWEPT) * len(regions):
        error = next(iter(failed.values()))
        module.fail_json(msg=credentials_problem(error) or explain(error, "list what is ours"))
    unlisted = {
        f"{KINDS[kind].plural} in {region}": explain(error, f"list the {KINDS[kind].plural} in {region}")
        for (kind, region), error in failed.items()
    }
    # Where machines could not be listed, nobody knows which projects live.
    blind = {region for kind, region in failed if KINDS[kind].alive}
    now = datetime.datetime.now(datetime.UTC)
    left, young = leftovers([one for one in found if one.region not in blind], now, min_age)
    result = {
        "leftovers": [one.as_dict() for one in left],
        "cost_month": round(sum(one.month for one in left), 2),
        "young": young,
        "unlisted": unlisted,
        "regions": regions,
        "deleted": [],
        "remaining": [],
    }
    doomed = [one for one in left if params["only"] is None or one.resource.id in params["only"]]
    if not params["delete"] or not doomed:
        module.exit_json(changed=False, **result)
    if module.check_mode:
        module.exit_json(changed=True, **{**result, "deleted": [one.as_dict() for one in doomed]})
    outcomes = delete(clients, doomed, params["wait_timeout"])
    problems = [explain(outcome, "sweep") for outcome in outcomes if isinstance(outcome, Exception)]
    for outcome in outcomes:
        if isinstance(outcome, Outcome):
            result["deleted"] += [as_dict(resource) for resource in outcome.deleted]
            result["remaining"] += [{**as_dict(resource), "reason": why} for resource, why in outcome.remaining]
    problems += [f"{r['title']} {r['id']} of project {r['project']}: {r['reason']}" for r in result["remaining"]]
    if problems:
        module.fail_json(msg="\n".join(problems), changed=bool(result["deleted"]), **result)
    module.exit_json(changed=bool(result["deleted"]), **result)


if __name__ == "__main__":
    main()
