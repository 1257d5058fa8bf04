#!/usr/bin/python
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: host_keys
version_added: 0.2.0
short_description: Know the ssh host keys of a project's machines before the first login
description:
  - Reads each running machine's host key from its console, where cloud-init prints it at the first boot, and remembers
    it in a known_hosts file on this computer, under the instance's id. Nobody has to say yes to a key that they cannot
    check.
  - The key is also kept in the instance's tag C(lightsout:hostkey), as a later boot prints it no more, and other
    computers want to know it as well.
  - A key in the file that is another one than the machine's is an error, and nothing is overwritten.
options:
  project:
    description:
      - The project's name.
    type: str
    required: true
  known_hosts:
    description:
      - The file, as ssh's C(UserKnownHostsFile). Made when it is missing; its folder must exist.
    type: path
    required: true
  wait_timeout:
    description:
      - How many seconds to wait for the console of a machine that is still booting.
    type: int
    default: 120
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    support: full
    description: Waits for nothing and changes nothing; the result is what would be.
  diff_mode:
    support: full
    description: The lines that the file gets.
seealso:
  - module: lightsout.aws.ec2_machine
  - module: ansible.builtin.known_hosts
author:
  - The Lightsout authors (@lightsout)
"""

EXAMPLES = r"""
- name: Learn the machines' host keys
  lightsout.aws.host_keys:
    project: rerank
    known_hosts: ~/.ssh/lightsout/known_hosts
  register: learnt

- name: Log in
  ansible.builtin.command: >-
    ssh -o StrictHostKeyChecking=yes -o UserKnownHostsFile=~/.ssh/lightsout/known_hosts
    -o HostKeyAlias=i-0123456789abcdef0 ubuntu@203.0.113.7 true
"""

RETURN = r"""
keys_by_id:
  description: The host key of each machine that is known, by the instance's id.
  returned: always
  type: dict
  sample: {i-0123456789abcdef0: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPI/O3K08K1qk6BH9XUFzCUi+9XC/ANLHdV5p7FvJGPH}
unknown:
  description: The ids of the machines whose host key could not be had.
  returned: always
  type: list
  elements: str
  sample: []
"""

import time
from pathlib import Path
from typing import Any

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.lightsout.aws.plugins.module_utils import checks, host_keys
from ansible_collections.lightsout.aws.plugins.module_utils.calls import Clients, at_once
from ansible_collections.lightsout.aws.plugins.module_utils.machines import find_machines
from ansible_collections.lightsout.aws.plugins.module_utils.naming import TAG_HOST_KEY, tags_as_dict, tags_as_list
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import (
    LightsoutError,
    error_code,
    explain,
    numbered,
)

#: Seconds between two looks at the consoles.
EVERY = 1


def console(ec2, instance_id: str) -> str:
    """What a machine has printed since it booted. Types that tell it at once are asked to."""
    try:
        return ec2.get_console_output(InstanceId=instance_id, Latest=True).get("Output", "")
    except Exception as error:
        if error_code(error) not in ("UnsupportedOperation", "InvalidParameterCombination"):
            raise
        return ec2.get_console_output(InstanceId=instance_id).get("Output", "")


def from_consoles(ec2, instance_ids: list[str], timeout: float) -> dict[str, str]:
    """The host keys that the machines print, those of all machines awaited at the same time."""
    deadline, found, waiting = time.monotonic() + timeout, {}, list(instance_ids)
    while waiting:
        said = at_once({instance_id: lambda i=instance_id: console(ec2, i) for instance_id in waiting})
        for instance_id, text in said.items():
            if isinstance(text, Exception):
                raise text
            if key := host_keys.from_console(text):
                found[instance_id] = key
        waiting = [i for i in waiting if i not in found and not host_keys.boot_is_over(said[i])]
        if time.monotonic() + EVERY > deadline:
            break
        if waiting:
            time.sleep(EVERY)
    return found


def news(text: str, keys: dict[str, str]) -> list[str]:
    """The lines that a known_hosts file lacks.

    Raises:
        LightsoutError: it has another key of the same kind for a machine.
    """
    lines = []
    for instance_id, key in keys.items():
        there = host_keys.known(text, instance_id)
        kind = key.split()[0]
        if any(one.split()[0] == kind and one != key for one in there):
            raise LightsoutError(
                f"The {kind} host key of {instance_id} that this computer remembers is not the one that the machine "
                "printed on its console: somebody may have stood between you and it, or its keys were made anew. When "
                f"you know why, forget the old one: ssh-keygen -R {instance_id} -f …/known_hosts"
            )
        if key not in there:
            lines.append(f"{instance_id} {key}")
    return lines


def learn(ec2, params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """The module's work, and its result."""
    running = [m for m in find_machines(ec2, params["project"]) if m["State"]["Name"] in ("running", "pending")]
    tags = {m["InstanceId"]: tags_as_dict(m.get("Tags")).get(TAG_HOST_KEY, "") for m in running}
    keys = {instance_id: key for instance_id, key in tags.items() if host_keys.is_key(key)}
    read = from_consoles(ec2, [i for i in tags if i not in keys], 0 if check_mode else params["wait_timeout"])
    keys |= read
    path = Path(params["known_hosts"])
    text = path.read_text() if path.exists() else ""
    lines = news(text, keys)
    to_tag = {i: key for i, key in read.items() if len(key) <= host_keys.LONGEST_TAG}
    if not check_mode:
        for instance_id, key in to_tag.items():
            ec2.create_tags(Resources=[instance_id], Tags=tags_as_list({TAG_HOST_KEY: key}))
        if lines:
            path.touch(mode=0o600)
            with path.open("a") as file:  # in one piece: ssh may add a line at the same moment
                file.write(("\n" if text and not text.endswith("\n") else "") + "\n".join(lines) + "\n")
    return {
        "changed": bool(lines or to_tag),
        "keys_by_id": keys,
        "unknown": [i for i in tags if i not in keys],
        "diff": {"before": "", "after": "".join(f"{line}\n" for line in lines)},
    }


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={
            "project": {"required": True},
            "known_hosts": {"type": "path", "required": True},
            "wait_timeout": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    project = module.params["project"]
    problems = checks.region_problems(module.region, None) + checks.project_problems(project, None, None)
    if problems:
        module.fail_json(msg=numbered(problems))
    try:
        result = learn(Clients(module)("ec2"), module.params, module.check_mode)
    except Exception as error:
        module.fail_json(msg=explain(error, f"learn the host keys of {project}'s machines"))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
