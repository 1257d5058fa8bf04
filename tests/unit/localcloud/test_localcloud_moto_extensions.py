"""What moto does otherwise than EC2, asked through boto3: each test fails without its extension."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.core import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends

from localcloud import catalog, moto_extensions
from localcloud.moto_extensions import InvalidBlockDeviceMapping, merged_devices


@pytest.fixture
def faults() -> SimpleNamespace:
    return SimpleNamespace(no_capacity=set())


@pytest.fixture
def ec2(monkeypatch, restored_moto, faults, client_of_moto):
    """A client of an extended moto in this process."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
    monkeypatch.setattr(moto_extensions, "request", SimpleNamespace(environ={}))
    numbers = itertools.count(10)
    with mock_aws():
        moto_extensions.apply(faults, lambda: f"10.213.7.{next(numbers)}")
        yield client_of_moto


@pytest.fixture
def launch(ec2) -> Callable[..., dict[str, Any]]:
    image = ec2.register_image(Name="unit")["ImageId"]
    registered = ec2_backends[DEFAULT_ACCOUNT_ID]["us-east-1"].amis[image]
    registered.architecture, registered.root_device_name = "x86_64", "/dev/xvda"

    def launch(**words: Any) -> dict[str, Any]:
        request = {"ImageId": image, "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1, **words}
        made = ec2.run_instances(**request)["Instances"][0]["InstanceId"]
        return ec2.describe_instances(InstanceIds=[made])["Reservations"][0]["Instances"][0]

    return launch


def code(call: Callable[..., Any], **words: Any) -> str:
    with pytest.raises(ClientError) as error:
        call(**words)
    return error.value.response["Error"]["Code"]


def test_public_addresses_come_from_the_network(launch, ec2):
    machine = launch()
    assert machine["PublicIpAddress"].startswith("10.213.7.")
    assert machine["PublicDnsName"] == machine["PublicIpAddress"]
    assert ec2.allocate_address(Domain="vpc")["PublicIp"].startswith("10.213.7.")


def test_private_addresses_are_of_the_subnet_and_of_one_machine(launch, ec2):
    machines = [launch() for _ in range(3)]
    subnet = ec2.describe_subnets(SubnetIds=[machines[0]["SubnetId"]])["Subnets"][0]["CidrBlock"]
    addresses = {ipaddress.ip_address(machine["PrivateIpAddress"]) for machine in machines}
    assert len(addresses) == 3 and all(address in ipaddress.ip_network(subnet) for address in addresses)


def test_an_elastic_address_stays_over_a_stop_and_is_given_back_at_the_end(launch, ec2):
    machine = launch()["InstanceId"]
    elastic = ec2.allocate_address(Domain="vpc")
    association = ec2.associate_address(InstanceId=machine, AllocationId=elastic["AllocationId"])["AssociationId"]

    def address() -> str | None:
        shown = ec2.describe_instances(InstanceIds=[machine])["Reservations"][0]["Instances"][0]
        return shown.get("PublicIpAddress")

    ec2.stop_instances(InstanceIds=[machine])
    ec2.start_instances(InstanceIds=[machine])
    assert address() == elastic["PublicIp"]
    ec2.disassociate_address(AssociationId=association)
    assert address() not in (None, elastic["PublicIp"])
    ec2.associate_address(InstanceId=machine, AllocationId=elastic["AllocationId"])
    ec2.terminate_instances(InstanceIds=[machine])
    (shown,) = ec2.describe_addresses()["Addresses"]
    assert not shown.get("AssociationId")


def test_a_dead_machine_has_no_interface_and_a_running_one_is_not_started_anew(launch, ec2):
    machine = launch()
    ids = {"InstanceIds": [machine["InstanceId"]]}
    ec2.start_instances(**ids)
    assert ec2.describe_instances(**ids)["Reservations"][0]["Instances"][0] == machine
    ec2.stop_instances(**ids)
    assert code(ec2.reboot_instances, **ids) == "IncorrectInstanceState"
    ec2.terminate_instances(**ids)
    ec2.terminate_instances(**ids)
    assert code(ec2.start_instances, **ids) == "IncorrectInstanceState"
    assert code(ec2.stop_instances, **ids) == "IncorrectInstanceState"
    assert ec2.describe_network_interfaces()["NetworkInterfaces"] == []
    assert ec2.describe_volumes()["Volumes"] == []


def test_an_interface_that_shall_stay_stays(launch, ec2):
    nic = {"DeviceIndex": 0, "DeleteOnTermination": False}
    machine = launch(NetworkInterfaces=[nic])
    ec2.terminate_instances(InstanceIds=[machine["InstanceId"]])
    (left,) = ec2.describe_network_interfaces()["NetworkInterfaces"]
    assert left["Status"] == "available"
    assert not left.get("Attachment")


def test_groups_are_replaced_not_added_and_stay_while_in_use(launch, ec2):
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    first, second = (
        ec2.create_security_group(GroupName=name, Description="unit", VpcId=vpc)["GroupId"] for name in ("a", "b")
    )
    machine = launch(SecurityGroupIds=[first])["InstanceId"]
    ec2.modify_instance_attribute(InstanceId=machine, Groups=[second])
    shown = ec2.describe_instances(InstanceIds=[machine])["Reservations"][0]["Instances"][0]
    for groups in (shown["SecurityGroups"], shown["NetworkInterfaces"][0]["Groups"]):
        assert [group["GroupId"] for group in groups] == [second]
    assert code(ec2.delete_security_group, GroupId=second) == "DependencyViolation"
    rule = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": first}]}
    ec2.authorize_security_group_ingress(GroupId=second, IpPermissions=[rule])
    assert code(ec2.delete_security_group, GroupId=first) == "DependencyViolation"
    ec2.revoke_security_group_ingress(GroupId=second, IpPermissions=[rule])
    ec2.delete_security_group(GroupId=first)


def test_attributes(launch, ec2):
    machine = launch()["InstanceId"]

    def attribute(name: str) -> Any:
        answer = ec2.describe_instance_attribute(InstanceId=machine, Attribute=name)
        return answer[name[0].upper() + name[1:]]["Value"]

    for value in ({"InstanceInitiatedShutdownBehavior": {"Value": "terminate"}}, {"Value": "stop"}):
        named = {"Attribute": "instanceInitiatedShutdownBehavior"} if "Value" in value else {}
        ec2.modify_instance_attribute(InstanceId=machine, **named, **value)
        wanted = value.get("Value") or "terminate"
        assert attribute("instanceInitiatedShutdownBehavior") == wanted
    wrong = {"InstanceId": machine, "InstanceInitiatedShutdownBehavior": {"Value": "explode"}}
    assert code(ec2.modify_instance_attribute, **wrong) == "InvalidParameterValue"
    bigger = {"InstanceId": machine, "InstanceType": {"Value": "t3.large"}}
    assert code(ec2.modify_instance_attribute, **bigger) == "IncorrectInstanceState"
    ec2.modify_instance_attribute(InstanceId=machine, Attribute="disableApiTermination", Value="true")
    assert code(ec2.terminate_instances, InstanceIds=[machine]) == "OperationNotPermitted"
    ec2.modify_instance_attribute(InstanceId=machine, Attribute="disableApiTermination", Value="false")
    ec2.stop_instances(InstanceIds=[machine])
    ec2.modify_instance_attribute(**bigger)
    assert attribute("instanceType") == "t3.large"


def test_metadata_options_that_are_not_named_stay(launch, ec2):
    options = {"HttpTokens": "required", "InstanceMetadataTags": "enabled", "HttpPutResponseHopLimit": 2}
    machine = launch(MetadataOptions=options)["InstanceId"]
    ec2.modify_instance_metadata_options(InstanceId=machine, HttpPutResponseHopLimit=1)
    shown = ec2.describe_instances(InstanceIds=[machine])["Reservations"][0]["Instances"][0]["MetadataOptions"]
    assert {key: shown[key] for key in options} == {**options, "HttpPutResponseHopLimit": 1}
    assert shown["HttpEndpoint"] == "enabled"


def test_disks_of_the_image_and_of_the_request():
    root = {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 8, "SnapshotId": "snap-1", "VolumeType": "gp3"}}
    data = {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 5}}
    assert merged_devices([root], []) == [root]
    encrypted = {"DeviceName": "/dev/sda1", "Ebs": {"Encrypted": True}}
    assert merged_devices([root], [data, encrypted]) == [{**root, "Ebs": {**root["Ebs"], "Encrypted": True}}, data]
    assert merged_devices([root], [{"DeviceName": "/dev/sda1", "NoDevice": ""}]) == []
    with pytest.raises(InvalidBlockDeviceMapping, match="expect size >= 8GB"):
        merged_devices([root], [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 7}}])


