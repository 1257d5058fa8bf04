#!/usr/bin/python
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: sagemaker_notebook_instance_lifecycle_config
version_added: 0.1.0
short_description: Scripts that SageMaker's notebook instances run when they are made and started
description:
  - Makes, changes and deletes one lifecycle configuration.
  - Scripts are given as they are. They are encoded for the API, and measured against its limit before any call.
  - Line ends of Windows, which would break a script on the instance, are put right. The result says so.
  - SageMaker runs the scripts as root, and gives up an instance whose scripts take longer than 5 minutes.
  - An instance that uses it runs a changed script at its next start.
options:
  name:
    description:
      - The configuration's name. Letters, digits and hyphens, at most 63.
    type: str
    required: true
  state:
    description:
      - Whether there shall be such a configuration.
    type: str
    choices: [present, absent]
    default: present
  on_create:
    description:
      - The script that runs once, when an instance is made. An empty string means none.
      - When not given, it stays as it is.
    type: str
  on_start:
    description:
      - The script that runs at each start, the first one included. An empty string means none.
      - When not given, it stays as it is.
    type: str
extends_documentation_fragment:
  - lightsout.aws.sagemaker.tags
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    support: full
    description: Says what would change, changes nothing.
  diff_mode:
    support: full
    description: Shows the scripts before and after.
author:
  - The Lightsout authors (@lightsout)
"""

EXAMPLES = r"""
- name: What each start does
  lightsout.aws.sagemaker_notebook_instance_lifecycle_config:
    name: lightsout-rerank-idle
    on_start: "{{ lookup('ansible.builtin.file', 'on_start.sh') }}"
    tags: {"lightsout:project": rerank}

- name: No such configuration any more
  lightsout.aws.sagemaker_notebook_instance_lifecycle_config:
    name: lightsout-rerank-idle
    state: absent
"""

RETURN = r"""
lifecycle_config:
  description: The configuration as it is now, in check mode as it is still. Empty when there is none.
  returned: always
  type: dict
  contains:
    name: {description: Its name., type: str, returned: always}
    arn: {description: Its ARN., type: str, returned: always}
    on_create: {description: The script of the first start., type: str, returned: always}
    on_start: {description: The script of each start., type: str, returned: always}
    creation_time: {description: When it was made., type: str, returned: always}
    last_modified_time: {description: When it was last changed., type: str, returned: always}
    tags: {description: Its tags., type: dict, returned: always}
line_ends_fixed:
  description: The scripts that had line ends of Windows.
  returned: always
  type: list
  elements: str
  sample: [on_start]
changes:
  description: C(create), C(delete), or which scripts were changed and what the tags were and are.
  returned: always
  type: dict
  sample: {on_start: changed}
