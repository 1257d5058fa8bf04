"""The local cloud as its users see it: boto3 and ssh from outside, commands inside the guests."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from botocore.exceptions import ClientError

from localcloud import catalog, podman
from localcloud.settings import alive, recorded
from tests.conftest import Cloud, localcloud, start_cloud
from tests.helpers.waiting import until

pytestmark = pytest.mark.cloud

UBUNTU = f"{catalog.UBUNTU}/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"
USER_DATA = """\
#!/bin/sh
echo once >> /home/ubuntu/from-user-data
"""
METADATA = "http://169.254.169.254/latest"


@dataclass
class Ground:
    """What every machine of these tests stands on."""

    cloud: Cloud
    ec2: Any
    image: str
    key: Path
    group: str
    here: str  # the address that this computer has as the machines see it

    def describe(self, instance_id: str) -> dict[str, Any]:
        """The instance as EC2 tells it."""
        return self.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]

    def launch(self, *, group: str | None = None, **words: Any) -> dict[str, Any]:
        """RunInstances with what every machine here needs; the instance as EC2 tells it then."""
        nic = {
            "DeviceIndex": 0,
            "AssociatePublicIpAddress": True,
            "Groups": [group or self.group],
            **words.pop("nic", {}),
        }
        request = {
            "ImageId": self.image,
            "InstanceType": "t3.micro",
            "KeyName": "tester",
            "MinCount": 1,
            "MaxCount": 1,
            "NetworkInterfaces": [nic],
            **words,
        }
        made = self.ec2.run_instances(**request)["Instances"][0]
        assert made["State"]["Name"] == "pending"  # as EC2 answers
        return self.describe(made["InstanceId"])

    def authorize(self, group: str, port: int, cidr: str) -> list[dict[str, Any]]:
        """Open a port; the rule, for `revoke_security_group_ingress`."""
        rule = [{"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": [{"CidrIp": cidr}]}]
        self.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=rule)
        return rule

    def ssh(self, instance_id: str, command: str) -> str:
        """What a command prints on a machine, typed by the image's login user."""
        done = self.try_ssh(instance_id, command)
        assert done.returncode == 0, f"ssh {instance_id} {command}: {done.stdout}{done.stderr}"
        return done.stdout

    def try_ssh(self, instance_id: str, command: str, key: Path | None = None) -> subprocess.CompletedProcess[str]:
        """The same, which may fail."""
        options = (
            "BatchMode=yes IdentitiesOnly=yes StrictHostKeyChecking=no UserKnownHostsFile=/dev/null LogLevel=ERROR"
        )
        words = (word for option in f"{options} ConnectTimeout=5".split() for word in ("-o", option))
        address = self.describe(instance_id)["PublicIpAddress"]
        return subprocess.run(
            ["ssh", *words, "-i", str(key or self.key), f"ubuntu@{address}", command],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def ssh_when_it_answers(self, instance_id: str, command: str = "true") -> str:
        """The same for a machine that boots; cloud-init restarts its ssh server on the way."""
        booted = "test -e /run/cloud-init/result.json"
        until(lambda: self.try_ssh(instance_id, booted).returncode == 0, "ssh answers")
        return self.ssh(instance_id, command)


def knock(address: str, port: int) -> str:
    """What a TCP connection meets: ``open``, ``refused`` or ``silent``."""
    try:
        socket.create_connection((address, port), timeout=3).close()
    except ConnectionRefusedError:
        return "refused"
    except TimeoutError:
        return "silent"
    return "open"


def refusal(call: Callable[..., Any], **words: Any) -> str:
    """The code of the error that an API call gets."""
    with pytest.raises(ClientError) as error:
        call(**words)
    return error.value.response["Error"]["Code"]


def prepare(cloud: Cloud, folder: Path) -> Ground:
    """Key pair, security group and image in a cloud."""
    ec2 = cloud.client("ec2")
    key = folder / "tester.pem"
    key.write_text(ec2.create_key_pair(KeyName="tester", KeyType="ed25519")["KeyMaterial"])
    key.chmod(0o400)
    settings = dict(line.split(": ", 1) for line in cloud.settings.read_text().splitlines() if ": " in line)
    with urllib.request.urlopen(json.loads(settings["lightsout_checkip_url"]), timeout=10) as answer:
        here = answer.read().decode().strip()
    vpc = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    name = f"tester-{uuid.uuid4().hex[:8]}"
    group = ec2.create_security_group(GroupName=name, Description="tests", VpcId=vpc)["GroupId"]
    image = cloud.client("ssm").get_parameter(Name=UBUNTU)["Parameter"]["Value"]
    ground = Ground(cloud, ec2, image, key, group, here)
    ground.authorize(group, 22, f"{here}/32")
    return ground


@pytest.fixture(scope="module")
def ground(cloud, tmp_path_factory) -> Iterator[Ground]:
    """The session's cloud, prepared; what is left of its machines goes at the end."""
    ground = prepare(cloud, tmp_path_factory.mktemp("keys"))
    yield ground
    every = [i for r in ground.ec2.describe_instances()["Reservations"] for i in r["Instances"]]
    mine = [i["InstanceId"] for i in every if i.get("KeyName") == "tester" and i["State"]["Name"] != "terminated"]
    if mine:
        ground.ec2.terminate_instances(InstanceIds=mine)
    ground.ec2.delete_key_pair(KeyName="tester")


@pytest.fixture(scope="module")
def machine(ground) -> str:
    """A machine that runs and answers to ssh; its id."""
    tags = [{"Key": "Name", "Value": "walker"}, {"Key": "lightsout:project", "Value": "local-cloud-test"}]
    made = ground.launch(
        UserData=USER_DATA,
        BlockDeviceMappings=[
            {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 20, "VolumeType": "gp3", "Encrypted": True}},
            {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 5, "VolumeType": "gp3", "DeleteOnTermination": False}},
        ],
        MetadataOptions={"HttpTokens": "required", "InstanceMetadataTags": "enabled", "HttpPutResponseHopLimit": 1},
        TagSpecifications=[
            {"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume", "network-interface")
        ],
    )
    ground.ssh_when_it_answers(made["InstanceId"])
    return made["InstanceId"]


