"""What must be true of everything that a project has on AWS; asked of AWS itself, by whoever wants to know.

Judges of others (see tools/security.py) look at a whole account and know nothing of what we promise. A new control is a
line in CONTROLS: a title, what it is about, and what is right.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

Client = Callable[[str], Any]
Thing = tuple[str, dict[str, Any]]

WORLD = {"0.0.0.0/0", "::/0"}


def mine(project: str) -> list[dict[str, Any]]:
    """EC2's filter for what carries a project's tag."""
    return [{"Name": "tag:lightsout:project", "Values": [project]}]


def machines(client: Client, project: str) -> list[Thing]:
    """The machines that live, with the names of the project's key pairs."""
    ec2 = client("ec2")
    keys = {key["KeyName"] for key in ec2.describe_key_pairs(Filters=mine(project))["KeyPairs"]}
    found = ec2.describe_instances(Filters=mine(project))["Reservations"]
    living = [one for r in found for one in r["Instances"] if one["State"]["Name"] not in {"terminated"}]
    return [(one["InstanceId"], {**one, "keys": keys}) for one in living]


def volumes(client: Client, project: str) -> list[Thing]:
    """Disks, whether or not a machine has them."""
    return [(one["VolumeId"], one) for one in client("ec2").describe_volumes(Filters=mine(project))["Volumes"]]


def groups(client: Client, project: str) -> list[Thing]:
    """Security groups, with the ids of all that machines use."""
    ec2 = client("ec2")
    running = ec2.describe_instances()["Reservations"]
    used = {g["GroupId"] for r in running for i in r["Instances"] for g in i["SecurityGroups"]}
    found = ec2.describe_security_groups(Filters=mine(project))["SecurityGroups"]
    return [(one["GroupId"], {**one, "used": used}) for one in found]


def roles(client: Client, project: str) -> list[Thing]:
    """Roles of ours, with the statements of all policies that they have."""
    iam, things = client("iam"), []
    for role in iam.get_paginator("list_roles").paginate().build_full_result()["Roles"]:
        name = role["RoleName"]
        if not name.startswith(f"lightsout-{project}-"):
            continue
        statements: list[dict[str, Any]] = []
        for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
            text = iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
            given = (json.loads(unquote(text)) if isinstance(text, str) else text)["Statement"]
            statements += given if isinstance(given, list) else [given]
        for attached in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
            arn = attached["PolicyArn"]
            version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
            given = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]["Statement"]
            statements += given if isinstance(given, list) else [given]
        things.append((name, {**iam.get_role(RoleName=name)["Role"], "statements": statements}))
    return things


def tagged(client: Client, arn: str, project: str) -> bool:
    """Whether a thing of SageMaker's is the project's."""
    tags = client("sagemaker").list_tags(ResourceArn=arn)["Tags"]
    return {"Key": "lightsout:project", "Value": project} in tags


def notebooks(client: Client, project: str) -> list[Thing]:
    """Notebook instances."""
    sagemaker = client("sagemaker")
    names = [one["NotebookInstanceName"] for one in sagemaker.list_notebook_instances()["NotebookInstances"]]
    found = [sagemaker.describe_notebook_instance(NotebookInstanceName=name) for name in names]
    return [(one["NotebookInstanceName"], one) for one in found if tagged(client, one["NotebookInstanceArn"], project)]


def studios(client: Client, project: str) -> list[Thing]:
    """Domains of Studio."""
    sagemaker = client("sagemaker")
    found = [sagemaker.describe_domain(DomainId=one["DomainId"]) for one in sagemaker.list_domains()["Domains"]]
    return [(one["DomainId"], one) for one in found if tagged(client, one["DomainArn"], project)]


def sources(group: dict[str, Any]) -> set[str]:
    """Who gets in."""
    return {
        one.get("CidrIp") or one.get("CidrIpv6")
        for rule in group["IpPermissions"]
        for one in rule.get("IpRanges", []) + rule.get("Ipv6Ranges", [])
    }


def ports(group: dict[str, Any]) -> set[int]:
    """Where they get in from outside; -1 is everywhere."""
    return {
        port
        for rule in group["IpPermissions"]
        if not rule.get("UserIdGroupPairs")
        for port in range(rule.get("FromPort", -1), rule.get("ToPort", -1) + 1)
    }


