"""SageMaker's notebook instances and their lifecycle configurations: the API.

https://docs.aws.amazon.com/sagemaker/latest/dg/nbi.html
"""

from __future__ import annotations

import base64
import binascii
import secrets
from typing import Any, Protocol

from moto.core.utils import utcnow
from moto.ec2.models import ec2_backends
from moto.sagemaker.exceptions import AWSValidationException
from moto.sagemaker.models import SageMakerModelBackend
from moto.sagemaker.responses import SageMakerResponse

from localcloud import sagemaker
from localcloud.sagemaker import Record, arn, assume, check_network, given, listed, teach

WHAT = "Notebook Instance"

#: The states that a notebook instance can rest in without costing more than its disk.
DOWN = ["Stopped", "Failed"]

#: What Describe shows just as Create was told it.
KEPT = (
    "InstanceType",
    "IpAddressType",
    "SubnetId",
    "RoleArn",
    "KmsKeyId",
    "DirectInternetAccess",
    "VolumeSizeInGB",
    "AcceleratorTypes",
    "DefaultCodeRepository",
    "AdditionalCodeRepositories",
    "RootAccess",
    "PlatformIdentifier",
    "InstanceMetadataServiceConfiguration",
)

#: What it has when Create was told nothing. IMDSv1 is allowed, as on AWS.
DEFAULTS = {
    "IpAddressType": "ipv4",
    "DirectInternetAccess": "Enabled",
    "VolumeSizeInGB": 5,
    "RootAccess": "Enabled",
    "PlatformIdentifier": "notebook-al2023-v1",
    "InstanceMetadataServiceConfiguration": {"MinimumInstanceMetadataServiceVersion": "1"},
}

#: How long the link of CreatePresignedNotebookInstanceUrl lives, and by default the session that it begins, in seconds.
LINK, SESSION = 300, 43200


class Backstage(Protocol):
    """Who makes an instance's machine so; every method may take its time, and raises where it fails."""

    def start(self, record: Record, *, new: bool) -> None:
        """Let it run; ``new`` the first time."""

    def stop(self, record: Record) -> None:
        """Let it rest; its files in ``/home/ec2-user/SageMaker`` stay."""

    def remove(self, record: Record) -> None:
        """Nothing of it stays."""

    def url(self, record: Record, session: int) -> str:
        """A link for a browser, good for ``LINK`` seconds; the session that it begins lasts ``session`` seconds."""


class Nobody:
    """There is no machine behind the API."""

    def start(self, record: Record, *, new: bool) -> None:
        pass

    def stop(self, record: Record) -> None:
        pass

    def remove(self, record: Record) -> None:
        pass

    def url(self, record: Record, session: int) -> str:
        return f"https://{record.values['Url']}?authToken={secrets.token_urlsafe(48)}"


def named(backend: SageMakerModelBackend, name: str) -> Record:
    """The notebook instance with a name.

    Raises:
        AWSValidationException: there is none.
    """
    found = backend.notebook_instances.get(name)
    if found is None:
        raise AWSValidationException("RecordNotFound")
    return found


