"""What moto lacks and a launch of ours needs. Each function changes one thing, in place, before the server starts."""

from __future__ import annotations

import copy
import ipaddress
from collections.abc import Callable
from typing import Any

import moto.ec2.models.elastic_ip_addresses as addresses
import moto.ec2.models.elastic_network_interfaces as interfaces
from flask import request
from moto.core.responses import EmptyResult
from moto.core.utils import utcnow
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import EC2Backend
from moto.ec2.models.amis import Ami
from moto.ec2.models.elastic_network_interfaces import NetworkInterface
from moto.ec2.models.instances import Instance, InstanceState, MetadataOptions
from moto.ec2.models.spot_requests import SpotInstanceRequest
from moto.ec2.responses.instances import InstanceResponse
from moto.ec2.utils import filter_dict_attribute_mapping, random_spot_request_id
from moto.s3.responses import S3Response
from moto.ssm.models import Parameter, ParameterDict

from localcloud import (
    budgets,
    catalog,
    placement_groups,
    price_list,
    sagemaker,
    schedules,
    spot,
)
from localcloud.client_tokens import Tokens

#: What a gp3 volume has when nobody asks for more, in MiB/s.
GP3_THROUGHPUT = 125


class InsufficientInstanceCapacity(EC2ClientError):
    """The zone has no machine of that type left."""

    code = "InsufficientInstanceCapacity"

    def __init__(self, zone: str) -> None:
        super().__init__(
            self.code,
            f"We currently do not have sufficient capacity in the Availability Zone you requested ({zone}).",
        )


class IncorrectInstanceState(EC2ClientError):
    """The instance cannot do that now."""

    code = "IncorrectInstanceState"

    def __init__(self, instance: Instance, what: str) -> None:
        super().__init__(self.code, f"The instance '{instance.id}' is not in {what}.")


class InvalidParameterValue(EC2ClientError):
    """A value that EC2 would not take, either."""

    code = "InvalidParameterValue"

    def __init__(self, message: str) -> None:
        super().__init__(self.code, message)


class InvalidParameterCombination(EC2ClientError):
    """Values that do not go together."""

    code = "InvalidParameterCombination"

    def __init__(self, message: str) -> None:
        super().__init__(self.code, message)


class InvalidBlockDeviceMapping(EC2ClientError):
    """A disk that could not hold its snapshot."""

    code = "InvalidBlockDeviceMapping"

    def __init__(self, asked: int, snapshot: str, least: int) -> None:
        super().__init__(
            self.code, f"Volume of size {asked}GB is smaller than snapshot '{snapshot}', expect size >= {least}GB"
        )


class DuplicateAMIName(EC2ClientError):
    """An account's images have different names."""

    code = "InvalidAMIName.Duplicate"

    def __init__(self, name: str, ami_id: str) -> None:
        super().__init__(self.code, f"AMI name {name} is already in use by AMI {ami_id}")


class DependencyViolation(EC2ClientError):
    """Something still needs it."""

    code = "DependencyViolation"

    def __init__(self, resource: str) -> None:
        super().__init__(self.code, f"resource {resource} has a dependent object")


class UnsupportedOperation(EC2ClientError):
    """A spot machine that was asked for once cannot be stopped."""

    code = "UnsupportedOperation"

    def __init__(self, instance: Instance) -> None:
        super().__init__(
            self.code,
            f"You can't stop the Spot Instance '{instance.id}' because it is associated with a one-time Spot Instance "
            "request. You can only stop Spot Instances associated with persistent Spot Instance requests.",
        )


def apply(faults: Any, new_address: Callable[[], str]) -> None:
    """All of it."""
    public_addresses(new_address)
    private_addresses()
    elastic_addresses_stay()
    one_truth_about_groups()
    groups_in_use_stay()
    instance_states()
    instance_attributes()
    metadata_options()
    block_devices()
    volumes_only_grow()
    placement_groups.install(zone_of_launch)  # before run_instances: the same token asks once
    run_instances(faults)
    filter_dict_attribute_mapping["client-token"] = "client_token"
    image_sizes()
    images_of_machines()
    ssm_public_parameters()
    objects_without_versions()
    budgets.apply()
    schedules.apply()
    price_list.spot_prices()
    sagemaker.apply()


