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
      allow_stop:
        description: Whether a running machine may be stopped for a change that needs it.
        type: bool
        default: false
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
    quota: {description: The vCPUs that the account may run of this family., type: dict, returned: always}
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

import datetime
import ipaddress
import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ansible.module_utils.urls import open_url
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.lightsout.aws.plugins.module_utils import budgets, checks, choices, schedules
from ansible_collections.lightsout.aws.plugins.module_utils.calls import Clients, at_once, pages
from ansible_collections.lightsout.aws.plugins.module_utils.images import IMAGES, architecture_of, is_ami_id
from ansible_collections.lightsout.aws.plugins.module_utils.machines import (
    Wanted,
    differences,
    find_machines,
    observe,
    refusals,
    staying,
    summary,
    too_many,
)
from ansible_collections.lightsout.aws.plugins.module_utils.naming import (
    SCHEMA,
    TAG_PROJECT,
    TAG_SCHEMA,
    TAG_USER,
    common_tags,
    iam_path,
    machine_name,
    machine_number,
    resource_name,
    tags_as_dict,
    tags_to_set,
)
from ansible_collections.lightsout.aws.plugins.module_utils.price_list import PriceList, endpoint_region
from ansible_collections.lightsout.aws.plugins.module_utils.prices import Prices, estimate
from ansible_collections.lightsout.aws.plugins.module_utils.quotas import quota_of
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import (
    LightsoutError,
    credentials_problem,
    did_you_mean,
    error_code,
    explain,
    numbered,
)

#: What ``rules_of`` calls a rule for all ports of all protocols.
EVERYTHING = "-1 None-None"

#: What people are told of the rule by which a security group admits itself.
AMONG_THEMSELVES = "all ports between the machines"

#: A table longer than this helps nobody to choose.
CHOICES = 12

#: How long the address service may take, in seconds.
CHECKIP_TIMEOUT = 5


