# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Many calls to AWS at once, from one process.

A process of its own for each question costs a second; the questions themselves cost milliseconds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible_collections.amazon.aws.plugins.module_utils.botocore import get_aws_connection_info

try:
    from boto3.session import Session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError
except ImportError:  # AnsibleAWSModule says it when the module starts
    Session = Config = None
    BotoCoreError = Exception

#: At most so many requests are under way at a time.
WIDTH = 16


class Clients:
    """boto3 clients of one module: one for each service and region, all of one session.

    AnsibleAWSModule.client opens a session for each, which reads credentials, endpoints and service models anew: a
    tenth of a second each time.

    Args:
        module: an AnsibleAWSModule, which knows region, credentials and endpoint.
    """

    def __init__(self, module) -> None:
        self._module = module
        self._made: dict[tuple, Any] = {}
        self._lock = threading.Lock()
        self._region, self._endpoint, self._options = get_aws_connection_info(module)
        self._config = self._options.pop("aws_config", None) or Config()
        self._session = None

    def __call__(self, service: str, region: str | None = None, attempts: int = 6, read_timeout: int = 60):
        """The client of a service.

        Args:
            service: as boto3 names it.
            region: another one than the module's.
            attempts: tries in all, with exponential waits between them, on throttling, server errors and lost answers.
            read_timeout: seconds to wait for an answer.
        """
        region = region or self._region
        key = (service, region, attempts, read_timeout)
        with self._lock:  # making clients is not safe from several threads, using them is
            if key not in self._made:
                ours = Config(
                    user_agent_extra="lightsout",
                    retries={"mode": "standard", "max_attempts": attempts},
                    connect_timeout=10,
                    read_timeout=read_timeout,
                    max_pool_connections=WIDTH,
                )
                try:
                    self._made[key] = self._open(service, region, ours.merge(self._config))
                except (BotoCoreError, ValueError) as error:
                    self._module.fail_json_aws(error, msg="Couldn't connect to AWS")
            return self._made[key]

    def offers(self, service: str, region: str) -> bool:
        """False where a region is known not to have a service: there is nobody to ask, and nothing of ours."""
        with self._lock:
            if self._session is None:
                self._session = self._begin()
            session = self._session
        try:
            partition = session.get_partition_for_region(region)
        except BotoCoreError:
            return True
        known = session.get_available_regions("ec2", partition)
        offered = session.get_available_regions(service, partition)
        return region not in known or not offered or region in offered  # a service without regions is in all of them

    def _begin(self):
        return Session(profile_name=self._options.pop("profile_name", None))

    def _open(self, service: str, region: str | None, config):
        if self._session is None:
            self._session = self._begin()
        return self._session.client(
            service, region_name=region, endpoint_url=self._endpoint, config=config, **self._options
        )


def at_once(calls: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """Run every call at the same time.

    Returns:
        each call's answer by name; the exception object where it raised one, so that one failure hides no other answer.
    """

    def attempt(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception as error:
            return error

    if len(calls) < 2:
        return {name: attempt(call) for name, call in calls.items()}
    with ThreadPoolExecutor(max_workers=min(WIDTH, len(calls))) as pool:
        futures = {name: pool.submit(attempt, call) for name, call in calls.items()}
        return {name: future.result() for name, future in futures.items()}


def pages(client, operation: str, key: str, **arguments: Any) -> list[dict]:
    """All items of a listing, however many pages it has.

    Args:
        client: a boto3 client.
        operation: the method's name, for example ``describe_volumes``.
        key: the list's name in the answer.
        arguments: the operation's own.
    """
    if not client.can_paginate(operation):
        return getattr(client, operation)(**arguments)[key]
    found = []
    for page in client.get_paginator(operation).paginate(**arguments):
        found += page[key]
    return found
