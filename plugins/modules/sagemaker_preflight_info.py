#!/usr/bin/python
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: sagemaker_preflight_info
version_added: 0.2.0
short_description: Check all settings of a notebook instance, Studio app or training job at once and tell what it costs
description:
  - Validates every setting by itself and reports all problems together, one line each, before anything is asked.
  - Then asks AWS whether there is such a thing already, and whether somebody watches over the money. A budget is only
    asked for where something that costs money would be made.
  - Creates and changes nothing.
options:
  owner:
    description:
      - Who answers for the bill.
    type: str
    required: true
  lease:
    description:
      - How long a notebook instance or app of Studio may run, a number and one of V(s), V(m), V(h) and V(d).
    type: str
    default: 12h
  renew:
    description:
      - Whether the lease begins anew, also where one has not ended.
    type: bool
    default: false
  budget:
    description:
      - The budget that there must be before something is made, as the option
        O(lightsout.aws.preflight_info#module:budget).
    type: dict
    suboptions:
      limit:
        description: USD a month. When not given, there must be such a budget. V(0) means that none is wanted.
        type: str
      emails:
        description: Who is told.
        type: list
        elements: str
        default: []
      count:
        description: Whether all that the account spends is counted, or only what carries the project's tag.
        type: str
        choices: [account, project]
        default: account
      alerts:
        description: When somebody is told, as the option O(lightsout.aws.budgets_budget#module:alerts).
        type: list
        elements: dict
  notebook:
    description:
      - The notebook instance that is wanted, with the settings of the role P(lightsout.aws.sagemaker_notebook#role).
    type: dict
    suboptions:
      name: {description: Its name., type: str, required: true}
      instance_type: {description: Its type., type: str, required: true}
      volume_size: {description: The size of its volume in GiB., type: int, required: true}
      platform: {description: What it boots., type: str, required: true}
      subnet_id: {description: Its subnet., type: str, default: ''}
      security_group_ids: {description: Its security groups., type: list, elements: str, default: []}
      direct_internet: {description: Whether it reaches the internet by itself., type: bool, default: true}
      repositories: {description: What it clones., type: list, elements: str, default: []}
      buckets: {description: Which buckets it may use., type: list, elements: str, default: []}
      idle: {description: After which time without use it is stopped., type: str, default: ''}
      idle_hard_limit: {description: The same for one that cannot be judged., type: str, default: ''}
      on_create: {description: The script for its creation., type: str, default: ''}
      on_start: {description: The script for each start., type: str, default: ''}
  training:
    description:
      - The training job that is wanted, with the settings of the role P(lightsout.aws.sagemaker_training#role).
    type: dict
    suboptions:
      name: {description: Its name on SageMaker., type: str, required: true}
      job: {description: Its name., type: str, required: true}
      image: {description: The image that it runs in., type: str, default: ''}
      command: {description: What it runs., type: str, default: ''}
      source: {description: The file or folder that it needs., type: path, default: ''}
      instance_type: {description: The type of its machines., type: str, required: true}
      instance_count: {description: How many machines., type: int, default: 1}
      volume_size: {description: The size of the volume of each in GiB., type: int, default: 30}
      spot: {description: Whether they are spot machines., type: bool, default: true}
      max_runtime: {description: How long it may run., type: str, required: true}
      max_wait: {description: How long it may run and wait for spot machines., type: str, required: true}
      data: {description: Channels and the S3 URI of each., type: dict, default: {}}
      bucket: {description: Where source and results are kept. Empty for the project's own., type: str, default: ''}
      subnet_id: {description: Their subnet., type: str, default: ''}
      security_group_ids: {description: Their security groups., type: list, elements: str, default: []}
  studio:
    description:
      - The app of Studio that is wanted, with the settings of the role P(lightsout.aws.sagemaker_studio#role).
    type: dict
    suboptions:
      name: {description: The name of its domain., type: str, required: true}
      space: {description: The name of its space., type: str, required: true}
      kind: {description: What runs., type: str, choices: [JupyterLab, CodeEditor], required: true}
      instance_type: {description: The type of its machine., type: str, required: true}
      volume_size: {description: The size of the space's volume in GiB., type: int, required: true}
      idle_timeout: {description: Minutes without use until it is ended; V(0) for never., type: int, required: true}
      buckets: {description: Which buckets it may use., type: list, elements: str, default: []}
  price_cache:
    description:
      - A file on this computer that remembers AWS's price list, for a week.
    type: path
extends_documentation_fragment:
  - lightsout.aws.project
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
  - module: lightsout.aws.preflight_info
  - module: lightsout.aws.sagemaker_notebook_instance
author:
  - The Lightsout authors (@lightsout)
"""

EXAMPLES = r"""
- name: What would this notebook cost
  lightsout.aws.sagemaker_preflight_info:
    project: rerank
    owner: ada
    notebook:
      name: lightsout-rerank-notebook
      instance_type: ml.t3.medium
      volume_size: 20
      platform: notebook-al2023-v1
  register: preflight

- name: Show it
  ansible.builtin.debug:
    msg: "{{ preflight.plan.lines }}"
"""

RETURN = r"""
plan:
  description: What there is, what would change and what it costs.
  returned: success
  type: dict
  contains:
    account: {description: The AWS account., type: str, returned: always, sample: '123456789012'}
    partition: {description: The caller's partition., type: str, returned: always, sample: aws}
    caller: {description: The caller's ARN., type: str, returned: always}
    status: {description: The state of what there is; empty where there is nothing., type: str, returned: always}
    tags: {description: Its tags., type: dict, returned: always}
    expires:
      description: When the lease ends, with a new one if it begins.
      type: str
      returned: with O(notebook) or O(studio)
    app: {description: Which app it is, as requests name it., type: dict, returned: with O(studio)}
    bucket: {description: Where source and results are kept., type: str, returned: with O(training)}
    changes:
      description: C(budget) and C(deadline), where they are to be made or changed.
      type: dict
      returned: always
      sample: {budget: create, deadline: set}
    prices:
      description:
        - USD an hour (null when unknown) and for a stopped month, with date and region of the list, and whether that is
          AWS's own (C(listed)) or the table that we ship.
      type: dict
      returned: always
      sample: {hour: 0.0538, stopped_month: 2.8, as_of: "2026-03-01", region: us-east-1, listed: false}
    quota:
      description: How many of its type the account may have, where there is none yet; empty when AWS does not tell.
      type: dict
      returned: always
      sample: {name: ml.t3.medium for notebook instance usage, code: L-12345678, machines: 8}
    lines: {description: The plan for people., type: list, elements: str, returned: always}
problems:
  description: What is wrong with the settings, a sentence each.
  returned: failure
  type: list
  elements: str
"""

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.lightsout.aws.plugins.module_utils.sagemaker_plans import PLANS
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import credentials_problem, explain, numbered
from ansible_collections.lightsout.aws.plugins.module_utils.studio import APP_KINDS


def main() -> None:
    """Run as an Ansible module."""
    text, names = {"default": ""}, {"type": "list", "elements": "str", "default": []}
    notebook = {
        "name": {"required": True},
        "instance_type": {"required": True},
        "volume_size": {"type": "int", "required": True},
        "platform": {"required": True},
        "subnet_id": text,
        "security_group_ids": names,
        "direct_internet": {"type": "bool", "default": True},
        "repositories": names,
        "buckets": names,
        "idle": text,
        "idle_hard_limit": text,
        "on_create": text,
        "on_start": text,
    }
    training = {
        "name": {"required": True},
        "job": {"required": True},
        "image": text,
        "command": text,
        "source": {"type": "path", "default": ""},
        "instance_type": {"required": True},
        "instance_count": {"type": "int", "default": 1},
        "volume_size": {"type": "int", "default": 30},
        "spot": {"type": "bool", "default": True},
        "max_runtime": {"required": True},
        "max_wait": {"required": True},
        "data": {"type": "dict", "default": {}},
        "bucket": text,
        "subnet_id": text,
        "security_group_ids": names,
    }
    studio = {
        "name": {"required": True},
        "space": {"required": True},
        "kind": {"choices": APP_KINDS, "required": True},
        "instance_type": {"required": True},
        "volume_size": {"type": "int", "required": True},
        "idle_timeout": {"type": "int", "required": True},
        "buckets": names,
    }
    module = AnsibleAWSModule(
        argument_spec={
            "project": {"required": True},
            "owner": {"required": True},
            "lease": {"default": "12h"},
            "renew": {"type": "bool", "default": False},
            "budget": {
                "type": "dict",
                "options": {
                    "limit": {},
                    "emails": names,
                    "count": {"choices": ["account", "project"], "default": "account"},
                    "alerts": {"type": "list", "elements": "dict"},
                },
            },
            "notebook": {"type": "dict", "options": notebook},
            "training": {"type": "dict", "options": training},
            "studio": {"type": "dict", "options": studio},
            "price_cache": {"type": "path"},
        },
        required_one_of=[tuple(PLANS)],
        mutually_exclusive=[tuple(PLANS)],
        supports_check_mode=True,
    )
    (subject,) = [name for name in PLANS if module.params[name]]
    preflight = PLANS[subject](module)
    preflight.check_alone()
    if not preflight.problems:
        try:
            preflight.look()
            if not preflight.problems:
                preflight.tell()
        except Exception as error:
            preflight.problems.append(credentials_problem(error) or explain(error, "look at the project"))
    if preflight.problems:
        module.fail_json(msg=numbered(preflight.problems), problems=preflight.problems)
    module.exit_json(changed=False, plan=preflight.plan)


if __name__ == "__main__":
    main()
