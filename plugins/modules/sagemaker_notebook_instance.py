#!/usr/bin/python
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: sagemaker_notebook_instance
version_added: 0.1.0
short_description: A notebook instance of SageMaker, in the state that is wanted
description:
  - Makes, changes, starts, stops and deletes one notebook instance.
  - Waits for what is under way, maintenance too. Stops an instance before a change or deletion that needs it, and
    starts it again where it ran.
  - An option that is left out stays as it is.
  - A stopped instance costs its volume only.
options:
  name:
    description:
      - The instance's name. Letters, digits and hyphens, at most 63.
    type: str
    required: true
  state:
    description:
      - V(present) makes it, or changes what differs. One that ran runs again afterwards, one that was stopped stays so.
      - V(started) as well, and it runs. One in C(Failed) is started once more.
      - V(stopped) and V(restarted) need an instance that exists, and change what differs as well.
      - V(absent) stops and deletes it, with its volume.
    type: str
    choices: [present, started, stopped, restarted, absent]
    default: present
  instance_type:
    description:
      - For example V(ml.t3.medium). Needed to make one.
    type: str
  role_arn:
    description:
      - The role that the notebook acts as. Needed to make one.
    type: str
  volume_size:
    description:
      - The size of its volume in GiB, 5 to 16384. It can grow, never shrink.
    type: int
  subnet_id:
    description:
      - The subnet that its network interface is in. Only a new instance can have another one.
    type: str
  security_group_ids:
    description:
      - The security groups in the VPC of O(subnet_id), at most 5. Only a new instance can have other ones.
    type: list
    elements: str
  direct_internet_access:
    description:
      - Whether it reaches the internet without your VPC. V(false) needs O(subnet_id) and O(security_group_ids).
      - Only a new instance can change this.
    type: bool
  root_access:
    description:
      - Whether its user may become root. Lifecycle scripts always run as root.
    type: bool
  kms_key_id:
    description:
      - The KMS key of its volume. When not given, AWS's own. Only a new instance can have another one.
    type: str
  platform_identifier:
    description:
      - What it boots, for example V(notebook-al2023-v1).
    type: str
  lifecycle_config_name:
    description:
      - The lifecycle configuration whose scripts it runs. An empty string detaches the one that it has.
    type: str
  default_code_repository:
    description:
      - A repository, by its URL or its name in SageMaker, that Jupyter opens in. An empty string detaches it.
    type: str
  additional_code_repositories:
    description:
      - At most 3 further repositories, cloned beside it. An empty list detaches them.
    type: list
    elements: str
  minimum_imds_version:
    description:
      - V(2) refuses metadata requests without a session token. AWS allows V(1) when nothing is said.
    type: str
    choices: ['1', '2']
  ip_address_type:
    description:
      - Whether it has IPv6 as well.
    type: str
    choices: [ipv4, dualstack]
  allow_stop:
    description:
      - Whether V(present) and V(started) may stop a running instance for a change that needs it. Its kernels end.
    type: bool
    default: true
extends_documentation_fragment:
  - lightsout.aws.sagemaker.tags
  - lightsout.aws.sagemaker.wait
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    support: full
    description: Says what would change, changes nothing.
  diff_mode:
    support: full
    description: Shows the instance before and after.
seealso:
  - module: lightsout.aws.sagemaker_notebook_instance_info
  - module: lightsout.aws.sagemaker_notebook_instance_lifecycle_config
  - module: lightsout.aws.sagemaker_presigned_url
author:
  - The Lightsout authors (@lightsout)
"""

EXAMPLES = r"""
- name: A notebook that runs
  lightsout.aws.sagemaker_notebook_instance:
    name: lightsout-rerank-notebook
    state: started
    instance_type: ml.t3.medium
    role_arn: arn:aws:iam::123456789012:role/lightsout/us-east-1/lightsout-rerank-sagemaker
    volume_size: 20
    root_access: false
    minimum_imds_version: '2'
    tags: {"lightsout:project": rerank}

- name: A larger one; it is stopped, changed, and runs again
  lightsout.aws.sagemaker_notebook_instance:
    name: lightsout-rerank-notebook
    instance_type: ml.g5.xlarge
    volume_size: 100

- name: Only its volume costs money now
  lightsout.aws.sagemaker_notebook_instance:
    name: lightsout-rerank-notebook
    state: stopped

