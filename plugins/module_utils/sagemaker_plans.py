# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What would be made in SageMaker, what of it is there, and what it costs: a notebook instance, an app of Studio, or a
training job. Whoever asks AWS something asks it here once, at the same time as all else that depends on nothing."""

from __future__ import annotations

import datetime
from typing import Any

from ansible_collections.lightsout.aws.plugins.module_utils import (
    budgets,
    checks,
    quotas,
    sagemaker,
    sagemaker_checks,
    schedules,
    studio,
)
from ansible_collections.lightsout.aws.plugins.module_utils.calls import Clients, at_once
from ansible_collections.lightsout.aws.plugins.module_utils.naming import TAG_EXPIRES, expires_at, span_of
from ansible_collections.lightsout.aws.plugins.module_utils.price_list import PriceList, endpoint_region
from ansible_collections.lightsout.aws.plugins.module_utils.prices import MachinePrice

LONGEST_BUCKET = 63

#: States in which something has run until now: its lease goes on.
RUNNING = ("InService", "Pending", "Updating", "PendingMaintenance", "InMaintenance")


class Plan:
    """One look at the settings and at AWS.

    Args:
        module: the AnsibleAWSModule of sagemaker_preflight_info.

    Attributes:
        subject: the module's option that says what is wanted; our variables begin with ``sagemaker_`` and it.
        problems: a sentence for each.
        plan: as the module returns it.
    """

    subject = ""

    def __init__(self, module) -> None:
        self.params, self.region = module.params, module.region or ""
        self.project: str = module.params["project"]
        self.group = f"lightsout-{self.project}"
        self.wanted: dict[str, Any] = module.params[self.subject]
        self.budget: dict[str, Any] | None = module.params["budget"]
        self.client = Clients(module)
        self.problems: list[str] = []
        self.plan: dict[str, Any] = {"changes": {}, "status": "", "tags": {}, "quota": {}}
        self.price: MachinePrice | None = None

    # -- what differs from one subject to another -------------------------------------------------------------------
    def check_wanted(self) -> list[str]:
        """What is wrong with the settings of the subject by themselves."""
        raise NotImplementedError

    def describe(self) -> tuple[str, str]:
        """State and ARN of what there is; empty where there is nothing."""
        raise NotImplementedError

    def use(self) -> str:
        """Which quota and price are meant: a key of ``quotas.SAGEMAKER_USES``."""
        return self.subject

    def deadline(self) -> tuple[str, dict[str, Any]] | None:
        """The name of the schedule that stops it, and what the call that it makes is about; None for none."""
        return None

    def read(self) -> None:
        """Whatever else is to be known, once all was asked."""

    def tell(self) -> None:
        """The plan for people."""
        raise NotImplementedError

    # -- what is the same -------------------------------------------------------------------------------------------
    def check_alone(self) -> None:
        """The settings by themselves."""
        self.problems += checks.region_problems(self.region, None)
        self.problems += checks.project_problems(self.project, self.params["owner"], self.params["lease"])
        self.problems += self.check_wanted()
        if self.budget:
            self.problems += checks.budget_problems(self.budget)
            if self.budget["limit"] is not None and checks.is_amount(self.budget["limit"]):
                self.budget["limit"] = float(self.budget["limit"])

    def ask(self, excused: str = "", **calls: Any) -> dict[str, Any]:
        """Every question at once; the first error ends it.

        Args:
            excused: the question whose error is as good as an answer.

        Raises:
            Exception: what another call raised.
        """
        answers = at_once(calls)
        for name, answer in answers.items():
            if isinstance(answer, Exception) and name != excused:
                raise answer
        return answers

    def look(self) -> None:
        """What there is; then its tags, or what must be known to make one."""
        self.client("sagemaker")  # the largest model loads once, before the threads want it
        answers = self.ask(caller=lambda: self.client("sts").get_caller_identity(), found=self.describe)
        caller, (status, arn) = answers["caller"], answers["found"]
        self.plan |= {"account": caller["Account"], "caller": caller["Arn"], "partition": caller["Arn"].split(":")[1]}
        self.plan["status"] = status
        running, calls = status in RUNNING, {}
        if status:
            calls["tags"] = lambda: sagemaker.read_tags(self.client("sagemaker"), arn)
        if self.deadline():
            calls["deadline"] = self.find_deadline
        if not status:
            calls["quota"] = self.find_quota
            if self.budget and self.budget["limit"] != 0:
                calls["budget"] = self.find_budget
        calls["price"] = lambda: self.find_price(running)
        answers = self.ask(excused="budget", **calls)
        self.plan["tags"] = answers.get("tags", {})
        self.price = answers["price"]
        if "quota" in answers:
            self.read_quota(answers["quota"])
        if "budget" in answers:
            self.read_budget(answers["budget"])
        if self.deadline():
            self.read_lease(answers["deadline"])
        self.read()

    def find_price(self, running: bool) -> MachinePrice:
        """What its machine costs. Of one that runs, what is known without asking is enough."""
        client = self.client("pricing", endpoint_region(self.region), attempts=2, read_timeout=20)
        listed = PriceList(client, self.region, self.params["price_cache"], client.meta.endpoint_url)
        use = self.use().removeprefix("spot_")  # what a spot machine costs is in no list
        return (listed.known_sagemaker if running else listed.of_sagemaker)(self.wanted["instance_type"], use)

    def find_quota(self) -> dict[str, Any]:
        """How many instances of its type the account may have."""
        client = self.client("service-quotas", attempts=1, read_timeout=5)
        return quotas.sagemaker_quota(client, self.wanted["instance_type"], self.use())

    def read_quota(self, quota: dict[str, Any]) -> None:
        """Whether the account may have one at all."""
        self.plan["quota"] = quota
        variable, value = f"sagemaker_{self.subject}_instance_type", self.wanted["instance_type"]
        problem = quotas.sagemaker_quota_problem(quota, variable, value, self.region)
        if problem:
            self.problems.append(problem)

    def find_deadline(self) -> dict[str, Any] | None:
        """The schedule by which AWS stops it at the end of its lease."""
        name, _target = self.deadline() or ("", {})
        return schedules.find(self.client("scheduler"), self.group, schedules.deadline_name(name))

    def find_budget(self) -> budgets.Budget | None:
        """The budget as it is."""
        return budgets.observe(self.client("budgets", budgets.REGION), self.plan["account"], self.group)

    def read_budget(self, now: budgets.Budget | Exception | None) -> None:
        """Whether somebody will be told before the money is gone; an error is that of whoever may not look."""
        problems, change = checks.budget_against(now, self.budget, self.project)
        self.problems += problems
        if change:
            self.plan["changes"]["budget"] = change

    def read_lease(self, deadline: dict[str, Any] | None) -> None:
        """When it ends, and whether AWS will stop the thing then."""
        expires = self.plan["tags"].get(TAG_EXPIRES, "")
        if self.params["renew"] or not expires or self.plan["status"] not in RUNNING:
            expires = expires_at(self.params["lease"])
        self.plan["expires"] = expires
        _name, target = self.deadline() or ("", {})
        if not schedules.stops_in_time(deadline, target, expires, datetime.datetime.now(datetime.UTC)):
            self.plan["changes"]["deadline"] = "set" if deadline is None else "move"

    def whose(self) -> str:
        """The plan's first line."""
        return f"Project  {self.project} in {self.region} (account {self.plan['account']}, {self.plan['caller']})"

    def tell_price(self, stopped: str) -> list[str]:
        """The lines on what it costs, for one that may be stopped.

        Args:
            stopped: what the volume is, that is paid for then too.
        """
        cost = self.plan["prices"] = self.price.as_dict(self.wanted["volume_size"])
        hour = "price unknown" if cost["hour"] is None else f"USD {cost['hour']:.4g} an hour"
        return [
            f"Price    {hour} ({self.source()})",
            f"         stopped, it still costs USD {cost['stopped_month']:.2f} a month for {stopped}",
        ]

    def source(self) -> str:
        """Where the price is from."""
        whose = "AWS's price list" if self.price.listed else "list prices"
        return f"{whose} for {self.price.region}, {self.price.as_of}, no tax"

    def tell_quota(self, what: str) -> list[str]:
        """The line on the quota, which matters to new ones only.

        Args:
            what: is counted.
        """
        if self.plan["status"]:
            return []
        may = self.plan["quota"].get("machines")
        return ["Quota    " + ("unknown (AWS did not tell)" if may is None else f"{may} {what} of this type")]


