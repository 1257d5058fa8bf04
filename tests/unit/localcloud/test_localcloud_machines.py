"""Containers follow what the API says, with podman and the network replaced by notebooks."""

from __future__ import annotations

import itertools
import json
import subprocess
import time
from datetime import timedelta
from typing import Any

import pytest
from moto import mock_aws

from localcloud import machines as module
from localcloud import moto_extensions, spot
from localcloud.machines import Machines
from localcloud.podman import PodmanError
from localcloud.settings import Settings


class Network:
    """Takes notes."""

    options = ("--network", "none")
    gateway = "127.0.0.1"
    kind = "bridge"

    def __init__(self) -> None:
        self.rules: dict[str, list[Any]] = {}
        self.insides: dict[str, Any] = {}
        self.moves: list[tuple[str, str | None]] = []

    def address_options(self, address: str | None, mac: str) -> list[str]:
        return ["--ip", str(address), "--mac-address", mac]

    def moved(self, container: str, address: str | None, mac: str) -> None:
        self.moves.append((container, address))

    def up(self, container: str, pid: int, address: str | None, rules: list[Any], inside: Any) -> None:
        self.rules[container] = rules
        self.insides[container] = inside

    def guard(self, container: str, rules: list[Any]) -> None:
        self.rules[container] = rules

    def down(self, container: str) -> None:
        self.rules.pop(container, None)


class World:
    """The API, the notebooks and the machines between them."""

    def __init__(self, pod: Any, ec2: Any, settings: Settings) -> None:
        self.pod, self.ec2, self.network = pod, ec2, Network()
        self.image = self.ec2.register_image(Name="unit", RootDeviceName="/dev/sda1", Architecture="x86_64")["ImageId"]
        self.machines = Machines(settings, self.network, "image:tag")
        self.machines.follow_the_api()

    def launch(self, **words: Any) -> str:
        request = {"ImageId": self.image, "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1, **words}
        return self.ec2.run_instances(**request)["Instances"][0]["InstanceId"]

    def show(self, machine: str) -> dict[str, Any]:
        return self.ec2.describe_instances(InstanceIds=[machine])["Reservations"][0]["Instances"][0]

    def look(self) -> None:
        """What the watcher does every third of a second."""
        for instance in self.machines.instances():
            if instance.id in self.machines._up:
                self.machines._guest_ended(instance)


@pytest.fixture
def world(monkeypatch, restored_moto, pod, client_of_moto, tmp_path):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
    monkeypatch.setattr(moto_extensions, "request", type("Request", (), {"environ": {}}))
    monkeypatch.setattr(module, "log", lambda *_: None)
    pod.answers["inspect", "--format", "{{.State.Pid}}"] = "1\n"
    numbers = itertools.count(10)
    with mock_aws():
        moto_extensions.apply(type("Faults", (), {"no_capacity": ()}), lambda: f"10.213.7.{next(numbers)}")
        yield World(pod, client_of_moto, Settings("lab", tmp_path, 1, "bridge"))


def test_a_launch_makes_a_container_with_address_label_and_seed(world, tmp_path):
    world.ec2.import_key_pair(KeyName="k", PublicKeyMaterial=public_key(tmp_path))
    machine = world.launch(KeyName="k", UserData="#!/bin/sh\ntrue\n")
    ((*words,),) = world.pod.called("run")
    assert ("--name", f"localcloud-lab-{machine}") in itertools.pairwise(words)
    assert ("--label", "localcloud=lab") in itertools.pairwise(words)
    assert ("--ip", world.show(machine)["PublicIpAddress"]) in itertools.pairwise(words)
    assert words[-1] == "image:tag"
    seed = tmp_path / "machines" / machine
    assert json.loads((seed / "nocloud/meta-data").read_text())["instance-id"] == machine
    assert json.loads((seed / "nocloud/meta-data").read_text())["public-keys"][0].startswith("ssh-ed25519 ")
    assert (seed / "nocloud/user-data").read_text() == "#!/bin/sh\ntrue\n"
    assert json.loads((seed / "ami.cfg").read_text())["system_info"]["default_user"]["name"] == "ec2-user"
    world.ec2.terminate_instances(InstanceIds=[machine])
    assert world.pod.called("rm") == [("rm", "--force", "--time", "0", f"localcloud-lab-{machine}")]
    assert not seed.exists()


def public_key(folder: Any) -> bytes:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "k")], check=True)
    return (folder / "k.pub").read_bytes()