def public_addresses(new_address: Callable[[], str]) -> None:
    """Public addresses that something answers at, instead of random ones."""
    interfaces.random_public_ip = new_address
    addresses.random_ip = new_address
    interfaces.generate_dns_from_ip = lambda ip, **_: ip
    Instance.public_dns_name = property(lambda instance: instance.public_ip)


def private_addresses() -> None:
    """A machine that names no subnet still has an address of the one that it gets; moto makes any of 10.0.0.0/8 up."""
    original = EC2Backend.create_network_interface

    def create(backend: EC2Backend, subnet: Any, address: Any, *args: Any, **kwargs: Any) -> NetworkInterface:
        place = subnet if hasattr(subnet, "cidr") else backend.get_subnet(subnet)
        if isinstance(address, str) and ipaddress.ip_address(address) not in place.cidr:
            address = place.get_available_subnet_ip(None)
        return original(backend, subnet, address, *args, **kwargs)

    EC2Backend.create_network_interface = create


def elastic_addresses_stay() -> None:
    """An Elastic IP outlives a stop; moto gives the machine another address at the next start."""
    original = NetworkInterface.check_auto_public_ip

    def check(interface: NetworkInterface) -> None:
        if not any(address.eni is interface for address in interface.ec2_backend.addresses):
            original(interface)

    def stop(interface: NetworkInterface) -> None:
        if interface.public_ip_auto_assign and not any(
            address.eni is interface for address in interface.ec2_backend.addresses
        ):
            interface.public_ip = None

    NetworkInterface.check_auto_public_ip = check
    NetworkInterface.stop = stop
    disassociate = EC2Backend.disassociate_address

    def disassociated(backend: EC2Backend, address: str | None = None, association_id: str | None = None) -> None:
        (elastic,) = (
            backend.address_by_ip([address]) if address else backend.address_by_association([association_id])
        )[:1]
        interface = elastic.eni
        disassociate(backend, address=address, association_id=association_id)
        if interface and interface.instance and interface.instance.state == "running":
            interface.check_auto_public_ip()

    EC2Backend.disassociate_address = disassociated


def one_truth_about_groups() -> None:
    """Security groups belong to network interfaces.

    moto keeps a second list on the instance and adds the two up, so that a group which was replaced stays in force.
    """

    def groups(instance: Instance) -> list[Any]:
        primary = instance.__dict__.get("nics", {}).get(0)
        return list(primary._group_set) if primary else instance.__dict__.get("_groups_at_launch", [])

    def replace(instance: Instance, wanted: list[Any]) -> None:
        primary = instance.__dict__.get("nics", {}).get(0)
        if primary:
            primary._group_set = list(wanted)
        else:
            instance.__dict__["_groups_at_launch"] = list(wanted)

    Instance.security_groups = property(groups, replace)
    NetworkInterface.group_set = property(lambda interface: interface._group_set)


def groups_in_use_stay() -> None:
    """A security group cannot go while an interface or another group's rule refers to it."""
    original = EC2Backend.delete_security_group

    def delete(backend: EC2Backend, name: str | None = None, group_id: str | None = None) -> None:
        group = backend.get_security_group_by_name_or_id(group_id or name)
        if group:
            others = [other for of_vpc in backend.groups.values() for other in of_vpc.values() if other is not group]
            sources = {(rule.source_group or {}).get("GroupId") for other in others for rule in other.ingress_rules}
            attached = {each.id for interface in backend.enis.values() for each in interface._group_set}
            if group.id in sources | attached:
                raise DependencyViolation(group.id)
        original(backend, name, group_id)

    EC2Backend.delete_security_group = delete


