"""``make demo``: the main job of Lightsout, on the local cloud, in front of the reader's eyes.

Nothing here does the work: each step is an ``ansible-playbook`` run that a user would type, against the local cloud's
endpoint. What this file adds is the order, a password made for the occasion, a look at Jupyter from outside, and the
table at the end.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import boto3

from tools.jupyter_client import JupyterClient, LoginRefused

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".lightsout/cloud"
PROJECT = "demo"
JOB = "rerank"
CLOUD = [sys.executable, "-m", "localcloud"]
BOLD, DIM, GREEN, RED, OFF = (
    ("\033[1m", "\033[2m", "\033[32m", "\033[31m", "\033[0m") if sys.stdout.isatty() else [""] * 5
)


class StepFailed(Exception):
    """A step ended badly; its own output has said why."""


@dataclass
class Demo:
    """One run of the demo: the environment of its playbooks and what it has seen."""

    environment: dict[str, str] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    created: list[tuple[str, str]] = field(default_factory=list)

    # -- telling ------------------------------------------------------------------------------------------------
    def chapter(self, title: str) -> None:
        """A heading with the seconds since the demo began."""
        print(f"\n{BOLD}── {title} {OFF}{DIM}({time.monotonic() - self.began:.0f} s){OFF}", flush=True)

    def say(self, text: str) -> None:
        """One line of the story."""
        print(f"  {text}", flush=True)

    # -- doing --------------------------------------------------------------------------------------------------
    def run(self, command: list[str]) -> None:
        """Run a command with our environment, its output going to the reader.

        Raises:
            StepFailed: it did not exit with 0.
        """
        if subprocess.run(command, cwd=ROOT, env=self.environment, check=False).returncode:
            raise StepFailed(shlex.join(command))

    def playbook(self, name: str, **settings: str) -> None:
        """Run one of our playbooks on the demo's project, showing the command that a user would type."""
        chosen = [arg for key, value in settings.items() for arg in ("-e", f"{key}={shlex.quote(value)}")]
        shown = shlex.join(["ansible-playbook", f"playbooks/{name}.yml", "-e", f"lightsout_project={PROJECT}", *chosen])
        print(f"  {DIM}$ {shown}{OFF}", flush=True)
        extra = ["-e", f"lightsout_project={PROJECT}", "-e", f"@{STATE / 'settings.yml'}", *chosen]
        self.run(["ansible-playbook", f"playbooks/{name}.yml", *extra])

    def start_cloud(self) -> None:
        """A clean local cloud: one that an interrupted demo left behind goes first."""
        self.environment = os.environ | {"LIGHTSOUT_PROJECT": PROJECT}
        subprocess.run([*CLOUD, "stop"], cwd=ROOT, env=self.environment, check=False, stdout=subprocess.DEVNULL)
        self.run([*CLOUD, "start"])
        for line in (STATE / "env").read_text().splitlines():
            for assignment in shlex.split(line.removeprefix("export ")):
                key, _, value = assignment.partition("=")
                self.environment[key] = value
        # Made for this run, handed over in the environment: a command line could be read in the process list.
        self.environment["LIGHTSOUT_JUPYTER_PASSWORD"] = secrets.token_urlsafe(18)

    def stop_cloud(self) -> None:
        """Take the local cloud down with every container that it has."""
        subprocess.run([*CLOUD, "stop"], cwd=ROOT, check=False, stdout=subprocess.DEVNULL)

    def api(self, service: str):
        """A boto3 client of the local cloud, for looking at what the playbooks did."""
        keys = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")
        endpoint, key, secret, region = (self.environment[name] for name in keys)
        return boto3.client(
            service, endpoint_url=endpoint, aws_access_key_id=key, aws_secret_access_key=secret, region_name=region
        )

    def tagged(self) -> dict:
        """The EC2 API's own answer to: which machine carries the project's tag?"""
        mine = [{"Name": "tag:lightsout:project", "Values": [PROJECT]}]
        found = self.api("ec2").describe_instances(Filters=mine)["Reservations"]
        return next(i for r in found for i in r["Instances"] if i["State"]["Name"] == "running")

    def ansible_ssh(self, address: str, user: str, command: str) -> str:
        """What a command on the machine prints, over the same ssh that the playbooks use."""
        directory = Path("~/.ssh/lightsout").expanduser()
        options = ["-o", "IdentitiesOnly=yes", "-o", f"HostKeyAlias={self.tagged()['InstanceId']}"]
        options += ["-o", f"UserKnownHostsFile={directory / 'known_hosts'}", "-i", str(directory / f"{PROJECT}.pem")]
        ssh = ["ssh", *options, f"{user}@{address}", command]
        return subprocess.run(ssh, env=self.environment, check=True, capture_output=True, text=True).stdout

    # -- the steps ----------------------------------------------------------------------------------------------
    def look_at_jupyter(self, machine: dict) -> None:
        """Log in from outside, as the reader's browser would, and run a cell; a wrong password must be refused."""
        address = machine["PublicIpAddress"]
        user = next(t["Value"] for t in machine["Tags"] if t["Key"] == "lightsout:user")
        # The certificate comes over ssh, whose host key is known: from then on TLS is verified, not waved through.
        certificate = self.ansible_ssh(address, user, "cat /etc/lightsout/jupyter/certificate.pem")
        jupyter = JupyterClient(f"https://{address}:8888", certificate)
        try:
            jupyter.login("not the password")
        except LoginRefused:
            self.say("a wrong password is refused")
        else:
            raise StepFailed("Jupyter let a wrong password in")
        jupyter.login(self.environment["LIGHTSOUT_JUPYTER_PASSWORD"])
        answer = jupyter.run_cell("import sys, os; print(f'Python {sys.version.split()[0]} in {sys.prefix}')").strip()
        self.say(f"the right one logs in; a cell ran: {answer}")

    def leave_and_come_back(self) -> None:
        """Close every connection of ours, as a closed laptop lid does, and let the job run on without us."""
        subprocess.run(["pkill", "-f", "ssh.*ControlMaster"], check=False)
        self.say("all connections to the machine are closed: the laptop is shut. The job does not notice.")
        time.sleep(5)

    def summary(self, left: str, price: str) -> None:
        """The table at the end."""
        results = sorted((ROOT / "results" / PROJECT / JOB).rglob("*.*"))
        metrics = json.loads(next(p for p in results if p.name == "metrics.json").read_text())
        shown = ", ".join(f"{k} {v}" for k, v in metrics.items() if "mrr" in k.lower())
        rows = [
            *self.created,
            ("on AWS this costs", price),
            ("result", shown),
            ("results are in", f"results/{PROJECT}/{JOB}/ ({len(results)} files)"),
            ("left in the cloud", left),
            ("took", f"{time.monotonic() - self.began:.0f} s"),
        ]
        width = max(len(name) for name, _ in rows)
        print(f"\n{BOLD}{'─' * 96}{OFF}")
        for name, value in rows:
            print(f"  {name.ljust(width)}  {value}")
        print(f"{BOLD}{'─' * 96}{OFF}")
        print("  Now with your own account: the README's section “On AWS” has the five commands.\n", flush=True)


