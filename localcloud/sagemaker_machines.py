"""SageMaker's notebook instances as containers: a real JupyterLab, the lifecycle scripts, and a volume that stays.

As on SageMaker, a start makes a new machine: only what is in ``/home/ec2-user/SageMaker`` outlives a stop.

https://docs.aws.amazon.com/sagemaker/latest/dg/notebook-lifecycle-config.html
"""

from __future__ import annotations

import base64
import hmac
import ipaddress
import json
import secrets
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from moto.core.utils import unix_time_millis
from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends
from moto.logs.models import logs_backends
from moto.sagemaker.models import sagemaker_backends
from moto.utilities.utils import get_partition

from localcloud import podman, sagemaker_image
from localcloud.firewall import Rule
from localcloud.imds import MetadataService, Tree, credentials
from localcloud.network import Network
from localcloud.sagemaker import Record, backends
from localcloud.sagemaker_notebooks import LINK
from localcloud.settings import Settings, log

#: Seconds that a lifecycle script may take.
SCRIPT_LIMIT = 300

#: Jupyter answers within so many seconds, or the instance has failed.
READY_WITHIN = 180

#: Jupyter's door for browsers.
PORT = 8888

LOG_GROUP = "/aws/sagemaker/NotebookInstances"

#: Exit status of `timeout` when the time was up.
TIMED_OUT = 124

#: Makes the machine what the instance's settings say. Runs as root, before the lifecycle scripts.
SETTLE = """\
set -e
systemctl is-system-running --wait > /dev/null || true
for home in /root /home/ec2-user; do
  mkdir -p $home/.aws
  cp /etc/sagemaker/aws/* $home/.aws/
  chmod -R go= $home/.aws
done
chown -R ec2-user: /home/ec2-user/.aws
chown ec2-user: /home/ec2-user/SageMaker
if [ "{root}" = Enabled ]; then
  echo 'ec2-user ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/ec2-user
fi
"""

#: Runs a lifecycle script, as root, for so long; what it starts in the background does not hold it up.
SCRIPT = """\
mkdir -p /var/log/sagemaker
cp /etc/sagemaker/{name} /var/lib/{name}
chmod 700 /var/lib/{name}
cd /
timeout --kill-after=5 {limit} sh -c /var/lib/{name} > /var/log/sagemaker/{name}.log 2>&1 < /dev/null
echo $?
"""


class ScriptFailed(Exception):
    """A lifecycle script did not end well; the text is the instance's FailureReason."""


