# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep one machine as it should be: find it by its tags, launch it once, change what differs."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import time
from typing import Any

with contextlib.suppress(ImportError):  # AnsibleAWSModule says it
    from botocore.exceptions import ClientError, WaiterError

from ansible_collections.lightsout.aws.plugins.module_utils.calls import Clients
from ansible_collections.lightsout.aws.plugins.module_utils.machines import (
    LIVE,
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
    TAG_EXPIRES,
    TAG_IMAGE,
    TAG_PROJECT,
    TAG_SCHEMA,
    TAG_USER,
    expires_at,
    resource_name,
    tags_as_list,
)
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import (
    LightsoutError,
    error_code,
    error_message,
    is_unreachable,
)

#: No machine to be had here and now: another zone may have one.
NO_CAPACITY = {
    "InsufficientInstanceCapacity",
    "InsufficientHostCapacity",
    "InsufficientReservedInstanceCapacity",
    "UnfulfillableCapacity",
    "SpotMaxPriceTooLow",
    "Unsupported",
}

#: The options of a module that keeps machines, but for the names.
OPTIONS: dict[str, dict[str, Any]] = {
    "project": {"required": True},
    "state": {"choices": ["running", "stopped", "absent"], "default": "running"},
    "instance_type": {},
    "image_id": {},
    "image": {},
    "login_user": {},
    "key_name": {"no_log": False},
    "security_group_ids": {"type": "list", "elements": "str"},
    "subnet_ids": {"type": "list", "elements": "str"},
    "public_ip": {"type": "bool", "default": True},
    "volume_size": {"type": "int"},
    "kms_key_id": {"no_log": False},
    "placement_group": {},
    "instance_profile": {},
    "shutdown_behavior": {"choices": ["stop", "terminate"]},
    "metadata_hop_limit": {"type": "int"},
    "metadata_tags": {"type": "bool"},
    "termination_protection": {"type": "bool"},
    "spot": {"type": "bool"},
    "spot_interruption": {"choices": ["stop", "terminate"], "default": "terminate"},
    "spot_max_price": {"type": "float"},
    "user_data": {},
    "allow_stop": {"type": "bool", "default": False},
    "lease": {},
    "tags": {"type": "dict", "aliases": ["resource_tags"]},
    "wait": {"type": "bool", "default": True},
    "wait_timeout": {"type": "int", "default": 300},
}

#: How many machines of one name, security group, type and zone may have died in the time that EC2 remembers tokens.
GENERATIONS = 50

#: How many machines may die at their birth before we stop making new ones.
STILLBORN = 2

#: How long to repeat a launch whose answers are lost, in seconds; a third of it, to look for another run's machine.
PATIENCE = 60


def client_token(*parts: str | int) -> str:
    """The same token for the same machine, whoever asks: EC2 then launches one machine however often it is told to.

    Zone and type are part of it, because a token may not be used again with other parameters; the security group is,
    because a project that is torn down and made again has a new one; and so is a generation, because the token of a
    machine that was terminated answers with the dead machine.
    """
    return hashlib.sha256("\0".join(str(part) for part in parts).encode()).hexdigest()


