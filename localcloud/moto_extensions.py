"""What moto lacks and a launch of ours needs. Each function changes one thing, in place, before the server starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import moto.ec2.models.elastic_ip_addresses as addresses
import moto.ec2.models.elastic_network_interfaces as interfaces
from flask import request
from moto.core.utils import utcnow
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.amis import Ami
from moto.ec2.models.instances import Instance
from moto.ec2.responses.instances import InstanceResponse
from moto.ssm.models import Parameter, ParameterDict

from localcloud import catalog
from localcloud.client_tokens import Tokens


class InsufficientInstanceCapacity(EC2ClientError):
    """The zone has no machine of that type left."""

    code = "InsufficientInstanceCapacity"

    def __init__(self, zone: str) -> None:
        super().__init__(
            self.code,
            f"We currently do not have sufficient capacity in the Availability Zone you requested ({zone}).",
        )


def apply(faults: Any, new_address: Callable[[], str]) -> None:
    """All of it."""
    public_addresses(new_address)
    run_instances(faults)
    image_sizes()
    ssm_public_parameters()


def public_addresses(new_address: Callable[[], str]) -> None:
    """Public addresses that something answers at, instead of random ones."""
    interfaces.random_public_ip = new_address
    addresses.random_ip = new_address
    interfaces.generate_dns_from_ip = lambda ip, **_: ip
    Instance.public_dns_name = property(lambda instance: instance.public_ip)


def run_instances(faults: Any) -> None:
    """Client tokens, zones without capacity, dropped answers; groups of network interfaces shown on the instance."""
    original = InstanceResponse.run_instances
    tokens = Tokens()

    def launch(response: InstanceResponse) -> Any:
        zone = response._get_param("Placement.AvailabilityZone") or _zone_of_subnet(response)
        if zone in faults.no_capacity:
            raise InsufficientInstanceCapacity(zone)
        answer = original(response)
        for instance in answer.result.instances:
            if not instance.security_groups:
                instance.security_groups = sorted(instance.nics[0].group_set, key=lambda group: group.id)
        return answer

    def run(response: InstanceResponse) -> Any:
        answer = tokens.once(response, lambda: launch(response))
        request.environ["localcloud.ran_instances"] = True
        return answer

    InstanceResponse.run_instances = run


def _zone_of_subnet(response: InstanceResponse) -> str:
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
                    "Encrypted": False,
                },
            }
        ]

    Ami.block_device_mappings = property(mappings)


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