"""

import base64
from typing import Any

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.lightsout.aws.plugins.module_utils import sagemaker
from ansible_collections.lightsout.aws.plugins.module_utils.calls import Clients
from ansible_collections.lightsout.aws.plugins.module_utils.naming import tags_as_list
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import numbered

#: Our option and the API's member.
SCRIPTS = {"on_create": "OnCreate", "on_start": "OnStart"}
#: Characters of a script in base64, so about 12,288 bytes of it.
MOST = 16384


def encoded(script: str) -> str:
    """A script as the API takes it."""
    return base64.b64encode(script.encode()).decode()


def unix(script: str | None) -> str | None:
    """A script with the line ends of Unix."""
    return script.replace("\r\n", "\n").replace("\r", "\n") if script else script


def problems(params: dict[str, Any]) -> list[str]:
    """What is wrong with the options by themselves."""
    found = sagemaker.name_problems(params, "name")
    for option in SCRIPTS:
        script = unix(params[option])
        if not script:
            continue
        size = len(encoded(script))
        if size > MOST:
            found.append(
                f"{option} has {size} characters in base64: SageMaker allows {MOST}, {MOST * 3 // 4} bytes of script. "
                "Let it fetch the rest."
            )
        if not script.startswith("#!"):
            first = script.partition("\n")[0][:40]
            found.append(f"{option} begins with '{first}': the first line must say who runs it, such as #!/bin/bash.")
    return found


class LifecycleConfig:
    """Brings one lifecycle configuration to what is wanted.

    Args:
        module: the AnsibleAWSModule with our options.
    """

    def __init__(self, module) -> None:
        self.params, self.check = module.params, module.check_mode
        self.client = Clients(module)("sagemaker")
        self.which = {"NotebookInstanceLifecycleConfigName": module.params["name"]}
        self.wanted = {key: unix(module.params[key]) for key in SCRIPTS if module.params[key] is not None}
        self.changes: dict[str, Any] = {}

    def observe(self) -> dict[str, Any]:
        """It under the names of our options; empty when there is none."""
        raw = sagemaker.describe(self.client.describe_notebook_instance_lifecycle_config, **self.which)
        if not raw:
            return {}
        scripts = {key: raw.pop(name, None) or [] for key, name in SCRIPTS.items()}
        seen = sagemaker.plain(raw, "NotebookInstanceLifecycleConfig")
        for key, hooks in scripts.items():
            seen[key] = "".join(base64.b64decode(hook.get("Content", "")).decode(errors="replace") for hook in hooks)
        return {**seen, "tags": sagemaker.read_tags(self.client, seen["arn"])}

    def ensure(self) -> dict[str, Any]:
        """Do what is to be done; returns the module's result."""
        before = self.observe()
        self.refuse_foreign(before)
        if self.params["state"] == "absent":
            after = self.ensure_absent(before)
        elif before:
            after = self.ensure_existing(before)
        else:
            after = self.ensure_new()
        now = before if self.check or not self.changes else self.observe()
        return {
            "changed": bool(self.changes),
            "lifecycle_config": now,
            "line_ends_fixed": [key for key in self.wanted if "\r" in self.params[key]],
            "changes": self.changes,
            "diff": {"before": before, "after": after if self.check else now},
        }

    def refuse_foreign(self, seen: dict[str, Any]) -> None:
        """Keep away from what is not ours."""
        if seen:
            what = f"lifecycle configuration {self.params['name']}"
            sagemaker.refuse_foreign(what, seen["tags"], self.params["tags"])

    def ensure_absent(self, before: dict[str, Any]) -> dict[str, Any]:
        """No configuration; returns what it will be."""
        if before:
            self.changes["lifecycle_config"] = "delete"
            if not self.check:
                self.client.delete_notebook_instance_lifecycle_config(**self.which)
        return {}

    def members(self, scripts: dict[str, str]) -> dict[str, list[dict[str, str]]]:
        """Scripts as the API takes them."""
        return {SCRIPTS[key]: [{"Content": encoded(text)}] if text else [] for key, text in scripts.items()}

    def ensure_new(self) -> dict[str, Any]:
        """A new configuration; returns what it will be."""
        tags = self.params["tags"] or {}
        self.changes["lifecycle_config"] = "create"
        if not self.check:
            request = {**self.which, **self.members({key: text for key, text in self.wanted.items() if text})}
            if tags:
                request["Tags"] = tags_as_list(tags)
            try:
                self.client.create_notebook_instance_lifecycle_config(**request)
            except Exception as error:
                # Another run was first; what it made is as good as ours when it is ours.
                found = self.observe() if sagemaker.is_taken(error) else {}
                if not found:
                    raise
                self.refuse_foreign(found)
                return self.ensure_existing(found)
        return {"name": self.params["name"], "on_create": "", "on_start": "", **self.wanted, "tags": tags}

    def ensure_existing(self, before: dict[str, Any]) -> dict[str, Any]:
        """The configuration as wanted. An update replaces both scripts, so both are sent; returns what it will be."""
        tags, purge = self.params["tags"], self.params["purge_tags"]
        after = {**before, **self.wanted, "tags": sagemaker.tags_after(before["tags"], tags, purge)}
        self.changes = {key: "changed" for key in SCRIPTS if before[key] != after[key]}
        if self.changes and not self.check:
            scripts = self.members({key: after[key] for key in SCRIPTS})
            self.client.update_notebook_instance_lifecycle_config(**self.which, **scripts)
        if before["tags"] != after["tags"]:
            self.changes["tags"] = [before["tags"], after["tags"]]
            if not self.check:
                sagemaker.write_tags(self.client, before["arn"], before["tags"], tags, purge)
        return after


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={
            "name": {"required": True},
            "state": {"choices": ["present", "absent"], "default": "present"},
            "on_create": {},
            "on_start": {},
            **sagemaker.TAG_OPTIONS,
        },
        supports_check_mode=True,
    )
    wrong = problems(module.params)
    if wrong:
        module.fail_json(msg=numbered(wrong))
    sagemaker.finish(
        module,
        f"bring lifecycle configuration {module.params['name']} to its state",
        lambda: LifecycleConfig(module).ensure(),
    )


if __name__ == "__main__":
    main()
