#!/usr/bin/python
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: ec2_machine
version_added: 0.1.0
short_description: Keep exactly one EC2 instance of a project as it should be
description:
  - Creates, changes, starts, stops or terminates the one machine of a project that has a given name.
  - A machine is found by its tags, never by its image. M(amazon.aws.ec2_instance) matches by image as well and launches
    a second paid machine when the newest image has moved on.
  - Every launch carries a deterministic client token. Two runs at once, or a run that repeats a launch whose answer was
    lost, get the same machine.
  - When EC2 has no capacity in one zone, the next subnet is tried at once.
  - More than one live machine of the same name is an error that names them all.
  - The root volume is always encrypted gp3 and deleted with the machine; IMDSv2 is always required.
options:
  name:
    description:
      - The machine's name, its tag C(Name).
      - When not given, V(lightsout-<project>-machine-1).
    type: str
extends_documentation_fragment:
  - lightsout.aws.project
  - lightsout.aws.machine
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    support: full
    description: Predicts what would change, changes nothing.
  diff_mode:
    support: full
    description: Shows each setting before and after.
seealso:
  - module: lightsout.aws.ec2_machines
  - module: lightsout.aws.preflight_info
  - module: lightsout.aws.project_teardown
  - module: amazon.aws.ec2_instance
author:
  - The Lightsout authors (@lightsout)
"""

EXAMPLES = r"""
- name: A machine to train on
  lightsout.aws.ec2_machine:
    project: rerank
    instance_type: g5.xlarge
    image_id: ami-0123456789abcdef0
    image: deep-learning
    login_user: ubuntu
    key_name: lightsout-rerank-key
    security_group_ids: [sg-0123456789abcdef0]
    volume_size: 120
    lease: 12h

- name: The same machine with a larger disk, whatever the newest image is today
  lightsout.aws.ec2_machine:
    project: rerank
    volume_size: 200

- name: A smaller type, although that stops the machine for a minute
  lightsout.aws.ec2_machine:
    project: rerank
    instance_type: g4dn.xlarge
    allow_stop: true

- name: Stop it for the night
  lightsout.aws.ec2_machine:
    project: rerank
    state: stopped

- name: A spot machine in one of two zones
  lightsout.aws.ec2_machine:
    project: rerank
    name: lightsout-rerank-machine-2
    instance_type: g5.xlarge
    image_id: ami-0123456789abcdef0
    security_group_ids: [sg-0123456789abcdef0]
    subnet_ids: [subnet-0123456789abcdef0, subnet-0fedcba9876543210]
    spot: true

- name: Terminate it
  lightsout.aws.ec2_machine:
    project: rerank
    state: absent
"""

RETURN = r"""
machine:
  description: The machine as it is now; in check mode, as it was. Empty when there is none.
  returned: always
  type: dict
  contains:
    name: {description: The tag C(Name)., type: str, returned: always, sample: lightsout-rerank-machine-1}
    id: {description: The instance's id., type: str, returned: always, sample: i-0123456789abcdef0}
    project: {description: The project., type: str, returned: always, sample: rerank}
    owner: {description: Who answers for the bill., type: str, returned: always, sample: ada}
    state: {description: EC2's name of the state., type: str, returned: always, sample: running}
    type: {description: The instance type., type: str, returned: always, sample: g5.xlarge}
    spot: {description: Whether it is a spot machine., type: bool, returned: always, sample: false}
    image_id: {description: The AMI that it was made from., type: str, returned: always, sample: ami-0123456789abcdef0}
    image: {description: What that image was called., type: str, returned: always, sample: deep-learning}
    login_user: {description: The login user., type: str, returned: always, sample: ubuntu}
    public_ip: {description: The public address while it runs., type: str, returned: always, sample: 203.0.113.7}
    private_ip: {description: The address in its subnet., type: str, returned: always, sample: 172.31.1.2}
    zone: {description: The availability zone., type: str, returned: always, sample: us-east-1a}
    launched: {description: When it was last started., type: str, returned: always, sample: '2026-11-23T04:00:00Z'}
    expires: {description: When its lease ends., type: str, returned: always, sample: '2026-11-23T16:00:00Z'}
    disk_gib: {description: The size that was asked for its disk., type: int, returned: always, sample: 120}
    tags: {description: All its tags., type: dict, returned: always, sample: {'lightsout:project': rerank}}
    price: {description: What it costs; see M(lightsout.aws.preflight_info)., type: dict, returned: always}
changes:
  description: What was changed, or would be in check mode.
  returned: always
  type: dict
  sample: {volume_size: [120, 200]}
"""

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.lightsout.aws.plugins.module_utils import checks
from ansible_collections.lightsout.aws.plugins.module_utils.one_machine import OPTIONS, Machine, shown
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import explain, numbered


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={**OPTIONS, "name": {}},
        supports_check_mode=True,
    )
    problems = checks.region_problems(module.region, None)
    problems += checks.project_problems(module.params["project"], None, module.params["lease"])
    if problems:
        module.fail_json(msg=numbered(problems))
    try:
        machine, changes = Machine(module).ensure()
    except Exception as error:
        failure = explain(
            error, f"bring machine {module.params['name'] or 'of ' + module.params['project']} to its state"
        )
    else:
        failure = None
    if failure:
        module.fail_json(msg=failure)

    module.exit_json(
        changed=bool(changes),
        machine=shown(machine, module.params["volume_size"]),
        changes={key: list(change) for key, change in changes.items()},
        diff={
            "before": {key: change[0] for key, change in changes.items()},
            "after": {key: change[1] for key, change in changes.items()},
        },
    )


if __name__ == "__main__":
    main()