class Notebooks:
    """The operations.

    Args:
        backstage: who makes the machines.
    """

    def __init__(self, backstage: Backstage) -> None:
        self._backstage = backstage

    def create(self, response: SageMakerResponse) -> dict[str, Any]:
        """CreateNotebookInstance."""
        backend, name = response.sagemaker_backend, response._get_param("NotebookInstanceName")
        place = arn(backend, f"notebook-instance/{name}")
        if name in backend.notebook_instances:
            raise AWSValidationException(f"Cannot create a duplicate Notebook Instance ({place})")
        values = {**DEFAULTS, **given(response, *KEPT)}
        groups = response._get_param("SecurityGroupIds") or []
        self._check(backend, values, groups, response._get_param("LifecycleConfigName"))
        values |= {
            "NotebookInstanceArn": place,
            "NotebookInstanceName": name,
            "NotebookInstanceLifecycleConfigName": response._get_param("LifecycleConfigName"),
            "SecurityGroups": groups,
            "Url": f"{name}.notebook.{backend.region_name}.sagemaker.aws",
        }
        record = Record(place, "NotebookInstanceStatus", values, response._get_param("Tags") or [])
        if "SubnetId" in values:
            values["NetworkInterfaceId"] = _interface(backend, record)
        backend.notebook_instances[name] = record
        self._start(record, new=True)
        return {"NotebookInstanceArn": place}

    @staticmethod
    def _check(backend: SageMakerModelBackend, values: dict[str, Any], groups: list[str], config: str | None) -> None:
        """What the model cannot say.

        Raises:
            SagemakerClientError: SageMaker would not take it either.
        """
        if "SubnetId" not in values:
            if groups:
                raise AWSValidationException("SubnetId must be specified when SecurityGroupIds are specified.")
            if values["DirectInternetAccess"] == "Disabled":
                raise AWSValidationException(
                    "SubnetId and SecurityGroupIds must be specified when DirectInternetAccess is Disabled."
                )
        check_network(backend, [values["SubnetId"]] if "SubnetId" in values else [], groups)
        if config:
            config_named(backend, config, "find")
        assume(backend, values["RoleArn"])
        used = [
            other
            for other in backend.notebook_instances.values()
            if other.values["InstanceType"] == values["InstanceType"] and other.status not in ("Stopped", "Deleting")
        ]
        sagemaker.limits.admit(values["InstanceType"], "notebook instance", len(used))

    def _start(self, record: Record, *, new: bool) -> None:
        def work() -> None:
            if record.values["InstanceType"] in sagemaker.limits.exhausted:
                raise RuntimeError(
                    "Insufficient notebook instance capacity. Retry later or with a different instance type."
                )
            self._backstage.start(record, new=new)

        record.values.pop("FailureReason", None)
        record.go("Pending", "InService", work)

    def start(self, response: SageMakerResponse) -> None:
        """StartNotebookInstance."""
        record = named(response.sagemaker_backend, response._get_param("NotebookInstanceName"))
        record.require(DOWN, "Pending", WHAT)
        self._start(record, new=False)

    def stop(self, response: SageMakerResponse) -> None:
        """StopNotebookInstance."""
        record = named(response.sagemaker_backend, response._get_param("NotebookInstanceName"))
        record.require(["InService"], "Stopping", WHAT)
        record.go("Stopping", "Stopped", lambda: self._backstage.stop(record))

    def delete(self, response: SageMakerResponse) -> None:
        """DeleteNotebookInstance."""
        backend, name = response.sagemaker_backend, response._get_param("NotebookInstanceName")
        record = named(backend, name)
        record.require(DOWN, "Deleting", WHAT)

        def gone() -> None:
            if "NetworkInterfaceId" in record.values:
                ec2_backends[record.account][record.region].delete_network_interface(
                    record.values["NetworkInterfaceId"]
                )
            backend.notebook_instances.pop(name, None)

        record.go("Deleting", gone, lambda: self._backstage.remove(record))

    @staticmethod
    def describe(response: SageMakerResponse) -> dict[str, Any]:
        """DescribeNotebookInstance."""
        return named(response.sagemaker_backend, response._get_param("NotebookInstanceName")).values

    @staticmethod
    def list(response: SageMakerResponse) -> Any:
        """ListNotebookInstances."""
        config = response._get_param("NotebookInstanceLifecycleConfigNameContains") or ""
        repository = response._get_param("DefaultCodeRepositoryContains") or ""
        additional = response._get_param("AdditionalCodeRepositoryEquals")
        found = [
            record
            for record in response.sagemaker_backend.notebook_instances.values()
            if config in (record.values.get("NotebookInstanceLifecycleConfigName") or "")
            and repository in record.values.get("DefaultCodeRepository", "")
            and (additional is None or additional in record.values.get("AdditionalCodeRepositories", []))
        ]
        return listed(response, "NotebookInstances", found, "NotebookInstanceName")

    @staticmethod
    def update(response: SageMakerResponse) -> None:
        """UpdateNotebookInstance: of one that rests, and its volume only grows."""
        backend = response.sagemaker_backend
        record = named(backend, response._get_param("NotebookInstanceName"))
        record.require(DOWN, "Updating", WHAT)
        wanted = given(response, *(set(KEPT) - {"SubnetId", "KmsKeyId", "DirectInternetAccess"}))
        config = response._get_param("LifecycleConfigName")
        pairs = {
            "LifecycleConfig": "NotebookInstanceLifecycleConfigName",
            "DefaultCodeRepository": "DefaultCodeRepository",
            "AdditionalCodeRepositories": "AdditionalCodeRepositories",
            "AcceleratorTypes": "AcceleratorTypes",
        }
        if config:
            config_named(backend, config, "find")
            wanted["NotebookInstanceLifecycleConfigName"] = config
        dropped = [member for word, member in pairs.items() if response._get_param(f"Disassociate{word}")]
        if both := [member for member in dropped if member in wanted]:
            raise AWSValidationException(f"{both[0]} cannot be both specified and disassociated.")
        size, before = wanted.get("VolumeSizeInGB"), record.values["VolumeSizeInGB"]
        if size is not None and size < before:
            raise AWSValidationException(
                f"The volume size of a Notebook Instance cannot be decreased: it is {before} GB, not {size} GB."
            )
        if "RoleArn" in wanted:
            assume(backend, wanted["RoleArn"])

        def change() -> None:
            record.values.update(wanted)
            for member in dropped:
                record.values.pop(member, None)
            record.values.pop("FailureReason", None)
            record.status = "Stopped"

        record.go("Updating", change)

    def presign(self, response: SageMakerResponse) -> dict[str, Any]:
        """CreatePresignedNotebookInstanceUrl."""
        record = named(response.sagemaker_backend, response._get_param("NotebookInstanceName"))
        if record.status != "InService":
            raise AWSValidationException(
                f"Status ({record.status}) not in ([InService]). Unable to create a presigned URL for {WHAT} "
                f"({record.arn})."
            )
        session = response._get_param("SessionExpirationDurationInSeconds") or SESSION
        return {"AuthorizedUrl": self._backstage.url(record, session)}