@pytest.fixture(scope="module")
def address(ground, machine) -> str:
    """The address of the machine, which serves something on a port."""
    port = TestSecurityGroups.PORT
    ground.ssh(machine, f"sudo systemd-run --quiet --unit=served python3 -m http.server {port}")
    until(lambda: "200" in ground.ssh(machine, f"curl -sI localhost:{port} || true"), "the server answers")
    return ground.describe(machine)["PublicIpAddress"]


class TestImages:
    """What a lookup finds."""

    def test_every_public_parameter_names_an_image_that_says_the_same(self, ground):
        ssm = ground.cloud.client("ssm")
        names = [offer.parameter for offer in catalog.OFFERS]
        found = [p for n in range(0, len(names), 10) for p in ssm.get_parameters(Names=names[n : n + 10])["Parameters"]]
        ids = {parameter["Name"]: parameter["Value"] for parameter in found}
        assert ids.keys() == set(names)
        images = {image["ImageId"]: image for image in ground.ec2.describe_images(ImageIds=[*ids.values()])["Images"]}
        for offer in catalog.OFFERS:
            image = images[ids[offer.parameter]]
            assert (image["OwnerId"], image["Architecture"]) == (offer.owner, offer.architecture)
            assert image["Name"].startswith(offer.name)
            assert (image["State"], image["RootDeviceType"]) == ("available", "ebs")
            (disk,) = image["BlockDeviceMappings"]
            assert (disk["DeviceName"], disk["Ebs"]["VolumeSize"]) == (image["RootDeviceName"], offer.size)

    def test_an_image_that_does_not_exist_and_one_for_another_processor_are_refused(self, ground):
        assert refusal(ground.launch, ImageId="ami-00000000000000000") == "InvalidAMIID.NotFound"
        arm = ground.cloud.client("ssm").get_parameter(Name=UBUNTU.replace("amd64", "arm64"))["Parameter"]["Value"]
        assert refusal(ground.launch, ImageId=arm) == "InvalidParameterValue"
        assert refusal(ground.launch, InstanceType="t3.enormous") == "InvalidParameterValue"
        assert refusal(ground.launch, KeyName="nobody") == "InvalidKeyPair.NotFound"