def wide(statement: dict[str, Any]) -> bool:
    """Whether it allows a whole service, or anything, on everything."""
    actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
    return statement["Effect"] == "Allow" and any(action.endswith("*") for action in actions)


def climbs(statement: dict[str, Any]) -> bool:
    """Whether it allows to change who may do what."""
    actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
    looks = ("iam:get", "iam:list")
    return statement["Effect"] == "Allow" and any(
        action == "*" or (action.lower().startswith("iam:") and not action.lower().startswith(looks))
        for action in actions
    )


def disks_go(machine: dict[str, Any]) -> bool:
    """Whether its disks end with it."""
    return all(disk["Ebs"]["DeleteOnTermination"] for disk in machine["BlockDeviceMappings"])


def in_ours(machine: dict[str, Any]) -> bool:
    """Whether it is in groups of ours only."""
    return all(group["GroupName"].startswith("lightsout-") for group in machine["SecurityGroups"])


def metadata(machine: dict[str, Any], option: str, wanted: Any) -> bool:
    """Whether an option of instance metadata is as it shall be."""
    return machine["MetadataOptions"][option] == wanted


def imds(notebook: dict[str, Any]) -> str:
    """The oldest version of the metadata service that a notebook instance allows."""
    return notebook.get("InstanceMetadataServiceConfiguration", {}).get("MinimumInstanceMetadataServiceVersion", "1")


CONTROLS: list[tuple[str, Callable[[Client, str], list[Thing]], Callable[[dict[str, Any]], bool]]] = [
    ("instance metadata needs a token (IMDSv2)", machines, lambda m: metadata(m, "HttpTokens", "required")),
    ("containers cannot ask for it (hop limit 1)", machines, lambda m: metadata(m, "HttpPutResponseHopLimit", 1)),
    ("machines are entered with a key pair of the project's", machines, lambda m: m.get("KeyName") in m["keys"]),
    ("a machine has one network interface", machines, lambda m: len(m["NetworkInterfaces"]) == 1),
    ("disks go with their machine", machines, disks_go),
    ("machines are in our own group alone", machines, in_ours),
    ("disks are encrypted", volumes, lambda v: v["Encrypted"]),
    ("no disk lies about without a machine", volumes, lambda v: bool(v["Attachments"])),
    ("no group lets the world in", groups, lambda g: not sources(g) & WORLD),
    ("groups open the three ports, and no other", groups, lambda g: ports(g) <= {22, 443, 8888}),
    ("no group lies about without a machine", groups, lambda g: g["GroupId"] in g["used"]),
    ("no role may do a whole service's actions", roles, lambda r: not any(wide(s) for s in r["statements"])),
    ("no role may change what roles may do", roles, lambda r: not any(climbs(s) for s in r["statements"])),
    ("roles are below our path", roles, lambda r: r["Path"].startswith("/lightsout/")),
    ("notebook instances have no internet of their own", notebooks, lambda n: n["DirectInternetAccess"] == "Disabled"),
    ("notebook instances are in a subnet of yours", notebooks, lambda n: bool(n.get("SubnetId"))),
    ("nobody is root on notebook instances", notebooks, lambda n: n["RootAccess"] == "Disabled"),
    ("notebook instances are encrypted with a key", notebooks, lambda n: bool(n.get("KmsKeyId"))),
    ("notebook instances' metadata needs a token", notebooks, lambda n: imds(n) == "2"),
    ("notebook instances run what AWS supports", notebooks, lambda n: "al2023" in n.get("PlatformIdentifier", "")),
    ("Studio is in your network only", studios, lambda d: d.get("AppNetworkAccessType") == "VpcOnly"),
]  # fmt: skip


def offenders(client: Client, project: str) -> dict[str, list[str]]:
    """For each control the things that fail it; None of a kind, nothing to fail."""
    listed = {lister: lister(client, project) for _, lister, _ in CONTROLS}
    return {title: [id for id, thing in listed[lister] if not right(thing)] for title, lister, right in CONTROLS}


def present(client: Client, project: str) -> set[str]:
    """The controls that there is something to judge for."""
    listed = {lister: lister(client, project) for _, lister, _ in CONTROLS}
    return {title for title, lister, _ in CONTROLS if listed[lister]}
