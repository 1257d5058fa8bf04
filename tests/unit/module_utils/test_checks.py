"""What is said about settings without asking AWS: each problem names variable, value and what is right."""

from __future__ import annotations

import pytest
from ansible_collections.lightsout.aws.plugins.module_utils import checks
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import LightsoutError

GOOD = {
    "count": 1,
    "placement": "cluster",
    "instance_type": "t3.medium",
    "image": "ubuntu-24.04",
    "volume_size": 30,
    "spot": False,
    "spot_max_price": None,
    "subnet_id": None,
    "metadata_hop_limit": 1,
    "ports": [22, 443],
    "policies": [],
    "policy_document": None,
    "instance_profile": None,
}


def test_good_settings_have_no_problems():
    assert checks.machine_problems(GOOD) == []


@pytest.mark.parametrize(
    ("setting", "value", "right"),
    [
        ("instance_type", "t3", "t3.medium"),
        ("image", "ubuntu-24.4", "'ubuntu-24.04'"),
        ("count", 0, "1 to 100"),
        ("count", "many", "1 to 100"),
        ("count", 2.5, "1 to 100"),
        ("count", 101, "1 to 100"),
        ("placement", "spread", "cluster, none"),
        ("volume_size", 0, "1 to 16384 GiB"),
        ("spot_max_price", -1.0, "above 0"),
        ("subnet_id", "mine", "subnet-0123abcd"),
        ("metadata_hop_limit", 65, "1 to 64"),
        ("ports", [22, 70000], "70000"),
        ("ports", [443], "lacks 22"),
        ("policies", ["AmazonS3ReadOnlyAccess"], "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"),
    ],
)
def test_one_wrong_setting_is_named_with_what_is_right(setting, value, right):
    problems = checks.machine_problems({**GOOD, "spot": setting == "spot_max_price", setting: value})
    assert len(problems) == 1
    assert problems[0].startswith(f"ec2_machine_{setting}") and right in problems[0] and "\n" not in problems[0]


def test_all_problems_are_told_at_once():
    assert len(checks.machine_problems({**GOOD, "instance_type": "", "image": "x", "volume_size": 99999})) == 3


def test_a_region_typo_offers_the_region_that_was_meant():
    (problem,) = checks.region_problems("us-eats-1", None)
    assert "lightsout_region is 'us-eats-1'" in problem and "'us-east-1'" in problem


def test_a_region_where_the_inventory_does_not_look_is_told():
    (problem,) = checks.region_problems("eu-west-1", "us-east-1")
    assert "export AWS_REGION=eu-west-1" in problem
    assert checks.region_problems("eu-west-1", "eu-west-1") == []


@pytest.mark.parametrize(
    ("given", "network"),
    [("203.0.113.7", "203.0.113.7/32"), (" 203.0.113.0/24 ", "203.0.113.0/24"), ("2001:db8::1", "2001:db8::1/128")],
)
def test_networks_in_awss_spelling(given, network):
    assert checks.network(given, False) == network


@pytest.mark.parametrize("cidr", ["203.0.113.300/32", "203.0.113.0/33", "me", "203.0.113", ""])
def test_a_malformed_cidr(cidr):
    with pytest.raises(LightsoutError, match="is not a CIDR"):
        checks.network(cidr, False)


def test_an_address_within_a_network_could_mean_two_things():
    with pytest.raises(LightsoutError, match=r"'203\.0\.113\.7' or '203\.0\.113\.0/24'"):
        checks.network("203.0.113.7/24", False)


@pytest.mark.parametrize("cidr", ["0.0.0.0/0", "::/0", "0.0.0.0/1", "128.0.0.0/1"])
def test_the_whole_world_is_let_in_only_by_name(cidr):
    with pytest.raises(LightsoutError, match="ec2_machine_allow_world=true"):
        checks.network(cidr, False)
    assert checks.network(cidr, True) == cidr


def test_who_may_reach_the_machine_is_never_nobody():
    assert checks.access_problems([], False)[1]
    assert checks.access_problems(["auto", "auto", "203.0.113.7"], False) == (["auto", "203.0.113.7/32"], [])


def test_the_login_user_is_given_known_or_asked_for():
    assert checks.login_user("ubuntu-24.04", "", None) == "ubuntu"
    assert checks.login_user("ami-01234567", "debian-12-amd64", None) == "admin"
    assert checks.login_user("ami-01234567", "secret", "me") == "me"
    with pytest.raises(LightsoutError, match="ec2_machine_login_user=ubuntu"):
        checks.login_user("ami-01234567", "secret", None)
