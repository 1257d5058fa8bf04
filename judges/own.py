"""Controls that we assert ourselves: each says what is wrong with a project's things, and nothing when all is right.

They are the fast half of the judges (``tests/integration/test_controls.py``), and the only one where no other judge can
tell good from bad on the local cloud.
"""

from __future__ import annotations

from judges.estate import Estate

EVERYBODY = {"0.0.0.0/0", "::/0"}


def imdsv2_required(estate: Estate) -> list[str]:
    """Instance metadata needs a token."""
    return [m["InstanceId"] for m in estate.machines if m["MetadataOptions"].get("HttpTokens") != "required"]


def metadata_one_hop(estate: Estate) -> list[str]:
    """A container on the machine cannot reach the metadata: one hop."""
    return [m["InstanceId"] for m in estate.machines if m["MetadataOptions"].get("HttpPutResponseHopLimit") != 1]


def volumes_encrypted(estate: Estate) -> list[str]:
    """Every disk is encrypted."""
    return [v["VolumeId"] for v in estate.volumes if not v["Encrypted"]]


def disks_end_with_machines(estate: Estate) -> list[str]:
    """DeleteOnTermination: no disk outlives its machine."""
    return [
        disk["Ebs"]["VolumeId"]
        for machine in estate.machines
        for disk in machine["BlockDeviceMappings"]
        if not disk["Ebs"]["DeleteOnTermination"]
    ]


def closed_to_everybody(estate: Estate) -> list[str]:
    """No rule lets the whole world in, on whichever port."""
    return [
        f"{group['GroupId']} {rule['IpProtocol']} {rule.get('FromPort', 'all')}"
        for group in estate.groups
        for rule in group["IpPermissions"]
        if EVERYBODY
        & {
            *(each["CidrIp"] for each in rule.get("IpRanges", [])),
            *(each["CidrIpv6"] for each in rule.get("Ipv6Ranges", [])),
        }
    ]


def default_group_unused(estate: Estate) -> list[str]:
    """No machine is in a VPC's default group."""
    return [m["InstanceId"] for m in estate.machines if "default" in {g["GroupName"] for g in m["SecurityGroups"]}]


def groups_in_use(estate: Estate) -> list[str]:
    """No security group that nothing uses."""
    interfaces = estate.ec2.describe_network_interfaces()["NetworkInterfaces"]
    used = {group["GroupId"] for interface in interfaces for group in interface["Groups"]}
    return [g["GroupId"] for g in estate.groups if g["GroupId"] not in used]


def roles_narrow(estate: Estate) -> list[str]:
    """No role may do a wildcard of actions to everything."""
    wide = []
    for role, statement in estate.statements():
        actions, resources = (
            value if isinstance(value, list) else [value]
            for value in (statement.get("Action", "*"), statement.get("Resource", "*"))
        )
        if statement["Effect"] == "Allow" and "*" in resources and any("*" in action for action in actions):
            wide.append(f"{role}: {', '.join(actions)} on *")
    return wide


def keys_tagged(estate: Estate) -> list[str]:
    """The machines' key pairs carry the project's tag, so that a teardown finds them."""
    ours = {key["KeyName"] for key in estate.keys}
    return [f"{m['InstanceId']}: {m.get('KeyName')}" for m in estate.machines if m.get("KeyName") not in ours]


def one_interface(estate: Estate) -> list[str]:
    """A machine has one network interface."""
    return [m["InstanceId"] for m in estate.machines if len(m["NetworkInterfaces"]) != 1]


def notebooks_imdsv2(estate: Estate) -> list[str]:
    """A notebook's metadata needs a token."""
    return [
        notebook["NotebookInstanceName"]
        for notebook in estate.notebooks
        if notebook["InstanceMetadataServiceConfiguration"]["MinimumInstanceMetadataServiceVersion"] != "2"
    ]


def notebooks_supported_platform(estate: Estate) -> list[str]:
    """A notebook runs on a platform that AWS still supports: Amazon Linux 2023."""
    return [n["NotebookInstanceName"] for n in estate.notebooks if "al2023" not in n["PlatformIdentifier"]]