def interrupted(*_: object) -> NoReturn:
    """Ctrl-C and SIGTERM take the same way out."""
    raise KeyboardInterrupt


def play(demo: Demo) -> None:
    """The whole job, from nothing to nothing."""
    demo.chapter("The local cloud: moto answers the AWS API, a podman container is the machine")
    demo.start_cloud()

    demo.chapter("1 · Check: who am I, what will it cost? Nothing is created")
    demo.playbook("check")

    demo.chapter("2 · Provision: key pair, security group, machine")
    demo.playbook("provision")

    demo.chapter("3 · Configure: Anaconda, Jupyter with a hashed password and TLS")
    demo.playbook("configure")
    machine = demo.tagged()
    demo.look_at_jupyter(machine)

    demo.chapter("4 · Train: a passage re-ranker, in the background")
    demo.playbook("train", training_job=JOB, training_source="examples/reranker", training_command="python train.py")
    demo.leave_and_come_back()
    demo.playbook("jobs")
    demo.playbook("logs", training_job=JOB, training_logs_follow="true")
    demo.playbook("fetch", training_job=JOB)

    ec2 = demo.api("ec2")
    mine = [{"Name": "tag:lightsout:project", "Values": [PROJECT]}]
    volume = ec2.describe_volumes(Filters=mine)["Volumes"][0]
    demo.created = [
        ("machine", f"{machine['InstanceId']}  {machine['InstanceType']}  {machine['PublicIpAddress']}"),
        ("disk", f"{volume['VolumeId']}  {volume['Size']} GiB {volume['VolumeType']}, encrypted"),
        ("security group", ec2.describe_security_groups(Filters=mine)["SecurityGroups"][0]["GroupName"]),
        ("key pair", ec2.describe_key_pairs(Filters=mine)["KeyPairs"][0]["KeyName"]),
    ]

    demo.chapter("5 · Teardown, and the proof of zero")
    demo.playbook("teardown", teardown_confirm="false")


def main() -> int:
    """Run the demo; whatever happens, no container stays behind."""
    signal.signal(signal.SIGTERM, interrupted)
    demo = Demo()
    try:
        play(demo)
    except KeyboardInterrupt:
        print(
            f"\n{RED}Stopped.{OFF} The local cloud is taken down; `make demo` starts afresh, `make clean` removes all."
        )
        return 130
    except StepFailed as failure:
        print(
            f"\n{RED}The demo stopped at:{OFF} {failure}\n  The local cloud's log: .lightsout/cloud/log",
            file=sys.stderr,
        )
        return 1
    finally:
        demo.stop_cloud()
    return 0


if __name__ == "__main__":
    sys.exit(main())