def _interface(backend: SageMakerModelBackend, record: Record) -> str:
    """The network interface in the customer's subnet; its security groups cannot go while it is there."""
    ec2 = ec2_backends[backend.account_id][backend.region_name]
    made = ec2.create_network_interface(
        ec2.get_subnet(record.values["SubnetId"]),
        None,
        group_ids=record.values["SecurityGroups"],
        description=f"[Do not delete] Network Interface created to access resources in your VPC for SageMaker {WHAT} "
        f"{record.arn}",
    )
    return made.id


# -- lifecycle configurations -----------------------------------------------------------------------------------------
CONFIG = "NotebookInstanceLifecycleConfig"


def config_named(backend: SageMakerModelBackend, name: str, verb: str) -> Record:
    """The lifecycle configuration with a name.

    Args:
        verb: what somebody wants of it, for the message.

    Raises:
        AWSValidationException: there is none.
    """
    found = backend.notebook_instance_lifecycle_configurations.get(name)
    if found is None:
        raise _config_refused(verb, backend, name, "does not exist")
    return found


def _config_refused(verb: str, backend: SageMakerModelBackend, name: str, why: str) -> AWSValidationException:
    what = "Notebook Instance Lifecycle Config"
    place = arn(backend, f"notebook-instance-lifecycle-config/{name}")
    return AWSValidationException(f"Unable to {verb} {what} '{place}'. (Details: {what} {why}.)")


def _hooks(response: SageMakerResponse) -> dict[str, Any]:
    """OnCreate and OnStart, as far as they are given.

    Raises:
        AWSValidationException: one is not base64.
    """
    hooks = given(response, "OnCreate", "OnStart")
    for name, scripts in hooks.items():
        for script in scripts:
            try:
                base64.b64decode(script.get("Content", ""), validate=True)
            except binascii.Error as error:
                raise AWSValidationException(f"The content of {name} must be base64-encoded.") from error
    return hooks


def create_config(response: SageMakerResponse) -> dict[str, Any]:
    """CreateNotebookInstanceLifecycleConfig."""
    backend, name = response.sagemaker_backend, response._get_param(f"{CONFIG}Name")
    configs = backend.notebook_instance_lifecycle_configurations
    if name in configs:
        raise _config_refused("create", backend, name, "already exists")
    place = arn(backend, f"notebook-instance-lifecycle-config/{name}")
    values = {f"{CONFIG}Name": name, f"{CONFIG}Arn": place, "OnCreate": [], "OnStart": [], **_hooks(response)}
    configs[name] = Record(place, "", values, response._get_param("Tags") or [])
    return {f"{CONFIG}Arn": place}


def describe_config(response: SageMakerResponse) -> dict[str, Any]:
    """DescribeNotebookInstanceLifecycleConfig."""
    return config_named(response.sagemaker_backend, response._get_param(f"{CONFIG}Name"), "describe").values


def update_config(response: SageMakerResponse) -> None:
    """UpdateNotebookInstanceLifecycleConfig: instances run it at their next start."""
    record = config_named(response.sagemaker_backend, response._get_param(f"{CONFIG}Name"), "update")
    record.values.update(_hooks(response), LastModifiedTime=utcnow())


def delete_config(response: SageMakerResponse) -> None:
    """DeleteNotebookInstanceLifecycleConfig: not while an instance has it."""
    backend, name = response.sagemaker_backend, response._get_param(f"{CONFIG}Name")
    config_named(backend, name, "delete")
    users = [
        record.values["NotebookInstanceName"]
        for record in backend.notebook_instances.values()
        if record.values.get("NotebookInstanceLifecycleConfigName") == name
    ]
    if users:
        raise _config_refused("delete", backend, name, f"is in use by {', '.join(users)}")
    del backend.notebook_instance_lifecycle_configurations[name]


def list_configs(response: SageMakerResponse) -> Any:
    """ListNotebookInstanceLifecycleConfigs."""
    records = response.sagemaker_backend.notebook_instance_lifecycle_configurations.values()
    return listed(response, f"{CONFIG}s", records, f"{CONFIG}Name")


def apply(backstage: Backstage) -> None:
    """Teach moto."""
    notebooks = Notebooks(backstage)
    teach(
        create_notebook_instance=notebooks.create,
        describe_notebook_instance=notebooks.describe,
        list_notebook_instances=notebooks.list,
        start_notebook_instance=notebooks.start,
        stop_notebook_instance=notebooks.stop,
        update_notebook_instance=notebooks.update,
        delete_notebook_instance=notebooks.delete,
        create_presigned_notebook_instance_url=notebooks.presign,
        create_notebook_instance_lifecycle_config=create_config,
        describe_notebook_instance_lifecycle_config=describe_config,
        update_notebook_instance_lifecycle_config=update_config,
        delete_notebook_instance_lifecycle_config=delete_config,
        list_notebook_instance_lifecycle_configs=list_configs,
    )
