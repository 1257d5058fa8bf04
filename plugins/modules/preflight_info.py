#!/usr/bin/python
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: preflight_info
version_added: 0.1.0
short_description: Check all settings of a project at once and tell what would be made and what it costs
description:
  - Validates every setting, first by itself, then against AWS, and reports all problems together, one line each.
  - Returns the I(plan), which is what there is, what would have to change, and its price.
  - Creates and changes nothing. All questions to AWS are asked at the same time from one process.
  - Messages name the variables of the role P(lightsout.aws.preflight#role) and its siblings, since that is what a
    reader can change.
options:
  owner:
    description:
      - Who answers for the bill.
    type: str
    required: true
  lease:
    description:
      - How long a machine may live, a number and one of V(s), V(m), V(h) and V(d).
    type: str
    default: 12h
  access_cidrs:
    description:
      - Who may reach the machine. Addresses, networks, or V(auto) for the address that this call comes from.
    type: list
    elements: str
    default: [auto]
  allow_world:
    description:
      - Whether a network as wide as the internet, such as V(0.0.0.0/0), is meant.
    type: bool
    default: false
  checkip_url:
    description:
      - Answers with the caller's address in plain text. Asked when O(access_cidrs) holds V(auto).
    type: str
    default: https://checkip.amazonaws.com
  inventory_region:
    description:
      - The region in which the inventory looks for machines. A region that differs is a problem. Empty means any.
    type: str
  private_key_file:
    description:
      - Where the project's private key is kept on this computer, or will be. The public key is beside it.
    type: path
    required: true
  budget:
    description:
      - The monthly budget C(lightsout-<project>) that there must be. When not given, nobody asks for one.
    type: dict
    suboptions:
      limit:
        description:
          - USD a month. When not given, there must be such a budget already, which stays as it is. V(0) means that none
            is wanted.
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
  deadline:
    description:
      - Whether there must be a schedule that stops the machine at the end of its lease.
    type: bool
    default: false
  needs:
    description:
      - What a machine must have at least. The plan then holds a table of the types that have it, cheapest first.
    type: dict
    suboptions:
      gpu_memory:
        description: GB of memory of one GPU, as it is sold.
        type: float
      gpus:
        description: GPUs. One, when O(needs.gpu_memory) is given.
        type: int
      vcpus:
        description: vCPUs.
        type: int
      memory:
        description: GiB of memory.
        type: float
      architecture:
        description: The kind of processor.
        type: str
        choices: [x86_64, arm64]
        default: x86_64
  alternatives:
    description:
      - Whether to look for cheaper types that have all that the chosen one has.
    type: bool
    default: false
  price_cache:
    description:
      - A file on this computer in which prices are remembered for a week. Empty for none.
    type: path
  complete:
    description:
      - Whether to look up everything that a reader may want to know, also for a machine that exists already.
      - With V(false), only as much is asked as it takes to see whether something differs.
    type: bool
    default: true
  machine:
    description:
      - The machine that is wanted. When not given, only the account and the settings of the project are checked.
    type: dict
    suboptions:
      name:
        description: Its name. When not given, V(lightsout-<project>-machine-1). Several machines have no other names.
        type: str
      count:
        description:
          - How many machines, V(1) to V(100). Several are named V(lightsout-<project>-machine-1) and so on.
          - What is no such number is a problem like any other.
        type: raw
        default: 1
      placement:
        description:
          - How several machines are placed. With V(cluster) they are near each other, in one placement group and zone.
          - Types that cannot be in one, such as V(t3.medium), are placed as with V(none), and the plan says so.
        type: str
        default: cluster
      instance_type:
        description: For example V(t3.medium).
        type: str
        required: true
      image:
        description: An image's name, such as V(ubuntu-24.04), or an AMI's id.
        type: str
        required: true
      login_user:
        description: The image's login user, for AMIs whose name does not tell.
        type: str
      volume_size:
        description: The size of the root volume in GiB.
        type: int
        required: true
      subnet_id:
        description: The subnet to launch in. When not given, the default subnets whose zones offer the type.
        type: str
      ports:
        description: The TCP ports that O(access_cidrs) may reach.
        type: list
        elements: int
        default: [22, 443, 8888]
      public_ip:
        description: Whether it has a public IPv4 address.
        type: bool
        default: true
      spot:
        description: Whether it is a spot machine.
        type: bool
        default: false
      spot_max_price:
        description: The most to pay for it in USD per hour.
        type: float
      shutdown_behavior:
        description: What becomes of it when it powers itself off.
        type: str
        choices: [stop, terminate]
        default: stop
      metadata_hop_limit:
        description: How many hops the metadata service's answer may take.
        type: int
        default: 1
      metadata_tags:
        description: Whether it can read its own tags.
        type: bool
        default: false
      termination_protection:
        description: Whether the API refuses to terminate it. When not given, whatever it is.
        type: bool
      instance_profile:
        description: The name of an instance profile that exists.
        type: str
      policies:
        description: ARNs of managed policies for a role and profile of the machine's own.
        type: list
        elements: str
        default: []
      policy_document:
        description: A further policy for that role, written out.
        type: dict
        default: {}
      permissions_boundary:
        description: The ARN of that role's permissions boundary. When not given, whatever it is.
        type: str
      allow_stop:
        description: Whether a running machine may be stopped for a change that needs it.
        type: bool
        default: false
      access:
        description: How people reach Jupyter on it, kept in the tag C(lightsout:access).
        type: str
      tags:
        description: Further tags.
        type: dict
        default: {}
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
  - module: lightsout.aws.ec2_machine
  - module: lightsout.aws.project_info
author:
  - The Lightsout authors (@lightsout)
"""

EXAMPLES = r"""
- name: What would this cost, and would it work
  lightsout.aws.preflight_info:
    project: rerank
    owner: ada
    region: eu-central-1
    access_cidrs: [auto, 198.51.100.0/24]
    private_key_file: ~/.ssh/lightsout/rerank.pem
    machine:
      instance_type: g5.xlarge
      image: deep-learning
      volume_size: 120
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
    project: {description: The project., type: str, returned: always, sample: rerank}
    region: {description: The region., type: str, returned: always, sample: us-east-1}
    account: {description: The AWS account when it was asked for., type: str, returned: always, sample: '123456789012'}
    caller: {description: The ARN of the caller when it was asked for., type: str, returned: always}
    changes:
      description:
        - What differs, by thing. Empty when everything is as it should be.
        - The keys are C(budget), C(key_file), C(key_pair), C(security_group), C(instance_profile), C(placement_group),
          C(deadline) and C(machine); for several machines C(machines), which holds the names of those that differ.
        - Values say what would be done, C(create) or what differs.
      type: dict
      returned: always
      sample: {key_pair: create, machine: {volume_size: [30, 60]}}
    machine: {description: The first machine as it is; empty when there is none., type: dict, returned: always}
    machines:
      description: Those of the machines asked for that there are, in the order of their numbers.
      type: list
      elements: dict
      returned: always
    machine_names: {description: The names of all that are asked for., type: list, elements: str, returned: always}
    count: {description: How many are asked for., type: int, returned: always}
    members_talk:
      description: Whether the security group lets the machines reach each other on all ports.
      type: bool
      returned: always
    placement_group:
      description: Name and id of the placement group; empty when none is used.
      type: dict
      returned: always
      sample: {name: lightsout-rerank-group, id: pg-0123456789abcdef0}
    surplus:
      description: Machines that there are beyond the number that is asked for. Nothing is done to them.
      type: list
      elements: dict
      returned: always
    notices: {description: What a reader should know, a sentence each., type: list, elements: str, returned: always}
    machine_name: {description: The first of them., type: str, returned: always, sample: lightsout-rerank-machine-1}
    image:
      description: The image that a new machine is made from; empty when nothing asked for it.
      type: dict
      returned: always
      sample: {name: ubuntu-24.04, id: ami-0123456789abcdef0, login_user: ubuntu, minimum_size: 8}
    instance_type:
      description: What the type has; empty when nothing asked for it.
      type: dict
      returned: always
      sample: {name: g5.xlarge, vcpus: 4, memory_gib: 16, gpu: 1 x NVIDIA A10G 24 GiB, architecture: x86_64}
    access_cidrs: {description: Who may reach the machine., type: list, elements: str, returned: always}
    subnet_ids: {description: Where to launch., type: list, elements: str, returned: always}
    vpc_id: {description: The network of those subnets., type: str, returned: always}
    security_group: {description: Name and id of the security group., type: dict, returned: always}
    key: {description: The key pair's name and files., type: dict, returned: always}
    instance_profile: {description: The name of the instance profile., type: str, returned: always}
    iam_path: {description: The path for roles and profiles of this region., type: str, returned: always}
    budget: {description: The budget as it is; empty when there is none or nobody asks., type: dict, returned: always}
    quota:
      description: The vCPUs that the account may run of this family, with I(on_demand) and I(spot) apart.
      type: dict
      returned: always
    prices:
      description: Estimated prices of all machines together, with the date and region of the list they come from.
      type: dict
      returned: always
      contains:
        as_of: {description: The date of the price list., type: str, returned: always}
        region: {description: The region of the price list., type: str, returned: always}
        currency: {description: Always C(USD)., type: str, returned: always}
        purchase: {description: C(on demand) or C(spot)., type: str, returned: always}
        compute_hour: {description: The machines alone; null when unknown., type: float, returned: always}
        address_hour: {description: Their public addresses., type: float, returned: always}
        disk_month: {description: Their disks., type: float, returned: always}
        hour: {description: All of it for an hour; null when unknown., type: float, returned: always}
        day: {description: For a day., type: float, returned: always}
        month: {description: For 730 hours., type: float, returned: always}
        stopped_month: {description: For a month in which all are stopped., type: float, returned: always}
    choices:
      description:
        - The types that meet the need, cheapest first, each with C(type), C(vcpus), C(memory), C(gpu), C(gpus),
          C(gpu_memory), and C(price), C(spot) and C(price_per_gpu) in USD per hour. Empty when nobody asked.
      type: list
      elements: dict
      returned: always
    credits:
      description: The state of the account's plan, as AWS tells it; empty where it does not.
      type: dict
      returned: always
      sample: {plan: FREE, status: ACTIVE, left: 87.1, until: '2027-01-15'}
    lines: {description: The plan for people., type: list, elements: str, returned: always}
problems:
  description: What is wrong with the settings, a sentence each.
  returned: failure
  type: list
  elements: str
"""

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.lightsout.aws.plugins.module_utils.machine_plan import MachinePlan
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import explain, numbered


def main() -> None:
    """Run as an Ansible module."""
    machine = {
        "name": {},
        "count": {"type": "raw", "default": 1},
        "placement": {"default": "cluster"},
        "instance_type": {"required": True},
        "image": {"required": True},
        "login_user": {},
        "volume_size": {"type": "int", "required": True},
        "subnet_id": {},
        "ports": {"type": "list", "elements": "int", "default": [22, 443, 8888]},
        "public_ip": {"type": "bool", "default": True},
        "spot": {"type": "bool", "default": False},
        "spot_max_price": {"type": "float"},
        "shutdown_behavior": {"choices": ["stop", "terminate"], "default": "stop"},
        "metadata_hop_limit": {"type": "int", "default": 1},
        "metadata_tags": {"type": "bool", "default": False},
        "termination_protection": {"type": "bool"},
        "instance_profile": {},
        "policies": {"type": "list", "elements": "str", "default": []},
        "permissions_boundary": {},
        "policy_document": {"type": "dict", "default": {}},
        "allow_stop": {"type": "bool", "default": False},
        "access": {},
        "tags": {"type": "dict", "default": {}},
    }
    module = AnsibleAWSModule(
        argument_spec={
            "project": {"required": True},
            "owner": {"required": True},
            "lease": {"default": "12h"},
            "access_cidrs": {"type": "list", "elements": "str", "default": ["auto"]},
            "allow_world": {"type": "bool", "default": False},
            "checkip_url": {"default": "https://checkip.amazonaws.com"},
            "inventory_region": {},
            "private_key_file": {"type": "path", "required": True, "no_log": False},
            "budget": {
                "type": "dict",
                "options": {
                    "limit": {},
                    "emails": {"type": "list", "elements": "str", "default": []},
                    "count": {"choices": ["account", "project"], "default": "account"},
                    "alerts": {"type": "list", "elements": "dict"},
                },
            },
            "deadline": {"type": "bool", "default": False},
            "needs": {
                "type": "dict",
                "options": {
                    "gpu_memory": {"type": "float"},
                    "gpus": {"type": "int"},
                    "vcpus": {"type": "int"},
                    "memory": {"type": "float"},
                    "architecture": {"choices": ["x86_64", "arm64"], "default": "x86_64"},
                },
            },
            "alternatives": {"type": "bool", "default": False},
            "price_cache": {"type": "path"},
            "complete": {"type": "bool", "default": True},
            "machine": {"type": "dict", "options": machine},
        },
        supports_check_mode=True,
    )
    preflight = MachinePlan(module)
    try:
        plan = preflight.run()
    except Exception as error:
        preflight.problems.append(explain(error, "look at the project"))
    if preflight.problems:
        module.fail_json(msg=numbered(preflight.problems), problems=preflight.problems)
    module.exit_json(changed=False, plan=plan)


if __name__ == "__main__":
    main()
