"""Everything on AWS that carries a project's tag, and what it says about itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

TAG = "lightsout:project"

Thing = dict[str, Any]


class Estate:
    """What a project has, as AWS describes it; read once.

    Args:
        client: makes a boto3 client of a service.
        project: whose.
    """

    def __init__(self, client: Callable[[str], Any], project: str) -> None:
        self.project = project
        self.ec2, self.iam, self.sagemaker = client("ec2"), client("iam"), client("sagemaker")
        self._mine = [{"Name": f"tag:{TAG}", "Values": [project]}]

    @cached_property
    def machines(self) -> list[Thing]:
        """Those that are not gone."""
        found = self.ec2.describe_instances(Filters=self._mine)["Reservations"]
        return [i for r in found for i in r["Instances"] if i["State"]["Name"] != "terminated"]

    @cached_property
    def volumes(self) -> list[Thing]:
        """By tag, and all that hang on a machine."""
        hanging = [{"Name": "attachment.instance-id", "Values": [m["InstanceId"] for m in self.machines] or ["none"]}]
        found = [v for wish in (self._mine, hanging) for v in self.ec2.describe_volumes(Filters=wish)["Volumes"]]
        return list({volume["VolumeId"]: volume for volume in found}.values())

    @cached_property
    def groups(self) -> list[Thing]:
        """Security groups: by tag, and all that are on a machine."""
        on_machines = {g["GroupId"] for m in self.machines for g in m["SecurityGroups"]}
        found = self.ec2.describe_security_groups(Filters=self._mine)["SecurityGroups"]
        more = on_machines - {group["GroupId"] for group in found}
        return found + (self.ec2.describe_security_groups(GroupIds=list(more))["SecurityGroups"] if more else [])

    @cached_property
    def keys(self) -> list[Thing]:
        """Key pairs by tag."""
        return self.ec2.describe_key_pairs(Filters=self._mine)["KeyPairs"]

    @cached_property
    def addresses(self) -> list[Thing]:
        """Elastic addresses by tag."""
        return self.ec2.describe_addresses(Filters=self._mine)["Addresses"]

    @cached_property
    def snapshots(self) -> list[Thing]:
        """Snapshots by tag."""
        return self.ec2.describe_snapshots(OwnerIds=["self"], Filters=self._mine)["Snapshots"]

    @cached_property
    def roles(self) -> list[str]:
        """The names of roles by tag: the machine's, the notebook's, the scheduler's."""
        pages = self.iam.get_paginator("list_roles").paginate()
        names = [role["RoleName"] for page in pages for role in page["Roles"]]
        wanted = {"Key": TAG, "Value": self.project}
        return [name for name in names if wanted in self.iam.list_role_tags(RoleName=name)["Tags"]]

    @cached_property
    def notebooks(self) -> list[Thing]:
        """SageMaker's notebook instances by tag."""
        found = []
        for each in self.sagemaker.list_notebook_instances()["NotebookInstances"]:
            tags = self.sagemaker.list_tags(ResourceArn=each["NotebookInstanceArn"])["Tags"]
            if {"Key": TAG, "Value": self.project} in tags:
                name = each["NotebookInstanceName"]
                found.append(self.sagemaker.describe_notebook_instance(NotebookInstanceName=name))
        return found

    def statements(self) -> Iterator[tuple[str, Thing]]:
        """Each statement that a role of the project has, with the role's name; those of managed policies, too."""
        for name in self.roles:
            documents = [
                self.iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
                for policy in self.iam.list_role_policies(RoleName=name)["PolicyNames"]
            ]
            for attached in self.iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
                policy = self.iam.get_policy(PolicyArn=attached["PolicyArn"])["Policy"]
                version = {"PolicyArn": policy["Arn"], "VersionId": policy["DefaultVersionId"]}
                documents.append(self.iam.get_policy_version(**version)["PolicyVersion"]["Document"])
            for document in documents:
                statements = document["Statement"]
                yield from ((name, each) for each in (statements if isinstance(statements, list) else [statements]))

    def names(self) -> dict[str, set[str]]:
        """By what judges call things of a kind: id, or name."""
        attached = {
            policy["PolicyName"]
            for role in self.roles
            for policy in self.iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]
        }
        return {
            "machine": {each["InstanceId"] for each in self.machines},
            "volume": {each["VolumeId"] for each in self.volumes},
            "group": {each["GroupId"] for each in self.groups},
            "address": {each["AllocationId"] for each in self.addresses},
            "snapshot": {each["SnapshotId"] for each in self.snapshots},
            "role": {*self.roles, *attached},
            "notebook": {each["NotebookInstanceName"] for each in self.notebooks},
        }
