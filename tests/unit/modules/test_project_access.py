"""From outside exactly those get in who are named; opened before closed; the rest stays."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lightsout.aws.plugins.module_utils import access
from ansible_collections.lightsout.aws.plugins.modules import project_access


@pytest.fixture
def group(aws) -> str:
    """The project's security group, open to an old address, and for its own members."""
    tags = [{"Key": "lightsout:project", "Value": "lab"}]
    made = aws.ec2.create_security_group(
        GroupName="lightsout-lab-access",
        Description="d",
        TagSpecifications=[{"ResourceType": "security-group", "Tags": tags}],
    )["GroupId"]
    old = {"IpRanges": [{"CidrIp": "198.51.100.9/32"}]}
    aws.ec2.authorize_security_group_ingress(
        GroupId=made,
        IpPermissions=[
            {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, **old},
            {"IpProtocol": "tcp", "FromPort": 6000, "ToPort": 6010, **old},
            {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": made}]},
        ],
    )
    return made


@pytest.fixture
def rules(aws, group):
    """What it lets in now."""
    return lambda: access.rules_of(aws.ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0])


@pytest.fixture
def let_in(aws, run):
    """Runs the module; ``calls`` of the account are those that it made."""

    def start(**params: Any) -> dict[str, Any]:
        aws.calls.clear()
        return run(project_access, **{"project": "lab", "access_cidrs": ["203.0.113.7"], **params})

    return start


def test_the_new_address_gets_in_and_the_old_does_not(aws, group, rules, let_in) -> None:
    before = rules()
    told = let_in(check=True)
    assert rules() == before
    done = let_in()
    assert (done["opened"], done["closed"]) == (told["opened"], told["closed"])
    assert done["opened"] == ["22 from 203.0.113.7/32"]
    assert done["closed"] == ["22 from 198.51.100.9/32", "tcp 6000-6010 from 198.51.100.9/32"]
    assert rules() == {(22, "203.0.113.7/32"), (access.EVERYTHING, group)}
    changing = [call for call in aws.calls if not call.startswith("Describe")]
    assert changing == ["AuthorizeSecurityGroupIngress", *["RevokeSecurityGroupIngress"] * 2]
    assert not let_in()["changed"]


def test_no_port_at_all_and_networks_of_both_kinds(group, rules, let_in) -> None:
    let_in(access_cidrs=["203.0.113.0/24", "2001:db8::7"], ports=[22, 8888])
    outside = {(port, cidr) for port in (22, 8888) for cidr in ("203.0.113.0/24", "2001:db8::7/128")}
    assert rules() == outside | {(access.EVERYTHING, group)}
    let_in(ports=[])
    assert rules() == {(access.EVERYTHING, group)}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"access_cidrs": ["0.0.0.0/0"]}, "lets the whole internet try"),
        ({"access_cidrs": ["here"]}, "lightsout_access_cidr is 'here'"),
        ({"ports": [0]}, "from 1 to 65535"),
        ({"project": "La b"}, "lightsout_project is 'La b'"),
    ],
)
def test_what_is_wrong_is_told_before_aws_is_asked(aws, group, let_in, wrong, says) -> None:
    failed = let_in(**wrong)
    assert failed["failed"] and says in failed["msg"] and aws.calls == []


def test_a_project_without_a_group_of_its_own(aws, let_in) -> None:
    aws.ec2.create_security_group(GroupName="lightsout-lab-access", Description="somebody else's")
    assert "Project lab has no security group in us-east-1. Make it: " in let_in()["msg"]