def test_a_container_that_cannot_be_made_ends_its_machine_with_the_reason(world):
    world.pod.answers["run",] = PodmanError("podman run: no space left on device")
    machine = world.launch()
    shown = world.show(machine)
    assert shown["State"]["Name"] == "terminated"
    assert shown["StateReason"]["Code"] == "Server.InternalError"
    assert "no space left on device" in shown["StateReason"]["Message"]
    assert world.machines.rows()[0]["container"] == ""


def test_a_container_that_cannot_start_again_stays_stopped(world):
    machine = world.launch()
    world.ec2.stop_instances(InstanceIds=[machine])
    world.pod.answers["start",] = PodmanError("podman start: no such file")
    world.ec2.start_instances(InstanceIds=[machine])
    shown = world.show(machine)
    assert (shown["State"]["Name"], shown["StateReason"]["Code"]) == ("stopped", "Server.InternalError")
    world.pod.answers["start",] = ""
    world.ec2.start_instances(InstanceIds=[machine])
    assert world.show(machine)["State"]["Name"] == "running"


def test_stop_start_and_reboot_are_podmans(world):
    machine = world.launch()
    name = f"localcloud-lab-{machine}"
    world.ec2.stop_instances(InstanceIds=[machine])
    assert world.pod.called("stop")[0][-1] == name
    world.ec2.start_instances(InstanceIds=[machine])
    assert world.network.moves == [(name, world.show(machine)["PublicIpAddress"])]
    assert world.pod.called("start") == [("start", name)]
    world.ec2.reboot_instances(InstanceIds=[machine])
    assert world.pod.called("restart")[0][-1] == name
    assert len(world.pod.called("run")) == 1