class TestLaunch:
    """A machine as it was asked for."""

    def test_the_key_pair_logs_in_as_the_images_user_who_may_become_root(self, ground, machine, tmp_path):
        assert ground.ssh(machine, "id --user --name; sudo --non-interactive id --user") == "ubuntu\n0\n"
        stranger = tmp_path / "stranger"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(stranger)], check=True)
        assert "Permission denied" in ground.try_ssh(machine, "true", key=stranger).stderr

    def test_user_data_ran(self, ground, machine):
        until(lambda: "once" in ground.ssh(machine, "cat from-user-data || true"), "user data ran")

    def test_it_is_described_with_its_tags_disks_and_interface(self, ground, machine):
        shown = ground.describe(machine)
        assert shown["State"]["Name"] == "running"
        assert {group["GroupId"] for group in shown["SecurityGroups"]} == {ground.group}
        assert {disk["DeviceName"] for disk in shown["BlockDeviceMappings"]} == {"/dev/sda1", "/dev/sdf"}
        tags = {"Name": "walker", "lightsout:project": "local-cloud-test"}
        assert {tag["Key"]: tag["Value"] for tag in shown["Tags"]} == tags

        of_machine = [{"Name": "attachment.instance-id", "Values": [machine]}]
        volumes = {v["Attachments"][0]["Device"]: v for v in ground.ec2.describe_volumes(Filters=of_machine)["Volumes"]}
        root, data = volumes["/dev/sda1"], volumes["/dev/sdf"]
        assert (root["Size"], root["VolumeType"], root["Encrypted"]) == (20, "gp3", True)
        assert (root["Iops"], root["Throughput"]) == (3000, 125)
        assert (data["Size"], data["Encrypted"]) == (5, False)
        for volume in volumes.values():
            assert {tag["Key"]: tag["Value"] for tag in volume["Tags"]} == tags

        (interface,) = ground.ec2.describe_network_interfaces(Filters=of_machine)["NetworkInterfaces"]
        assert interface["Attachment"]["DeleteOnTermination"] is True
        assert interface["Association"]["PublicIp"] == shown["PublicIpAddress"]
        assert {tag["Key"]: tag["Value"] for tag in interface["TagSet"]} == tags

    def test_what_the_request_leaves_open_comes_from_the_image(self, ground):
        made = ground.launch(nic={"AssociatePublicIpAddress": False})
        (disk,) = made["BlockDeviceMappings"]
        assert (disk["DeviceName"], disk["Ebs"]["DeleteOnTermination"]) == ("/dev/sda1", True)
        (volume,) = ground.ec2.describe_volumes(VolumeIds=[disk["Ebs"]["VolumeId"]])["Volumes"]
        assert (volume["Size"], volume["VolumeType"]) == (8, "gp3")
        assert "PublicIpAddress" not in made
        small = [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 4}}]
        assert refusal(ground.launch, BlockDeviceMappings=small) == "InvalidBlockDeviceMapping"
        ground.ec2.modify_volume(VolumeId=volume["VolumeId"], Size=9)
        assert refusal(ground.ec2.modify_volume, VolumeId=volume["VolumeId"], Size=8) == "InvalidParameterValue"

    def test_a_spot_machine_has_a_request_that_can_be_cancelled(self, ground):
        made = ground.launch(
            InstanceMarketOptions={"MarketType": "spot", "SpotOptions": {"SpotInstanceType": "one-time"}},
            TagSpecifications=[{"ResourceType": "spot-instances-request", "Tags": [{"Key": "Name", "Value": "bid"}]}],
        )
        assert made["InstanceLifecycle"] == "spot"
        request = made["SpotInstanceRequestId"]
        (spot,) = ground.ec2.describe_spot_instance_requests(SpotInstanceRequestIds=[request])["SpotInstanceRequests"]
        assert (spot["State"], spot["InstanceId"], spot["Tags"]) == (
            "active",
            made["InstanceId"],
            [{"Key": "Name", "Value": "bid"}],
        )
        assert refusal(ground.ec2.stop_instances, InstanceIds=[made["InstanceId"]]) == "UnsupportedOperation"
        ground.ec2.cancel_spot_instance_requests(SpotInstanceRequestIds=[request])
        assert ground.describe(made["InstanceId"])["State"]["Name"] == "running"
        ground.ec2.terminate_instances(InstanceIds=[made["InstanceId"]])


class TestSecurityGroups:
    """What reaches a machine."""

    PORT = 8000

    def test_a_port_is_closed_until_a_rule_opens_it_and_again_when_the_rule_goes(self, ground, address):
        assert knock(address, self.PORT) == "refused"
        rule = ground.authorize(ground.group, self.PORT, f"{ground.here}/32")
        assert knock(address, self.PORT) == "open"
        ground.ec2.revoke_security_group_ingress(GroupId=ground.group, IpPermissions=rule)
        assert knock(address, self.PORT) == "refused"
        assert knock(address, 22) == "open"

    def test_only_the_source_of_a_rule_may_enter(self, ground, address):
        rule = ground.authorize(ground.group, self.PORT, "192.0.2.0/24")
        assert knock(address, self.PORT) == "refused"
        ground.ec2.revoke_security_group_ingress(GroupId=ground.group, IpPermissions=rule)

    def test_a_replaced_group_is_out_of_force(self, ground, machine, address):
        vpc = ground.describe(machine)["VpcId"]
        name = f"other-{uuid.uuid4().hex[:8]}"
        other = ground.ec2.create_security_group(GroupName=name, Description="tests", VpcId=vpc)["GroupId"]
        ground.authorize(other, self.PORT, f"{ground.here}/32")
        ground.ec2.modify_instance_attribute(InstanceId=machine, Groups=[other])
        assert (knock(address, self.PORT), knock(address, 22)) == ("open", "refused")
        assert refusal(ground.ec2.delete_security_group, GroupId=other) == "DependencyViolation"
        ground.ec2.modify_instance_attribute(InstanceId=machine, Groups=[ground.group])
        assert (knock(address, self.PORT), knock(address, 22)) == ("refused", "open")
        ground.ec2.delete_security_group(GroupId=other)


