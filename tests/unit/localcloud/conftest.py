"""What the local cloud's unit tests share: podman that only takes notes, and a moto that is itself again afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import moto.ec2.models.elastic_ip_addresses as addresses
import moto.ec2.models.elastic_network_interfaces as interfaces
import pytest
from moto.budgets.models import BudgetsBackend
from moto.budgets.responses import BudgetsResponse
from moto.ec2.models import EC2Backend
from moto.ec2.models.amis import Ami
from moto.ec2.models.instances import Instance
from moto.ec2.responses.instances import InstanceResponse
from moto.ec2.responses.spot_instances import SpotInstances
from moto.s3.responses import S3Response
from moto.scheduler.models import EventBridgeSchedulerBackend
from moto.scheduler.responses import EventBridgeSchedulerResponse
from moto.ssm.models import ParameterDict

from localcloud import podman
from tests.helpers.moto import restored

CHANGED = [addresses, interfaces, interfaces.NetworkInterface, EC2Backend, Ami, Instance, InstanceResponse, S3Response]
CHANGED += [SpotInstances, BudgetsBackend, BudgetsResponse, EventBridgeSchedulerBackend, EventBridgeSchedulerResponse]


@pytest.fixture
def restored_moto() -> Iterator[None]:
    """Takes back every change to moto's modules and classes."""
    with restored(*CHANGED, ParameterDict):
        yield


@pytest.fixture(scope="session")
def client_of_moto() -> Any:
    """A client of EC2, made once: to read botocore's model of it takes most of a second."""
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    return boto3.Session(**keys, region_name="us-east-1").client("ec2")


class Podman:
    """Podman's place: notes each call, and answers by its first words.

    Attributes:
        calls: the words of each call.
        answers: what a call that begins with these words prints; an exception is raised.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.answers: dict[tuple[str, ...], Any] = {}

    def run(self, *words: str, check: bool = True, input: str | None = None) -> str:
        self.calls.append(words)
        for start, answer in self.answers.items():
            if words[: len(start)] == start:
                if isinstance(answer, Exception):
                    if check:
                        raise answer
                    return ""
                return answer
        return ""

    def called(self, *start: str) -> list[tuple[str, ...]]:
        """The calls that begin with these words."""
        return [words for words in self.calls if words[: len(start)] == start]


@pytest.fixture
def pod(monkeypatch) -> Podman:
    """Podman that only takes notes."""
    pod = Podman()
    monkeypatch.setattr(podman, "run", pod.run)
    monkeypatch.setattr(podman, "rootful", lambda: True)
    return pod
