"""``python -m bench.lights``: what a teardown and a look at everything take, and what the agent takes of a machine."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from ansible_collections.lightsout.aws.plugins.module_utils import calls
from ansible_collections.lightsout.aws.plugins.module_utils.resources import (
    KINDS,
    Scope,
    find_all,
    find_everywhere,
)
from ansible_collections.lightsout.aws.plugins.module_utils.teardown import Teardown
from botocore.client import BaseClient
from moto import mock_aws

from bench.cloud import ROOT, Cloud
from localcloud import placement_groups
from localcloud.moto_extensions import zone_of_launch
from tests.unit.modules.sagemaker_double import Sagemaker
from tests.unit.modules.test_project import furnish, furnish_sagemaker, furnish_storage

PAGE = ROOT / "docs/lights-out.md"

#: The regions that every account may use without asking for them.
REGIONS = (
    *("ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-southeast-1", "ap-southeast-2"),
    *("ca-central-1", "eu-central-1", "eu-north-1", "eu-west-1", "eu-west-2", "eu-west-3", "sa-east-1"),
    *("us-east-1", "us-east-2", "us-west-1", "us-west-2"),
)
#: What status.yml lists.
COSTS = (
    *("instance", "notebook_instance", "studio_app", "training_job", "endpoint"),
    *("volume", "address", "studio_space", "file_system", "snapshot"),
)
#: Of the agent: one a minute.
LOOKS_A_DAY = 1440

TEXT = """\
# Lights out: what it takes

`make bench-lights` measures anew and writes this page. Measured on {date}, {machine}.

## Teardown and status

Both run against moto in the same process, where every call waits {latency:.0f} ms first, as it would for an answer from
another continent. *One after another* is the same program, allowed one call at a time: it makes the same calls. Each
figure is the median of {rounds} rounds, from the first client that is made to the last answer.

| | things | API calls | one after another | Lightsout | times faster |
|---|---:|---:|---:|---:|---:|
{rows}

*Teardown* deletes a project that has something of {kinds} kinds: a machine with all that hangs on it, a notebook
instance, a running training job, an endpoint, a Studio domain with somebody in it, a file system in a network. It
includes the proof, which lists every kind again. The time that AWS itself needs to end a machine or to empty a Studio
domain is not in it; there, everything waits for the slowest and not for the sum.

*Status* lists all that costs money in {regions} regions; of one of them a project's things come back.

## The agent

One look of autostop's, on an idle machine of the local cloud (a container; the agent as its role installs it), {looks}
looks: **{look_ms:.0f} ms of CPU and {memory:.0f} MiB of memory** while it looks, nothing between two looks. At a look a
minute that is **{day:.0f} s of CPU a day, {percent:.2f} % of one core**.
"""


class Account:
    """An account in this process, slow as a far one, whose calls are counted."""

    def __init__(self, latency: float) -> None:
        self.latency, self.sagemaker, self.calls = latency, Sagemaker(self.error), Counter()
        self._clients: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()
        self._real = BaseClient._make_api_call
        self.slow = False

    @staticmethod
    def error(code: str, operation: str, message: str = "") -> Exception:
        """An error as AWS sends it."""
        return boto3.client("sagemaker", "us-east-1").exceptions.ClientError(
            {"Error": {"Code": code, "Message": message}}, operation
        )

    def __call__(self, service: str, region: str | None = None):
        """The client of a service."""
        with self._lock:
            key = (service, region or "us-east-1")
            if key not in self._clients:
                self._clients[key] = boto3.client(service, region_name=key[1])
            return self._clients[key]

    def offers(self, _service: str, _region: str) -> bool:
        """Every region has everything."""
        return True

    # What the tests' own furniture asks for.
    def client(self, service: str):
        """The client of a service at home."""
        return self(service)

    @property
    def ec2(self):
        """EC2's at home."""
        return self("ec2")

    @contextmanager
    def opened(self) -> Iterator[Account]:
        """The account for the time of a block."""

        def answer(client: Any, operation: str, request: dict) -> Any:
            if self.slow:
                time.sleep(self.latency)
                self.calls[operation] += 1

            def go_on() -> Any:
                return self._real(client, operation, request)

            if client.meta.service_model.service_name != "sagemaker":
                return go_on()
            return self.sagemaker.answer(operation, request, client.meta.region_name, go_on)

        placement_groups.install(zone_of_launch, setattr)
        with mock_aws():
            BaseClient._make_api_call = answer
            try:
                disk = {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 8}}
                self.ec2.register_image(Name="bench", RootDeviceName="/dev/sda1", BlockDeviceMappings=[disk])
                yield self
            finally:
                BaseClient._make_api_call = self._real

    def furnish(self, project: str) -> None:
        """One of each kind, and what belongs to it."""
        furnish(self, project)
        furnish_sagemaker(self, project)
        furnish_storage(self, project)

    def clock(self, action: Callable[[], Any]) -> tuple[float, int, Any]:
        """Seconds, calls and answer of something that is done at AWS's pace."""
        self.calls.clear()
        self._clients.clear()  # a module begins with none
        self.slow = True
        began = time.monotonic()
        try:
            answer = action()
        finally:
            self.slow = False
        return time.monotonic() - began, self.calls.total(), answer


