"""``make demo``: the main job of Lightsout, on the local cloud, in front of the reader's eyes.

Nothing here does the work: each step is an ``ansible-playbook`` run that a user would type, against the local cloud's
endpoint. What this file adds is the order, a password made for the occasion, a look at Jupyter from outside, and the
table at the end.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from localcloud.running import client, environment
from plugins.module_utils import prices
from tools.jupyter_client import JupyterClient, LoginRefused

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".lightsout/cloud"
KEYS = ROOT / ".lightsout/demo-keys"
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
    # Ours alone, so that closing them closes nobody else's; short, as paths of sockets must be.
    connections: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="demo-ssh-")))

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
        # Its keys stay with it: a project of yours may have the same name.
        extra = ["-e", f"lightsout_project={PROJECT}", "-e", f"lightsout_key_directory={KEYS}"]
        extra += ["-e", "access_ssh_include=false"]  # your ssh configuration is yours
        extra += ["-e", f"@{STATE / 'settings.yml'}", *chosen]
        self.run(["ansible-playbook", f"playbooks/{name}.yml", *extra])

    def start_cloud(self) -> None:
        """A clean local cloud: one that an interrupted demo left behind goes first."""
        self.environment = os.environ | {"ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.connections)}
        subprocess.run([*CLOUD, "stop"], cwd=ROOT, env=self.environment, check=False, stdout=subprocess.DEVNULL)
        self.run([*CLOUD, "start"])
        self.environment |= environment(STATE)
        # Made for this run, handed over in the environment: a command line could be read in the process list.
        self.environment["LIGHTSOUT_JUPYTER_PASSWORD"] = secrets.token_urlsafe(18)

    def stop_cloud(self) -> None:
        """Take the local cloud down with every container that it has."""
        subprocess.run([*CLOUD, "stop"], cwd=ROOT, check=False, stdout=subprocess.DEVNULL)

    def api(self, service: str):
        """A boto3 client of the local cloud, for looking at what the playbooks did."""
        return client(self.environment, service)

    # -- the steps ----------------------------------------------------------------------------------------------
    def look_at_jupyter(self) -> None:
        """Log in from outside, as the reader's browser would, and run a cell; a wrong password must be refused."""
        # The certificate comes over ssh, whose host key is known: from then on TLS is verified, not waved through.
        certificate = self.ssh("cat /etc/lightsout/jupyter/certificate.pem")
        (tunnel,) = KEYS.glob(f"{PROJECT}-*.tunnel")
        port = re.fullmatch(rf"{PROJECT}-(\d+)\.tunnel", tunnel.name)[1]
        with JupyterClient(f"https://127.0.0.1:{port}", certificate) as jupyter:
            try:
                jupyter.login("not the password")
            except LoginRefused:
                self.say("a wrong password is refused")
            else:
                raise StepFailed("Jupyter let a wrong password in")
            jupyter.login(self.environment["LIGHTSOUT_JUPYTER_PASSWORD"])
            code = "import sys; print(f'Python {sys.version.split()[0]} in {sys.prefix}')"
            self.say(
                f"the right one logs in, over a verified certificate; a cell ran: {jupyter.run_cell(code).strip()}"
            )

    def leave(self) -> None:
        """Close every connection of ours, as a closed laptop lid does, and let the job run on without us."""
        for control in (*self.connections.iterdir(), *KEYS.glob("*.tunnel")):
            subprocess.run(["ssh", "-O", "exit", "-o", f"ControlPath={control}", "-"], check=False, capture_output=True)
        self.say("every connection to the machine is closed, as if the laptop were shut; the job does not notice")
        time.sleep(5)

    def inventory_of(self) -> dict[str, list[dict]]:
        """Everything that carries the project's tag, asked of the API itself and not of our own teardown."""
        ec2 = self.api("ec2")
        mine = [{"Name": "tag:lightsout:project", "Values": [PROJECT]}]
        instances = [i for r in ec2.describe_instances(Filters=mine)["Reservations"] for i in r["Instances"]]
        return {
            "machine": [i for i in instances if i["State"]["Name"] != "terminated"],
            "disk": ec2.describe_volumes(Filters=mine)["Volumes"],
            "security group": ec2.describe_security_groups(Filters=mine)["SecurityGroups"],
            "key pair": ec2.describe_key_pairs(Filters=mine)["KeyPairs"],
            "address": ec2.describe_addresses(Filters=mine)["Addresses"],
        }

    def summary(self, created: dict[str, list[dict]], left: dict[str, list[dict]]) -> None:
        """The table at the end: what there was, what it would cost, where the results are, and what is left."""
        (machine,), (disk,) = created["machine"], created["disk"]
        price = prices.estimate(machine["InstanceType"], disk["Size"], public_ip=True)
        folder = ROOT / "results" / PROJECT / JOB
        metrics = json.loads((folder / "metrics.json").read_text())
        count = sum(len(found) for found in left.values())
        rows = {
            "machine": f"{machine['InstanceId']}, {machine['InstanceType']}, {machine['PublicIpAddress']}",
            "disk": f"{disk['VolumeId']}, {disk['Size']} GiB {disk['VolumeType']}, encrypted",
            "security group": created["security group"][0]["GroupName"],
            "key pair": created["key pair"][0]["KeyName"],
            "on AWS": f"USD {price.hour:.4f} an hour (list prices of {prices.AS_OF}, {prices.REGION})",
            "result": f"MRR@10 {metrics['mrr_at_10_trained']:.3f} (untrained {metrics['mrr_at_10_untrained']:.3f})",
            "results are in": f"{folder.relative_to(ROOT)}/",
            "left": f"{count} resources left",
            "took": f"{time.monotonic() - self.began:.0f} s",
        }
        print(f"\n{BOLD}{'─' * 88}{OFF}")
        for name, value in rows.items():
            print(f"  {name:<16}{value}")
        print(f"{BOLD}{'─' * 88}{OFF}\n  With your own AWS account: README.md, “On AWS”.\n", flush=True)
        if count:
            raise StepFailed(f"the teardown left {count} resources")


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

    demo.chapter("3 · Configure: Anaconda, Jupyter with a hashed password and TLS, and a tunnel to it")
    demo.playbook("configure")
    demo.playbook("jupyter")
    demo.look_at_jupyter()

    demo.chapter("4 · Train: a passage re-ranker, in the background")
    demo.playbook("train", training_job=JOB, training_source="examples/reranker", training_command="python train.py")
    demo.leave()
    demo.playbook("jobs")
    demo.playbook("logs", training_job=JOB, training_logs_follow="true")
    demo.playbook("fetch", training_job=JOB)
    created = demo.inventory_of()

    demo.chapter("5 · Teardown, and the proof of zero")
    demo.playbook("teardown", teardown_confirm="false")
    demo.summary(created, demo.inventory_of())


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
        shutil.rmtree(demo.connections, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