def instance_states() -> None:
    """What stop, start, reboot and terminate do in each state; moto revives the dead and moves the running."""
    start, stop, terminate, reboot = Instance.start, Instance.stop, Instance.terminate, Instance.reboot

    def started(instance: Instance) -> InstanceState:
        if instance.state == "terminated":
            raise IncorrectInstanceState(instance, "a state from which it can be started")
        return copy.copy(instance._state) if instance.state == "running" else start(instance)

    def stopped(instance: Instance) -> InstanceState:
        if instance.state == "terminated":
            raise IncorrectInstanceState(instance, "a state from which it can be stopped")
        wished = spot_request_of(instance)
        if wished and wished.type == "one-time":
            raise UnsupportedOperation(instance)
        return copy.copy(instance._state) if instance.state == "stopped" else stop(instance)

    def terminated(instance: Instance) -> InstanceState:
        if instance.state == "terminated":
            return copy.copy(instance._state)
        before = terminate(instance)
        for interface in instance.nics.values():
            interface.public_ip = None
            interface.instance = interface.attachment_id = interface.attach_time = interface.device_index = None
            interface.status = "available"
            for address in instance.ec2_backend.addresses:
                if address.eni is interface:
                    address.eni = address.instance = address.association_id = None
        return before

    def rebooted(instance: Instance) -> None:
        if instance.state != "running":
            raise IncorrectInstanceState(instance, "a state from which it can be rebooted")
        reboot(instance)

    Instance.start, Instance.stop, Instance.terminate, Instance.reboot = started, stopped, terminated, rebooted
    shown = Instance.network_interfaces
    Instance.network_interfaces = property(
        lambda instance: [] if instance.state == "terminated" else shown.__get__(instance)
    )


def instance_attributes() -> None:
    """ModifyInstanceAttribute: the shutdown behavior (moto empties the security groups instead), real booleans."""
    original = InstanceResponse.modify_instance_attribute
    behaviors = ("stop", "terminate")
    booleans = ("disableApiTermination", "disableApiStop", "sourceDestCheck", "ebsOptimized")
    at_rest = ("instanceType", "userData", "kernel", "ramdisk", "ebsOptimized")

    def modify(response: InstanceResponse) -> Any:
        instance = response.ec2_backend.get_instance(response._get_param("InstanceId"))
        attribute, value = response._get_param("Attribute"), response._get_param("Value")
        for name in ("instanceInitiatedShutdownBehavior", *booleans, *at_rest):
            given = response._get_param(f"{name[0].upper()}{name[1:]}.Value")
            if given is not None:
                attribute, value = name, given
        if attribute in at_rest and instance.state != "stopped":
            raise IncorrectInstanceState(instance, "the 'stopped' state")
        if attribute == "instanceInitiatedShutdownBehavior":
            if value not in behaviors:
                raise InvalidParameterValue(
                    f"Value ({value}) for parameter instanceInitiatedShutdownBehavior is invalid. "
                    f"Expected: {' or '.join(behaviors)}."
                )
            response.error_on_dryrun()
            instance.instance_initiated_shutdown_behavior = value
            return EmptyResult()
        if response._get_param("Attribute") in booleans:
            response.params["Value"] = str(value).lower() == "true"
        return original(response)

    InstanceResponse.modify_instance_attribute = modify


def metadata_options() -> None:
    """ModifyInstanceMetadataOptions changes what is named; moto forgets the rest."""
    words = {
        "http_tokens": "http_tokens",
        "hop_limit": "http_put_response_hop_limit",
        "http_endpoint": "http_endpoint",
        "http_protocol": "http_protocol_ipv6",
        "metadata_tags": "instance_metadata_tags",
    }

    def modify(backend: EC2Backend, instance_id: str, **wanted: Any) -> MetadataOptions:
        options = backend.get_instance(instance_id).metadata_options
        for word, attribute in words.items():
            if wanted.get(word) is not None:
                setattr(options, attribute, wanted[word])
        return options

    EC2Backend.modify_instance_metadata_options = modify


def block_devices() -> None:
    """Disks: what the request leaves open comes from the image, as on EC2; moto forgets or refuses it."""
    original = InstanceResponse._parse_block_device_mapping

    def parse(response: InstanceResponse) -> Any:
        image = response.ec2_backend.amis.get(response._get_param("ImageId"))
        if image:
            asked = response._get_param("BlockDeviceMappings", [])
            response.params["BlockDeviceMappings"] = merged_devices(image.block_device_mappings, asked)
        return original(response)

    InstanceResponse._parse_block_device_mapping = parse