@pytest.mark.parametrize(
    ("status", "behavior", "state"),
    [("129", "terminate", "running"), ("130", "stop", "stopped"), ("130", "terminate", "terminated")],
)
def test_what_a_guest_does_to_itself_is_what_ec2_says_then(world, status, behavior, state):
    machine = world.launch(InstanceInitiatedShutdownBehavior=behavior)
    world.pod.answers["inspect", "--format", "{{.State.ExitCode}}"] = status
    world.look()
    shown = world.show(machine)
    assert shown["State"]["Name"] == state
    if state != "running":
        assert shown["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
    assert bool(world.pod.called("rm")) == (state == "terminated")


SPOT = {
    "terminate": {"MarketType": "spot", "SpotOptions": {}},
    "stop": {
        "MarketType": "spot",
        "SpotOptions": {"SpotInstanceType": "persistent", "InstanceInterruptionBehavior": "stop"},
    },
}


def wait_for_the_watcher(world: World, monkeypatch: Any) -> None:
    """Let it look once, at machines that are all alive."""
    naps = iter([None])
    monkeypatch.setattr(module, "alive", lambda _: True)
    monkeypatch.setattr(time, "sleep", lambda _: next(naps))
    with pytest.raises(StopIteration):
        world.machines.watch()


@pytest.mark.parametrize(
    ("behavior", "state", "going", "codes"),
    [
        (
            "terminate",
            "terminated",
            "shutting-down",
            ("marked-for-termination", "instance-terminated-no-capacity", "Server.SpotInstanceTermination", "closed"),
        ),
        (
            "stop",
            "stopped",
            "stopping",
            ("marked-for-stop", "instance-stopped-no-capacity", "Server.SpotInstanceShutdown", "open"),
        ),
    ],
)
def test_an_interrupted_machine_runs_until_its_time_and_is_then_shut_down_in_order(
    world, monkeypatch, behavior, state, going, codes
):
    machine = world.launch(InstanceMarketOptions=SPOT[behavior])
    (instance,) = world.machines.instances()

    def request() -> tuple[str, str]:
        (shown,) = world.ec2.describe_spot_instance_requests()["SpotInstanceRequests"]
        return shown["State"], shown["Status"]["Code"]

    ordered = world.machines.interrupt(machine, 120)
    assert timedelta(seconds=120) <= ordered.at - ordered.noticed < timedelta(seconds=121)
    wait_for_the_watcher(world, monkeypatch)
    assert (world.show(machine)["State"]["Name"], request()) == ("running", ("active", codes[0]))

    seen = []
    run = world.pod.run
    monkeypatch.setattr(module.podman, "run", lambda *w, **k: (seen.append((w[0], instance.state)), run(*w, **k))[1])
    ordered.at = ordered.noticed
    wait_for_the_watcher(world, monkeypatch)
    assert seen[0] == ("stop", going)
    shown = world.show(machine)
    assert (shown["State"]["Name"], shown["StateReason"]["Code"]) == (state, codes[2])
    assert request() == (codes[3], codes[1])
    assert bool(world.pod.called("rm")) == (state == "terminated")
    before = len(world.pod.calls)
    wait_for_the_watcher(world, monkeypatch)
    assert len(world.pod.calls) == before
    if behavior == "stop":
        world.ec2.start_instances(InstanceIds=[machine])
        assert spot.metadata(instance) == {}
        assert request() == ("active", "fulfilled")


def test_a_machine_that_its_user_stops_or_ends_is_not_interrupted_any_more(world):
    stopping = world.launch(InstanceMarketOptions=SPOT["stop"])
    ending = world.launch(InstanceMarketOptions=SPOT["terminate"])
    powering_off = world.launch(InstanceMarketOptions=SPOT["stop"])
    for machine in (stopping, ending, powering_off):
        world.machines.interrupt(machine, 120)
    world.ec2.stop_instances(InstanceIds=[stopping])
    world.ec2.terminate_instances(InstanceIds=[ending])
    world.pod.answers["inspect", "--format", "{{.State.ExitCode}}"] = "130"
    world.look()
    assert [spot.interruption_of(instance) for instance in world.machines.instances()] == [None, None, None]
    assert world.show(ending)["StateReason"]["Code"] == "Client.UserInitiatedShutdown"


def test_a_machine_that_reboots_keeps_its_notice(world):
    machine = world.launch(InstanceMarketOptions=SPOT["terminate"])
    ordered = world.machines.interrupt(machine, 120)
    world.ec2.reboot_instances(InstanceIds=[machine])
    (instance,) = world.machines.instances()
    assert spot.interruption_of(instance) is ordered


def test_what_cannot_be_interrupted_is_told(world):
    plain = world.launch()
    stopped = world.launch(InstanceMarketOptions=SPOT["stop"])
    world.ec2.stop_instances(InstanceIds=[stopped])
    warned = world.launch(InstanceMarketOptions=SPOT["terminate"])
    world.machines.interrupt(warned, 120)
    asleep = {"SpotInstanceType": "persistent", "InstanceInterruptionBehavior": "hibernate"}
    sleeper = world.launch(InstanceMarketOptions={"MarketType": "spot", "SpotOptions": asleep})
    for machine, reason in {
        plain: f"{plain} is not a spot instance",
        stopped: f"{stopped} is stopped",
        warned: f"{warned} has its notice already: terminate at ",
        sleeper: f"{sleeper} asks to hibernate",
        "i-0": "there is no instance 'i-0'",
    }.items():
        with pytest.raises(spot.Refused, match=reason):
            world.machines.interrupt(machine, 120)


def test_rules_follow_the_groups_at_once_and_a_machine_without_address_is_closed(world):
    vpc = world.ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    group = world.ec2.create_security_group(GroupName="g", Description="unit", VpcId=vpc)["GroupId"]
    rule = [{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "10.213.7.1/32"}]}]
    nic = {"DeviceIndex": 0, "Groups": [group], "AssociatePublicIpAddress": True}
    open_one = f"localcloud-lab-{world.launch(NetworkInterfaces=[nic])}"
    hidden = f"localcloud-lab-{world.launch(NetworkInterfaces=[{**nic, 'AssociatePublicIpAddress': False}])}"
    assert world.network.rules == {open_one: [], hidden: []}
    world.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=rule)
    assert [r.first for r in world.network.rules[open_one]] == [22]
    assert world.network.rules[hidden] == []
    world.ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=rule)
    assert world.network.rules[open_one] == []