class TestMetadata:
    """169.254.169.254 inside the guest."""

    @staticmethod
    def get(ground: Ground, machine: str, path: str, *, token: bool = True) -> str:
        """Status and text of a page."""
        ask = f"curl -sX PUT {METADATA}/api/token -H 'X-aws-ec2-metadata-token-ttl-seconds: 60'"
        header = f'-H "X-aws-ec2-metadata-token: $({ask})"' if token else ""
        return ground.ssh(machine, f"curl -s -w '|%{{http_code}}' {header} {METADATA}/{path}")

    def test_a_token_is_needed(self, ground, machine):
        assert self.get(ground, machine, "meta-data/instance-id", token=False) == "|401"
        assert self.get(ground, machine, "meta-data/instance-id") == f"{machine}|200"

    def test_it_tells_what_ec2_tells(self, ground, machine):
        shown = ground.describe(machine)
        assert self.get(ground, machine, "meta-data/public-ipv4") == f"{shown['PublicIpAddress']}|200"
        assert self.get(ground, machine, "meta-data/placement/region") == "us-east-1|200"
        assert self.get(ground, machine, "meta-data/tags/instance/Name") == "walker|200"
        assert self.get(ground, machine, "user-data") == f"{USER_DATA}|200"
        assert self.get(ground, machine, "meta-data/spot/instance-action") == "|404"
        document, _, status = self.get(ground, machine, "dynamic/instance-identity/document").rpartition("|")
        assert (status, json.loads(document)["instanceId"]) == ("200", machine)

    def test_options_can_be_changed_while_it_runs_and_the_others_stay(self, ground, machine):
        ground.ec2.modify_instance_metadata_options(InstanceId=machine, HttpTokens="optional")
        assert self.get(ground, machine, "meta-data/instance-id", token=False) == f"{machine}|200"
        ground.ec2.modify_instance_metadata_options(InstanceId=machine, InstanceMetadataTags="disabled")
        assert self.get(ground, machine, "meta-data/tags/instance/Name") == "|404"
        ground.ec2.modify_instance_metadata_options(
            InstanceId=machine, HttpTokens="required", HttpPutResponseHopLimit=2
        )
        options = ground.describe(machine)["MetadataOptions"]
        assert (options["HttpTokens"], options["HttpPutResponseHopLimit"]) == ("required", 2)
        assert (options["HttpEndpoint"], options["InstanceMetadataTags"]) == ("enabled", "disabled")


@pytest.fixture
def listener(ground) -> Iterator[tuple[str, list[str]]]:
    """A web server of this computer that machines reach: its URL, and the paths that were asked for."""
    heard: list[str] = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer((ground.here, 0), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://{ground.here}:{server.server_port}", heard
    server.shutdown()
    server.server_close()


class TestInterruption:
    """Spot machines that EC2 takes away."""

    PAGES = ("spot/instance-action", "spot/termination-time", "events/recommendations/rebalance")

    @staticmethod
    def interrupt(ground: Ground, *words: str) -> subprocess.CompletedProcess[str]:
        """What the command says."""
        return localcloud("interrupt", *words, "--state-dir", str(ground.cloud.state_dir))

    @staticmethod
    def request(ground: Ground, machine: dict[str, Any]) -> tuple[str, str]:
        """State and status of a machine's spot request."""
        ids = [machine["SpotInstanceRequestId"]]
        (shown,) = ground.ec2.describe_spot_instance_requests(SpotInstanceRequestIds=ids)["SpotInstanceRequests"]
        return shown["State"], shown["Status"]["Code"]

    @staticmethod
    def at_its_end(ground: Ground, machine: str, command: str) -> None:
        """Let a service of the machine run a command when it is stopped in order."""
        ground.ssh(machine, f"sudo systemd-run --quiet --unit=worker --property=ExecStop='{command}' sleep infinity")

    def test_two_minutes_or_less_of_notice_then_an_orderly_end(self, ground, listener):
        url, heard = listener
        made = ground.launch(InstanceMarketOptions={"MarketType": "spot"})
        machine = made["InstanceId"]
        ground.ssh_when_it_answers(machine)
        self.at_its_end(ground, machine, f"/usr/bin/curl -s {url}/goodbye")
        assert [TestMetadata.get(ground, machine, f"meta-data/{page}") for page in self.PAGES] == ["|404"] * 3

        done = self.interrupt(ground, machine, "--notice", "8")
        assert done.returncode == 0, done.stderr
        answers = [TestMetadata.get(ground, machine, f"meta-data/{page}") for page in self.PAGES]
        assert all(answer.endswith("|200") for answer in answers), answers
        action, end, rebalance = (answer.removesuffix("|200") for answer in answers)
        assert json.loads(action) == {"action": "terminate", "time": end}
        assert json.loads(rebalance)["noticeTime"] < end
        assert f"terminate at {end}, in 8 s" in done.stdout
        assert (ground.describe(machine)["State"]["Name"], heard) == ("running", [])
        assert self.request(ground, made) == ("active", "marked-for-termination")
        again = self.interrupt(ground, machine)
        assert (again.returncode, again.stdout) == (2, "")
        assert again.stderr == f"localcloud: {machine} has its notice already: terminate at {end}\n"

        until(lambda: ground.describe(machine)["State"]["Name"] == "terminated", "it is taken away")
        assert time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()) >= end
        assert heard == ["/goodbye"]
        assert ground.describe(machine)["StateReason"]["Code"] == "Server.SpotInstanceTermination"
        assert self.request(ground, made) == ("closed", "instance-terminated-no-capacity")
        assert not [name for name in ground.cloud.containers() if machine in name]

    def test_one_that_asked_to_stop_is_stopped_in_order_and_can_go_on(self, ground):
        options = {"SpotInstanceType": "persistent", "InstanceInterruptionBehavior": "stop"}
        made = ground.launch(InstanceMarketOptions={"MarketType": "spot", "SpotOptions": options})
        machine = made["InstanceId"]
        ground.ssh_when_it_answers(machine)
        self.at_its_end(ground, machine, "/usr/bin/touch /home/ubuntu/stopped-in-order")
        assert self.interrupt(ground, machine, "--notice", "0").returncode == 0
        until(lambda: ground.describe(machine)["State"]["Name"] == "stopped", "it is stopped")
        assert ground.describe(machine)["StateReason"]["Code"] == "Server.SpotInstanceShutdown"
        assert self.request(ground, made) == ("open", "instance-stopped-no-capacity")
        ground.ec2.start_instances(InstanceIds=[machine])
        assert "stopped-in-order" in ground.ssh_when_it_answers(machine, "ls")
        assert TestMetadata.get(ground, machine, "meta-data/spot/instance-action") == "|404"
        assert self.request(ground, made) == ("active", "fulfilled")

    def test_a_machine_on_demand_is_not_interrupted(self, ground, machine):
        refused = self.interrupt(ground, machine)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert refused.stderr == f"localcloud: {machine} is not a spot instance: only those are interrupted\n"