class Preflight:
    """One look at the settings and at AWS.

    Args:
        module: the AnsibleAWSModule with our options.
    """

    def __init__(self, module) -> None:
        self.params: dict[str, Any] = module.params
        self.machine: dict[str, Any] | None = module.params["machine"]
        self.budget: dict[str, Any] | None = module.params["budget"]
        self.client = Clients(module)
        self.region: str = module.region or ""
        self.project: str = module.params["project"]
        # A number that is none is told with everything else that is wrong; till then it counts as one.
        self.count: int = (checks.count_of(self.machine["count"]) if self.machine else None) or 1
        self.names = self.names_of_all()
        self.problems: list[str] = []
        self.refusals: list[str] = []
        self.cidrs: list[str] = []
        self.changes: dict[str, Any] = {}
        self.plan: dict[str, Any] = {
            "project": self.project,
            "region": self.region,
            "account": None,
            "caller": None,
            "changes": self.changes,
            "machine": {},
            "machines": [],
            "machine_name": self.names[0],
            "machine_names": self.names,
            "count": self.count,
            "members_talk": False,
            "placement_group": {},
            "surplus": [],
            "notices": [],
            "image": {},
            "instance_type": {},
            "access_cidrs": [],
            "subnet_ids": [],
            "vpc_id": None,
            "security_group": {"name": resource_name(self.project, "access"), "id": None},
            "key": {
                "name": resource_name(self.project, "key"),
                "private_key_file": module.params["private_key_file"],
                "public_key_file": module.params["private_key_file"] + ".pub",
            },
            "instance_profile": None,
            "iam_path": iam_path(self.region),
            "budget": {},
            "quota": {},
            "prices": {},
            "choices": [],
            "credits": {},
            "lines": [],
        }

    def names_of_all(self) -> list[str]:
        """The names of the machines that are asked for."""
        if self.count > 1:
            return [machine_name(self.project, number) for number in range(1, self.count + 1)]
        return [(self.machine or {}).get("name") or machine_name(self.project)]

    # -- the order of things --------------------------------------------------------------------------------------
    def run(self) -> dict[str, Any]:
        """Check everything and return the plan; the problems are in ``self.problems``."""
        self.check_alone()
        if any("lightsout_region" in problem for problem in self.problems):
            return self.plan  # there is nobody to ask
        self.look()
        if not self.problems:
            self.plan["lines"] = self.tell()
        return self.plan

    def check_alone(self) -> None:
        """The settings by themselves."""
        params = self.params
        self.problems += checks.region_problems(self.region, params["inventory_region"])
        self.problems += checks.project_problems(self.project, params["owner"], params["lease"])
        self.cidrs, problems = checks.access_problems(params["access_cidrs"], params["allow_world"])
        self.problems += problems
        if self.machine:
            self.problems += checks.machine_problems(self.machine)
            name = self.machine["name"]
            if self.count > 1 and name and name != self.names[0]:
                self.problems.append(
                    f"ec2_machine_name is '{name}', but ec2_machine_count is {self.count}: several machines are named "
                    f"{self.names[0]} to {self.names[-1]}; leave one of the two out."
                )
        if self.budget:
            self.problems += checks.budget_problems(self.budget)
            if self.budget["limit"] is not None and checks.is_amount(self.budget["limit"]):
                self.budget["limit"] = float(self.budget["limit"])

    def look(self) -> None:
        """The settings against AWS, in two rounds: what there is, and what a new machine would need."""
        complete = self.params["complete"]
        calls = {"caller": lambda: self.client("sts").get_caller_identity()} if complete or not self.machine else {}
        if self.budget and self.budget["limit"] != 0:
            calls["budget"] = self.find_budget
        if self.machine:
            calls |= self.calls_for_what_there_is()
            if complete:
                calls |= self.calls_for_a_new_machine()
        answers = self.ask(calls)
        if answers is None:
            return
        self.read_caller(answers.get("caller"))
        self.read_budget(answers)
        if not self.machine:
            return
        self.read_access(answers)
        self.read_key(answers["key"])
        machines = [] if self.failed(answers["machines"], "look for the machines") else answers["machines"]
        self.read_surplus(machines)
        self.read_security_group(answers["security_group"])
        self.read_profile(answers)
        self.read_placement(answers)
        if not isinstance(answers["machines"], Exception):
            self.read_machines(machines)
            self.read_deadlines(answers)
        if not complete and self.changes:
            more = self.ask({key: call for key, call in self.calls_for_a_new_machine().items() if key not in answers})
            if more is None:
                return
            answers |= more
        if complete or self.changes:
            self.read_new_machine(answers)
        # A value that is wrong by itself is said to be so once, not again because the machine has another.
        named = {problem.split(" is ")[0] for problem in self.problems}
        self.problems += [refusal for refusal in self.refusals if refusal.split(" is ")[0] not in named]
        self.price(answers)

    def ask(self, calls: dict[str, Any]) -> dict[str, Any] | None:
        """Every question at once.

        Returns:
            the answers, exceptions among them; None when AWS does not accept the caller, which is one problem, not ten.
        """
        for service in ("ec2",):
            self.client(service)  # the largest model loads once, before the threads want it
        answers = at_once(calls)
        for answer in answers.values():
            problem = credentials_problem(answer) if isinstance(answer, Exception) else None
            if problem:
                self.problems.append(problem)
                return None
        return answers

    def failed(self, answer: Any, doing: str) -> bool:
        """Turn an exception into a problem; True when it was one."""
        if not isinstance(answer, Exception):
            return False
        sentence = explain(answer, doing)
        if sentence not in self.problems:
            self.problems.append(sentence)
        return True

    # -- the questions --------------------------------------------------------------------------------------------
    def calls_for_what_there_is(self) -> dict[str, Any]:
        """Key pair, security group, machines, and the profile when one is wanted."""
        ec2 = self.client("ec2")
        calls = {
            "machines": lambda: find_machines(ec2, self.project) if self.project else [],
            "key": lambda: ec2.describe_key_pairs(
                Filters=[{"Name": "key-name", "Values": [self.plan["key"]["name"]]}], IncludePublicKey=True
            )["KeyPairs"],
            "security_group": lambda: ec2.describe_security_groups(
                Filters=[{"Name": "group-name", "Values": [self.plan["security_group"]["name"]]}]
            )["SecurityGroups"],
        }
        if self.count > 1 and self.machine["placement"] == "cluster":
            calls["type"] = self.find_type
            calls["placement_group"] = lambda: ec2.describe_placement_groups(
                Filters=[{"Name": "group-name", "Values": [resource_name(self.project, "group")]}]
            )["PlacementGroups"]
        if self.params["deadline"]:
            calls |= {f"deadline of {name}": lambda name=name: self.find_deadline(name) for name in self.names}
        if checks.AUTO in self.cidrs:
            calls["own_address"] = self.own_address
        if self.machine["instance_profile"]:
            calls["profile"] = lambda: self.client("iam").get_instance_profile(
                InstanceProfileName=self.machine["instance_profile"]
            )["InstanceProfile"]
        elif self.own_profile:
            calls["profile"] = self.see_profile
        return calls

    def calls_for_a_new_machine(self) -> dict[str, Any]:
        """Type, zones, image, network, quota and price."""
        ec2, machine = self.client("ec2"), self.machine
        wanted = machine["instance_type"]
        calls = {
            "type": self.find_type,
            "zones": lambda: [
                offer["Location"]
                for offer in ec2.describe_instance_type_offerings(
                    LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": [wanted]}]
                )["InstanceTypeOfferings"]
            ],
            "image": self.find_image,
            "subnets": self.find_subnets,
            "quota": self.find_quota,
            "prices": lambda: self.price_list.of(wanted),
        }
        if self.params["complete"]:
            calls["credits"] = self.find_credits
        if self.params["needs"] or (self.params["alternatives"] and self.params["complete"]):
            calls["choices"] = self.find_choices
        if machine["spot"]:
            calls["spot_price"] = self.find_spot_price
        return calls

    def find_type(self) -> list[dict[str, Any]]:
        """The instance type, as EC2 describes it."""
        return self.client("ec2").describe_instance_types(InstanceTypes=[self.machine["instance_type"]])[
            "InstanceTypes"
        ]

    def find_deadline(self, name: str) -> dict[str, Any] | None:
        """The schedule by which AWS stops a machine at the end of its lease."""
        scheduler, group = self.client("scheduler"), resource_name(self.project, "")[:-1]
        return schedules.find(scheduler, group, schedules.deadline_name(name))

    def find_budget(self) -> budgets.Budget | None:
        """The project's budget; budgets belong to the account, which must be known first."""
        account = self.client("sts").get_caller_identity()["Account"]
        return budgets.observe(self.client("budgets", budgets.REGION), account, f"lightsout-{self.project}")

    def own_address(self) -> str:
        """The address that AWS sees us come from, as a network of one."""
        url = self.params["checkip_url"]
        try:
            text = open_url(url, timeout=CHECKIP_TIMEOUT).read(100).decode("ascii", "replace").strip()
            return str(ipaddress.ip_network(text))
        except (OSError, ValueError) as error:
            raise LightsoutError(
                f"lightsout_access_cidr is 'auto', but {url} did not tell your address ({error}): give it "
                "yourself, for example `-e lightsout_access_cidr=203.0.113.7`."
            ) from error

    def find_image(self) -> dict[str, Any]:
        """The AMI behind the image's name, as EC2 describes it."""
        name = self.machine["image"]
        architecture = architecture_of(self.machine["instance_type"])
        image_id, parameter = name, None
        if name in IMAGES:
            parameter = IMAGES[name].parameter_for(architecture)
            if not parameter:
                raise LightsoutError(f"ec2_machine_image is '{name}', which does not exist for {architecture}.")
            try:
                image_id = self.client("ssm").get_parameter(Name=parameter)["Parameter"]["Value"]
            except Exception as error:
                if error_code(error) != "ParameterNotFound":
                    raise
                raise LightsoutError(
                    f"ec2_machine_image is '{name}', which is not published for {architecture} in {self.region} "
                    f"({parameter}): choose another image or give an AMI id."
                ) from error
        elif not is_ami_id(name):
            raise LightsoutError("")  # said already
        try:
            found = self.client("ec2").describe_images(ImageIds=[image_id])["Images"]
        except Exception as error:
            if not error_code(error).startswith("InvalidAMIID"):
                raise
            found = []
        if not found:
            raise LightsoutError(
                f"ec2_machine_image is '{name}', but {self.region} has no image {image_id} that you may use: AMI ids "
                f"differ from region to region; a name such as '{next(iter(IMAGES))}' works everywhere."
            )
        return found[0]

    def find_subnets(self) -> list[dict[str, Any]]:
        """The subnets to choose from."""
        ec2, subnet = self.client("ec2"), self.machine["subnet_id"]
        if not subnet or not checks.is_subnet_id(subnet):  # what is none has been told
            return ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"]
        try:
            return ec2.describe_subnets(SubnetIds=[subnet])["Subnets"]
        except Exception as error:
            if not error_code(error).startswith("InvalidSubnet"):
                raise
            raise LightsoutError(
                f"ec2_machine_subnet_id is '{subnet}', which does not exist in {self.region}: leave it empty for the "
                "default network, or list them with `aws ec2 describe-subnets`."
            ) from error

    def find_quota(self) -> dict[str, Any]:
        """The account's limit for the family. Not everyone may ask, and nothing depends on the answer."""
        found = quota_of(self.machine["instance_type"], self.machine["spot"])
        if not found:
            return {}
        code, family = found
        try:
            answer = self.client("service-quotas", attempts=1, read_timeout=5).get_service_quota(
                ServiceCode="ec2", QuotaCode=code
            )
        except Exception:
            return {"family": family, "code": code, "vcpus": None}
        return {"family": family, "code": code, "vcpus": int(answer["Quota"]["Value"])}

    @property
    def price_list(self) -> PriceList:
        """AWS's price list of the region, or what stands in for it."""
        client = self.client("pricing", endpoint_region(self.region), attempts=2, read_timeout=20)
        return PriceList(client, self.region, self.params["price_cache"], client.meta.endpoint_url)

    def find_credits(self) -> dict[str, Any]:
        """The account's plan and credits. Not everyone may ask, and nothing depends on the answer."""
        try:
            state = self.client("freetier", "us-east-1", attempts=1, read_timeout=5).get_account_plan_state()
        except Exception:
            return {}
        left, until = state.get("accountPlanRemainingCredits"), state.get("accountPlanExpirationDate")
        return {
            "plan": state["accountPlanType"],
            "status": state["accountPlanStatus"],
            "left": left["amount"] if left else None,
            "until": until.date().isoformat() if until else None,
        }

    def find_choices(self) -> list[dict[str, Any]]:
        """The types that meet the need, or do what the chosen one does for less."""
        ec2, needs = self.client("ec2"), self.params["needs"]
        if not needs:
            chosen = ec2.describe_instance_types(InstanceTypes=[self.machine["instance_type"]])["InstanceTypes"][0]
            has = choices.facts(chosen)
            needs = {key: has[key] for key in choices.NEEDS} | {"architecture": facts_of(chosen)["architectures"][0]}
        answers = at_once(
            {
                "described": lambda: pages(
                    ec2, "describe_instance_types", "InstanceTypes", Filters=choices.filters(needs)
                ),
                "offered": self.offered_types,
                "prices": self.price_list.all,
            }
        )
        for answer in answers.values():
            if isinstance(answer, Exception):
                raise answer
        offered = set(answers["offered"]) or None
        rows = choices.table(answers["described"], offered, needs, answers["prices"].on_demand)
        if not self.params["needs"]:
            limit = answers["prices"].on_demand.get(self.machine["instance_type"])
            rows = [row for row in rows if row["price"] is not None and limit is not None and row["price"] < limit]
        rows = rows[:CHOICES]
        history = (
            ec2.describe_spot_price_history(
                InstanceTypes=[row["type"] for row in rows],
                ProductDescriptions=["Linux/UNIX"],
                StartTime=datetime.datetime.now(datetime.UTC),
            )["SpotPriceHistory"]
            if rows
            else []
        )
        return choices.with_spot(rows, history)

    def find_spot_price(self) -> float | None:
        """Today's lowest spot price of the region's zones, USD per hour."""
        history = self.client("ec2").describe_spot_price_history(
            InstanceTypes=[self.machine["instance_type"]], ProductDescriptions=["Linux/UNIX"], MaxResults=20
        )["SpotPriceHistory"]
        return min((float(entry["SpotPrice"]) for entry in history), default=None)

    @property
    def own_profile(self) -> bool:
        """Whether the machine gets a role and profile of its own."""
        return bool(self.machine["policies"] or self.machine["policy_document"])

    def see_profile(self) -> dict[str, Any] | None:
        """The project's own role and profile, None when one of them is missing."""
        iam, name = self.client("iam"), resource_name(self.project, "machine")
        try:
            role = iam.get_role(RoleName=name)["Role"]
            profile = iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
            policies = pages(iam, "list_attached_role_policies", "AttachedPolicies", RoleName=name)
            document: Any = {}
            if name in pages(iam, "list_role_policies", "PolicyNames", RoleName=name):
                document = iam.get_role_policy(RoleName=name, PolicyName=name)["PolicyDocument"]
        except Exception as error:
            if error_code(error) == "NoSuchEntity":
                return None
            raise
        return {
            "path": role["Path"],
            "role_in_profile": [r["RoleName"] for r in profile["Roles"]] == [name],
            "policies": sorted(policy["PolicyArn"] for policy in policies),
            "document": json.loads(unquote(document)) if isinstance(document, str) else document,
        }

    # -- the answers ----------------------------------------------------------------------------------------------
    def read_caller(self, answer: Any) -> None:
        if answer and not self.failed(answer, "find out who you are"):
            self.plan |= {"account": answer["Account"], "caller": answer["Arn"]}

    def read_budget(self, answers: dict[str, Any]) -> None:
        """Whether somebody will be told before the money is gone."""
        if "budget" not in answers or any("cost_guard_" in problem for problem in self.problems):
            return
        problems, change = checks.budget_against(answers["budget"], self.budget, self.project)
        self.problems += problems
        if change:
            self.changes["budget"] = change
        if isinstance(answers["budget"], budgets.Budget):
            self.plan["budget"] = answers["budget"].as_dict()

    def read_deadlines(self, answers: dict[str, Any]) -> None:
        """Whether AWS will stop each machine at the end of its lease."""
        now = datetime.datetime.now(datetime.UTC)
        machines = {machine["name"]: machine for machine in self.plan["machines"]}
        changes = self.changes_of_machines()
        for name in self.names if self.params["deadline"] else []:
            deadline, change, machine = answers[f"deadline of {name}"], changes.get(name), machines.get(name)
            if self.failed(deadline, f"look for the deadline of {name}"):
                continue
            starts = change == "create" or (isinstance(change, dict) and "state" in change)
            if starts or (machine and not schedules.deadline_is_right(deadline, machine, now)):
                self.changes["deadline"] = "set" if deadline is None else "move"

    def read_access(self, answers: dict[str, Any]) -> None:
        """Who may reach the machine, with ``auto`` resolved."""
        own = answers.get("own_address")
        if own is not None and not self.failed(own, "find your address"):
            self.cidrs = [own if cidr == checks.AUTO else cidr for cidr in self.cidrs]
        self.plan["access_cidrs"] = sorted(set(self.cidrs))

    def read_key(self, answer: Any) -> None:
        """The key pair on AWS and the key file here must be two ends of the same thing."""
        if self.failed(answer, "look for the key pair"):
            return
        name, private = self.plan["key"]["name"], Path(self.plan["key"]["private_key_file"])
        public = Path(self.plan["key"]["public_key_file"])
        start_over = "or tear the project down where that key is, and provision it again"
        if private.exists() and private.stat().st_mode & 0o077:
            self.changes["key_file"] = "protect"
        if not private.exists() or not public.exists():
            self.changes["key_file"] = "create"
        if not answer:
            self.changes["key_pair"] = "create"
            return
        here = local_public_key(private, public)
        there = " ".join(answer[0].get("PublicKey", "").split()[:2])
        tags = tags_as_dict(answer[0].get("Tags"))
        if not private.exists():
            self.problems.append(
                f"Key pair {name} exists on AWS, but its private key is not on this computer ({private}): copy that "
                f"file from the computer that made the project, {start_over}."
            )
        elif there and here and there != here:
            self.problems.append(
                f"Key pair {name} exists on AWS with another public key than {public}: get the right key file from the "
                f"computer that made the project, {start_over}."
            )
        elif tags_to_set(tags, self.tags):
            self.changes["key_pair"] = "tag"

    @property
    def tags(self) -> dict[str, str]:
        """The tags of everything that is not a machine."""
        return {**self.machine["tags"], **common_tags(self.project, self.params["owner"])}

    def read_security_group(self, answer: Any) -> None:
        """Compare the rules by what they let in."""
        if self.failed(answer, "look for the security group"):
            return
        if not answer:
            self.changes["security_group"] = "create"
            return
        group = answer[0]
        self.plan["security_group"]["id"] = group["GroupId"]
        self.plan["vpc_id"] = group.get("VpcId")
        tags = tags_as_dict(group.get("Tags"))
        if tags.get(TAG_PROJECT) != self.project:
            self.problems.append(
                f"A security group {group['GroupName']} exists ({group['GroupId']}) without the "
                f"tag {TAG_PROJECT}={self.project}, so it is not ours to change: rename it, or choose another "
                "lightsout_project."
            )
            return
        shall = {(port, cidr) for port in self.machine["ports"] for cidr in self.plan["access_cidrs"]}
        among = (EVERYTHING, group["GroupId"])
        if self.plan["members_talk"]:
            shall.add(among)
        are = rules_of(group)

        def told(rules: set[tuple[Any, str]]) -> list[str]:
            return [
                AMONG_THEMSELVES if (port, source) == among else f"{port} from {source}"
                for port, source in sorted(rules, key=str)
            ]

        if shall != are:
            self.changes["security_group"] = {"open": told(shall - are), "close": told(are - shall)}
        elif tags_to_set(tags, self.tags):
            self.changes["security_group"] = "tag"

    def read_profile(self, answers: dict[str, Any]) -> None:
        """The instance profile: one that exists, or the project's own."""
        if "profile" not in answers:
            return
        answer = answers["profile"]
        given = self.machine["instance_profile"]
        if given:
            self.plan["instance_profile"] = given
            if isinstance(answer, Exception) and error_code(answer) == "NoSuchEntity":
                self.problems.append(
                    f"ec2_machine_instance_profile is '{given}', which does not exist in this account: "
                    "`aws iam list-instance-profiles` lists them."
                )
            else:
                self.failed(answer, "look for the instance profile")
            return
        if self.failed(answer, "look for the machine's role"):
            return
        name = self.plan["instance_profile"] = resource_name(self.project, "machine")
        if answer is None:
            self.changes["instance_profile"] = "create"
        elif answer["path"] != self.plan["iam_path"]:
            self.problems.append(
                f"IAM role {name} exists with path {answer['path']}, so it belongs to this project in another region: "
                "choose another lightsout_project here, or tear that one down."
            )
        elif not answer["role_in_profile"] or (
            (answer["policies"], answer["document"])
            != (sorted(self.machine["policies"]), self.machine["policy_document"])
        ):
            self.changes["instance_profile"] = "update"

    def wanted(self, name: str) -> Wanted:
        """The machine that the settings describe."""
        machine, group = self.machine, self.plan["security_group"]["id"]
        return Wanted(
            state="running",
            instance_type=machine["instance_type"],
            image=machine["image"],
            volume_size=machine["volume_size"],
            shutdown_behavior=machine["shutdown_behavior"],
            metadata_hop_limit=machine["metadata_hop_limit"],
            metadata_tags=machine["metadata_tags"],
            instance_profile=self.plan["instance_profile"],
            security_group_ids=[group] if group else None,
            termination_protection=machine["termination_protection"],
            spot=machine["spot"],
            placement_group=self.plan["placement_group"].get("name"),
            tags={**self.tags, TAG_SCHEMA: SCHEMA, "Name": name},
        )

    def read_surplus(self, machines: list[dict[str, Any]]) -> None:
        """Machines beyond the number that is asked for. They still need to be reached by the others."""
        numbers = [(machine_number(self.project, name_of(machine)) or 0, machine) for machine in machines]
        self.plan["members_talk"] = self.count > 1 or any(number > 1 for number, _machine in numbers)
        if self.names[0] != machine_name(self.project):
            return  # a machine with a name of its own is not one of a number
        surplus = [machine for number, machine in sorted(numbers, key=lambda pair: pair[0]) if number > self.count]
        self.plan["surplus"] = [summary(machine) for machine in surplus]
        if surplus:
            said = ", ".join(f"{name_of(machine)} ({machine['InstanceId']})" for machine in surplus)
            ids = " ".join(machine["InstanceId"] for machine in surplus)
            self.plan["notices"].append(
                f"ec2_machine_count is {self.count}, and there is more than that: {said}. Nothing was done to it, and "
                f"it is paid for. Remove it: aws ec2 terminate-instances --region {self.region} --instance-ids {ids}"
            )

    def read_placement(self, answers: dict[str, Any]) -> None:
        """The placement group, where several machines can be in one."""
        if "placement_group" not in answers:
            return
        name, wanted, kinds = resource_name(self.project, "group"), self.machine["instance_type"], answers["type"]
        if isinstance(kinds, Exception) or not kinds:
            return  # there is no such type, and that is told
        if "cluster" not in kinds[0].get("PlacementGroupInfo", {}).get("SupportedStrategies", []):
            self.plan["notices"].append(
                f"ec2_machine_placement is 'cluster', but a {wanted} cannot be in a cluster placement group: the "
                f"{self.count} machines are placed without one. Types with a fast network, such as c5.large, can."
            )
            return
        found = answers["placement_group"]
        if self.failed(found, "look for the placement group"):
            return
        self.plan["placement_group"] = {"name": name, "id": found[0]["GroupId"] if found else None}
        if not found:
            self.changes["placement_group"] = "create"
            return
        tags, strategy = tags_as_dict(found[0].get("Tags")), found[0]["Strategy"]
        if tags.get(TAG_PROJECT) != self.project or strategy != "cluster":
            self.problems.append(
                f"A placement group {name} exists with strategy {strategy} and tag {TAG_PROJECT}="
                f"{tags.get(TAG_PROJECT)}, so it is not ours to use: delete it, choose another lightsout_project, or "
                "give ec2_machine_placement=none."
            )
        elif tags_to_set(tags, self.tags):
            self.changes["placement_group"] = "tag"

    def read_machines(self, machines: list[dict[str, Any]]) -> None:
        """The machines that there are, against those that are wanted."""
        ec2 = self.client("ec2")
        found = {name: [machine for machine in machines if name_of(machine) == name] for name in self.names}
        self.problems += [too_many(same, name) for name, same in found.items() if len(same) > 1]
        single = {name: same[0] for name, same in found.items() if len(same) == 1}
        seen = at_once({name: lambda name=name: observe(ec2, single[name], self.wanted(name)) for name in single})
        changes: dict[str, Any] = {name: "create" for name, same in found.items() if not same}
        for name, machine in single.items():
            if not self.failed(seen[name], f"look at machine {name}"):
                self.plan["machines"].append(summary(machine, seen[name]["volume_size"] or 0))
                changes |= self.compared(name, seen[name])
        self.plan["machine"] = next((m for m in self.plan["machines"] if m["name"] == self.names[0]), {})
        if changes and self.count == 1:
            self.changes["machine"] = changes[self.names[0]]
        elif changes:
            self.changes["machines"] = {name: changes[name] for name in self.names if name in changes}

    def compared(self, name: str, seen: dict[str, Any]) -> dict[str, Any]:
        """What has to change on one machine, under its name; empty for one that is right."""
        asked, may_stop = self.wanted(name), self.machine["allow_stop"]
        wanted = staying(seen, asked, may_stop)
        if wanted != asked and seen["placement_group"] != asked.placement_group:
            self.plan["notices"].append(
                f"{name} was made before placement group {asked.placement_group} and stays outside it while it runs: "
                "to move it, which stops it for a minute, add `-e ec2_machine_allow_stop=true`."
            )
        # Of several machines that cannot be granted the same wish, the first is told.
        for refusal in refusals(name, seen, wanted, may_stop, prefix="ec2_machine_"):
            if refusal.split(" is ")[0] not in {told.split(" is ")[0] for told in self.refusals}:
                self.refusals.append(refusal)
        changes = differences(seen, wanted)
        if self.changes.get("security_group") == "create":  # somebody deleted it under the machine
            changes["security_group_ids"] = (seen["security_group_ids"], "the new group")
        return {name: {key: list(change) for key, change in changes.items()}} if changes else {}

    def read_new_machine(self, answers: dict[str, Any]) -> None:
        """Whether the machine that is wanted can be had here."""
        self.read_type(answers)
        self.read_image(answers["image"])
        self.read_subnets(answers["subnets"], answers["zones"])
        quota = self.plan["quota"] = answers["quota"] if isinstance(answers["quota"], dict) else {}
        if "create" in self.changes_of_machines().values():
            self.check_quota(quota, self.plan["instance_type"].get("vcpus"))

    def changes_of_machines(self) -> dict[str, Any]:
        """What has to change, by machine."""
        if "machine" in self.changes:
            return {self.names[0]: self.changes["machine"]}
        return self.changes.get("machines", {})

    def check_quota(self, quota: dict[str, Any], vcpus: int | None) -> None:
        """Whether the account may run them all."""
        limit = quota.get("vcpus")
        if not vcpus or limit is None or limit >= vcpus * self.count:
            return
        more = (
            "ask for more with `aws service-quotas request-service-quota-increase --service-code ec2 "
            f"--quota-code {quota['code']} --desired-value {vcpus * self.count}`"
        )
        may = f"but this account may run {limit} vCPU of the {quota['family']} family in {self.region}"
        wanted = self.machine["instance_type"]
        if limit < vcpus:
            self.problems.append(
                f"ec2_machine_instance_type is '{wanted}' with {vcpus} vCPU, {may}: {more}, or choose another type."
            )
            return
        self.problems.append(
            f"ec2_machine_count is {self.count}, and {self.count} machines of type {wanted} have {vcpus * self.count} "
            f"vCPU, {may}, enough for {limit // vcpus}: {more}, or make fewer."
        )

    def read_type(self, answers: dict[str, Any]) -> None:
        """What the type has, or which one was meant."""
        answer, name = answers["type"], self.machine["instance_type"]
        unknown = isinstance(answer, Exception) and error_code(answer).startswith("InvalidInstanceType")
        if unknown or answer == [] or answers["zones"] == []:
            if any("ec2_machine_instance_type" in problem for problem in self.problems):
                return  # it was no type by its looks already
            offered = self.offered_types()
            hint = did_you_mean(name, offered) or ": `aws ec2 describe-instance-type-offerings` lists those that are."
            self.problems.append(f"ec2_machine_instance_type is '{name}', which {self.region} does not offer{hint}")
            return
        if self.failed(answer, f"look up instance type {name}") or self.failed(answers["zones"], "look up its zones"):
            return
        self.plan["instance_type"] = facts_of(answer[0])

    def offered_types(self) -> list[str]:
        """All types of the region; empty when AWS does not tell."""
        try:
            offers = pages(
                self.client("ec2"), "describe_instance_type_offerings", "InstanceTypeOfferings", LocationType="region"
            )
        except Exception:
            return []
        return [offer["InstanceType"] for offer in offers]

    def read_image(self, answer: Any) -> None:
        """The image, and whether it fits disk and processor."""
        if isinstance(answer, LightsoutError) and not str(answer):
            return
        if self.failed(answer, "look up the image"):
            return
        name = self.machine["image"]
        root = next(
            (m for m in answer.get("BlockDeviceMappings", []) if m["DeviceName"] == answer["RootDeviceName"]), {}
        )
        smallest = root.get("Ebs", {}).get("VolumeSize") or 1
        told = self.machine["login_user"] or tags_as_dict(answer.get("Tags")).get(TAG_USER)
        try:
            user = checks.login_user(name, answer.get("Name", ""), told)
        except LightsoutError as error:
            self.problems.append(str(error))
            return
        self.plan["image"] = {
            "name": name,
            "id": answer["ImageId"],
            "title": IMAGES[name].title if name in IMAGES else answer.get("Name", name),
            "login_user": user,
            "minimum_size": smallest,
            "architecture": answer.get("Architecture", "x86_64"),
        }
        if checks.SMALLEST_VOLUME <= self.machine["volume_size"] < smallest and not self.plan["machine"]:
            self.problems.append(
                f"ec2_machine_volume_size is {self.machine['volume_size']}, but image '{name}' needs {smallest} GiB: "
                f"set it to {smallest} or more."
            )
        fits = self.plan["instance_type"].get("architectures")
        if fits and self.plan["image"]["architecture"] not in fits:
            self.problems.append(
                f"ec2_machine_image is '{name}' for {self.plan['image']['architecture']}, but a "
                f"{self.machine['instance_type']} runs {' and '.join(fits)}: choose an image of that kind."
            )

    def read_subnets(self, answer: Any, zones: Any) -> None:
        """Where to launch: the subnets whose zones offer the type, in the order of the zones."""
        if self.failed(answer, "look for subnets"):
            return
        if not answer:
            self.problems.append(
                f"{self.region} has no default network in this account: give ec2_machine_subnet_id, or make one with "
                "`aws ec2 create-default-vpc`."
            )
            return
        usable = [s for s in answer if not isinstance(zones, list) or s["AvailabilityZone"] in zones]
        if not usable and zones:
            self.problems.append(
                f"ec2_machine_instance_type is '{self.machine['instance_type']}', which is offered in "
                f"{', '.join(zones)} only, but the subnet is in {', '.join(s['AvailabilityZone'] for s in answer)}: "
                "choose another of the two."
            )
        usable.sort(key=lambda s: s["AvailabilityZone"])
        self.plan["subnet_ids"] = [s["SubnetId"] for s in usable]
        self.plan["vpc_id"] = self.plan["vpc_id"] or answer[0]["VpcId"]

    def price(self, answers: dict[str, Any]) -> None:
        """What running it costs, and what keeping it stopped costs."""
        machine, spot = self.machine, answers.get("spot_price")
        sizes = {m["name"]: m["disk_gib"] for m in self.plan["machines"]}
        size = sum(max(machine["volume_size"], sizes.get(name, 0)) for name in self.names)
        quoted = spot if isinstance(spot, float) else None
        known = machine["instance_type"] if not machine["spot"] else None
        listed = answers.get("prices")
        source = listed if isinstance(listed, Prices) else self.price_list.known()
        self.plan["prices"] = estimate(known, size, machine["public_ip"], quoted, self.count, source).as_dict()
        self.plan["credits"] = answers.get("credits") or {}
        found = answers.get("choices", [])
        if not self.failed(found, "look for types that meet the need"):
            self.plan["choices"] = found

    # -- for people -----------------------------------------------------------------------------------------------
    def tell(self) -> list[str]:
        """The plan in a few lines."""
        plan, machine = self.plan, self.machine
        account = (
            f" (account {plan['account']}, you are {plan['caller'].rsplit(':', 1)[-1]})" if plan["account"] else ""
        )
        rows = [("Project", f"{self.project} in {self.region}{account}")]
        if machine:
            facts, image, now = plan["instance_type"], plan["image"], plan["machine"]
            has = ", ".join(
                text
                for text in (
                    f"{facts['vcpus']} vCPU" if facts else "",
                    f"{facts['memory_gib']:g} GiB memory" if facts else "",
                    facts.get("gpu") or "",
                    "spot" if machine["spot"] else "",
                )
                if text
            )
            kind = f"{machine['instance_type']}{f' ({has})' if has else ''}"
            if self.count == 1:
                rows.append(("Machine", f"{plan['machine_name']}: {kind}{state_of(now)}"))
            else:
                rows.append(("Machines", f"{self.count} of {kind}, {self.names[0]} to {self.names[-1]}"))
                rows += [("Machines", f"{m['name']}{state_of(m)}") for m in plan["machines"]]
                near = f"near each other in placement group {plan['placement_group'].get('name')}"
                rows.append(
                    ("Group", f"{near if plan['placement_group'] else 'not placed together'}; {AMONG_THEMSELVES}")
                )
            if image:
                rows.append(("Image", f"{image['title']}, {image['id']}, log in as {image['login_user']}"))
            rows.append(
                ("Disk", f"{machine['volume_size']} GiB gp3, encrypted{' (each machine)' if self.count > 1 else ''}")
            )
            ports = ", ".join(str(port) for port in machine["ports"])
            rows.append(("Access", f"ports {ports} from {', '.join(plan['access_cidrs'])}"))
            rows.append(
                ("Lease", f"{self.params['lease']} from creation" + (f", until {now['expires']}" if now else ""))
            )
            rows += [("Budget", text) for text in self.budget_lines()]
            rows += [
                ("Price", text)
                for text in price_lines(plan["prices"], machine["instance_type"], self.region, self.count)
            ]
            rows += [("Credits", text) for text in credit_lines(plan["credits"])]
            if plan["quota"]:
                limit = plan["quota"]["vcpus"]
                said = "unknown (AWS did not tell)" if limit is None else f"{limit} vCPU"
                vcpus = facts.get("vcpus", 0) * self.count
                asked = f", these machines have {vcpus}" if self.count > 1 and vcpus else ""
                rows.append(("Quota", f"{plan['quota']['family']} family: {said}{asked}"))
            rows += [("Notice", text) for text in plan["notices"]]
            rows += [("To do", text) for text in todo(self.changes)] or [("To do", "nothing, all is as it should be")]
        lines, before = [], ""
        for title, text in rows:
            lines.append(f"{title if title != before else '':<9}{text}")
            before = title
        return lines

    def budget_lines(self) -> list[str]:
        """What watches over the money."""
        if not self.budget:
            return []
        if self.budget["limit"] == 0:
            return ["none, as cost_guard_monthly_limit is 0: nobody is told before the bill comes"]
        now = self.plan["budget"]
        limit = self.budget["limit"] if self.budget["limit"] is not None else now.get("limit")
        counts = f"project {self.project}" if self.budget["count"] == "project" else "the whole account"
        told = self.budget["emails"] or sorted({one for alert in now.get("alerts", []) for one in alert["emails"]})
        spent = f", {now['spent']:.2f} spent so far" if now.get("spent") is not None else ""
        limit_text = "unknown" if limit is None else f"USD {limit:.2f} a month for {counts}{spent}"
        return [f"{limit_text}; alerts to {', '.join(told) or 'nobody'}"]


