#!/usr/bin/python
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: sagemaker_notebook_instance_info
version_added: 0.1.0
short_description: The notebook instances of SageMaker that there are
description:
  - Finds one notebook instance by its name, or those that match, however many there are, with their tags.
  - Changes nothing.
options:
  name:
    description:
      - One instance's name. When there is none, the list is empty.
    type: str
  filters:
    description:
      - What they shall match, all of it. Without O(name) and O(filters), every instance of the region is found.
    type: dict
    suboptions:
      name_contains:
        description: A part of the name.
        type: str
      status:
        description: The state.
        type: str
        choices:
          - Pending
          - InService
          - Stopping
          - Stopped
          - Failed
          - Deleting
          - Updating
          - PendingMaintenance
          - InMaintenance
      lifecycle_config_name_contains:
        description: A part of the name of the lifecycle configuration.
        type: str
      tags:
        description: Tags that it has.
        type: dict
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    support: full
    description: Changes nothing at all.
  diff_mode:
    support: none
    description: There is nothing to compare.
author:
  - The Lightsout authors (@lightsout)
"""

EXAMPLES = r"""
- name: One by its name
  lightsout.aws.sagemaker_notebook_instance_info:
    name: lightsout-rerank-notebook

- name: All of one project that run
  lightsout.aws.sagemaker_notebook_instance_info:
    filters:
      name_contains: lightsout-rerank-
      status: InService
      tags: {"lightsout:project": rerank}
"""

RETURN = r"""
notebook_instances:
  description:
    - The instances by name, each as M(lightsout.aws.sagemaker_notebook_instance) returns it.
  returned: always
  type: list
  elements: dict
  sample: [{name: lightsout-rerank-notebook, status: InService, instance_type: ml.t3.medium}]
"""

import functools
from typing import Any

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.lightsout.aws.plugins.module_utils import notebook_instances as instances
from ansible_collections.lightsout.aws.plugins.module_utils import sagemaker
from ansible_collections.lightsout.aws.plugins.module_utils.calls import Clients, at_once, pages
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import numbered

STATES = [
    "Pending",
    "InService",
    "Stopping",
    "Stopped",
    "Failed",
    "Deleting",
    "Updating",
    "PendingMaintenance",
    "InMaintenance",
]

#: Our filter and the API's.
FILTERS = {
    "name_contains": "NameContains",
    "status": "StatusEquals",
    "lifecycle_config_name_contains": "NotebookInstanceLifecycleConfigNameContains",
}


def one(client, name: str) -> dict[str, Any]:
    """An instance with its tags; empty when there is none (any more)."""
    raw = sagemaker.describe(client.describe_notebook_instance, NotebookInstanceName=name)
    return instances.read(raw, sagemaker.read_tags(client, raw["NotebookInstanceArn"]) if raw else {})


def matching(client, filters: dict[str, Any]) -> list[str]:
    """The names of the instances that match, but for their tags."""
    members = {FILTERS[key]: filters[key] for key in FILTERS if filters.get(key)}
    found = pages(client, "list_notebook_instances", "NotebookInstances", **members)
    return sorted(instance["NotebookInstanceName"] for instance in found)


def find(client, name: str | None, filters: dict[str, Any]) -> list[dict[str, Any]]:
    """What is asked for, several at a time."""
    names = [name] if name else matching(client, filters)
    seen = at_once({each: functools.partial(one, client, each) for each in names})
    for answer in seen.values():
        if isinstance(answer, Exception):
            raise answer
    tags = (filters.get("tags") or {}).items()
    return [instance for instance in seen.values() if instance and tags <= instance["tags"].items()]


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={
            "name": {},
            "filters": {
                "type": "dict",
                "options": {
                    "name_contains": {},
                    "status": {"choices": STATES},
                    "lifecycle_config_name_contains": {},
                    "tags": {"type": "dict"},
                },
            },
        },
        mutually_exclusive=[("name", "filters")],
        supports_check_mode=True,
    )
    name, filters = module.params["name"], module.params["filters"] or {}
    wrong = sagemaker.name_problems(module.params, "name")
    if wrong:
        module.fail_json(msg=numbered(wrong))
    sagemaker.finish(
        module,
        "find the notebook instances",
        lambda: {"changed": False, "notebook_instances": find(Clients(module)("sagemaker"), name, filters)},
    )


if __name__ == "__main__":
    main()