def test_disks_interfaces_and_protection_are_as_asked(launch, ec2):
    tags = [{"Key": "lightsout:project", "Value": "lab"}]
    machine = launch(
        BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"Encrypted": True, "Iops": 4000, "Throughput": 200}}],
        TagSpecifications=[{"ResourceType": "network-interface", "Tags": tags}],
        DisableApiTermination=True,
    )
    (volume,) = ec2.describe_volumes()["Volumes"]
    assert (volume["Size"], volume["Encrypted"], volume["Iops"], volume["Throughput"]) == (15, True, 4000, 200)
    assert volume["Attachments"][0]["Device"] == "/dev/xvda"
    (interface,) = ec2.describe_network_interfaces()["NetworkInterfaces"]
    assert (interface["TagSet"], interface["Attachment"]["DeleteOnTermination"]) == (tags, True)
    assert code(ec2.terminate_instances, InstanceIds=[machine["InstanceId"]]) == "OperationNotPermitted"
    assert code(ec2.modify_volume, VolumeId=volume["VolumeId"], Size=14) == "InvalidParameterValue"


def test_as_many_machines_as_may_be(launch, ec2):
    launch(MinCount=1, MaxCount=3)
    found = ec2.describe_instances()["Reservations"]
    assert len([i for r in found for i in r["Instances"]]) == 3


