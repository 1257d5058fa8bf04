#!/usr/bin/python
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: sagemaker_studio_info
version_added: 0.1.0
short_description: What there is of SageMaker Studio
description:
  - Finds domains, user profiles, spaces and apps that match, however many there are, with their tags.
  - Changes nothing.
options:
  kinds:
    description:
      - What to look for.
    type: list
    elements: str
    choices: [domain, user_profile, space, app]
    default: [domain, user_profile, space, app]
  filters:
    description:
      - What they shall match, all of it. A filter holds for the kinds that have such a thing.
    type: dict
    suboptions:
      domain_id:
        description: The domain, as C(d-abcdefghijkl).
        type: str
      name:
        description: The whole name.
        type: str
      name_contains:
        description: A part of the name.
        type: str
      space_name:
        description: The space, for apps.
        type: str
      user_profile_name:
        description: Whose it is, for spaces and apps.
        type: str
      status:
        description: The state. Apps that are C(Deleted) are never found.
        type: str
        choices: [Pending, InService, Updating, Deleting, Failed, Update_Failed, Delete_Failed]
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
- name: All of Studio in the region
  lightsout.aws.sagemaker_studio_info:

- name: What runs in a domain, and so costs money
  lightsout.aws.sagemaker_studio_info:
    kinds: [app]
    filters:
      domain_id: d-abcdefghijkl
      status: InService
"""

RETURN = r"""
domains:
  description: The domains by name, each as M(lightsout.aws.sagemaker_domain) returns it. Empty when not looked for.
  returned: always
  type: list
  elements: dict
  sample: [{id: d-abcdefghijkl, name: lightsout-rerank-studio, status: InService}]
user_profiles:
  description: The user profiles by name, each as M(lightsout.aws.sagemaker_user_profile) returns it.
  returned: always
  type: list
  elements: dict
  sample: [{name: alice, domain_id: d-abcdefghijkl, status: InService}]
spaces:
  description: The spaces by name, each as M(lightsout.aws.sagemaker_space) returns it.
  returned: always
  type: list
  elements: dict
  sample: [{name: rerank, domain_id: d-abcdefghijkl, status: InService}]
apps:
  description: The apps by name, each as M(lightsout.aws.sagemaker_app) returns it.
  returned: always
  type: list
  elements: dict
  sample: [{name: default, kind: JupyterLab, space_name: rerank, status: InService}]
"""

import functools
from typing import Any

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.lightsout.aws.plugins.module_utils import sagemaker, studio
from ansible_collections.lightsout.aws.plugins.module_utils.calls import Clients, at_once
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import numbered

KINDS = {kind.word: kind for kind in (studio.DOMAIN, studio.USER_PROFILE, studio.SPACE, studio.APP)}
STATES = ["Pending", "InService", "Updating", "Deleting", "Failed", "Update_Failed", "Delete_Failed"]


def one(client, kind: studio.Kind, key: dict[str, str]) -> dict[str, Any]:
    """A thing with its tags; empty when there is none (any more)."""
    raw = sagemaker.describe(kind.call(client, "describe"), **key)
    if raw and raw["Status"] in studio.GONE:
        return {}
    return studio.read(kind, raw, sagemaker.read_tags(client, raw[f"{kind.prefix}Arn"]) if raw else {})


def matches(kind: studio.Kind, listed: dict[str, Any], filters: dict[str, Any]) -> bool:
    """Whether something in a list matches, but for its tags."""
    name = listed.get(f"{kind.prefix}Name") or ""
    wanted = {"DomainId": filters.get("domain_id"), "Status": filters.get("status")}
    if kind is studio.APP:
        wanted["SpaceName"] = filters.get("space_name")
    if kind in (studio.SPACE, studio.APP):
        wanted["UserProfileName"] = filters.get("user_profile_name")
    owner = (listed.get("OwnershipSettingsSummary") or {}).get("OwnerUserProfileName")
    has = {"UserProfileName": owner, **listed}
    return (
        all(has.get(member) == value for member, value in wanted.items() if value is not None)
        and filters.get("name") in (None, name)
        and (filters.get("name_contains") or "") in name
    )


def find(client, kind: studio.Kind, filters: dict[str, Any]) -> list[dict[str, Any]]:
    """What is asked for of one kind, several at a time."""
    narrow = {"DomainIdEquals": filters["domain_id"]} if filters.get("domain_id") and kind is not studio.DOMAIN else {}
    keys = [kind.key_of(listed) for listed in kind.each(client, **narrow) if matches(kind, listed, filters)]
    seen = at_once({str(key): functools.partial(one, client, kind, key) for key in keys})
    for answer in seen.values():
        if isinstance(answer, Exception):
            raise answer
    tags = (filters.get("tags") or {}).items()
    found = [thing for thing in seen.values() if thing and tags <= thing["tags"].items()]
    return sorted(found, key=lambda thing: (thing["name"], thing["arn"]))


def main() -> None:
    """Run as an Ansible module."""
    texts: dict[str, Any] = {
        option: {} for option in ("domain_id", "name", "name_contains", "space_name", "user_profile_name")
    }
    module = AnsibleAWSModule(
        argument_spec={
            "kinds": {"type": "list", "elements": "str", "choices": list(KINDS), "default": list(KINDS)},
            "filters": {
                "type": "dict",
                "options": {**texts, "status": {"choices": STATES}, "tags": {"type": "dict"}},
            },
        },
        supports_check_mode=True,
    )
    filters = module.params["filters"] or {}
    wrong = studio.domain_problems(filters)
    if wrong:
        module.fail_json(msg=numbered(wrong))

    def work() -> dict[str, Any]:
        client, asked = Clients(module)("sagemaker"), module.params["kinds"]
        found = {f"{word}s": find(client, kind, filters) if word in asked else [] for word, kind in KINDS.items()}
        return {"changed": False, **found}

    sagemaker.finish(module, "find what there is of Studio", work)


if __name__ == "__main__":
    main()
