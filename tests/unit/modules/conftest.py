"""An AWS in this process (moto), our modules run in it, and faults that can be put in its way."""

from __future__ import annotations

import copy
import datetime
import functools
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args
from botocore.client import BaseClient
from botocore.exceptions import ClientError
from botocore.loaders import JSONFileLoader
from moto import mock_aws
from moto.backends import get_backend
from moto.core import DEFAULT_ACCOUNT_ID
from moto.ec2 import ec2_backends
from moto.ssm.models import Parameter, ssm_backends

from localcloud import placement_groups, price_list
from localcloud.moto_extensions import zone_of_launch
from tests.unit.modules.sagemaker_double import Sagemaker

UBUNTU = "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"
REGION = "us-east-1"

#: Services of the local cloud's own, and how their requests name them.
PRICES = {"pricing": "AWSPriceListService", "freetier": "AWSFreeTierService"}


class Exited(Exception):
    """A module's end."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.get("msg"))
        self.result = result


class Result(dict):
    """What a module returned; who asks for what is not in it sees all that is."""

    def __missing__(self, key: str) -> Any:
        raise AssertionError(f"the module returned no {key}: {dict(self)}")


def client_error(code: str, operation: str, message: str = "made up by a test", status: int = 400) -> ClientError:
    """An error as AWS sends it."""
    return ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}, operation
    )


class Aws:
    """What a test sees of the account: clients, the calls that were made, and a place to put faults."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.requests: list[tuple[str, dict]] = []
        self.faults: list[Callable[[str, dict, Callable[[], Any]], Any]] = []
        self.tokens: dict[str, tuple[str, dict]] = {}
        self.sagemaker = Sagemaker(client_error)
        self._lock = threading.RLock()

    def client(self, service: str):
        return boto3.client(service, region_name=REGION)

    @property
    def ec2(self):
        return self.client("ec2")

    def publish(self, parameter: str, ami: str) -> None:
        """Set a public SSM parameter, as only AWS can."""
        store = ssm_backends[DEFAULT_ACCOUNT_ID][REGION]._parameters
        now = datetime.datetime.now(datetime.UTC)
        store[parameter]  # fills the store on first use
        store[parameter] = [Parameter(DEFAULT_ACCOUNT_ID, parameter, ami, "String", None, None, None, now, 1, "text")]

    def image(self, name: str = "ubuntu-noble-24.04-amd64-server", size: int = 8, architecture: str = "x86_64") -> str:
        """Register an AMI."""
        disk = {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": size}}
        ami = self.ec2.register_image(Name=name, RootDeviceName="/dev/sda1", BlockDeviceMappings=[disk])["ImageId"]
        ec2_backends[DEFAULT_ACCOUNT_ID][REGION].amis[
            ami
        ].architecture = architecture  # moto takes every AMI for x86-64
        return ami

    def machines(self, project: str = "lab") -> list[dict]:
        """The project's machines that live, straight from EC2."""
        found = self.ec2.describe_instances(Filters=[{"Name": "tag:lightsout:project", "Values": [project]}])
        every = [i for r in found["Reservations"] for i in r["Instances"]]
        return [i for i in every if i["State"]["Name"] not in ("terminated", "shutting-down")]

    def someone_elses_machine(self, image: str) -> str:
        """Launch a second machine of the same name and tag, as a run that knows no token would."""
        tags = [{"Key": "lightsout:project", "Value": "lab"}, {"Key": "Name", "Value": "lightsout-lab-machine-1"}]
        tagged = [{"ResourceType": "instance", "Tags": tags}]
        launched = self.ec2.run_instances(
            ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=tagged, ClientToken=str(len(self.calls))
        )
        instance = launched["Instances"][0]["InstanceId"]
        ec2_backends[DEFAULT_ACCOUNT_ID][REGION].get_instance(instance).launch_time -= datetime.timedelta(seconds=3)
        return instance

    # -- faults ---------------------------------------------------------------------------------------------------
    def on(self, operation: str, fault: Callable[[dict, Callable[[], Any]], Any], times: int = 1) -> None:
        """Let ``fault(request, go_on)`` answer the next ``times`` calls of an operation."""
        left = [times]

        def hook(name: str, request: dict, go_on: Callable[[], Any]) -> Any:
            if name != operation or not left[0]:
                return go_on()
            left[0] -= 1
            return fault(request, go_on)

        self.faults.append(hook)

    def refuse(self, operation: str, code: str, times: int = 1, message: str = "made up by a test") -> None:
        """Answer the next calls of an operation with an error."""

        def fault(_request: dict, _go_on: Callable[[], Any]) -> Any:
            raise client_error(code, operation, message)

        self.on(operation, fault, times)

    def call(self, operation: str, request: dict, go_on: Callable[[], Any]) -> Any:
        """One API call of anybody, with its faults."""
        with self._lock:
            self.calls.append(operation)
            self.requests.append((operation, copy.deepcopy(request)))
        if operation == "RunInstances":
            go_on = functools.partial(self.with_token, request, go_on)
        for hook in reversed(self.faults):
            go_on = functools.partial(hook, operation, request, go_on)
        return go_on()

    def with_token(self, request: dict, go_on: Callable[[], Any]) -> Any:
        """What EC2 does with a client token, and moto does not."""
        token = request.get("ClientToken")
        with self._lock:
            if token not in self.tokens:
                answer = go_on()
                self.tokens[token] = (answer["Instances"][0]["InstanceId"], copy.deepcopy(request))
                return answer
        instance, first = self.tokens[token]
        if token and first != request:
            raise client_error("IdempotentParameterMismatch", "RunInstances")
        return self.ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]