class Machine:
    """The one machine of a project that has a name.

    Args:
        module: the AnsibleAWSModule with our options.
        name: the machine's, when it is not the one of the option ``name``.
        clients: shared by several machines.
    """

    def __init__(self, module, name: str | None = None, clients: Clients | None = None) -> None:
        self.params = module.params
        self.check_mode = module.check_mode
        clients = clients or Clients(module)
        self.ec2 = clients("ec2")
        # A launch is repeated by hand, zone by zone: the SDK's own patience with capacity errors is far too long.
        self.launcher = clients("ec2", attempts=2)
        self.project = self.params["project"]
        self.name = name or self.params["name"] or resource_name(self.project, "machine-1")

    # -- seeing ---------------------------------------------------------------------------------------------------
    def find(self) -> dict | None:
        """The live machine, None when there is none.

        Raises:
            LightsoutError: there is more than one.
        """
        found = find_machines(self.ec2, self.project, self.name)
        if len(found) > 1:
            raise LightsoutError(too_many(found, self.name))
        return found[0] if found else None

    def describe(self, instance_id: str) -> dict:
        """The machine as it is now. A new id takes EC2 a moment to know everywhere."""
        for wait in (0.5, 1, 2, 4, 8, 0):
            try:
                return self.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]
            except ClientError as error:
                if error_code(error) != "InvalidInstanceID.NotFound" or not wait:
                    raise
                time.sleep(wait)
        raise AssertionError("unreachable")

    def wanted(self) -> Wanted:
        """What the options ask for."""
        state = self.params["state"]
        if state != "running":
            return Wanted(state=state)
        tags = {
            **(self.params["tags"] or {}),
            TAG_PROJECT: self.project,
            TAG_SCHEMA: SCHEMA,
            "Name": self.name,
        }
        if self.params["login_user"]:
            tags[TAG_USER] = self.params["login_user"]
        names = (
            "instance_type image volume_size shutdown_behavior metadata_hop_limit metadata_tags instance_profile "
            "security_group_ids termination_protection spot placement_group"
        )
        return Wanted(
            state="running",
            tags=tags,
            **{key: self.params[key] or None for key in ("instance_profile",)},
            **{key: self.params[key] for key in names.split() if key != "instance_profile"},
        )

    # -- doing ----------------------------------------------------------------------------------------------------
    def ensure(self) -> tuple[dict | None, dict[str, Any]]:
        """Make it so.

        Returns:
            the machine as it is afterwards, and what was changed (in check mode, would be).
        """
        machine, wanted = self.find(), self.wanted()
        if self.params["state"] == "absent":
            return self.terminate(machine) if machine else (None, {})
        if not machine:
            return self.create() if wanted.state == "running" else self.nothing_to_stop()
        return self.adjust(machine, wanted)

    def nothing_to_stop(self):
        raise LightsoutError(f"There is no machine {self.name} in project {self.project} to stop.")

    def adjust(self, machine: dict, wanted: Wanted) -> tuple[dict, dict[str, Any]]:
        """Change what differs on a machine that exists."""
        seen = observe(self.ec2, machine, wanted)
        wanted = staying(seen, wanted, self.params["allow_stop"])
        problems = refusals(self.name, seen, wanted, self.params["allow_stop"])
        if problems:
            raise LightsoutError(" ".join(problems))
        changes = differences(seen, wanted)
        if "state" in changes and wanted.state == "running" and self.params["lease"]:
            self.renew(seen["tags"], changes)
        if self.check_mode:
            return machine, changes
        instance_id = machine["InstanceId"]
        if changes:
            self.settle(instance_id, seen["state"])
            self.apply(instance_id, seen, changes, machine)
        if wanted.state == "running" and (changes or seen["state"] != "running"):
            self.wait_for("instance_running", instance_id)
        return (
            self.describe(instance_id) if changes or seen["state"] != machine["State"]["Name"] else machine
        ), changes

    def renew(self, now: dict[str, str], changes: dict[str, Any]) -> None:
        """A machine that starts begins a new lease, unless the one that it has lasts longer."""
        end = expires_at(self.params["lease"])
        if end > now.get(TAG_EXPIRES, ""):
            is_, shall = changes.get("tags", ({}, {}))
            changes["tags"] = ({**is_, TAG_EXPIRES: now.get(TAG_EXPIRES)}, {**shall, TAG_EXPIRES: end})

    def settle(self, instance_id: str, state: str) -> None:
        """A machine between two states takes no orders: wait for the one it is going to."""
        if state == "stopping":
            self.wait_for("instance_stopped", instance_id)
        elif state == "pending":
            self.wait_for("instance_running", instance_id)

    def apply(self, instance_id: str, seen: dict, changes: dict[str, Any], machine: dict) -> None:
        """Carry out the changes, those that need a stopped machine together."""
        ec2 = self.ec2
        if "tags" in changes:
            resources = [instance_id, *self.attachments(machine)]
            ec2.create_tags(Resources=resources, Tags=tags_as_list(changes["tags"][1]))
        if {"metadata_hop_limit", "metadata_tokens", "metadata_tags"} & set(changes):
            options = {"HttpTokens": "required"}
            if self.params["metadata_hop_limit"] is not None:
                options["HttpPutResponseHopLimit"] = self.params["metadata_hop_limit"]
            if self.params["metadata_tags"] is not None:
                options["InstanceMetadataTags"] = "enabled" if self.params["metadata_tags"] else "disabled"
            ec2.modify_instance_metadata_options(InstanceId=instance_id, **options)
        if "security_group_ids" in changes:
            ec2.modify_instance_attribute(InstanceId=instance_id, Groups=changes["security_group_ids"][1])
        if "shutdown_behavior" in changes:
            ec2.modify_instance_attribute(
                InstanceId=instance_id, InstanceInitiatedShutdownBehavior={"Value": changes["shutdown_behavior"][1]}
            )
        if "termination_protection" in changes:
            ec2.modify_instance_attribute(
                InstanceId=instance_id, DisableApiTermination={"Value": changes["termination_protection"][1]}
            )
        if "instance_profile" in changes:
            self.change_profile(instance_id, changes["instance_profile"][1])
        if "volume_size" in changes:
            ec2.modify_volume(VolumeId=seen["volume_id"], Size=changes["volume_size"][1])
        stopped = seen["state"] in ("stopped", "stopping")
        if {"instance_type", "placement_group"} & set(changes) and not stopped:
            ec2.stop_instances(InstanceIds=[instance_id])
            self.wait_for("instance_stopped", instance_id)
            stopped = True
        if "placement_group" in changes:
            ec2.modify_instance_placement(InstanceId=instance_id, GroupName=changes["placement_group"][1])
        if "instance_type" in changes:
            ec2.modify_instance_attribute(InstanceId=instance_id, InstanceType={"Value": changes["instance_type"][1]})
        if self.params["state"] == "stopped":
            if not stopped:
                ec2.stop_instances(InstanceIds=[instance_id])
                if self.params["wait"]:
                    self.wait_for("instance_stopped", instance_id)
        elif stopped:
            ec2.start_instances(InstanceIds=[instance_id])

    def attachments(self, machine: dict) -> list[str]:
        """The ids of a machine's volumes and network interfaces, which carry its tags."""
        volumes = [m["Ebs"]["VolumeId"] for m in machine.get("BlockDeviceMappings", []) if "Ebs" in m]
        return volumes + [i["NetworkInterfaceId"] for i in machine.get("NetworkInterfaces", [])]

    def change_profile(self, instance_id: str, profile: str) -> None:
        """Give the machine another instance profile."""
        filters = [
            {"Name": "instance-id", "Values": [instance_id]},
            {"Name": "state", "Values": ["associating", "associated"]},
        ]
        current = self.ec2.describe_iam_instance_profile_associations(Filters=filters)["IamInstanceProfileAssociations"]
        wish = {"IamInstanceProfile": {"Name": profile}}
        if current:
            self.ec2.replace_iam_instance_profile_association(AssociationId=current[0]["AssociationId"], **wish)
        else:
            self.ec2.associate_iam_instance_profile(InstanceId=instance_id, **wish)

    def terminate(self, machine: dict) -> tuple[dict | None, dict[str, Any]]:
        """End the machine. Its tag was checked when it was found."""
        changes = {"state": (machine["State"]["Name"], "absent")}
        if self.check_mode:
            return machine, changes
        self.ec2.terminate_instances(InstanceIds=[machine["InstanceId"]])
        if self.params["wait"]:
            self.wait_for("instance_terminated", machine["InstanceId"])
        return None, changes

    # -- creating -------------------------------------------------------------------------------------------------
    def create(self) -> tuple[dict | None, dict[str, Any]]:
        """Launch the machine that is missing."""
        missing = [key for key in ("instance_type", "image_id", "security_group_ids") if not self.params[key]]
        # In check mode a group or key that would be made in the same run has no id yet.
        if missing and not self.check_mode:
            raise LightsoutError(
                f"There is no machine {self.name} yet, and to create it {', '.join(missing)} must be given."
            )
        changes = {"state": (None, "running")}
        if self.check_mode:
            return None, changes
        began = datetime.datetime.now(datetime.UTC)
        machine = self.only_one(self.launch(), began)
        self.wait_for("instance_running", machine["InstanceId"])
        return self.describe(machine["InstanceId"]), changes

    def subnets(self) -> list[tuple[str, str]]:
        """Where to launch, in order: pairs of subnet and zone."""
        if self.params["subnet_ids"]:
            found = self.ec2.describe_subnets(SubnetIds=self.params["subnet_ids"])["Subnets"]
            order = {subnet: number for number, subnet in enumerate(self.params["subnet_ids"])}
            found.sort(key=lambda s: order[s["SubnetId"]])
        else:
            found = self.ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"]
            found.sort(key=lambda s: s["AvailabilityZone"])
        if not found:
            raise LightsoutError("The region has no default subnets: give subnet_ids.")
        return [(subnet["SubnetId"], subnet["AvailabilityZone"]) for subnet in found]

    def request(self) -> dict[str, Any]:
        """The launch, but for what differs between zones."""
        params = self.params
        image = self.ec2.describe_images(ImageIds=[params["image_id"]])["Images"][0]
        disk: dict[str, Any] = {"VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True}
        if params["volume_size"]:
            disk["VolumeSize"] = params["volume_size"]
        if params["kms_key_id"]:
            disk["KmsKeyId"] = params["kms_key_id"]
        tags = {**self.wanted().tags, TAG_IMAGE: params["image"] or params["image_id"]}
        if params["lease"]:
            tags[TAG_EXPIRES] = expires_at(params["lease"])
        tagged = ["instance", "volume", "network-interface"]
        request: dict[str, Any] = {
            "ImageId": params["image_id"],
            "InstanceType": params["instance_type"],
            "MinCount": 1,
            "MaxCount": 1,
            "BlockDeviceMappings": [{"DeviceName": image["RootDeviceName"], "Ebs": disk}],
            "InstanceInitiatedShutdownBehavior": params["shutdown_behavior"] or "stop",
            "MetadataOptions": {
                "HttpEndpoint": "enabled",
                "HttpTokens": "required",
                "HttpPutResponseHopLimit": params["metadata_hop_limit"] or 1,
                "InstanceMetadataTags": "enabled" if params["metadata_tags"] else "disabled",
            },
        }
        if params["key_name"]:
            request["KeyName"] = params["key_name"]
        if params["placement_group"]:
            request["Placement"] = {"GroupName": params["placement_group"]}
        if params["instance_profile"]:
            request["IamInstanceProfile"] = {"Name": params["instance_profile"]}
        if params["termination_protection"]:
            request["DisableApiTermination"] = True
        if params["user_data"]:
            request["UserData"] = params["user_data"]
        if params["spot"]:
            request["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": self.spot_options()}
            tagged.append("spot-instances-request")
        request["TagSpecifications"] = [{"ResourceType": kind, "Tags": tags_as_list(tags)} for kind in tagged]
        return request

    def spot_options(self) -> dict[str, str]:
        """Only a persistent request lets a spot machine stop; teardown cancels it before the machine."""
        stop = self.params["spot_interruption"] == "stop"
        options = {
            "SpotInstanceType": "persistent" if stop else "one-time",
            "InstanceInterruptionBehavior": self.params["spot_interruption"],
        }
        if self.params["spot_max_price"] is not None:
            options["MaxPrice"] = f"{self.params['spot_max_price']:.5f}"
        return options

    def launch(self) -> dict:
        """One machine, whatever happens to the answers, in the first zone that has one."""
        request, subnets = self.request(), self.subnets()
        identity = (self.project, self.name, self.params["instance_type"], *sorted(self.params["security_group_ids"]))
        if self.params["placement_group"]:
            identity += (self.params["placement_group"],)
        began = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=5)
        full, stillborn = [], 0
        for subnet, zone in subnets:
            network = {
                "DeviceIndex": 0,
                "SubnetId": subnet,
                "Groups": self.params["security_group_ids"],
                "AssociatePublicIpAddress": self.params["public_ip"],
                "DeleteOnTermination": True,
            }
            for generation in range(GENERATIONS):
                token = client_token(*identity, zone, generation)
                try:
                    machine = self.run({**request, "NetworkInterfaces": [network], "ClientToken": token})
                except ClientError as error:
                    if error_code(error) == "IdempotentParameterMismatch":
                        machine = self.of_a_run_at_the_same_time()
                    elif error_code(error) in NO_CAPACITY:
                        full.append(f"{zone} ({error_message(error)})")
                        break
                    else:
                        raise
                if machine and machine["State"]["Name"] in LIVE:
                    return machine
                stillborn += bool(machine and machine["LaunchTime"] > began)
                if stillborn >= STILLBORN:
                    raise LightsoutError(
                        f"{self.name} was launched {stillborn} times and died at once each time, last as "
                        f"{machine['InstanceId']}: {why(machine)}."
                    )
        raise LightsoutError(
            f"EC2 has no {self.params['instance_type']} to give in any zone just now: {'; '.join(full)}. "
            "Try again later, or another type, or another region."
        )

    def run(self, request: dict[str, Any]) -> dict:
        """RunInstances, repeated with the same token while answers are lost or a new profile is not known yet."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                launched = self.launcher.run_instances(**request)["Instances"][0]
                # The token of a dead machine is answered as if the machine were new.
                return self.describe(launched["InstanceId"])
            except Exception as error:
                young_profile = "instance profile" in error_message(error).lower()
                if not (is_unreachable(error) or young_profile) or time.monotonic() > deadline:
                    raise
                time.sleep(2)

    def of_a_run_at_the_same_time(self) -> dict | None:
        """The machine behind a token that was used with other parameters: another run is making it, or made it."""
        deadline = time.monotonic() + PATIENCE / 3
        while True:
            machine = self.find()
            if machine or time.monotonic() > deadline:
                return machine
            time.sleep(1)

    def only_one(self, machine: dict, began: datetime.datetime) -> dict:
        """Of two runs that launched in different zones at the same moment, the later gives its machine back at once."""
        found = find_machines(self.ec2, self.project, self.name)
        if len(found) < 2:
            return machine
        ours = machine["InstanceId"]
        if found[0]["InstanceId"] == ours:
            return machine
        if machine["LaunchTime"] < began - datetime.timedelta(minutes=1):
            raise LightsoutError(too_many(found, self.name))
        self.ec2.terminate_instances(InstanceIds=[ours])
        return found[0]

    # -- waiting --------------------------------------------------------------------------------------------------
    def wait_for(self, waiter: str, instance_id: str) -> None:
        """Wait for a state with the SDK's own waiter, asked more often than its 15 seconds.

        Raises:
            LightsoutError: the state did not come; the message holds the one that did, and AWS's reason.
        """
        if not self.params["wait"] and waiter != "instance_stopped":
            return
        delay = 2
        config = {"Delay": delay, "MaxAttempts": max(1, self.params["wait_timeout"] // delay)}
        try:
            self.ec2.get_waiter(waiter).wait(InstanceIds=[instance_id], WaiterConfig=config)
        except WaiterError as error:
            if "Max attempts" not in str(error) and "terminal failure" not in str(error):
                raise
            now = self.describe(instance_id)
            raise LightsoutError(
                f"{self.name} ({instance_id}) should be {waiter.removeprefix('instance_')} but is "
                f"{now['State']['Name']} after waiting up to {self.params['wait_timeout']} s: {why(now)}."
            ) from error


def why(machine: dict) -> str:
    """AWS's reason for the state that a machine is in."""
    return machine.get("StateReason", {}).get("Message") or machine.get("StateTransitionReason") or "AWS gave no reason"


def shown(machine: dict | None, disk_gib: int | None) -> dict[str, Any]:
    """The machine for the result, empty when there is none."""
    return summary(machine, disk_gib or 0) if machine else {}