class TestObjectStorage:
    """S3 as a machine uses it: by the role of its instance profile, without a key of its own."""

    POLICY: ClassVar = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::*"},
            {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": "arn:aws:s3:::*"},
        ],
    }

    @pytest.fixture
    def profile(self, ground) -> Iterator[str]:
        """An instance profile whose role may read and write, but not delete."""
        iam, name = ground.cloud.client("iam"), f"tester-{uuid.uuid4().hex[:8]}"
        trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
        trusted = {"Version": "2012-10-17", "Statement": [trust]}
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trusted))
        iam.put_role_policy(RoleName=name, PolicyName="sync", PolicyDocument=json.dumps(self.POLICY))
        iam.create_instance_profile(InstanceProfileName=name)
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
        yield name
        iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName=name)
        iam.delete_instance_profile(InstanceProfileName=name)
        iam.delete_role_policy(RoleName=name, PolicyName="sync")
        iam.delete_role(RoleName=name)

    @contextmanager
    def enforced(self, ground: Ground) -> Iterator[None]:
        """Signatures and policies count, for whoever asks: moto's own switch."""

        def after(calls: str) -> None:
            plain = {"Content-Type": "text/plain"}
            url = f"{ground.cloud.endpoint}/moto-api/reset-auth"
            urllib.request.urlopen(urllib.request.Request(url, calls.encode(), plain), timeout=10).close()

        after("0")
        try:
            yield
        finally:
            after("inf")

    @pytest.fixture
    def ready(self, ground, profile) -> str:
        """A machine with the profile, rclone, and files to copy."""
        made = ground.launch(IamInstanceProfile={"Name": profile}, MetadataOptions={"HttpTokens": "required"})
        machine = made["InstanceId"]
        ground.ssh_when_it_answers(machine)
        ground.ssh(machine, "sudo apt-get update -qq")
        ground.ssh(machine, "sudo apt-get install -qq -y --no-install-recommends rclone >&2")
        ground.ssh(
            machine,
            "mkdir -p out/sub && cd out && echo small > small && : > empty && echo odd > 'sub/a b+é' &&"
            " head -c 12000000 /dev/urandom > big",
        )
        return machine

    def test_rclone_copies_there_and_back_with_the_roles_credentials_only(self, ground, ready):
        s3, bucket = ground.cloud.client("s3"), f"tester-{uuid.uuid4().hex[:8]}"
        s3.create_bucket(Bucket=bucket)
        settings = dict(line.split(": ", 1) for line in ground.cloud.settings.read_text().splitlines() if ": " in line)
        endpoint = json.loads(settings["training_sync_endpoint"])
        # Less than the usual size of a part, so that a small file comes in several.
        rclone = (
            f"timeout 40 rclone --config= --retries 1 --s3-provider Other --s3-env-auth --s3-endpoint {endpoint}"
            " --s3-region us-east-1 --s3-force-path-style --s3-no-check-bucket"
            " --s3-upload-cutoff 5M --s3-chunk-size 5M"
        )
        target = f":s3:{bucket}/results"
        ground.ssh(ready, f"{rclone} copy out {target}")
        assert ground.ssh(ready, "env | grep ^AWS_; ls -A ~/.aws ~/.config/rclone 2>/dev/null; true") == ""
        keys = {each["Key"]: each for each in s3.list_objects_v2(Bucket=bucket)["Contents"]}
        assert set(keys) == {f"results/{name}" for name in ("small", "empty", "big", "sub/a b+é")}
        assert keys["results/big"]["ETag"].endswith('-3"')  # it came in parts
        assert s3.get_object(Bucket=bucket, Key="results/sub/a b+é")["Body"].read() == b"odd\n"

        script = (
            f"{rclone} copy {target} back && diff -r out back && echo same;"
            f" echo more > out/more; {rclone} copy out {target} && echo copied;"
            f" {rclone} delete {target} 2>&1 | grep --only-matching --max-count=1 AccessDenied"
        )
        # Not by ssh: EC2 tells no address meanwhile, since the tests' own keys are made up.
        name = f"localcloud-{ground.cloud.name}-{ready}"
        with self.enforced(ground):
            answer = podman.run("exec", "--user", "ubuntu", "--workdir", "/home/ubuntu", name, "sh", "-c", script)
        assert answer.split() == ["same", "copied", "AccessDenied"]
        assert s3.get_object(Bucket=bucket, Key="results/more")["Body"].read() == b"more\n"