@pytest.fixture(scope="session", autouse=True)
def models_read_once() -> Iterator[None]:
    """Read botocore's service models once: each module run has a session of its own, and would parse them anew."""
    read = functools.cache(functools.partial(JSONFileLoader.load_file, JSONFileLoader()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", lambda _self, path: read(path))
        yield


@pytest.fixture(scope="session", autouse=True)
def services_loaded() -> None:
    """Let moto import its services now: it would at their first call, and ours come from several threads at once."""
    for service in (
        "budgets",
        "ec2",
        "efs",
        "iam",
        "logs",
        "s3",
        "sagemaker",
        "scheduler",
        "servicequotas",
        "ssm",
        "sts",
    ):
        get_backend(service)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """A fresh account with Ubuntu in it, watched."""
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
    # Who sleeps wakes at once, and the clock says that the time has passed: waits end as they would.
    slept = [0.0]
    clock = time.monotonic
    monkeypatch.setattr("time.monotonic", lambda: clock() + slept[0])
    monkeypatch.setattr("time.sleep", lambda seconds: slept.__setitem__(0, slept[0] + seconds))
    account = Aws()
    real = BaseClient._make_api_call

    def watched(self, operation: str, request: dict) -> Any:
        # What moto does not have at all would go out into the world.
        service = self.meta.service_model.service_name
        target = PRICES.get(service)
        if target:
            answer = functools.partial(price_list.answer, f"{target}.{operation}", request, DEFAULT_ACCOUNT_ID)
            return account.call(operation, request, answer)
        if service == "sagemaker":
            answer = functools.partial(
                account.sagemaker.answer,
                operation,
                request,
                self.meta.region_name,
                lambda: real(self, operation, request),
            )
            return account.call(operation, request, answer)
        return account.call(operation, request, lambda: real(self, operation, request))

    placement_groups.install(zone_of_launch, functools.partial(monkeypatch.setattr, raising=False))
    with mock_aws():
        account.publish(UBUNTU, account.image())
        monkeypatch.setattr(BaseClient, "_make_api_call", watched)
        yield account


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs a module's main and returns its result; a failure is a result with ``failed``."""

    def leave(failed: bool) -> Callable[..., None]:
        def end(_self: Any, *args: Any, **result: Any) -> None:
            if args:
                result["msg"] = args[0]
            raise Exited(Result(json.loads(json.dumps({**result, "failed": failed}, default=str))))

        return end

    monkeypatch.setattr(basic.AnsibleModule, "exit_json", leave(False))
    monkeypatch.setattr(basic.AnsibleModule, "fail_json", leave(True))

    def start(module: Any, check: bool = False, **params: Any) -> Result:
        arguments = {"region": REGION, **params, "_ansible_check_mode": check, "_ansible_diff": True}
        with patch_module_args(arguments), pytest.raises(Exited) as end:
            module.main()
        return end.value.result

    return start
