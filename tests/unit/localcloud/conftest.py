"""What the local cloud's unit tests share: podman that only takes notes, and a moto that is itself again afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import moto.ec2.models.elastic_ip_addresses as addresses
import moto.ec2.models.elastic_network_interfaces as interfaces
import pytest
from botocore.config import Config
from moto import mock_aws
from moto.budgets.models import BudgetsBackend
from moto.budgets.responses import BudgetsResponse
from moto.ec2.models import EC2Backend
from moto.ec2.models.amis import Ami
from moto.ec2.models.instances import Instance
from moto.ec2.responses.instances import InstanceResponse
from moto.ec2.responses.spot_instances import SpotInstances
from moto.iam.models import iam_backends
from moto.s3.responses import S3Response
from moto.sagemaker.models import SageMakerModelBackend
from moto.sagemaker.responses import SageMakerResponse
from moto.scheduler.models import EventBridgeSchedulerBackend
from moto.scheduler.responses import EventBridgeSchedulerResponse
from moto.ssm.models import ParameterDict

from localcloud import podman, sagemaker
from localcloud.settings import ACCOUNT
from tests.helpers.moto import restored

CHANGED = [addresses, interfaces, interfaces.NetworkInterface, EC2Backend, Ami, Instance, InstanceResponse, S3Response]
CHANGED += [
    SageMakerModelBackend,
    SageMakerResponse,
    SpotInstances,
    BudgetsBackend,
    BudgetsResponse,
    EventBridgeSchedulerBackend,
    EventBridgeSchedulerResponse,
]


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


class Backstage:
    """The work that the API has begun: a test lets it be done."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def work(self) -> None:
        """Do what waits, and what that begins."""
        while self.waiting:
            self.waiting.pop(0)()


@pytest.fixture(scope="session")
def client_of_sagemaker() -> Any:
    """A client of SageMaker that sends whatever it is told, made once."""
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    config = Config(parameter_validation=False, retries={"total_max_attempts": 1})
    return boto3.Session(**keys, region_name="us-east-1").client("sagemaker", config=config)


@pytest.fixture
def backstage(monkeypatch) -> Backstage:
    """SageMaker's things change their states when the test says so."""
    held = Backstage()
    monkeypatch.setattr(sagemaker, "in_background", held.waiting.append)
    monkeypatch.setattr(sagemaker, "PACE", 0)
    monkeypatch.setattr(sagemaker, "limits", sagemaker.Limits())
    return held


@pytest.fixture
def taught(backstage, monkeypatch) -> Iterator[None]:
    """moto's SageMaker with what it lacks, a role that SageMaker may take on, and nothing made yet."""
    with restored(SageMakerResponse, SageMakerModelBackend), mock_aws():
        sagemaker.apply()
        iam_backends[ACCOUNT]["aws"].create_role(
            role_name="notebook",
            assume_role_policy_document=json.dumps(
                {"Statement": [{"Principal": {"Service": "sagemaker.amazonaws.com"}}]}
            ),
            path="/",
            permissions_boundary=None,
            description="",
            tags=[],
            max_session_duration="3600",
        )
        yield