class NotebookMachines:
    """All containers of notebook instances of one cloud."""

    def __init__(self, settings: Settings, network: Network) -> None:
        self._settings = settings
        self._network = network
        self._metadata: dict[str, MetadataService] = {}
        self._alone = threading.Lock()

    def container(self, record: Record) -> str:
        """The name of an instance's container, and of its volume."""
        return f"localcloud-{self._settings.name}-{record.region}-notebook-{record.values['NotebookInstanceName']}"

    # -- life ---------------------------------------------------------------------------------------------------------
    def start(self, record: Record, *, new: bool) -> None:
        """Make its machine, run its lifecycle scripts, start Jupyter, and wait until it answers.

        Raises:
            ScriptFailed: a lifecycle script failed, or took too long.
            podman.PodmanError: the machine cannot be made.
        """
        began, name = time.monotonic(), self.container(record)
        with self._alone:  # one builds the image, the others wait
            image = sagemaker_image.ensure_image()
        if new:
            podman.run("volume", "create", "--label", f"{podman.LABEL}={self._settings.name}", name)
        try:
            self._run(record, image)
            self._exec(record, SETTLE.format(root=record.values["RootAccess"]))
            scripts = self._scripts(record)
            for script in ["OnCreate"] * new + ["OnStart"]:
                if scripts.get(script):
                    self._script(record, script)
            self._exec(record, "systemctl start jupyter-server")
            self._wait(record)
        except Exception:
            self.stop(record)
            raise
        log(f"{name} is in service at {record.hidden['address']} after {time.monotonic() - began:.1f} s")

    def _run(self, record: Record, image: str) -> None:
        """The container, guarded, with the metadata service that has its role's credentials."""
        name, address = self.container(record), self._network.new_address()
        record.hidden |= {"address": address, "key": secrets.token_bytes(32)}
        seed = self._seed(record)
        podman.run(
            "run",
            "--detach",
            *("--name", name),
            *("--hostname", f"ip-{address.replace('.', '-')}"),
            *("--label", f"{podman.LABEL}={self._settings.name}"),
            "--systemd=always",
            *self._network.options,
            *self._network.address_options(address, mac_of(address)),
            *("--volume", f"{name}:/home/ec2-user/SageMaker"),
            *("--volume", f"{seed / 'sagemaker'}:/etc/sagemaker:ro"),
            *("--volume", f"{seed / 'metadata'}:/opt/ml/metadata:ro"),
            image,
        )
        pid = int(podman.run("inspect", "--format", "{{.State.Pid}}", name))
        browsers = [Rule("tcp", PORT, PORT, ("0.0.0.0/0",))]
        listener = self._network.up(name, pid, address, browsers, _inside(record))
        if listener:
            version = record.values["InstanceMetadataServiceConfiguration"]["MinimumInstanceMetadataServiceVersion"]
            tokens = "required" if version == "2" else "optional"
            options = SimpleNamespace(http_endpoint="enabled", http_tokens=tokens)
            known = SimpleNamespace(id=name, metadata_options=options)
            self._metadata[name] = MetadataService(listener, known, lambda _: metadata(record))

    def _seed(self, record: Record) -> Path:
        """What the machine is told: who it is, the API's address, the key of its links, the scripts."""
        folder = self._settings.seeds / self.container(record)
        shutil.rmtree(folder, ignore_errors=True)
        inside, told, aws = folder / "sagemaker", folder / "metadata", folder / "sagemaker/aws"
        aws.mkdir(parents=True)
        told.mkdir()
        said = {"ResourceArn": record.arn, "ResourceName": record.values["NotebookInstanceName"]}
        (told / "resource-metadata.json").write_text(json.dumps(said))
        endpoint = f"http://{self._network.gateway}:{self._settings.port}"
        (aws / "config").write_text(f"[default]\nregion = {record.region}\nendpoint_url = {endpoint}\n")
        if self._network.kind == "forward":  # without instance metadata the role's credentials come in a file
            given = json.loads(credentials(role_of(record))())
            (aws / "credentials").write_text(
                f"[default]\naws_access_key_id = {given['AccessKeyId']}\n"
                f"aws_secret_access_key = {given['SecretAccessKey']}\naws_session_token = {given['Token']}\n"
            )
        (inside / "key").write_bytes(record.hidden["key"])
        for name, content in self._scripts(record).items():
            (inside / name).write_bytes(content)
        for path in folder.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        return folder

    @staticmethod
    def _scripts(record: Record) -> dict[str, bytes]:
        """The lifecycle scripts that the instance has now."""
        backend = sagemaker_backends[record.account][record.region]
        name = record.values.get("NotebookInstanceLifecycleConfigName")
        config = backend.notebook_instance_lifecycle_configurations.get(name)
        hooks = {word: config.values[word] for word in ("OnCreate", "OnStart")} if config else {}
        return {word: base64.b64decode(scripts[0].get("Content", "")) for word, scripts in hooks.items() if scripts}

    def _exec(self, record: Record, script: str) -> str:
        """What a shell prints that runs this as root in the machine."""
        return podman.run("exec", "--interactive", self.container(record), "sh", "-s", input=script)

    def _script(self, record: Record, name: str) -> None:
        """Run a lifecycle script, and keep what it said.

        Raises:
            ScriptFailed: with SageMaker's sentence.
        """
        status = int(self._exec(record, SCRIPT.format(name=name, limit=SCRIPT_LIMIT)).split()[-1])
        said = self._exec(record, f"cat /var/log/sagemaker/{name}.log")
        stream = f"{record.values['NotebookInstanceName']}/LifecycleConfig{name}"
        write_log(record, LOG_GROUP, stream, said.splitlines())
        if status == 0:
            return
        config = record.values["NotebookInstanceLifecycleConfigName"]
        place = record.arn.replace("notebook-instance/", "notebook-instance-lifecycle-config/")
        what = f"Notebook Instance Lifecycle Config '{place.rpartition('/')[0]}/{config}' for Notebook Instance"
        if status in (TIMED_OUT, 128 + 9):
            raise ScriptFailed(
                f"{what} '{record.arn}' took longer than {SCRIPT_LIMIT // 60} minutes. Please check your CloudWatch "
                "logs for more details if your Notebook Instance has Internet access."
            )
        raise ScriptFailed(
            f"{what} '{record.arn}' failed: {name} ended with exit status {status}. Please check your CloudWatch logs "
            f"({LOG_GROUP}, {stream})."
        )

    def _wait(self, record: Record) -> None:
        """Until Jupyter answers, be it with a refusal."""
        deadline = time.monotonic() + READY_WITHIN
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"http://{record.hidden['address']}:{PORT}/api", timeout=5)
            except urllib.error.HTTPError:
                return
            except OSError:
                time.sleep(0.2)
        raise TimeoutError(f"Jupyter did not answer within {READY_WITHIN} s")

    def stop(self, record: Record) -> None:
        """The machine goes, its volume stays."""
        name = self.container(record)
        if served := self._metadata.pop(name, None):
            served.close()
        self._network.down(name)
        podman.run("rm", "--force", "--time", "10", name, check=False)
        shutil.rmtree(self._settings.seeds / name, ignore_errors=True)
        record.hidden.pop("address", None)
        log(f"{name} stopped")

    def remove(self, record: Record) -> None:
        """The volume goes, too."""
        self.stop(record)
        podman.run("volume", "rm", "--force", self.container(record))

    # -- browsers -----------------------------------------------------------------------------------------------------
    def url(self, record: Record, session: int) -> str:
        """A link that lets a browser in, once it is opened within the time that a link lives."""
        content = {"until": time.time() + LINK, "session": session}
        said = base64.urlsafe_b64encode(json.dumps({**content, "id": secrets.token_hex(8)}).encode()).decode()
        seal = hmac.digest(record.hidden["key"], said.encode(), "sha256").hex()
        return f"http://{record.hidden['address']}:{PORT}/?authToken={said}.{seal}"

    # -- what `localcloud status` shows -------------------------------------------------------------------------------
    def rows(self) -> Iterator[dict[str, str]]:
        """A row for each notebook instance."""
        for backend in backends():
            for record in list(backend.notebook_instances.values()):
                yield {
                    "id": record.values["NotebookInstanceName"],
                    "name": "(notebook instance)",
                    "type": record.values["InstanceType"],
                    "state": record.status,
                    "address": record.hidden.get("address", ""),
                    "container": self.container(record) if "address" in record.hidden else "",
                }