def local_public_key(private: Path, public: Path) -> str:
    """Kind and body of the public key on this computer, empty when there is none."""
    if public.exists():
        return " ".join(public.read_text().split()[:2])
    if not private.exists():
        return ""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 (rarely needed, slow to load)

    try:
        key = serialization.load_ssh_private_key(private.read_bytes(), None)
    except ValueError:
        return ""
    form = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    return key.public_key().public_bytes(*form).decode()


def rules_of(group: dict[str, Any]) -> set[tuple[Any, str]]:
    """What a security group lets in, as pairs of port and source; anything but one TCP port is its own description."""
    rules: set[tuple[Any, str]] = set()
    for rule in group.get("IpPermissions", []):
        first, last = rule.get("FromPort"), rule.get("ToPort")
        port = (
            first if rule.get("IpProtocol") == "tcp" and first == last else f"{rule.get('IpProtocol')} {first}-{last}"
        )
        sources = [r["CidrIp"] for r in rule.get("IpRanges", [])] + [r["CidrIpv6"] for r in rule.get("Ipv6Ranges", [])]
        sources += [r.get("GroupId", "a group") for r in rule.get("UserIdGroupPairs", [])]
        sources += [r["PrefixListId"] for r in rule.get("PrefixListIds", [])]
        rules |= {(port, source) for source in sources}
    return rules


