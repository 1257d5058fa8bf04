# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Images by name: where AWS publishes the newest AMI of each, and who logs in on it."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Image:
    """An operating system that people ask for by name.

    Attributes:
        title: for people.
        user: the login user that the image's makers set up.
        parameter: the public SSM parameter with the newest AMI, ``{arch}`` standing for the architecture.
        amd64, arm64: how the publisher spells the two architectures; None where there is no such image.
    """

    title: str
    user: str
    parameter: str
    amd64: str = "amd64"
    arm64: str | None = "arm64"

    def parameter_for(self, architecture: str) -> str | None:
        """The SSM parameter's name for ``x86_64`` or ``arm64``."""
        spelled = self.arm64 if architecture == "arm64" else self.amd64
        return self.parameter.format(arch=spelled) if spelled else None


_CANONICAL = "/aws/service/canonical/ubuntu/server"

IMAGES = {
    "ubuntu-24.04": Image("Ubuntu 24.04 LTS", "ubuntu", _CANONICAL + "/24.04/stable/current/{arch}/hvm/ebs-gp3/ami-id"),
    "ubuntu-22.04": Image("Ubuntu 22.04 LTS", "ubuntu", _CANONICAL + "/22.04/stable/current/{arch}/hvm/ebs-gp2/ami-id"),
    "debian-13": Image("Debian 13", "admin", "/aws/service/debian/release/13/latest/{arch}"),
    "debian-12": Image("Debian 12", "admin", "/aws/service/debian/release/12/latest/{arch}"),
    "amazon-linux-2023": Image(
        "Amazon Linux 2023",
        "ec2-user",
        "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-{arch}",
        amd64="x86_64",
    ),
    "deep-learning": Image(
        "Deep Learning Base AMI (Ubuntu 24.04, NVIDIA driver)",
        "ubuntu",
        "/aws/service/deeplearning/ami/{arch}/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id",
        amd64="x86_64",
    ),
}

#: What an AMI's own name tells of its login user, for AMIs that are asked for by id. Ubuntu's own come first: their
#: derivatives keep the user.
_USERS = (("ubuntu", "ubuntu"), ("debian", "admin"), ("al20", "ec2-user"), ("amzn", "ec2-user"))

_AMI_ID = re.compile(r"ami-[0-9a-f]{8}(?:[0-9a-f]{9})?")
_ARM_TYPE = re.compile(r"(?:a1|[a-z]+-?\d+[a-z0-9-]*g[a-z0-9-]*)\..+")


def is_ami_id(value: str) -> bool:
    """True for an AMI's id, such as ``ami-0123456789abcdef0``."""
    return bool(_AMI_ID.fullmatch(value))


def architecture_of(instance_type: str) -> str:
    """The architecture that a type's name tells: Graviton types have a g behind their generation (t4g, m7gd, g5g)."""
    return "arm64" if _ARM_TYPE.fullmatch(instance_type) else "x86_64"


def login_user_of(ami_name: str) -> str | None:
    """The login user of an AMI by its name, None when the name does not tell."""
    for mark, user in _USERS:
        if mark in ami_name.lower():
            return user
    return None