class TestLife:
    """One machine through everything that EC2 and its guest can do to it, in this order."""

    BOOTED = "systemctl show --value --property UserspaceTimestampMonotonic; stat -c %Y /proc/1"

    def rebooted(self, ground: Ground, machine: str, before: str) -> None:
        """Wait until the machine answers with the marks of another boot than ``before``."""

        def changed() -> bool:
            try:
                return ground.ssh(machine, self.BOOTED) != before
            except AssertionError:  # it is going down, or coming up
                return False

        until(changed, "it booted again")

    def test_the_api_reboots_it_and_address_and_disk_stay(self, ground, machine):
        address, before = ground.describe(machine)["PublicIpAddress"], ground.ssh(machine, self.BOOTED)
        ground.ssh(machine, "echo kept > kept; sync")
        ground.ec2.reboot_instances(InstanceIds=[machine])
        self.rebooted(ground, machine, before)
        assert ground.describe(machine)["PublicIpAddress"] == address
        assert ground.ssh(machine, "cat kept") == "kept\n"

    def test_the_guest_reboots_itself_and_is_guarded_as_before(self, ground, machine):
        address, before = ground.describe(machine)["PublicIpAddress"], ground.ssh(machine, self.BOOTED)
        ground.try_ssh(machine, "sudo systemctl reboot")
        self.rebooted(ground, machine, before)
        shown = ground.describe(machine)
        assert (shown["PublicIpAddress"], shown["State"]["Name"]) == (address, "running")
        assert TestMetadata.get(ground, machine, "meta-data/instance-id") == f"{machine}|200"
        assert ground.ssh(machine, "cat kept from-user-data") == "kept\nonce\n"

    def test_a_stopped_machine_keeps_its_disk_and_gets_another_address(self, ground, machine):
        address = ground.describe(machine)["PublicIpAddress"]
        ground.ec2.stop_instances(InstanceIds=[machine])
        shown = ground.describe(machine)
        assert shown["State"]["Name"] == "stopped"
        assert "PublicIpAddress" not in shown
        assert len(shown["BlockDeviceMappings"]) == 2
        assert refusal(ground.ec2.reboot_instances, InstanceIds=[machine]) == "IncorrectInstanceState"
        ground.ec2.modify_instance_attribute(InstanceId=machine, InstanceType={"Value": "t3.small"})
        ground.ec2.start_instances(InstanceIds=[machine])
        shown = ground.describe(machine)
        assert (shown["State"]["Name"], shown["InstanceType"]) == ("running", "t3.small")
        assert shown["PublicIpAddress"] != address
        assert ground.ssh_when_it_answers(machine, "cat kept from-user-data") == "kept\nonce\n"
        assert knock(shown["PublicIpAddress"], TestSecurityGroups.PORT) == "refused"

    def test_to_start_a_running_machine_changes_nothing(self, ground, machine):
        before = ground.describe(machine)
        ground.ec2.start_instances(InstanceIds=[machine])
        assert ground.describe(machine) == before
        words = {"InstanceId": machine, "InstanceType": {"Value": "t3.micro"}}
        assert refusal(ground.ec2.modify_instance_attribute, **words) == "IncorrectInstanceState"

    def test_an_elastic_address_outlives_a_stop(self, ground, machine):
        elastic = ground.ec2.allocate_address(Domain="vpc")
        ground.ec2.associate_address(InstanceId=machine, AllocationId=elastic["AllocationId"])
        assert ground.describe(machine)["PublicIpAddress"] == elastic["PublicIp"]
        ground.ssh_when_it_answers(machine)
        ground.ec2.stop_instances(InstanceIds=[machine])
        ground.ec2.start_instances(InstanceIds=[machine])
        assert ground.describe(machine)["PublicIpAddress"] == elastic["PublicIp"]
        ground.ssh_when_it_answers(machine)
        (address,) = ground.ec2.describe_addresses(AllocationIds=[elastic["AllocationId"]])["Addresses"]
        ground.ec2.disassociate_address(AssociationId=address["AssociationId"])
        ground.ec2.release_address(AllocationId=elastic["AllocationId"])
        assert ground.describe(machine)["PublicIpAddress"] != elastic["PublicIp"]
        ground.ssh_when_it_answers(machine)

    def test_a_guest_that_powers_off_is_stopped(self, ground, machine):
        ground.try_ssh(machine, "sudo systemctl poweroff")
        until(lambda: ground.describe(machine)["State"]["Name"] == "stopped", "the machine is stopped")
        assert ground.describe(machine)["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
        ground.ec2.start_instances(InstanceIds=[machine])
        assert ground.ssh_when_it_answers(machine, "cat kept") == "kept\n"

    def test_or_terminated_where_it_was_told_so_and_only_kept_disks_stay(self, ground, machine):
        words = {"InstanceId": machine, "InstanceInitiatedShutdownBehavior": {"Value": "hibernate"}}
        assert refusal(ground.ec2.modify_instance_attribute, **words) == "InvalidParameterValue"
        words["InstanceInitiatedShutdownBehavior"]["Value"] = "terminate"
        ground.ec2.modify_instance_attribute(**words)
        shown = ground.describe(machine)
        assert shown["SecurityGroups"]  # moto itself would have emptied them
        disks = {disk["DeviceName"]: disk["Ebs"]["VolumeId"] for disk in shown["BlockDeviceMappings"]}
        interface = shown["NetworkInterfaces"][0]["NetworkInterfaceId"]

        ground.try_ssh(machine, "sudo systemctl poweroff")
        until(lambda: ground.describe(machine)["State"]["Name"] == "terminated", "the machine is terminated")
        until(lambda: not [name for name in ground.cloud.containers() if machine in name], "the container is gone")
        left = [volume["VolumeId"] for volume in ground.ec2.describe_volumes()["Volumes"]]
        assert disks["/dev/sda1"] not in left
        assert disks["/dev/sdf"] in left
        (kept,) = ground.ec2.describe_volumes(VolumeIds=[disks["/dev/sdf"]])["Volumes"]
        assert (kept["State"], kept["Attachments"]) == ("available", [])
        ground.ec2.delete_volume(VolumeId=kept["VolumeId"])
        words = {"NetworkInterfaceIds": [interface]}
        assert refusal(ground.ec2.describe_network_interfaces, **words) == "InvalidNetworkInterfaceID.NotFound"
        gone = ground.describe(machine)
        assert (gone["NetworkInterfaces"], gone["BlockDeviceMappings"]) == ([], [])

    def test_the_dead_stay_dead(self, ground, machine):
        assert refusal(ground.ec2.start_instances, InstanceIds=[machine]) == "IncorrectInstanceState"
        ground.ec2.terminate_instances(InstanceIds=[machine])
        assert ground.describe(machine)["State"]["Name"] == "terminated"

    def test_a_protected_machine_cannot_be_terminated(self, ground):
        machine = ground.launch(DisableApiTermination=True)["InstanceId"]
        assert refusal(ground.ec2.terminate_instances, InstanceIds=[machine]) == "OperationNotPermitted"
        ground.ec2.modify_instance_attribute(InstanceId=machine, DisableApiTermination={"Value": False})
        ground.ec2.terminate_instances(InstanceIds=[machine])
        assert not [name for name in ground.cloud.containers() if machine in name]


class TestClientTokens:
    """One token, one machine."""

    def test_two_requests_at_once_make_one_machine_and_other_parameters_are_an_error(self, ground):
        token = uuid.uuid4().hex
        with ThreadPoolExecutor() as pool:
            both = list(pool.map(lambda _: ground.launch(ClientToken=token)["InstanceId"], range(2)))
        assert len(set(both)) == 1
        words = {"ClientToken": token, "InstanceType": "t3.small"}
        assert refusal(ground.launch, **words) == "IdempotentParameterMismatch"

        ground.ec2.terminate_instances(InstanceIds=[both[0]])
        dead = ground.launch(ClientToken=token)
        assert (dead["InstanceId"], dead["State"]["Name"]) == (both[0], "terminated")
        assert refusal(ground.launch, **words) == "IdempotentParameterMismatch"
        with_token = [{"Name": "client-token", "Values": [token]}]
        found = ground.ec2.describe_instances(Filters=with_token)["Reservations"]
        assert [i["InstanceId"] for r in found for i in r["Instances"]] == [both[0]]

    def test_a_request_that_failed_leaves_its_token_free(self, ground):
        token = uuid.uuid4().hex
        assert refusal(ground.launch, ClientToken=token, KeyName="nobody") == "InvalidKeyPair.NotFound"
        made = ground.launch(ClientToken=token)["InstanceId"]
        ground.ec2.terminate_instances(InstanceIds=[made])


def listening(pid: int) -> set[str]:
    """The addresses and ports that a process listens on, TCP and UDP."""
    lines = subprocess.check_output(["ss", "-Hlntup"], text=True).splitlines()
    return {line.split()[4] for line in lines if f"pid={pid}," in line}


@pytest.fixture
def folder(tmp_path) -> Iterator[Path]:
    """A state folder whose cloud, if one still runs, is stopped at the end."""
    yield tmp_path / "cloud"
    localcloud("stop", "--state-dir", str(tmp_path / "cloud"))


class TestCloud:
    """Start, crash and stop of a second cloud beside the session's."""

    def test_it_listens_on_its_own_addresses_only_and_its_files_are_nobody_elses_business(self, cloud):
        record = recorded(cloud.state_dir)
        settings = cloud.settings.read_text()
        bridge = re.search(r"http://([\d.]+):\d+/lightsout/files/", settings).group(1)
        assert listening(record["pid"]) == {f"127.0.0.1:{record['port']}", f"{bridge}:{record['port']}"}
        assert stat.S_IMODE((cloud.state_dir / "machines").stat().st_mode) == 0o700

    def test_one_of_each_name_and_folder_a_crash_is_cleaned_up_and_stop_leaves_nothing(self, cloud, folder, tmp_path):
        name = f"test-{os.getpid()}-b"
        second = start_cloud(name, folder)
        ground = prepare(second, tmp_path)
        ground.launch()
        assert len(second.containers()) == 1

        again = localcloud("start", "--name", name, "--state-dir", str(folder))
        assert (again.returncode, "runs already" in again.stdout) == (0, True)
        elsewhere = localcloud("start", "--name", name, "--state-dir", str(tmp_path / "elsewhere"))
        assert elsewhere.returncode == 1
        assert f"a cloud called '{name}' runs already, from another folder: choose --name" in elsewhere.stderr
        assert len(second.containers()) == 1

        os.kill(recorded(folder)["pid"], signal.SIGKILL)
        until(lambda: localcloud("status", "--state-dir", str(folder)).returncode == 3, "the cloud is dead")
        assert len(second.containers()) == 1
        second = start_cloud(name, folder)
        assert second.containers() == []
        assert second.client("ec2").describe_instances()["Reservations"] == []
        (tmp_path / "again").mkdir()
        prepare(second, tmp_path / "again").launch()
        shown = localcloud("status", "--state-dir", str(folder))
        assert (shown.returncode, "(1 machine)" in shown.stdout, "running" in shown.stdout) == (0, True, True)

        pid, gateway = recorded(folder)["pid"], ground.here
        stopped = localcloud("stop", "--state-dir", str(folder))
        assert (stopped.returncode, stopped.stdout) == (0, "The local cloud is stopped.\n")
        assert second.containers() == []
        assert f"localcloud-{name}" not in podman.run("network", "ls", "--format", "{{.Name}}").split()
        assert gateway not in subprocess.check_output(["ip", "-o", "address"], text=True)
        assert "security_groups" not in subprocess.check_output(["nft", "list", "tables"], text=True)
        assert not alive(pid)
        assert sorted(path.name for path in folder.iterdir()) == ["lock", "log", "machines"]
        assert cloud.client("ec2").describe_regions()["Regions"]  # the session's cloud never noticed
        stopped = localcloud("stop", "--state-dir", str(folder))
        assert (stopped.returncode, stopped.stdout) == (0, "No local cloud runs here.\n")

    def test_forwarded_addresses_where_there_is_no_bridge(self, folder, tmp_path):
        second = start_cloud(f"test-{os.getpid()}-f", folder, "--network", "forward")
        ground = prepare(second, tmp_path)
        assert ground.here == "127.0.0.1"
        made = ground.launch()
        assert made["PublicIpAddress"].startswith("127.0.")
        assert ground.ssh_when_it_answers(made["InstanceId"], "id --user --name") == "ubuntu\n"
        ground.ssh(made["InstanceId"], "sudo systemd-run --quiet --unit=served python3 -m http.server 8888")
        assert knock_and_read(made["PublicIpAddress"], 8888) == ""
        ground.authorize(ground.group, 8888, "127.0.0.0/8")
        until(lambda: "200 OK" in knock_and_read(made["PublicIpAddress"], 8888), "the port is forwarded")
        ground.ec2.stop_instances(InstanceIds=[made["InstanceId"]])
        assert knock(made["PublicIpAddress"], 22) == "refused"
        ground.ec2.start_instances(InstanceIds=[made["InstanceId"]])
        assert ground.describe(made["InstanceId"])["PublicIpAddress"] != made["PublicIpAddress"]
        ground.ssh_when_it_answers(made["InstanceId"])


def knock_and_read(address: str, port: int) -> str:
    """What an HTTP server says first; nothing where the connection is reset."""
    try:
        with urllib.request.urlopen(f"http://{address}:{port}/", timeout=5) as answer:
            return f"{answer.status} {answer.reason}"
    except OSError:
        return ""