def test_machines_of_a_group_that_admits_itself_admit_each_other_by_both_addresses_and_nobody_else(world):
    vpc = world.ec2.describe_vpcs()["Vpcs"][0]
    ours, theirs = (
        world.ec2.create_security_group(GroupName=name, Description="unit", VpcId=vpc["VpcId"])["GroupId"]
        for name in ("ours", "theirs")
    )
    itself = [{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": ours}]}]
    world.ec2.authorize_security_group_ingress(GroupId=ours, IpPermissions=itself)

    def launch(group: str) -> dict[str, Any]:
        nic = {"DeviceIndex": 0, "Groups": [group], "AssociatePublicIpAddress": True}
        return world.show(world.launch(NetworkInterfaces=[nic]))

    first, second, stranger = launch(ours), launch(ours), launch(theirs)
    (rule,) = world.network.rules[f"localcloud-lab-{first['InstanceId']}"]
    assert rule.admits("tcp", 29500, second["PublicIpAddress"])
    assert rule.admits("udp", 1, second["PrivateIpAddress"])
    assert not rule.admits("tcp", 29500, stranger["PublicIpAddress"])
    assert not rule.admits("tcp", 29500, stranger["PrivateIpAddress"])
    assert world.network.rules[f"localcloud-lab-{stranger['InstanceId']}"] == []
    world.ec2.terminate_instances(InstanceIds=[second["InstanceId"]])
    (rule,) = world.network.rules[f"localcloud-lab-{first['InstanceId']}"]
    assert not rule.admits("tcp", 29500, second["PublicIpAddress"])
    inside = world.network.insides[f"localcloud-lab-{first['InstanceId']}"]
    assert (str(inside.ip), str(inside.network)) == (first["PrivateIpAddress"], vpc["CidrBlock"])


def test_after_the_end_nothing_is_made_any_more(world):
    world.machines.close()
    world.launch()
    assert world.pod.called("run") == []


def test_the_table_of_machines(world):
    machine = world.launch(
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "walker"}]}]
    )
    (row,) = world.machines.rows()
    assert row == {
        "id": machine,
        "name": "walker",
        "type": "t3.micro",
        "state": "running",
        "address": world.show(machine)["PublicIpAddress"],
        "container": f"localcloud-lab-{machine}",
    }


@pytest.mark.parametrize("reboot", [True, False])
def test_an_image_holds_the_machines_files_and_later_machines_run_it(world, pod, monkeypatch, reboot):
    machine = world.launch()
    name = world.machines.container(machine)
    monkeypatch.setattr(module, "request", type("Request", (), {"form": {} if reboot else {"NoReboot": "true"}}))
    pod.calls.clear()
    baked = world.ec2.create_image(InstanceId=machine, Name="baked")["ImageId"]
    kept = ("commit", "--quiet", name, f"localhost/lightsout-baked:{baked}")
    around = [("stop", "--time", "20", name), kept, ("start", name)] if reboot else [kept]
    assert [call for call in pod.calls if call[0] in ("stop", "commit", "start")] == around
    pod.calls.clear()
    world.launch(ImageId=baked)
    (run,) = (call for call in pod.calls if call[0] == "run")
    assert run[-1] == f"localhost/lightsout-baked:{baked}"
    world.ec2.deregister_image(ImageId=baked)
    assert ("untag", f"localhost/lightsout-baked:{baked}") in pod.calls