- name: Gone, with its volume
  lightsout.aws.sagemaker_notebook_instance:
    name: lightsout-rerank-notebook
    state: absent
    tags: {"lightsout:project": rerank}
"""

RETURN = r"""
notebook_instance:
  description: The instance as it is now, in check mode as it is still. Empty when there is none.
  returned: always
  type: dict
  contains:
    name: {description: Its name., type: str, returned: always}
    arn: {description: Its ARN., type: str, returned: always}
    status: {description: Its state., type: str, returned: always, sample: InService}
    failure_reason: {description: Why it is C(Failed)., type: str, returned: always}
    url: {description: Its host; the way in is M(lightsout.aws.sagemaker_presigned_url)., type: str, returned: always}
    instance_type: {description: Its type., type: str, returned: always, sample: ml.t3.medium}
    role_arn: {description: The role that it acts as., type: str, returned: always}
    volume_size: {description: The size of its volume in GiB., type: int, returned: always, sample: 20}
    subnet_id: {description: Its subnet., type: str, returned: always}
    security_group_ids: {description: Its security groups., type: list, elements: str, returned: always}
    network_interface_id: {description: Its network interface., type: str, returned: when it is in your VPC}
    direct_internet_access: {description: Whether it has its own way out., type: bool, returned: always}
    root_access: {description: Whether its user may become root., type: bool, returned: always}
    kms_key_id: {description: The KMS key of its volume., type: str, returned: always}
    platform_identifier: {description: What it boots., type: str, returned: always, sample: notebook-al2023-v1}
    lifecycle_config_name: {description: Its lifecycle configuration., type: str, returned: always}
    default_code_repository: {description: The repository that it opens in., type: str, returned: always}
    additional_code_repositories: {description: Its other repositories., type: list, elements: str, returned: always}
    minimum_imds_version: {description: The metadata service's least version., type: str, returned: always, sample: '2'}
    ip_address_type: {description: Whether it has IPv6., type: str, returned: always, sample: ipv4}
    creation_time: {description: When it was made., type: str, returned: always}
    last_modified_time: {description: When it was last changed., type: str, returned: always}
    tags: {description: Its tags., type: dict, returned: always}
previous_status:
  description: Its state when the module began, empty when there was none.
  returned: always
  type: str
  sample: Stopped
changes:
  description: C(create), C(delete), or what was and is. C(status) is V(restart) when it ran before and after.
  returned: always
  type: dict
  sample: {instance_type: [ml.t3.medium, ml.g5.xlarge], status: restart}
"""

import re
from typing import Any

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.lightsout.aws.plugins.module_utils import notebook_instances as instances
from ansible_collections.lightsout.aws.plugins.module_utils import sagemaker
from ansible_collections.lightsout.aws.plugins.module_utils.calls import Clients
from ansible_collections.lightsout.aws.plugins.module_utils.naming import tags_as_list
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import (
    LightsoutError,
    error_message,
    explain,
    numbered,
)

_TYPE = re.compile(r"ml(\.[a-z0-9-]+){2}")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/\S+")


def problems(params: dict[str, Any]) -> list[str]:
    """What is wrong with the options by themselves."""
    found = sagemaker.name_problems(params, "name")
    if params["lifecycle_config_name"]:
        found += sagemaker.name_problems(params, "lifecycle_config_name")
    if params["instance_type"] is not None and not _TYPE.fullmatch(params["instance_type"]):
        found.append(f"instance_type is '{params['instance_type']}': write it as SageMaker does, such as ml.t3.medium.")
    if params["role_arn"] is not None and not _ROLE.fullmatch(params["role_arn"]):
        found.append(
            f"role_arn is '{params['role_arn']}': give the ARN of a role, arn:aws:iam::123456789012:role/name."
        )
    if params["volume_size"] is not None and not 5 <= params["volume_size"] <= 16384:
        found.append(f"volume_size is {params['volume_size']}: SageMaker allows 5 to 16384 GiB.")
    for option, most in (("security_group_ids", 5), ("additional_code_repositories", 3)):
        if len(params[option] or []) > most:
            found.append(f"{option} has {len(params[option])} entries: SageMaker allows {most}.")
    if params["wait_timeout"] < 1:
        found.append(f"wait_timeout is {params['wait_timeout']}: give a number of seconds.")
    return found


def problems_of_new(params: dict[str, Any]) -> list[str]:
    """What is missing to make one."""
    found = [
        f"{option} is missing: a new one needs it." for option in ("instance_type", "role_arn") if not params[option]
    ]
    if params["security_group_ids"] and not params["subnet_id"]:
        found.append("security_group_ids need subnet_id.")
    if params["direct_internet_access"] is False and not (params["subnet_id"] and params["security_group_ids"]):
        found.append("direct_internet_access is false: that needs subnet_id and security_group_ids.")
    return found


class Notebook:
    """Brings one notebook instance to what is wanted.

    Args:
        module: the AnsibleAWSModule with our options.
    """

    def __init__(self, module) -> None:
        self.module, self.params, self.check = module, module.params, module.check_mode
        self.client = Clients(module)("sagemaker")
        self.name: str = module.params["name"]
        self.what = f"notebook instance {self.name}"
        self.raw: dict[str, Any] | None = None
        self.tags: dict[str, str] = {}
        self.changes: dict[str, Any] = {}

    # -- looking ------------------------------------------------------------------------------------------------------
    @property
    def status(self) -> str:
        """The state that was seen last."""
        return self.raw["NotebookInstanceStatus"] if self.raw else ""

    def look(self) -> dict[str, Any] | None:
        """Describe it."""
        self.raw = sagemaker.describe(self.client.describe_notebook_instance, NotebookInstanceName=self.name)
        return self.raw

    def look_whose(self) -> None:
        """Read its tags.

        Raises:
            LightsoutError: it is not ours.
        """
        self.tags = sagemaker.read_tags(self.client, self.raw["NotebookInstanceArn"])
        sagemaker.refuse_foreign(self.what, self.tags, self.params["tags"])

    def wait(self, *arrived: str | None) -> None:
        """Wait for one of some states."""
        timeout = self.params["wait_timeout"]
        sagemaker.wait_until(self.look, arrived, self.what, timeout, "NotebookInstanceStatus")

    def read(self) -> dict[str, Any]:
        """It as it was seen last."""
        return instances.read(self.raw, self.tags)

    def failed(self, doing: str) -> LightsoutError:
        """The sentence for an instance that did not come up."""
        reason = self.raw.get("FailureReason") or "SageMaker gives no reason"
        return LightsoutError(
            f"The {self.what} is Failed after {doing}: {reason}. Put right what it says and run this again, or delete "
            "it with state absent."
        )

    # -- acting -------------------------------------------------------------------------------------------------------
    def ensure(self) -> dict[str, Any]:
        """Do what is to be done; returns the module's result."""
        previous = self.look() and self.status
        if self.status == "Deleting":
            if self.params["state"] != "absent" or self.params["wait"]:
                self.gone()
        elif self.raw:
            self.look_whose()
        before = self.read()
        if self.params["state"] == "absent":
            self.ensure_absent()
        elif self.raw:
            self.ensure_existing()
        else:
            self.ensure_new()
        return {
            "changed": bool(self.changes),
            "notebook_instance": self.read(),
            "previous_status": previous or "",
            "changes": self.changes,
            "diff": {"before": before, "after": self.after(before)},
        }

    def after(self, before: dict[str, Any]) -> dict[str, Any]:
        """What the diff shows on its right side."""
        if not self.check or not self.changes:
            return self.read()
        if self.changes.get("notebook_instance") == "delete":
            return {}
        given = {key: self.params[key] for key in instances.SETTINGS | instances.FIXED if self.params[key] is not None}
        return {**before, "name": self.name, **given, "tags": self.wanted_tags()}

    def gone(self) -> None:
        """Wait for the end of a deletion; a check waits for nothing and takes it for done."""
        if self.check:
            self.raw = None
        else:
            self.wait(None)

    def ensure_absent(self) -> None:
        """Stop and delete it."""
        if not self.raw or self.status == "Deleting":
            return
        self.changes["notebook_instance"] = "delete"
        if self.check:
            return
        if self.status not in instances.SETTLED:
            self.wait(*instances.SETTLED, None)
        if self.status == "InService":
            self.stop()
            self.wait("Stopped", "Failed", None)
        if self.raw:
            self.client.delete_notebook_instance(NotebookInstanceName=self.name)
            if self.params["wait"]:
                self.wait(None)
            else:
                self.look()

    def ensure_new(self) -> None:
        """Make one.

        Raises:
            LightsoutError: there is nothing to stop or restart, something needed is missing, or it failed.
        """
        if self.params["state"] in ("stopped", "restarted"):
            raise LightsoutError(
                f"There is no {self.what} in {self.module.region}, so it cannot be {self.params['state']}: look for it "
                "with sagemaker_notebook_instance_info, or make it with state present."
            )
        missing = problems_of_new(self.params)
        if missing:
            raise LightsoutError(numbered([f"There is no {self.what} yet. {problem}" for problem in missing]))
        self.changes["notebook_instance"] = "create"
        if self.check:
            return
        wanted = {
            option: self.params[option]
            for option in instances.SETTINGS | instances.FIXED
            if self.params[option] is not None
        }
        tags = {"Tags": tags_as_list(self.params["tags"])} if self.params["tags"] else {}
        try:
            sagemaker.patiently(
                self.client.create_notebook_instance,
                NotebookInstanceName=self.name,
                **instances.request(wanted),
                **tags,
            )
        except Exception as error:
            # Another run was first; what it made is as good as ours when it is ours.
            if not sagemaker.is_taken(error) or not self.look():
                raise
            del self.changes["notebook_instance"]
            self.look_whose()
            self.ensure_existing()
            return
        self.tags = self.params["tags"] or {}
        self.come_up("its creation")

    def ensure_existing(self) -> None:
        """Bring what is there to what is wanted.

        Raises:
            LightsoutError: it cannot be brought there.
        """
        settings = self.differences()
        heading = instances.LEADS_TO.get(self.status, self.status)
        planned = instances.steps(self.params["state"], heading, bool(settings))
        self.need_consent(planned, settings)
        if not self.check:
            self.write_tags()
            if self.params["wait"] or planned:
                planned = self.settle(settings)
                self.need_consent(planned, settings)
        elif self.wanted_tags() != self.tags:
            self.changes["tags"] = [self.tags, self.wanted_tags()]
        self.changes |= settings
        self.note_status(planned)
        if not self.check:
            self.carry_out(planned, settings)
        if self.status == "Failed":
            self.module.warn(f"The {self.what} is Failed: {self.raw.get('FailureReason') or 'no reason given'}.")

    def need_consent(self, planned: list[str], settings: dict[str, Any]) -> None:
        """Stop nothing that shall run without being allowed to.

        Raises:
            LightsoutError: a change needs it, and it is not allowed.
        """
        forced = "stop" in planned and self.params["state"] in ("present", "started")
        if forced and not self.params["allow_stop"]:
            raise LightsoutError(
                f"The {self.what} is {self.status}, and {', '.join(settings)} can change only while it is stopped: "
                "stop it, or give allow_stop: true."
            )

    def differences(self) -> dict[str, list[Any]]:
        """The settings that differ.

        Raises:
            LightsoutError: some of them cannot be changed.
        """
        now = self.read()
        found = [
            f"{option} is {old or 'not set'} and cannot become {new}: that needs a new one. Delete this {self.what} "
            "(state absent; its volume goes with it) and make it again, or leave the option out."
            for option, (old, new) in instances.differences(now, self.params, instances.FIXED).items()
        ]
        settings = instances.differences(now, self.params, instances.SETTINGS)
        size = settings.get("volume_size")
        if size and size[1] < size[0]:
            found.append(f"volume_size is {size[0]} GiB and cannot shrink to {size[1]}: give {size[0]} or more.")
        if found:
            raise LightsoutError(numbered(found))
        return settings

    def settle(self, settings: dict[str, Any]) -> list[str]:
        """Wait for the end of what is under way, and say which steps are left.

        Raises:
            LightsoutError: it ended in failure, and nothing that is asked for would change that.
        """
        was = self.status
        if was not in instances.SETTLED:
            self.wait(*instances.SETTLED)
            if self.status == "Failed" and not settings and self.params["state"] != "stopped":
                raise self.failed(was)
        return instances.steps(self.params["state"], self.status, bool(settings))

    def note_status(self, planned: list[str]) -> None:
        """Say in the changes what becomes of its state."""
        if {"stop", "start"} <= set(planned):
            self.changes["status"] = "restart"
        elif "stop" in planned or "start" in planned:
            self.changes["status"] = [self.status, "InService" if "start" in planned else "Stopped"]

    def carry_out(self, planned: list[str], settings: dict[str, list[Any]]) -> None:
        """Stop, update, start, as far as planned."""
        last = planned[-1] if planned else ""
        if "stop" in planned:
            self.stop()
            self.arrive(last != "stop", "Stopped", "Failed")
        if "update" in planned:
            try:
                self.update({option: new for option, (_old, new) in settings.items()})
            except Exception as error:
                if not {"stop", "start"} <= set(planned):
                    raise
                raise self.put_back(error) from error
            self.arrive(last != "update", "Stopped", "Failed")
        if "start" in planned:
            self.start()
            self.come_up("its start")

    def arrive(self, needed: bool, *arrived: str) -> None:
        """Wait where that is asked for or needed, and look otherwise."""
        if needed or self.params["wait"]:
            self.wait(*arrived)
        else:
            self.look()

    def come_up(self, doing: str) -> None:
        """Wait until it runs.

        Raises:
            LightsoutError: it does not.
        """
        self.arrive(False, "InService", "Failed")
        if self.status == "Failed":
            raise self.failed(doing)

    def stop(self) -> None:
        """Have it stopped; somebody else, such as its idle script, may do so in the same moment."""
        self.transition(self.client.stop_notebook_instance, "Stopping", "Stopped", "Failed")

    def start(self) -> None:
        """Have it started."""
        self.transition(self.client.start_notebook_instance, "Pending", "InService")

    def transition(self, operation: Any, *there: str) -> None:
        """A call that is as good as done when SageMaker refuses it because it was."""
        try:
            operation(NotebookInstanceName=self.name)
        except Exception as error:
            self.look()
            if "Unable to transition" not in error_message(error) or self.status not in there:
                raise

    def update(self, wanted: dict[str, Any]) -> None:
        """All changes in one call."""
        members = instances.request(wanted, update=True)
        sagemaker.patiently(self.client.update_notebook_instance, NotebookInstanceName=self.name, **members)

    def put_back(self, error: Exception) -> LightsoutError:
        """Start what was stopped for a change that was refused; returns the sentence."""
        refused = explain(error, f"change the {self.what}").rstrip(".")
        try:
            self.start()
            self.arrive(False, "InService", "Failed")
        except Exception as second:
            return LightsoutError(f"{refused}. It is stopped now. {explain(second, 'start it again')}")
        return LightsoutError(f"{refused}. It was started again as it was.")

    # -- tags ---------------------------------------------------------------------------------------------------------
    def wanted_tags(self) -> dict[str, str]:
        """Its tags as they shall be."""
        return sagemaker.tags_after(self.tags, self.params["tags"], self.params["purge_tags"])

    def write_tags(self) -> None:
        """Bring its tags to what is wanted."""
        wanted = self.wanted_tags()
        if wanted != self.tags:
            sagemaker.write_tags(
                self.client,
                self.raw["NotebookInstanceArn"],
                self.tags,
                self.params["tags"],
                self.params["purge_tags"],
            )
            self.changes["tags"] = [self.tags, wanted]
            self.tags = wanted


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={
            "name": {"required": True},
            "state": {"choices": ["present", "started", "stopped", "restarted", "absent"], "default": "present"},
            "instance_type": {},
            "role_arn": {},
            "volume_size": {"type": "int"},
            "subnet_id": {},
            "security_group_ids": {"type": "list", "elements": "str"},
            "direct_internet_access": {"type": "bool"},
            "root_access": {"type": "bool"},
            "kms_key_id": {"no_log": False},
            "platform_identifier": {},
            "lifecycle_config_name": {},
            "default_code_repository": {},
            "additional_code_repositories": {"type": "list", "elements": "str"},
            "minimum_imds_version": {"choices": ["1", "2"]},
            "ip_address_type": {"choices": ["ipv4", "dualstack"]},
            "allow_stop": {"type": "bool", "default": True},
            **sagemaker.TAG_OPTIONS,
            **sagemaker.WAIT_OPTIONS,
        },
        supports_check_mode=True,
    )
    wrong = problems(module.params)
    if wrong:
        module.fail_json(msg=numbered(wrong))
    sagemaker.finish(
        module,
        f"bring notebook instance {module.params['name']} to its state",
        lambda: Notebook(module).ensure(),
    )


if __name__ == "__main__":
    main()
