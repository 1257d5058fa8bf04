"""Keeps one container for each EC2 instance.

Whatever the API says, the containers follow; what a guest does, the API learns. moto holds the truth about instances:
`reconcile` runs after each API call that changes one, and a watcher sees guests that power themselves off or reboot.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import request
from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.ec2.models import EC2Backend, ec2_backends
from moto.ec2.models.amis import Ami
from moto.ec2.models.instances import Instance, StateReason
from moto.ec2.responses.general import General

from localcloud import catalog, podman, spot
from localcloud.firewall import Rule, rules_of
from localcloud.imds import MetadataService
from localcloud.network import Network
from localcloud.settings import CloudError, Settings, alive, log

#: Exit status of a container whose init was told to power off or to reboot (it needs the capability SYS_BOOT for that).
REBOOTED = 129

#: Seconds between two looks at the guests.
WATCH_EVERY = 0.3

#: The AMI that is not ours still needs a login user.
FALLBACK_USER = "ec2-user"

#: Kinds of ssh host keys. Clouds make RSA keys, too; one takes seconds, in which nobody can log in.
HOST_KEYS = ["ed25519", "ecdsa"]

#: An interrupted instance's state, and its code, while its guest shuts down.
GOING = {"terminate": ("shutting-down", 32), "stop": ("stopping", 64)}

#: Where a guest writes what a real one writes to its serial console: containers have none.
CONSOLE = "/var/log/cloud-init-output.log"

#: The line with which each boot begins there, and how many bytes EC2 keeps.
BOOT, CONSOLE_KEEPS = "running 'init-local'", 64 * 1024

#: Certificates of this computer, for machines behind the same proxy.
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass
class Machine:
    """A container that is up.

    Attributes:
        pid: its init, as this computer counts processes; it ends when the guest powers off.
        rules: the packet filter that is in force.
        metadata: its metadata service, where the network can offer one.
    """

    pid: int
    address: str | None
    rules: list[Rule]
    metadata: MetadataService | None


class Machines:
    """All containers of one cloud."""

    def __init__(self, settings: Settings, network: Network, image: str) -> None:
        self._settings = settings
        self._network = network
        self._image = image
        self._lock = threading.RLock()
        self._up: dict[str, Machine] = {}
        self._baked: dict[str, str] = {}
        self._made: set[str] = set()
        self._reboot: set[str] = set()
        self._closed = False

    # -- the API's side ---------------------------------------------------------------------------------------
    def follow_the_api(self) -> None:
        """Call `reconcile` after everything in moto that may change what a machine is or what reaches it."""
        for name in ("run_instances", "start_instances", "stop_instances", "terminate_instances"):
            self._after(EC2Backend, name)
        for name in (
            "associate_address",
            "disassociate_address",
            "authorize_security_group_ingress",
            "revoke_security_group_ingress",
            "modify_security_group_rules",
            "modify_instance_security_groups",
            "modify_network_interface_attribute",
            "attach_network_interface",
            "detach_network_interface",
        ):
            self._after(EC2Backend, name)

        original = Instance.reboot

        def reboot(instance: Instance) -> None:
            original(instance)
            self._reboot.add(instance.id)

        Instance.reboot = reboot
        self._after(EC2Backend, "reboot_instances")
        self._keep_images()
        self._show_consoles()

    def _show_consoles(self) -> None:
        """GetConsoleOutput tells what the guest said, in base64; moto has a sample of somebody else's."""

        def get_console_output(response: General) -> ActionResult:
            instance = response.ec2_backend.get_instance(response._get_param("InstanceId"))
            said = self.console(instance.id).encode()[-CONSOLE_KEEPS:]
            return ActionResult(
                {"InstanceId": instance.id, "Timestamp": utcnow()}
                | ({"Output": base64.b64encode(said).decode()} if said else {})
            )

        General.get_console_output = get_console_output

    def console(self, instance_id: str) -> str:
        """What a machine said since it last booted, running or not; nothing when it is gone."""
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "console"
            podman.run("cp", f"{self.container(instance_id)}:{CONSOLE}", str(copy), check=False)
            text = copy.read_text(errors="replace") if copy.exists() else ""
        boot = text.rfind("\n", 0, max(text.rfind(BOOT), 0)) + 1
        return text[boot:]

    def _keep_images(self) -> None:
        """A container's files become an image when the API makes an AMI of its instance, and go with it."""
        create, deregister = EC2Backend.create_image, EC2Backend.deregister_image

        def created(backend: EC2Backend, instance_id: str, *args: Any, **kwargs: Any) -> Ami:
            ami = create(backend, instance_id, *args, **kwargs)
            reboot = request.form.get("NoReboot") != "true"
            with self._lock:
                self._bake(backend.get_instance(instance_id), ami.id, reboot)
            return ami

        def deregistered(backend: EC2Backend, ami_id: str) -> None:
            deregister(backend, ami_id)
            with self._lock:
                if image := self._baked.pop(ami_id, None):
                    podman.run("untag", image)  # containers may still run it

        EC2Backend.create_image, EC2Backend.deregister_image = created, deregistered

    def _bake(self, instance: Instance, ami_id: str, reboot: bool) -> None:
        """Like EC2, shut the machine down for a whole disk, unless told not to."""
        name, running = self.container(instance.id), instance.id in self._up
        if running and reboot:
            self._is_down(instance)
            podman.run("stop", "--time", "20", name)
        self._baked[ami_id] = f"localhost/lightsout-baked:{ami_id}"
        podman.run("commit", "--quiet", name, self._baked[ami_id])
        if running and reboot:
            podman.run("start", name)
            self._is_up(instance)
        log(f"{ami_id} holds the disk of {instance.id}")

    def _after(self, owner: type, name: str) -> None:
        original: Callable[..., Any] = getattr(owner, name)

        def wrapped(backend: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return original(backend, *args, **kwargs)
            finally:  # of several instances some may have changed before one was refused
                self.reconcile()

        setattr(owner, name, wrapped)

    @staticmethod
    def instances() -> Iterator[Instance]:
        """Every instance of every account and region."""
        for account in list(ec2_backends.values()):
            for backend in list(account.values()):
                for reservation in list(backend.reservations.values()):
                    yield from list(reservation.instances)

    def reconcile(self) -> None:
        """Make the containers what the API says; several at once, since each takes half a second."""
        with self._lock:
            if self._closed:
                return
            work = [job for instance in self.instances() if (job := self._work(instance))]
            if len(work) == 1:
                work[0]()
            elif work:
                with ThreadPoolExecutor(max_workers=4) as pool:
                    for done in [pool.submit(job) for job in work]:
                        done.result()
            self._guard()

    def close(self, patience: float = 30.0) -> None:
        """Take no more orders; returns when what is under way is done, or after ``patience`` seconds."""
        self._closed = True
        if self._lock.acquire(timeout=patience):
            self._lock.release()

    def _work(self, instance: Instance) -> Callable[[], None] | None:
        """What this instance's container needs; None where it is as it should be."""
        up, made = instance.id in self._up, instance.id in self._made
        state = instance.state
        if state == "running" and up and instance.id in self._reboot:
            return lambda: self._restart(instance)
        if state == "running" and not up:
            return lambda: self._launch(instance, self._start if made else self._create)
        if state == "running" and up and self._up[instance.id].address != instance.public_ip:
            return lambda: self._readdress(instance)
        if state == "stopped" and up:
            return lambda: self._stop(instance)
        if state == "terminated" and made:
            return lambda: self._remove(instance)
        return None

    # -- containers -------------------------------------------------------------------------------------------
    def container(self, instance_id: str) -> str:
        """The name of an instance's container."""
        return f"localcloud-{self._settings.name}-{instance_id}"

    def _launch(self, instance: Instance, launch: Callable[[Instance], None]) -> None:
        """Let a machine run. Where it cannot, EC2 ends a new one, and an old one stays stopped; both say why."""
        try:
            launch(instance)
        except (CloudError, podman.PodmanError) as error:
            log(f"{instance.id} cannot run: {error}")
            self._up.pop(instance.id, None)
            if launch == self._start:
                instance.stop()
            else:
                podman.run("rm", "--force", "--time", "0", self.container(instance.id), check=False)
                self._made.discard(instance.id)
                instance.terminate()
            instance.state_reason = StateReason(f"Server.InternalError: {error}", "Server.InternalError")

    def _create(self, instance: Instance) -> None:
        began = time.monotonic()
        offer = catalog.offer_of(instance.image_id)
        seed = self._seed(instance, offer.user if offer else FALLBACK_USER)
        mounts = {
            seed / "nocloud": "/var/lib/cloud/seed/nocloud",
            seed / "ami.cfg": "/etc/cloud/cloud.cfg.d/99_zz_ami.cfg",
        }
        if CERTIFICATES.exists():
            mounts[CERTIFICATES] = str(CERTIFICATES)
        podman.run(
            "run",
            "--detach",
            *("--name", self.container(instance.id)),
            *("--hostname", instance.private_dns_name.partition(".")[0]),
            *("--label", f"{podman.LABEL}={self._settings.name}"),
            "--systemd=always",
            *("--cap-add", "SYS_BOOT"),
            *self._network.options,
            *self._network.address_options(instance.public_ip, instance.nics[0].mac_address),
            *(word for source, target in mounts.items() for word in ("--volume", f"{source}:{target}:ro")),
            self._baked.get(instance.image_id, self._image),
        )
        self._made.add(instance.id)
        self._is_up(instance)
        log(f"{instance.id} runs at {instance.public_ip} after {time.monotonic() - began:.1f} s")

    def _seed(self, instance: Instance, user: str) -> Path:
        """cloud-init's input: who may log in, and the user data."""
        folder = self._settings.seeds / instance.id
        (folder / "nocloud").mkdir(parents=True, exist_ok=True)
        key = instance.ec2_backend.key_pairs.get(instance.key_name)
        metadata = {
            "instance-id": instance.id,
            "local-hostname": instance.private_dns_name.partition(".")[0],
            "public-keys": [key.public_key.strip()] if key else [],
        }
        (folder / "nocloud/meta-data").write_text(json.dumps(metadata))
        data = base64.b64decode(instance.user_data.as_bytes()) if instance.user_data else b""
        (folder / "nocloud/user-data").write_bytes(data)
        login = {
            "name": user,
            "gecos": user,
            "groups": ["adm", "sudo"],
            "sudo": ["ALL=(ALL) NOPASSWD:ALL"],
            "shell": "/bin/bash",
            "lock_passwd": True,
        }
        settings = {
            "system_info": {"default_user": login},
            "users": ["default"],
            "ssh_genkeytypes": HOST_KEYS,
            # The image's own, and the one that shows the host keys on the console, as all cloud images do.
            "cloud_final_modules": ["scripts-user", "ssh-authkey-fingerprints", "keys-to-console", "final-message"],
        }
        (folder / "ami.cfg").write_text(json.dumps(settings))
        return folder

    def _start(self, instance: Instance) -> None:
        spot.forget(instance)
        self._network.moved(self.container(instance.id), instance.public_ip, instance.nics[0].mac_address)
        podman.run("start", self.container(instance.id))
        self._is_up(instance)
        log(f"{instance.id} started at {instance.public_ip}")

    def _is_up(self, instance: Instance) -> None:
        """Guard a container that has just started, before its ssh server answers."""
        name = self.container(instance.id)
        pid = int(podman.run("inspect", "--format", "{{.State.Pid}}", name))
        rules = self._rules(instance)
        listener = self._network.up(name, pid, instance.public_ip, rules, private_address(instance))
        metadata = MetadataService(listener, instance) if listener else None
        self._up[instance.id] = Machine(pid, instance.public_ip, rules, metadata)

    def _is_down(self, instance: Instance) -> None:
        machine = self._up.pop(instance.id, None)
        if machine and machine.metadata:
            machine.metadata.close()
        self._network.down(self.container(instance.id))

    def _stop(self, instance: Instance) -> None:
        spot.forget(instance)
        self._is_down(instance)
        podman.run("stop", "--time", "20", self.container(instance.id))
        log(f"{instance.id} stopped")

    def _restart(self, instance: Instance) -> None:
        self._reboot.discard(instance.id)
        self._is_down(instance)
        podman.run("restart", "--time", "20", self.container(instance.id))
        self._is_up(instance)
        log(f"{instance.id} rebooted by the API")

    def _readdress(self, instance: Instance) -> None:
        """An Elastic IP came or went; the machine keeps running."""
        name = self.container(instance.id)
        self._is_down(instance)
        self._network.moved(name, instance.public_ip, instance.nics[0].mac_address)
        self._is_up(instance)
        log(f"{instance.id} is now at {instance.public_ip}")

    def _remove(self, instance: Instance) -> None:
        if (ordered := spot.interruption_of(instance)) and not ordered.done:
            spot.forget(instance)
        self._is_down(instance)
        podman.run("rm", "--force", "--time", "0", self.container(instance.id))
        self._made.discard(instance.id)
        shutil.rmtree(self._settings.seeds / instance.id, ignore_errors=True)
        log(f"{instance.id} removed")

    # -- security groups --------------------------------------------------------------------------------------
    def _rules(self, instance: Instance) -> list[Rule]:
        if not instance.public_ip:
            return []  # its container has an address that nobody was told: nothing may come in
        members: dict[str, list[str]] = {}
        for other in self.instances():
            if other.state == "running" and other.public_ip:
                for group in {group.id for nic in other.nics.values() for group in nic.group_set}:
                    members.setdefault(group, []).extend([other.public_ip, other.private_ip])
        return rules_of(instance, members)

    def _guard(self) -> None:
        """Bring the packet filters up to date."""
        for instance in self.instances():
            machine = self._up.get(instance.id)
            if machine and (rules := self._rules(instance)) != machine.rules:
                self._network.guard(self.container(instance.id), rules)
                machine.rules = rules

    # -- the guests' side -------------------------------------------------------------------------------------
    def watch(self) -> None:
        """Look after the guests until the process ends."""
        while not self._closed:
            time.sleep(WATCH_EVERY)
            try:
                with self._lock:
                    for instance in self.instances():
                        machine = self._up.get(instance.id)
                        if machine and not alive(machine.pid):
                            self._guest_ended(instance)
                        elif machine and (ordered := spot.interruption_of(instance)) and ordered.due():
                            self._interrupt(instance, ordered)
            except Exception as error:  # the watcher must outlive whatever a guest does
                log("watch:", repr(error))

    def _guest_ended(self, instance: Instance) -> None:
        """The guest rebooted or powered off by itself: do what EC2 does then."""
        name = self.container(instance.id)
        podman.run("wait", name, check=False)
        code = int(podman.run("inspect", "--format", "{{.State.ExitCode}}", name))
        self._is_down(instance)
        if code == REBOOTED:
            podman.run("start", name)
            self._is_up(instance)
            log(f"{instance.id} rebooted itself")
            return
        spot.forget(instance)
        behavior = instance.instance_initiated_shutdown_behavior
        log(f"{instance.id} powered itself off (exit status {code}): {behavior}")
        if behavior == "terminate":
            instance.terminate()
        else:
            instance.stop()
        reason = "Client.InstanceInitiatedShutdown"
        instance.state_reason = StateReason(f"{reason}: Instance initiated shutdown", reason)
        self.reconcile()

    # -- spot -------------------------------------------------------------------------------------------------
    def interrupt(self, instance_id: str, notice: int) -> spot.Interruption:
        """Give notice to a spot machine; the watcher interrupts it when the time has come.

        Raises:
            spot.Refused: there is no such machine, or it cannot be interrupted.
        """
        with self._lock:
            found = next((instance for instance in self.instances() if instance.id == instance_id), None)
            if found is None:
                raise spot.Refused(f"there is no instance '{instance_id}'")
            ordered = spot.order(found, notice)
        log(f"{instance_id} has its notice: {ordered.action} at {spot.stamp(ordered.at)}")
        return ordered

    def _interrupt(self, instance: Instance, ordered: spot.Interruption) -> None:
        """Shut the guest down in order, then end or stop its instance."""
        ordered.done = True  # before anything can fail: it is not tried again and again
        # On its way down the guest may still ask its metadata service why.
        instance._state.name, instance._state.code = GOING[ordered.action]
        podman.run("stop", "--time", "20", self.container(instance.id), check=False)
        self._is_down(instance)
        if ordered.action == "terminate":
            instance.terminate()
        else:
            instance.stop()
        instance.state_reason = StateReason(*ordered.reason)
        instance._reason = ordered.reason[0]
        log(f"{instance.id} interrupted: {instance.state}")
        self.reconcile()

    # -- beginning and end ------------------------------------------------------------------------------------
    def rows(self) -> list[dict[str, str]]:
        """What `localcloud status` shows."""
        return [
            {
                "id": instance.id,
                "name": next((tag["value"] for tag in instance.get_tags() if tag["key"] == "Name"), ""),
                "type": instance.instance_type,
                "state": instance.state,
                "address": instance.public_ip or "",
                "container": self.container(instance.id) if instance.id in self._made else "",
            }
            for instance in self.instances()
        ]


def private_address(instance: Instance) -> ipaddress.IPv4Interface:
    """The address inside a machine's VPC, with the VPC as its network: there are no routers between its subnets."""
    interface = instance.nics[0]
    vpc = instance.ec2_backend.get_vpc(interface.subnet.vpc_id)
    length = ipaddress.IPv4Network(vpc.cidr_block).prefixlen
    return ipaddress.IPv4Interface(f"{interface.private_ip_address}/{length}")


def ensure_seeds_folder(settings: Settings) -> None:
    """An empty folder for the machines' seeds; user data is nobody else's business."""
    shutil.rmtree(settings.seeds, ignore_errors=True)
    settings.seeds.mkdir(parents=True, mode=0o700)
    settings.seeds.chmod(0o700)  # whatever the umask says