@contextmanager
def width(calls_at_once: int) -> Iterator[None]:
    """So many calls may be under way at a time."""
    before = calls.WIDTH
    calls.WIDTH = calls_at_once
    try:
        yield
    finally:
        calls.WIDTH = before


def teardown(account: Account, number: int) -> tuple[float, int, int]:
    """Seconds, calls and things of the teardown of a full project."""
    project = f"bench{number}x"
    account.furnish(project)
    scope = Scope(account, "us-east-1", project, empty_buckets=True)
    took, made, outcome = account.clock(lambda: Teardown(scope, KINDS, timeout=600).run())
    if outcome.remaining or outcome.unlisted:
        raise RuntimeError(f"a teardown that leaves something is no measurement: {outcome}")
    return took, made, len(outcome.deleted)


def status(account: Account, _number: int) -> tuple[float, int, int]:
    """Seconds, calls and things of a look at all regions."""
    took, made, (found, failed) = account.clock(lambda: find_everywhere(account, REGIONS, None, COSTS))
    if failed:
        raise RuntimeError(f"a look that misses something is no measurement: {failed}")
    return took, made, len(found)


def compare(account: Account, work: Callable[[Account, int], tuple[float, int, int]], rounds: int) -> dict[str, Any]:
    """Both ways, in alternation."""
    times: dict[int, list[float]] = {1: [], calls.WIDTH: []}
    made = things = 0
    for number in range(rounds):
        for at_once, taken in times.items():
            with width(at_once):
                took, made, things = work(account, 2 * number + (at_once == 1))
            taken.append(took)
            print(f"  {work.__name__:9} {at_once:3} at once {took:7.2f} s {made:5} calls {things:4} things", flush=True)
    slow, fast = map(statistics.median, times.values())
    return {"things": things, "calls": made, "slow": slow, "fast": fast}


def agent(looks: int) -> tuple[float, float]:
    """CPU seconds and MiB of one look, on a machine of the local cloud to which the role has brought the agent."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, Cloud(Path(name)) as cloud:
        (machine,) = cloud.launch(cloud.fresh, 1)
        options = " ".join(cloud.ssh_words())
        inventory = Path(name) / "hosts.ini"
        inventory.write_text(
            f"machine ansible_host={machine.address} ansible_user=ubuntu "
            f'ansible_python_interpreter=/usr/bin/python3 ansible_ssh_common_args="{options}"\n'
        )
        play = Path(name) / "play.yml"
        play.write_text("- hosts: machine\n  roles:\n    - role: lightsout.aws.autostop\n")
        words = ["ansible-playbook", "-i", str(inventory), str(play), "-e", f"@{cloud.settings}"]
        subprocess.run(words, cwd=ROOT, env={**os.environ, **cloud.environment}, check=True)
        program = (
            "import resource, subprocess\n"
            f"for _ in range({looks}):\n"
            "    subprocess.run(['lightsout-autostop', 'check'], stdout=subprocess.DEVNULL, check=True)\n"
            "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
            f"print((used.ru_utime + used.ru_stime) / {looks}, used.ru_maxrss / 1024)\n"
        )
        cloud.ssh(machine, "sudo systemctl stop lightsout-autostop.timer")
        said = cloud.ssh(machine, "sudo python3 -", input=program).stdout.split()
        cloud.terminate([machine])
    return float(said[0]), float(said[1])


def row(name: str, one: dict[str, Any]) -> str:
    """A line of the page's table."""
    ratio = one["slow"] / one["fast"]
    return f"| {name} | {one['things']} | {one['calls']} | {one['slow']:.1f} s | {one['fast']:.1f} s | {ratio:.1f} |"


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(prog="python -m bench.lights", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency", type=float, default=80, help="ms that a call waits (default: %(default)s)")
    parser.add_argument("--looks", type=int, default=50, help="of the agent (default: %(default)s)")
    options = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"
    with Account(options.latency / 1000).opened() as account:
        find_all(Scope(account, "us-east-1", "warm"), KINDS)  # models are read, moto's services are imported
        down = compare(account, teardown, options.rounds)
        account.furnish("lab")
        for region in REGIONS:
            find_all(Scope(account, region, "warm"), COSTS)
        look = compare(account, status, options.rounds)
    cpu, memory = agent(options.looks)
    PAGE.write_text(
        TEXT.format(
            date=time.strftime("%Y-%m-%d"),
            machine=f"{os.cpu_count()} cores, {platform.freedesktop_os_release()['PRETTY_NAME']}",
            latency=options.latency,
            rounds=options.rounds,
            rows="\n".join([row("teardown of a full project", down), row(f"status of {len(REGIONS)} regions", look)]),
            kinds=len(KINDS) - 2,  # no spot request, no image
            regions=len(REGIONS),
            looks=options.looks,
            look_ms=cpu * 1000,
            memory=memory,
            day=cpu * LOOKS_A_DAY,
            percent=cpu * LOOKS_A_DAY / 864,
        )
    )
    print(PAGE.read_text())


if __name__ == "__main__":
    main()
