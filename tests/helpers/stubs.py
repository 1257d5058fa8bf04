"""AWS as a list of expected calls and their answers, each checked against the service's own model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from ansible_collections.lightsout.aws.plugins.module_utils.calls import Clients
from botocore.client import BaseClient
from botocore.stub import ANY, Stubber

__all__ = ["ANY", "Stubs", "stubbed", "time_flies"]


class Stubs:
    """The stubbed clients of a test.

    Attributes:
        calls: the operations that were asked for, in order.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._stubbers: dict[str, Stubber] = {}

    def client(self, service: str) -> BaseClient:
        """The client that modules get."""
        return self.stubber(service).client

    def stubber(self, service: str) -> Stubber:
        """botocore's Stubber of a service."""
        if service not in self._stubbers:
            client = boto3.client(
                service, region_name="us-east-1", aws_access_key_id="stub", aws_secret_access_key="stub"
            )
            client.meta.events.register("before-parameter-build", lambda model, **_rest: self.calls.append(model.name))
            self._stubbers[service] = Stubber(client)
            self._stubbers[service].activate()
        return self._stubbers[service]

    def answer(self, operation: str, answer: dict[str, Any] | None = None, service="sagemaker", **request: Any) -> None:
        """Expect one more call, in the order of these; without a request, any will do."""
        self.stubber(service).add_response(operation, answer or {}, request or None)

    def refuse(self, operation: str, code: str, message: str = "made up by a test", service="sagemaker") -> None:
        """Expect one more call, which is refused."""
        self.stubber(service).add_client_error(operation, code, message)

    def done(self) -> None:
        """Every expected call was made."""
        for stubber in self._stubbers.values():
            stubber.assert_no_pending_responses()


def time_flies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sleeps wakes at once, and the clock says that the time has passed."""
    slept = [0.0]
    clock = time.monotonic
    monkeypatch.setattr("time.monotonic", lambda: clock() + slept[0])
    monkeypatch.setattr("time.sleep", lambda seconds: slept.__setitem__(0, slept[0] + seconds))


@contextmanager
def stubbed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubs]:
    """Modules get stubbed clients, and wait for nothing."""
    stubs = Stubs()
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Clients, "_open", lambda _self, service, _region, _config: stubs.client(service))
    time_flies(monkeypatch)
    yield stubs
    stubs.done()