def metadata(record: Record) -> Tree:
    """What the machine's metadata service tells: little, but the role's credentials."""
    role = role_of(record)
    return {
        "meta-data": {
            "iam": {"security-credentials": {role.name: credentials(role)}},
            "instance-type": record.values["InstanceType"].removeprefix("ml."),
            "placement": {"region": record.region},
        },
    }


def role_of(record: Record) -> Any:
    """The role that the instance runs with, as moto knows it."""
    roles = iam_backends[record.account][get_partition(record.region)].roles.values()
    return next(role for role in roles if role.arn == record.values["RoleArn"])


def _inside(record: Record) -> ipaddress.IPv4Interface | None:
    """Its address in the customer's subnet, if it has one there, with the VPC as its network."""
    if "NetworkInterfaceId" not in record.values:
        return None
    ec2 = ec2_backends[record.account][record.region]
    interface = ec2.enis[record.values["NetworkInterfaceId"]]
    length = ipaddress.IPv4Network(ec2.get_vpc(interface.subnet.vpc_id).cidr_block).prefixlen
    return ipaddress.IPv4Interface(f"{interface.private_ip_address}/{length}")


def mac_of(address: str) -> str:
    """A hardware address for an address."""
    return "02:5a:" + ":".join(f"{int(part):02x}" for part in address.split("."))


def write_log(record: Record, group: str, stream: str, lines: list[str]) -> None:
    """Put lines into CloudWatch Logs, where SageMaker puts them."""
    logs = logs_backends[record.account][record.region]
    if group not in logs.groups:
        logs.create_log_group(group, {})
    if stream not in logs.groups[group].streams:
        logs.create_log_stream(group, stream)
    now = unix_time_millis()
    if events := [{"timestamp": int(now), "message": line} for line in lines if line]:
        logs.put_log_events(group, stream, events)