def merged_devices(of_image: list[dict[str, Any]], asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The image's disks with the request's wishes, then the request's own disks.

    Args:
        of_image: the image's BlockDeviceMappings.
        asked: the request's.

    Raises:
        InvalidBlockDeviceMapping: a disk of the image is asked for with a size that is too small for it.
    """
    wishes = {mapping["DeviceName"]: mapping for mapping in asked}
    result = []
    for mapping in of_image:
        wish = wishes.pop(mapping["DeviceName"], {})
        if "NoDevice" in wish:
            continue
        disk = {**mapping["Ebs"], **wish.get("Ebs", {})}
        if disk["VolumeSize"] < mapping["Ebs"]["VolumeSize"]:
            raise InvalidBlockDeviceMapping(
                disk["VolumeSize"], mapping["Ebs"]["SnapshotId"], mapping["Ebs"]["VolumeSize"]
            )
        result.append({**mapping, "Ebs": disk})
    return [*result, *wishes.values()]


def volumes_only_grow() -> None:
    """A volume cannot shrink."""
    original = EC2Backend.modify_volume

    def modify(backend: EC2Backend, volume_id: str, target_size: int | None = None, *others: Any) -> Any:
        size = backend.get_volume(volume_id).size
        if target_size is not None and target_size < size:
            raise InvalidParameterValue(f"New size cannot be smaller than existing size ({target_size} < {size}).")
        return original(backend, volume_id, target_size, *others)

    EC2Backend.modify_volume = modify


class LaunchedSpotRequest(SpotInstanceRequest):
    """The spot request that RunInstances makes for a spot machine; moto makes none."""

    def __init__(self, instance: Instance, options: dict[str, Any], tags: dict[str, str]) -> None:
        self._launched = instance
        self._created = utcnow()
        super().__init__(
            ec2_backend=instance.ec2_backend,
            spot_request_id=random_spot_request_id(),
            price=options.get("MaxPrice", ""),
            image_id=instance.image_id,
            spot_instance_type=options.get("SpotInstanceType", "one-time"),
            valid_from=None,
            valid_until=None,
            launch_group=None,
            availability_zone_group=None,
            key_name=instance.key_name,
            security_groups=[group.id for group in instance.security_groups],
            user_data=None,
            instance_type=instance.instance_type,
            placement=instance.availability_zone,
            kernel_id=None,
            ramdisk_id=None,
            monitoring_enabled=False,
            subnet_id=instance.subnet_id,
            tags={"spot-instances-request": tags},
            spot_fleet_id=None,
            instance_interruption_behaviour=options.get("InstanceInterruptionBehavior"),
        )

    def launch_instance(self) -> Instance:
        """It runs already."""
        return self._launched

    @property
    def create_time(self) -> Any:
        """When it was made."""
        return self._created

    @property
    def status(self) -> dict[str, Any]:
        """What came of it: follows the machine, too."""
        code, message = spot.request_status(self._launched)
        return {"Code": code, "Message": message, "UpdateTime": utcnow()}

    @property
    def state(self) -> str:
        """Follows the machine. EC2 would launch a persistent one anew; here it stays open until it is cancelled."""
        persistent = self.type == "persistent"
        ordered = spot.interruption_of(self._launched)
        match self._launched.state:
            case "stopped":
                return "open" if ordered and ordered.done else "disabled"
            case "terminated":
                return "open" if persistent else "closed"
        return "active"

    @state.setter
    def state(self, _state: str) -> None:
        """moto sets it while it makes one."""


def spot_request_of(instance: Instance) -> LaunchedSpotRequest | None:
    """The request that a machine was launched by; None where it is on demand, or the request was cancelled."""
    return instance.ec2_backend.spot_instance_requests.get(getattr(instance, "spot_instance_request_id", None))


def run_instances(faults: Any) -> None:
    """RunInstances: client tokens, zones without capacity, and the parameters that moto drops."""
    original = InstanceResponse.run_instances
    tokens = Tokens()

    def launch(response: InstanceResponse) -> Any:
        zone = zone_of_launch(response)
        if zone in faults.no_capacity:
            raise InsufficientInstanceCapacity(zone)
        _check_type(response)
        _check_spot(response)
        # There is always room for all of them, and moto looks at the least number only.
        response.params["MinCount"] = response._get_param("MaxCount", 1)
        answer = original(response)
        for instance in answer.result.instances:
            _complete(response, instance)
        return answer

    def run(response: InstanceResponse) -> Any:
        answer = tokens.once(response, lambda: launch(response))
        request.environ["localcloud.ran_instances"] = True
        return answer

    InstanceResponse.run_instances = run


def _complete(response: InstanceResponse, instance: Instance) -> None:
    """What moto does not take over from the request."""
    tags = response._parse_tag_specification()
    asked = {int(nic.get("DeviceIndex", 0)): nic for nic in response._get_param("NetworkInterfaces", [])}
    for index, interface in instance.nics.items():
        wish = asked.get(index, {})
        if "NetworkInterfaceId" in wish:
            continue
        interface.delete_on_termination = wish.get("DeleteOnTermination", index == 0)
        interface.add_tags(tags.get("network-interface", {}))
    instance.disable_api_termination = bool(response._get_param("DisableApiTermination"))
    disks = {
        mapping["DeviceName"]: mapping.get("Ebs", {}) for mapping in response._get_param("BlockDeviceMappings", [])
    }
    for device, attached in instance.get_block_device_mapping:
        volume, disk = instance.ec2_backend.get_volume(attached.volume_id), disks.get(device, {})
        volume.iops = disk.get("Iops") or volume.iops
        if volume.volume_type == "gp3":
            volume.throughput = disk.get("Throughput") or GP3_THROUGHPUT
    market = response._get_param("InstanceMarketOptions", {})
    if market.get("MarketType") == "spot":
        spot_request = LaunchedSpotRequest(
            instance, market.get("SpotOptions", {}), tags.get("spot-instances-request", {})
        )
        instance.ec2_backend.spot_instance_requests[spot_request.id] = spot_request
        instance.spot_instance_request_id = spot_request.id
        instance.lifecycle = instance.instance_lifecycle = "spot"
        instance.interruption_behavior = spot_request.instance_interruption_behaviour


def _check_type(response: InstanceResponse) -> None:
    """There is such a type, and it runs images of this architecture."""
    image = response.ec2_backend.amis.get(response._get_param("ImageId"))
    name = response._get_param("InstanceType")
    found = [kind for kind in response.ec2_backend.describe_instance_types() if kind.get("InstanceType") == name]
    if name and not found:
        raise InvalidParameterValue(f"Invalid value '{name}' for InstanceType.")
    if image and image.architecture and found:
        supported = found[0].get("ProcessorInfo", {}).get("SupportedArchitectures", [])
        if supported and image.architecture not in supported:
            raise InvalidParameterValue(
                f"The architecture '{', '.join(supported)}' of the specified instance type does not match the "
                f"architecture '{image.architecture}' of the specified AMI. Specify an instance type and an AMI that "
                "have matching architectures, and try again."
            )


def _check_spot(response: InstanceResponse) -> None:
    """A machine that shall stop when it is interrupted needs a request that lasts, and the other way round."""
    options = response._get_param("InstanceMarketOptions", {}).get("SpotOptions", {})
    kind = options.get("SpotInstanceType", "one-time")
    behavior = options.get("InstanceInterruptionBehavior", "terminate")
    if behavior not in ("terminate", "stop", "hibernate"):
        raise InvalidParameterValue(f"Value ({behavior}) for parameter InstanceInterruptionBehavior is invalid.")
    if (kind == "persistent") == (behavior == "terminate"):
        raise InvalidParameterCombination(
            f"The instance interruption behavior '{behavior}' is not supported for {kind} Spot requests."
        )


def zone_of_launch(response: InstanceResponse) -> str:
    """The zone that a launch asks for, by name or by subnet."""
    zone = response._get_param("Placement.AvailabilityZone")
    if zone:
        return zone
    subnet = response._get_param("SubnetId")
    for nic in response._get_param("NetworkInterfaces", []):
        subnet = subnet or nic.get("SubnetId")
    backend = response.ec2_backend
    return backend.get_subnet(subnet).availability_zone if subnet else f"{response.region}a"


def image_sizes() -> None:
    """The root volume that an image asks for, which moto fixes at 15 GiB."""

    def mappings(ami: Ami) -> list[dict[str, Any]]:
        offer = catalog.offer_of(ami.id)
        return [
            {
                "DeviceName": ami.root_device_name,
                "Ebs": {
                    "SnapshotId": ami.ebs_snapshot.id,
                    "VolumeSize": offer.size if offer else 15,
                    "DeleteOnTermination": True,
                    "VolumeType": "gp3",
                    "Encrypted": bool(offer and offer.encrypted),
                },
            }
        ]

    Ami.block_device_mappings = property(mappings)


def images_of_machines() -> None:
    """CreateImage: moto refuses tags for its snapshot, takes a name twice, and forgets disk and root device."""
    original = EC2Backend.create_image

    def create(
        backend: EC2Backend, instance_id: str, name: str, description: str, tag_specifications: list[dict[str, Any]]
    ) -> Ami:
        instance = backend.get_instance(instance_id)
        twin = next((ami for ami in backend.describe_images(owners=["self"]) if ami.name == name), None)
        if twin:
            raise DuplicateAMIName(name, twin.id)
        wished = {wish["ResourceType"]: wish["Tags"] for wish in tag_specifications}
        snapshots = wished.pop("snapshot", [])
        others = [{"ResourceType": kind, "Tags": tags} for kind, tags in wished.items()]
        ami = original(backend, instance_id, name, description, others)
        for tag in snapshots:
            ami.ebs_snapshot.add_tag(tag["Key"], tag["Value"])
        source = catalog.offer_of(instance.image_id)
        if source:
            root = instance.block_device_mapping[source.root_device]
            volume = backend.volumes[root.volume_id]
            ami.root_device_name, ami.root_device_type = source.root_device, "ebs"
            catalog.bake(ami.id, source, volume.size, volume.encrypted)
        return ami

    EC2Backend.create_image = create


def ssm_public_parameters() -> None:
    """The public parameters that name the latest images, in every region."""
    original = ParameterDict.__getitem__
    contains = ParameterDict.__contains__

    def get(parameters: ParameterDict, name: str) -> list[Parameter]:
        if name not in catalog.BY_PARAMETER:
            return original(parameters, name)
        return [
            Parameter(
                account_id=parameters.account_id,
                name=name,
                value=catalog.latest(name),
                parameter_type="String",
                description=None,
                allowed_pattern=None,
                keyid=None,
                last_modified_date=utcnow(),
                version=1,
                data_type="aws:ec2:image",
            )
        ]

    ParameterDict.__getitem__ = get
    ParameterDict.__contains__ = lambda parameters, name: name in catalog.BY_PARAMETER or contains(parameters, name)


def objects_without_versions() -> None:
    """Objects of a bucket without versions have the version ``null``; moto tells it after a multipart upload only.

    rclone then asks for the object by that version. S3 answers; moto calls it a bad request, and the upload fails.
    """
    post, head = S3Response._key_response_post, S3Response.head_object

    def posted(response: S3Response, *args: Any, **kwargs: Any) -> Any:
        status, headers, body = post(response, *args, **kwargs)
        if headers.get("x-amz-version-id") == "null":
            del headers["x-amz-version-id"]
        return status, headers, body

    def looked_at(response: S3Response, bucket_name: str, query: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if query.get("versionId") == ["null"] and not response.backend.get_bucket(bucket_name).is_versioned:
            query = {name: value for name, value in query.items() if name != "versionId"}
        return head(response, bucket_name, query, *args, **kwargs)

    S3Response._key_response_post, S3Response.head_object = posted, looked_at