def test_a_token_makes_one_machine_and_can_be_looked_for(launch, ec2):
    first = launch(ClientToken="t")
    assert launch(ClientToken="t")["InstanceId"] == first["InstanceId"]
    assert code(launch, ClientToken="t", InstanceType="t3.small") == "IdempotentParameterMismatch"
    found = ec2.describe_instances(Filters=[{"Name": "client-token", "Values": ["t"]}])["Reservations"]
    assert [i["InstanceId"] for r in found for i in r["Instances"]] == [first["InstanceId"]]


def test_what_cannot_run_is_refused(launch, faults):
    assert code(launch, InstanceType="t4g.micro") == "InvalidParameterValue"  # arm
    assert code(launch, InstanceType="t3.enormous") == "InvalidParameterValue"
    faults.no_capacity = {"us-east-1b"}
    zone = {"Placement": {"AvailabilityZone": "us-east-1b"}}
    assert code(launch, **zone) == "InsufficientInstanceCapacity"
    faults.no_capacity = set()
    assert launch(**zone)["Placement"]["AvailabilityZone"] == "us-east-1b"


@pytest.mark.parametrize(
    ("kind", "states"), [("persistent", ["active", "disabled", "open"]), ("one-time", ["active", None, "closed"])]
)
def test_a_spot_request_follows_its_machine(launch, ec2, kind, states):
    behavior = {"persistent": "stop", "one-time": "terminate"}[kind]
    options = {"SpotInstanceType": kind, "MaxPrice": "0.5", "InstanceInterruptionBehavior": behavior}
    market = {"MarketType": "spot", "SpotOptions": options}
    machine = launch(InstanceMarketOptions=market)
    assert machine["InstanceLifecycle"] == "spot"
    ids = {"InstanceIds": [machine["InstanceId"]]}
    request = {"SpotInstanceRequestIds": [machine["SpotInstanceRequestId"]]}

    def shown() -> dict[str, Any]:
        return ec2.describe_spot_instance_requests(**request)["SpotInstanceRequests"][0]

    assert (shown()["State"], shown()["Status"]["Code"]) == (states[0], "fulfilled")
    assert shown()["InstanceInterruptionBehavior"] == behavior
    if states[1]:
        ec2.stop_instances(**ids)
        assert (shown()["State"], shown()["Status"]["Code"]) == (states[1], "instance-stopped-by-user")
    else:
        assert code(ec2.stop_instances, **ids) == "UnsupportedOperation"
    ec2.terminate_instances(**ids)
    assert (shown()["State"], shown()["Status"]["Code"]) == (states[2], "instance-terminated-by-user")
    ec2.cancel_spot_instance_requests(**request)
    assert ec2.describe_spot_instance_requests()["SpotInstanceRequests"] == []