class NotebookPlan(Plan):
    """A notebook instance."""

    subject = "notebook"

    def check_wanted(self) -> list[str]:
        return sagemaker_checks.notebook_problems(self.wanted)

    def describe(self) -> tuple[str, str]:
        call = self.client("sagemaker").describe_notebook_instance
        raw = sagemaker.describe(call, NotebookInstanceName=self.wanted["name"])
        return (raw["NotebookInstanceStatus"], raw["NotebookInstanceArn"]) if raw else ("", "")

    def deadline(self) -> tuple[str, dict[str, Any]]:
        return self.wanted["name"], {"NotebookInstanceName": self.wanted["name"]}

    def tell(self) -> None:
        notebook = self.wanted
        idle = f"stopped after {notebook['idle']} without use" if notebook["idle"] else "not stopped when it is idle"
        way = "straight to the internet" if notebook["direct_internet"] else f"through {notebook['subnet_id']} only"
        self.plan["lines"] = [
            self.whose(),
            f"Notebook {notebook['name']}: {notebook['instance_type']}, {notebook['volume_size']} GiB, "
            f"{self.plan['status'] or 'to be made'}",
            f"Network  {way}; in only by a link that AWS signs for you",
            f"Lights   {idle}; by AWS itself at {self.plan['expires']}, the end of its lease",
            *self.tell_price("its volume"),
            *self.tell_quota("notebook instances"),
        ]


