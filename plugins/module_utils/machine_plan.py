# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What ``provision.yml`` would make on EC2, what of it is there, and everything that must be known or right before."""

from __future__ import annotations

import contextlib
import datetime
import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ansible_collections.lightsout.aws.plugins.module_utils import access, budgets, checks, choices, schedules
from ansible_collections.lightsout.aws.plugins.module_utils.calls import Clients, at_once, pages
from ansible_collections.lightsout.aws.plugins.module_utils.images import IMAGES, architecture_of, is_ami_id
from ansible_collections.lightsout.aws.plugins.module_utils.machine_plan_words import AMONG_THEMSELVES, lines
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
    TAG_ACCESS,
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
)

#: A table longer than this helps nobody to choose.
CHOICES = 12


class MachinePlan:
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
            self.plan["lines"] = lines(self)
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
            calls["own_address"] = lambda: access.own_address(self.params["checkip_url"])
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
        if machine["spot"] or self.params["complete"]:
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
        """The account's limits for the family. Not everyone may ask, and nothing depends on the answer."""
        spot = self.machine["spot"]
        ways = (spot, not spot) if self.params["complete"] else (spot,)
        found = {way: quota_of(self.machine["instance_type"], way) for way in ways}
        if not found[spot]:
            return {}
        client = self.client("service-quotas", attempts=1, read_timeout=5)
        told = at_once(
            {
                way: lambda code=code: client.get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]["Value"]
                for way, (code, _family) in found.items()
            }
        )
        vcpus = {way: None if isinstance(value, Exception) else int(value) for way, value in told.items()}
        code, family = found[spot]
        return {
            "family": family,
            "code": code,
            "vcpus": vcpus[spot],
            "on_demand": vcpus.get(False),
            "spot": vcpus.get(True),
        }

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
        history: list[dict[str, Any]] = []
        if rows:
            with contextlib.suppress(Exception):  # a price that nobody may see is no reason to show none
                history = self.spot_history(*(row["type"] for row in rows))
        return choices.with_spot(rows, history)

    def find_spot_price(self) -> float | None:
        """Today's lowest spot price of the region's zones, USD per hour."""
        history = self.spot_history(self.machine["instance_type"])
        return min((float(entry["SpotPrice"]) for entry in history), default=None)

    def spot_history(self, *types: str) -> list[dict[str, Any]]:
        """The spot prices of now, for each of these types and each zone."""
        return self.client("ec2").describe_spot_price_history(
            InstanceTypes=list(types),
            ProductDescriptions=["Linux/UNIX"],
            StartTime=datetime.datetime.now(datetime.UTC),
        )["SpotPriceHistory"]

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
            "boundary": role.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn"),
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
        among = (access.EVERYTHING, group["GroupId"])
        if self.plan["members_talk"]:
            shall.add(among)
        are = access.rules_of(group)

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
            or self.machine["permissions_boundary"] not in (None, "", answer["boundary"])
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
            tags={
                **self.tags,
                **({TAG_ACCESS: machine["access"]} if machine["access"] else {}),
                TAG_SCHEMA: SCHEMA,
                "Name": name,
            },
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
        now = spot if isinstance(spot, float) else None
        quoted = now if machine["spot"] else None
        known = machine["instance_type"] if not machine["spot"] else None
        listed = answers.get("prices")
        source = listed if isinstance(listed, Prices) else self.price_list.known()
        self.plan["prices"] = estimate(known, size, machine["public_ip"], quoted, self.count, source).as_dict()
        self.plan["prices"] |= {"on_demand_hour": source.on_demand.get(machine["instance_type"]), "spot_hour": now}
        self.plan["credits"] = answers.get("credits") or {}
        found = answers.get("choices", [])
        if not self.failed(found, "look for types that meet the need"):
            self.plan["choices"] = found


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