def facts_of(described: dict[str, Any]) -> dict[str, Any]:
    """An instance type's figures that people choose by."""
    gpus = described.get("GpuInfo", {}).get("Gpus", [])
    architectures = described.get("ProcessorInfo", {}).get("SupportedArchitectures", [])
    return {
        "name": described["InstanceType"],
        "vcpus": described["VCpuInfo"]["DefaultVCpus"],
        "memory_gib": described["MemoryInfo"]["SizeInMiB"] / 1024,
        "gpu": ", ".join(
            f"{gpu['Count']} x {gpu.get('Manufacturer', '')} {gpu['Name']} {gpu['MemoryInfo']['SizeInMiB'] // 1024} GiB"
            for gpu in gpus
        ),
        "architectures": [name for name in architectures if name in ("x86_64", "arm64")],
    }


def name_of(machine: dict[str, Any]) -> str:
    """A machine's tag Name; empty when it has none."""
    return tags_as_dict(machine.get("Tags")).get("Name", "")


def state_of(machine: dict[str, Any]) -> str:
    """What follows the name of a machine that there is."""
    return f", {machine['state']}, {machine['public_ip'] or machine['private_ip']}" if machine else ""


def price_lines(prices: dict[str, Any], instance_type: str, region: str, count: int = 1) -> list[str]:
    """The price in words; a price that nobody knows is said to be unknown."""
    if count == 1:
        stopped = f"stopped, it still costs USD {prices['stopped_month']:.2f} a month for its disk"
    else:
        stopped = f"stopped, they still cost USD {prices['stopped_month']:.2f} a month for their disks"
    elsewhere = "" if region == prices["region"] else f"; {region} differs"
    if prices["hour"] is None:
        return [
            f"unknown: {instance_type} ({prices['purchase']}) is not in our list; disk and address come to "
            f"USD {prices['disk_month']:.2f} a month and {prices['address_hour']:.3f} an hour",
            stopped,
        ]
    listed = f"list prices for {prices['region']}, {prices['as_of']}, no tax"
    if not prices["listed"]:
        listed += "; from our own table, not from AWS"
    source = "AWS's spot price now" if prices["purchase"] == "spot" else listed
    return [
        f"USD {prices['hour']:.4g} an hour, {prices['day']:.2f} a day, {prices['month']:.2f} a month"
        f"{f' for {count} machines' if count > 1 else ''} ({source}{elsewhere})",
        stopped,
    ]