class StudioPlan(Plan):
    """JupyterLab or Code Editor in a space of Studio: the app is what runs and is ended at the end of its lease."""

    subject = "studio"
    domain_id = ""

    def check_wanted(self) -> list[str]:
        return sagemaker_checks.studio_problems(self.wanted)

    def use(self) -> str:
        return self.wanted["kind"]

    @property
    def key(self) -> dict[str, str]:
        """Which app it is, as requests name it."""
        return {
            "DomainId": self.domain_id,
            "SpaceName": self.wanted["space"],
            "AppType": self.wanted["kind"],
            "AppName": "default",
        }

    def describe(self) -> tuple[str, str]:
        client = self.client("sagemaker")
        domains = [one for one in studio.DOMAIN.each(client) if one.get("DomainName") == self.wanted["name"]]
        self.domain_id = domains[0]["DomainId"] if domains else ""
        raw = sagemaker.describe(client.describe_app, **self.key) if domains else None
        return (raw["Status"], raw["AppArn"]) if raw and raw["Status"] not in studio.GONE else ("", "")

    def deadline(self) -> tuple[str, dict[str, Any]]:
        return f"{self.wanted['space']}/{self.wanted['kind']}", self.key

    def read(self) -> None:
        self.plan["app"] = self.key

    def tell(self) -> None:
        wanted, minutes = self.wanted, self.wanted["idle_timeout"]
        idle = f"ended after {minutes} minutes without use" if minutes else "not ended when it is idle"
        self.plan["lines"] = [
            self.whose(),
            f"Studio   {wanted['kind']} in {wanted['space']}: {wanted['instance_type']}, {wanted['volume_size']} GiB, "
            f"{self.plan['status'] or 'to be made'}",
            f"Lights   {idle}; by AWS itself at {self.plan['expires']}, the end of its lease",
            *self.tell_price("the space's volume, and what is in the home file system"),
            *self.tell_quota("apps"),
        ]


class TrainingPlan(Plan):
    """A training job."""

    subject = "training"

    def check_wanted(self) -> list[str]:
        return sagemaker_checks.training_problems(self.wanted)

    def use(self) -> str:
        return "spot_training" if self.wanted["spot"] else "training"

    def describe(self) -> tuple[str, str]:
        call = self.client("sagemaker").describe_training_job
        raw = sagemaker.describe(call, TrainingJobName=self.wanted["name"])
        return (raw["TrainingJobStatus"], raw["TrainingJobArn"]) if raw else ("", "")

    def read(self) -> None:
        """Where its files are, and what is missing to start it."""
        own = f"lightsout-{self.project}-{self.plan['account']}-{self.region}"
        self.plan["bucket"] = self.wanted["bucket"] or own
        if self.plan["status"]:
            return
        self.problems += sagemaker_checks.new_training_problems(self.wanted)
        if len(self.plan["bucket"]) > LONGEST_BUCKET:
            self.problems.append(
                f"sagemaker_training_bucket is empty, and our own would be '{own}', of {len(own)} characters: "
                f"a bucket's name has {LONGEST_BUCKET}; give one, or the project a shorter name."
            )

    def tell(self) -> None:
        training, count = self.wanted, self.wanted["instance_count"]
        cost = self.price.as_dict(training["volume_size"])
        hour = None if cost["hour"] is None else cost["hour"] * count
        longest = span_of(training["max_runtime"]).total_seconds() / 3600
        price = "price unknown" if hour is None else f"USD {hour:.4g} an hour, at most {hour * longest:.2f} in all"
        spot = "; spot is cheaper" if training["spot"] else ""
        machines = training["instance_type"] if count == 1 else f"{count} x {training['instance_type']}"
        self.plan["prices"] = {name: cost[name] for name in ("as_of", "region", "listed")} | {"hour": hour}
        self.plan["lines"] = [
            self.whose(),
            f"Job      {training['name']} on {machines}: {training['command']}",
            f"Files    s3://{self.plan['bucket']}/{training['job']}/",
            f"Lights   it ends with its command, and after {training['max_runtime']} in any case",
            f"Price    {price}{spot} ({self.source()})",
        ]


#: By the module's option.
PLANS: dict[str, type[Plan]] = {plan.subject: plan for plan in (NotebookPlan, StudioPlan, TrainingPlan)}