@pytest.mark.parametrize(
    ("kind", "behavior", "error"),
    [
        ("one-time", "stop", "InvalidParameterCombination"),
        ("one-time", "hibernate", "InvalidParameterCombination"),
        ("persistent", "terminate", "InvalidParameterCombination"),
        ("one-time", "explode", "InvalidParameterValue"),
    ],
)
def test_what_shall_stop_when_interrupted_needs_a_request_that_lasts(launch, ec2, kind, behavior, error):
    market = {
        "MarketType": "spot",
        "SpotOptions": {"SpotInstanceType": kind, "InstanceInterruptionBehavior": behavior},
    }
    assert code(launch, InstanceMarketOptions=market) == error
    assert ec2.describe_instances()["Reservations"] == []


def test_an_object_in_a_bucket_without_versions_has_the_version_null_and_an_upload_in_parts_does_not_say_so(ec2):
    s3 = boto3.client("s3", region_name="us-east-1")
    s3.create_bucket(Bucket="plain")
    s3.create_bucket(Bucket="kept")
    s3.put_bucket_versioning(Bucket="kept", VersioningConfiguration={"Status": "Enabled"})
    for bucket, versions in (("plain", False), ("kept", True)):
        words = {"Bucket": bucket, "Key": "big"}
        upload = {**words, "UploadId": s3.create_multipart_upload(**words)["UploadId"]}
        part = {"PartNumber": 1, "ETag": s3.upload_part(**upload, PartNumber=1, Body=b"part")["ETag"]}
        done = s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [part]})
        assert ("VersionId" in done) == versions
        version = done.get("VersionId", "null")
        assert s3.head_object(**words, VersionId=version)["ContentLength"] == 4
    assert code(s3.head_object, Bucket="plain", Key="big", VersionId="other") == "400"


def test_public_parameters_beside_the_users_own(ec2):
    ssm = boto3.client("ssm", region_name="eu-west-1")
    offer = catalog.OFFERS[0]
    assert ssm.get_parameter(Name=offer.parameter)["Parameter"]["Value"] == catalog.latest(offer.parameter)
    ssm.put_parameter(Name="/mine", Value="1", Type="String")
    assert ssm.get_parameter(Name="/mine")["Parameter"]["Value"] == "1"
    assert ssm.get_parameters(Names=["/none", offer.parameter])["InvalidParameters"] == ["/none"]


def test_an_image_of_a_machine_has_its_disk_and_its_snapshot_has_tags(ec2):
    offer = catalog.OFFERS[0]
    stock = ec2.register_image(Name="stock", RootDeviceName=offer.root_device)["ImageId"]
    ec2_backends[DEFAULT_ACCOUNT_ID]["us-east-1"].amis[stock].architecture = "x86_64"
    catalog.bake(stock, offer, 8, encrypted=False)
    disk = {"DeviceName": offer.root_device, "Ebs": {"VolumeSize": 31, "Encrypted": True}}
    request = {
        "ImageId": stock,
        "InstanceType": "t3.micro",
        "MinCount": 1,
        "MaxCount": 1,
        "BlockDeviceMappings": [disk],
    }
    machine = ec2.run_instances(**request)["Instances"][0]["InstanceId"]
    tags = [{"Key": "lightsout:project", "Value": "images"}]
    tagged = [{"ResourceType": kind, "Tags": tags} for kind in ("image", "snapshot")]
    baked = ec2.create_image(InstanceId=machine, Name="baked", TagSpecifications=tagged)["ImageId"]
    (image,) = ec2.describe_images(ImageIds=[baked])["Images"]
    (mapping,) = image["BlockDeviceMappings"]
    assert (image["RootDeviceName"], image["Tags"]) == (offer.root_device, tags)
    assert (mapping["Ebs"]["VolumeSize"], mapping["Ebs"]["Encrypted"]) == (31, True)
    (snapshot,) = ec2.describe_snapshots(SnapshotIds=[mapping["Ebs"]["SnapshotId"]])["Snapshots"]
    assert snapshot["Tags"] == tags
    assert catalog.offer_of(baked).user == offer.user
    assert code(ec2.create_image, InstanceId=machine, Name="baked") == "InvalidAMIName.Duplicate"


def test_a_spot_machine_costs_a_share_of_the_list_price(launch, ec2):
    found = ec2.describe_spot_price_history(InstanceTypes=["g5.xlarge"])["SpotPriceHistory"]
    assert {entry["SpotPrice"] for entry in found} == {"0.402400"}
