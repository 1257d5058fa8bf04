#!/usr/bin/python
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: project_teardown
version_added: 0.1.0
short_description: Delete everything on AWS that carries a project's tag, and prove that nothing is left
description:
  - Deletes exactly what M(lightsout.aws.project_info) lists for the project, and nothing else. Before each deletion
    the tag is compared once more.
  - What is independent is deleted at the same time, what depends on something waits for it, and what AWS still holds on
    to is tried again.
  - Notebook instances and training jobs are stopped first; Studio goes in its order, apps, spaces, user profiles,
    domain.
  - Training jobs that have ended are history, cost nothing and stay, like all that AWS only remembers.
  - One failure stops nothing but what depends on it.
  - Lists everything again at the end. The module succeeds only when that list is empty and complete.
options:
  exclude_kinds:
    description:
      - Kinds to leave alone, which are then not looked at either. For callers who may not list them.
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
    default: []
  keep_files:
    description:
      - Whether file systems stay, and with them the home directories of a Studio domain, which are on one. They go on
        costing money; each gets the project's tag, so that I(kept) here and the sweep show it.
    type: bool
    default: false
  buckets:
    description:
      - What becomes of the project's S3 buckets. V(keep) leaves them alone, V(when_empty) deletes those that are empty
        and reports the others as left, V(with_contents) deletes every object and version in them first.
    type: str
    choices: [keep, when_empty, with_contents]
    default: keep
  wait_timeout:
    description:
      - After how many seconds to stop waiting and report what is left. Notebook instances and Studio take some minutes.
    type: int
    default: 1200
extends_documentation_fragment:
  - lightsout.aws.project
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    support: full
    description: Lists what would be deleted, deletes nothing.
  diff_mode:
    support: full
    description: Shows the list before and after.
seealso:
  - module: lightsout.aws.project_info
author:
  - The Lightsout authors (@lightsout)
"""

EXAMPLES = r"""
- name: Lights out
  lightsout.aws.project_teardown:
    project: rerank

- name: The same, home directories stay and buckets that are empty go
  lightsout.aws.project_teardown:
    project: rerank
    keep_files: true
    buckets: when_empty

- name: The same for somebody who may not use IAM
  lightsout.aws.project_teardown:
    project: rerank
    exclude_kinds: [instance_profile, role]
"""

RETURN = r"""
deleted:
  description: What was deleted, in check mode what would be. Items as M(lightsout.aws.project_info) returns them.
  returned: always
  type: list
  elements: dict
remaining:
  description: What is left, each item with the I(reason). Empty when the module succeeds.
  returned: always
  type: list
  elements: dict
kept:
  description: What stays because I(keep_files) or I(buckets) says so.
  returned: always
  type: list
  elements: dict
unlisted:
  description: Kinds that could not be listed, each with the reason. Empty when the module succeeds.
  returned: always
  type: dict
  sample: {}
"""

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.lightsout.aws.plugins.module_utils import checks
from ansible_collections.lightsout.aws.plugins.module_utils.calls import Clients
from ansible_collections.lightsout.aws.plugins.module_utils.resources import KINDS, Resource, Scope, as_dict, find_all
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import credentials_problem, explain, numbered
from ansible_collections.lightsout.aws.plugins.module_utils.teardown import Outcome, Teardown, unlisted


def listed(resources: list[Resource]) -> list[str]:
    """One line for each, for the diff."""
    return [f"{KINDS[r.kind].title} {r.id} ({r.name})" for r in resources]


def preview(scope: Scope, kinds: list[str]) -> Outcome:
    """What a teardown would delete."""
    found, failed = find_all(scope, kinds)
    for error in failed.values():
        if credentials_problem(error):
            raise error
    return Outcome(
        deleted=found,
        unlisted=unlisted(failed),
    )


def sentence(project: str, outcome: Outcome) -> str:
    """What is left and why, a line each."""
    count = len(outcome.remaining)
    lines = [f"{KINDS[r.kind].title} {r.id} ({r.name}): {why}" for r, why in outcome.remaining]
    lines += [f"nobody knows about {KINDS[kind].plural}: {why}" for kind, why in outcome.unlisted.items()]
    lines.append(
        f"Run it again when this is cleared: ansible-playbook playbooks/teardown.yml -e lightsout_project={project}"
    )
    return "\n".join([f"{count} resource{'' if count == 1 else 's'} of project {project} left:", *lines])


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={
            "project": {"required": True},
            "exclude_kinds": {"type": "list", "elements": "str", "choices": list(KINDS), "default": []},
            "keep_files": {"type": "bool", "default": False},
            "buckets": {"choices": ["keep", "when_empty", "with_contents"], "default": "keep"},
            "wait_timeout": {"type": "int", "default": 1200},
        },
        supports_check_mode=True,
    )
    project = module.params["project"]
    problems = checks.project_problems(project, None, None) + checks.region_problems(module.region, None)
    if problems:
        module.fail_json(msg=numbered(problems))
    keep_files, buckets = module.params["keep_files"], module.params["buckets"]
    scope = Scope(Clients(module), module.region or "", project, keep_files, buckets == "with_contents")
    looked_at = [kind for kind in KINDS if kind not in module.params["exclude_kinds"]]
    spared = [
        kind
        for kind, is_spared in (("file_system", keep_files), ("bucket", buckets == "keep"))
        if is_spared and kind in looked_at
    ]
    kinds = [kind for kind in looked_at if kind not in spared]
    try:
        if module.check_mode:
            outcome = preview(scope, kinds)
        else:
            outcome = Teardown(scope, kinds, module.params["wait_timeout"]).run()
        kept, unseen = find_all(scope, spared)
    except Exception as error:
        failure = explain(error, f"tear down project {project}")
    else:
        failure = None
    if failure:
        module.fail_json(msg=failure)
    result = {
        "changed": bool(outcome.deleted),
        "deleted": [as_dict(resource) for resource in outcome.deleted],
        "remaining": [{**as_dict(resource), "reason": why} for resource, why in outcome.remaining],
        "kept": [as_dict(resource) for resource in kept],
        "unlisted": outcome.unlisted | unlisted(unseen),
        "diff": {
            "before": "".join(
                f"{line}\n" for line in listed([*outcome.deleted, *(r for r, _why in outcome.remaining)])
            ),
            "after": "".join(f"{line}\n" for line in listed([r for r, _why in outcome.remaining])),
        },
    }
    if not module.check_mode and (outcome.remaining or outcome.unlisted):
        module.fail_json(msg=sentence(project, outcome), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
