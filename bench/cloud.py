"""Machines for the contenders: instances of a local cloud, all in the same state."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from localcloud import podman
from localcloud.running import client, running

ROOT = Path(__file__).resolve().parent.parent
USER = "ubuntu"


@dataclass(frozen=True)
class Machine:
    """One instance.

    Attributes:
        id: on EC2.
        address: where its ssh server answers.
        container: its name in podman.
    """

    id: str
    address: str
    container: str

    def cpu_seconds(self) -> float:
        """CPU time that everything in it has taken since it was launched."""
        pid = podman.run("inspect", "--format", "{{.State.Pid}}", self.container).strip()
        groups = dict(line.split(":", 2)[1:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
        for names, path in groups.items():
            whole = path.removesuffix("/init.scope")
            if "cpuacct" in names:
                return int(Path(f"/sys/fs/cgroup/cpuacct{whole}/cpuacct.usage").read_text()) / 1e9
        stat = Path(f"/sys/fs/cgroup{groups[''].removesuffix('/init.scope')}/cpu.stat").read_text()
        return int(dict(line.split() for line in stat.splitlines())["usage_usec"]) / 1e6


@dataclass
class Cloud:
    """A local cloud for the time of a benchmark.

    Attributes:
        folder: for keys, inventories and whatever a contender needs.
        environment: points AWS tools at it.
    """

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    name: str = f"bench-{os.getpid()}"
    settings: Path = Path()
    _open: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> Cloud:
        state = self.folder / "cloud"
        self.environment = self._open.enter_context(running(self.name, state))
        self.settings = state / "settings.yml"
        self.ec2 = client(self.environment, "ec2")
        private = Ed25519PrivateKey.generate()
        self.key = self.folder / "key.pem"
        self.key.touch(mode=0o600)
        self.key.write_bytes(
            private.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
            )
        )
        public = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        self.ec2.import_key_pair(KeyName="bench", PublicKeyMaterial=public)
        self.group = self.ec2.create_security_group(GroupName="bench", Description="ssh")["GroupId"]
        everyone = [{"CidrIp": "0.0.0.0/0"}]
        self.ec2.authorize_security_group_ingress(
            GroupId=self.group,
            IpPermissions=[{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": everyone}],
        )
        (image,) = self.ec2.describe_images(Filters=[{"Name": "name", "Values": ["ubuntu*24.04*amd64*"]}])["Images"]
        self.fresh: str = image["ImageId"]
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    # -- machines -----------------------------------------------------------------------------------------------
    def launch(self, image: str, count: int) -> list[Machine]:
        """Machines that have booted, and have answered over ssh."""
        made: list[dict[str, Any]] = self.ec2.run_instances(
            ImageId=image,
            MinCount=count,
            MaxCount=count,
            KeyName="bench",
            InstanceType="t3.medium",
            SecurityGroupIds=[self.group],
        )["Instances"]
        ids = [instance["InstanceId"] for instance in made]
        described = self.ec2.describe_instances(InstanceIds=ids)["Reservations"]
        machines = [
            Machine(i["InstanceId"], i["PublicIpAddress"], f"localcloud-{self.name}-{i['InstanceId']}")
            for r in described
            for i in r["Instances"]
        ]
        for machine in machines:
            self.wait(machine)
        return machines

    def wait(self, machine: Machine) -> None:
        """Until its first boot is over."""
        for _ in range(300):
            done = self.ssh(machine, "test -e /var/lib/cloud/instance/boot-finished", check=False)
            if done.returncode == 0:
                return
            time.sleep(0.2)
        raise TimeoutError(f"{machine.id} does not answer")

    def terminate(self, machines: list[Machine]) -> None:
        """Be rid of them."""
        self.ec2.terminate_instances(InstanceIds=[machine.id for machine in machines])

    def image_of(self, machine: Machine) -> str:
        """An image of a machine's disk."""
        return self.ec2.create_image(InstanceId=machine.id, Name=f"of-{machine.id}")["ImageId"]

    # -- reaching them ------------------------------------------------------------------------------------------
    def ssh_words(self) -> list[str]:
        """How every contender calls ssh: a connection of its own, and no questions."""
        options = ("BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=no", "LogLevel=ERROR")
        words = [word for option in options for word in ("-o", option)]
        return [*words, "-o", "UserKnownHostsFile=/dev/null", "-i", str(self.key)]

    def ssh(self, machine: Machine, command: str, input: str = "", check: bool = True):
        """Run a command as the login user."""
        return subprocess.run(
            ["ssh", *self.ssh_words(), f"{USER}@{machine.address}", command],
            input=input,
            text=True,
            capture_output=True,
            check=check,
            timeout=600,
        )