def credit_lines(plan: dict[str, Any]) -> list[str]:
    """What AWS gives for free, where it says so."""
    if plan.get("left") is None:
        return []
    until = f", until {plan['until']}" if plan["until"] else ""
    return [f"USD {plan['left']:.2f} left of the {plan['plan'].lower()} plan{until}"]


def todo(changes: dict[str, Any]) -> list[str]:
    """What the next run of provision would do, a line each."""
    titles = {
        "budget": "budget",
        "key_file": "key file on this computer",
        "key_pair": "key pair",
        "security_group": "security group",
        "instance_profile": "role and instance profile",
        "placement_group": "placement group",
        "machine": "machine",
        "deadline": "deadline at which AWS stops it",
    }
    lines = []
    for key, title in titles.items():
        change = changes.get(key)
        if isinstance(change, str):
            lines.append(f"{change} the {title}")
        elif key == "security_group" and change:
            lines += [
                f"{verb} {rule if rule == AMONG_THEMSELVES else f'port {rule}'}"
                for verb in ("open", "close")
                for rule in change[verb]
            ]
        elif change:
            lines += becoming(change)
    for name, change in changes.get("machines", {}).items():
        lines += [f"{change} {name}"] if isinstance(change, str) else [f"{name}: {line}" for line in becoming(change)]
    return lines


def becoming(change: dict[str, Any]) -> list[str]:
    """A machine's changes, a line each."""
    return [f"{setting.replace('_', ' ')}: {told(old)} becomes {told(new)}" for setting, (old, new) in change.items()]


def told(value: Any) -> str:
    """A setting's value for people."""
    if isinstance(value, dict):
        return ", ".join(f"{key}={content}" for key, content in value.items())
    return "nothing" if value is None else str(value)


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
        "policy_document": {"type": "dict", "default": {}},
        "allow_stop": {"type": "bool", "default": False},
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
    preflight = Preflight(module)
    try:
        plan = preflight.run()
    except Exception as error:
        preflight.problems.append(explain(error, "look at the project"))
    if preflight.problems:
        module.fail_json(msg=numbered(preflight.problems), problems=preflight.problems)
    module.exit_json(changed=False, plan=plan)


if __name__ == "__main__":
    main()
