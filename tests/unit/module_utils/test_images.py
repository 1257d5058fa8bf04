"""Images by name."""

from __future__ import annotations

import pytest
from ansible_collections.lightsout.aws.plugins.module_utils import images


@pytest.mark.parametrize("name", images.IMAGES)
def test_every_image_says_where_it_is_published_for_x86_64(name):
    parameter = images.IMAGES[name].parameter_for("x86_64")
    assert parameter.startswith("/aws/service/") and "{" not in parameter


def test_architectures_are_spelled_as_the_publisher_does():
    assert "/amd64/" in images.IMAGES["ubuntu-24.04"].parameter_for("x86_64")
    assert images.IMAGES["amazon-linux-2023"].parameter_for("x86_64").endswith("-x86_64")
    assert images.IMAGES["amazon-linux-2023"].parameter_for("arm64").endswith("-arm64")


@pytest.mark.parametrize("name", ["t4g.small", "m7gd.large", "g5g.xlarge", "a1.large", "c6gn.large", "im4gn.large"])
def test_graviton_types(name):
    assert images.architecture_of(name) == "arm64"


@pytest.mark.parametrize(
    "name", ["t3.small", "g4dn.xlarge", "g5.xlarge", "m7i-flex.large", "p4d.24xlarge", "u-6tb1.metal"]
)
def test_other_types(name):
    assert images.architecture_of(name) == "x86_64"


@pytest.mark.parametrize("value", ["ami-0123456789abcdef0", "ami-01234567"])
def test_ami_ids(value):
    assert images.is_ami_id(value)


@pytest.mark.parametrize("value", ["ami-", "ami-xyz", "ubuntu-24.04", "ami-0123456789abcdef01", "ami-0123456789"])
def test_what_is_no_ami_id(value):
    assert not images.is_ami_id(value)


@pytest.mark.parametrize(
    ("name", "user"),
    [
        ("ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-20260101", "ubuntu"),
        ("debian-12-amd64-20260101", "admin"),
        ("al2023-ami-2023.9-kernel-6.1-x86_64", "ec2-user"),
        ("my own image", None),
    ],
)
def test_an_amis_name_tells_its_login_user(name, user):
    assert images.login_user_of(name) == user
