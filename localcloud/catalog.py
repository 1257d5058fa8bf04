"""The images (AMIs) that the local cloud offers, and the SSM public parameters that name the latest of each.

Every AMI runs the same container image; what differs is what a user of AWS would look it up by: parameter, name, owner,
login user, root device and size.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CANONICAL, DEBIAN, AMAZON, DEEP_LEARNING = "099720109477", "136693071363", "137112412989", "898082745236"
UBUNTU = "/aws/service/canonical/ubuntu/server"


@dataclass(frozen=True)
class Offer:
    """One image as AWS offers it.

    Attributes:
        parameter: the SSM public parameter that holds the latest AMI's id.
        name: the AMI's name, without its date.
        owner: the account that publishes it on AWS.
        user: the login user that cloud-init creates.
        root_device: the name of its root device.
        size: the smallest root volume, in GiB.
        architecture: ``x86_64`` or ``arm64``.
        encrypted: whether its disk is.
    """

    parameter: str
    name: str
    owner: str
    user: str
    root_device: str = "/dev/sda1"
    size: int = 8
    architecture: str = "x86_64"
    encrypted: bool = False

    def ami_id(self, generation: int) -> str:
        """The id of its ``generation``-th edition: the same in every cloud, like a published one."""
        return "ami-" + hashlib.sha256(f"{self.parameter} {generation}".encode()).hexdigest()[:17]


def _both(
    parameter: str, name: str, owner: str, user: str, device: str, size: int, arm: tuple[str, str]
) -> list[Offer]:
    """An image for both architectures; ``arm`` is what x86-64's words are replaced by, in parameter and name."""
    other = Offer(
        parameter.replace("amd64", arm[0]).replace("x86_64", arm[0]),
        name.replace("amd64", arm[1]).replace("x86_64", arm[1]),
        owner,
        user,
        device,
        size,
        "arm64",
    )
    return [Offer(parameter, name, owner, user, device, size), other]


OFFERS = [
    *_both(
        f"{UBUNTU}/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id",
        "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server",
        CANONICAL,
        "ubuntu",
        "/dev/sda1",
        8,
        ("arm64", "arm64"),
    ),
    *_both(
        f"{UBUNTU}/22.04/stable/current/amd64/hvm/ebs-gp2/ami-id",
        "ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-amd64-server",
        CANONICAL,
        "ubuntu",
        "/dev/sda1",
        8,
        ("arm64", "arm64"),
    ),
    *_both(
        "/aws/service/debian/release/12/latest/amd64",
        "debian-12-amd64",
        DEBIAN,
        "admin",
        "/dev/xvda",
        8,
        ("arm64",) * 2,
    ),
    *_both(
        "/aws/service/debian/release/13/latest/amd64",
        "debian-13-amd64",
        DEBIAN,
        "admin",
        "/dev/xvda",
        8,
        ("arm64",) * 2,
    ),
    *_both(
        "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64",
        "al2023-ami-2023-kernel-6.1-x86_64",
        AMAZON,
        "ec2-user",
        "/dev/xvda",
        8,
        ("arm64", "arm64"),
    ),
    *_both(
        "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id",
        "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04) x86_64",
        DEEP_LEARNING,
        "ubuntu",
        "/dev/sda1",
        35,
        ("arm64", "ARM64"),
    ),
]

BY_PARAMETER = {offer.parameter: offer for offer in OFFERS}

#: Editions that are published from the start; `publish` adds more.
_editions: dict[str, int] = dict.fromkeys(BY_PARAMETER, 1)
_by_id = {offer.ami_id(1): offer for offer in OFFERS}


def publish(parameter: str) -> str:
    """Let the latest image move on, as it does every few weeks on AWS; the id of the new one."""
    offer = BY_PARAMETER[parameter]
    _editions[parameter] += 1
    new = offer.ami_id(_editions[parameter])
    _by_id[new] = offer
    return new


def bake(ami_id: str, source: Offer, size: int, encrypted: bool) -> None:
    """Remember an image that was made from a machine: it is like the one that the machine was made from."""
    _by_id[ami_id] = dataclasses.replace(source, size=size, encrypted=encrypted)


def latest(parameter: str) -> str:
    """The id that the parameter holds now."""
    return BY_PARAMETER[parameter].ami_id(_editions[parameter])


def offer_of(ami_id: str) -> Offer | None:
    """What an AMI of ours, or one made from a machine of ours, is; None for any other."""
    return _by_id.get(ami_id)


def described() -> Iterator[dict[str, object]]:
    """Every published edition, as moto reads AMIs from ``MOTO_AMIS_PATH``."""
    for offer in OFFERS:
        for generation in range(1, _editions[offer.parameter] + 1):
            yield {
                "ami_id": offer.ami_id(generation),
                "name": f"{offer.name}-202601{generation:02d}",
                "description": "Local stand-in: a container of the local cloud, whatever its name says",
                "owner_id": offer.owner,
                "public": True,
                "state": "available",
                "architecture": offer.architecture,
                "virtualization_type": "hvm",
                "hypervisor": "xen",
                "platform": None,
                "image_type": "machine",
                "image_location": f"{offer.owner}/{offer.name}",
                "creation_date": f"2026-01-{generation:02d}T00:00:00.000Z",
                "root_device_type": "ebs",
                "root_device_name": offer.root_device,
                "sriov": "simple",
            }


def write(path: Path) -> None:
    """Write what ``MOTO_AMIS_PATH`` points at."""
    path.write_text(json.dumps(list(described())))
