# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""SageMaker notebook instances: their settings under the names of our options, and which steps lead to which state."""

from __future__ import annotations

from typing import Any

from ansible_collections.lightsout.aws.plugins.module_utils.sagemaker import plain, same_key

#: States that last. Every other one ends by itself.
SETTLED = ("InService", "Stopped", "Failed")

#: Where the passing states lead, as far as one can know. What is under maintenance was running.
LEADS_TO = {
    "Pending": "InService",
    "Stopping": "Stopped",
    "Updating": "Stopped",
    "PendingMaintenance": "InService",
    "InMaintenance": "InService",
}

#: What UpdateNotebookInstance changes: our option and the API's member.
SETTINGS = {
    "instance_type": "InstanceType",
    "role_arn": "RoleArn",
    "volume_size": "VolumeSizeInGB",
    "root_access": "RootAccess",
    "platform_identifier": "PlatformIdentifier",
    "lifecycle_config_name": "LifecycleConfigName",
    "default_code_repository": "DefaultCodeRepository",
    "additional_code_repositories": "AdditionalCodeRepositories",
    "minimum_imds_version": "InstanceMetadataServiceConfiguration",
    "ip_address_type": "IpAddressType",
}

#: What only a new instance can have.
FIXED = {
    "subnet_id": "SubnetId",
    "security_group_ids": "SecurityGroupIds",
    "kms_key_id": "KmsKeyId",
    "direct_internet_access": "DirectInternetAccess",
}

#: What can be taken away, and how UpdateNotebookInstance is told so.
_DETACH = {
    "lifecycle_config_name": "DisassociateLifecycleConfig",
    "default_code_repository": "DisassociateDefaultCodeRepository",
    "additional_code_repositories": "DisassociateAdditionalCodeRepositories",
}


def read(raw: dict[str, Any] | None, tags: dict[str, str]) -> dict[str, Any]:
    """An instance under the names of our options; empty for none."""
    if not raw:
        return {}
    seen = plain(raw, "NotebookInstance")
    metadata = raw.get("InstanceMetadataServiceConfiguration") or {}
    seen.pop("instance_metadata_service_configuration", None)
    return {
        "failure_reason": "",
        "url": "",
        **seen,
        "volume_size": seen.pop("volume_size_in_gb", None),
        "root_access": raw.get("RootAccess", "Enabled") == "Enabled",
        "platform_identifier": raw.get("PlatformIdentifier", ""),
        "lifecycle_config_name": raw.get("NotebookInstanceLifecycleConfigName") or "",
        "default_code_repository": raw.get("DefaultCodeRepository") or "",
        "additional_code_repositories": raw.get("AdditionalCodeRepositories") or [],
        "minimum_imds_version": metadata.get("MinimumInstanceMetadataServiceVersion", "1"),
        "ip_address_type": raw.get("IpAddressType", "ipv4"),
        "subnet_id": raw.get("SubnetId", ""),
        "security_group_ids": seen.pop("security_groups", []),
        "kms_key_id": raw.get("KmsKeyId", ""),
        "direct_internet_access": raw.get("DirectInternetAccess", "Enabled") == "Enabled",
        "tags": tags,
    }


def _same(option: str, now: Any, wanted: Any) -> bool:
    if isinstance(wanted, list):
        return sorted(now) == sorted(wanted)
    if option == "kms_key_id":
        return same_key(now, wanted)
    return now == wanted


def differences(now: dict[str, Any], params: dict[str, Any], options: dict[str, str]) -> dict[str, list[Any]]:
    """What is and what is wanted, for the options that were given and differ."""
    given = {option: params[option] for option in options if params[option] is not None}
    return {option: [now[option], want] for option, want in given.items() if not _same(option, now[option], want)}


def request(wanted: dict[str, Any], update: bool = False) -> dict[str, Any]:
    """The members of a create or update request for some options."""
    members: dict[str, Any] = {}
    for option, value in wanted.items():
        name = (SETTINGS | FIXED)[option]
        if option in _DETACH and not value:
            if update:
                members[_DETACH[option]] = True
        elif isinstance(value, bool):
            members[name] = "Enabled" if value else "Disabled"
        elif option == "minimum_imds_version":
            members[name] = {"MinimumInstanceMetadataServiceVersion": value}
        elif value not in ("", []):
            members[name] = value
    return members


def steps(state: str, status: str, differs: bool) -> list[str]:
    """The way from a lasting state to the one that was asked for.

    Args:
        state: the module's option, other than absent.
        status: one of SETTLED.
        differs: whether a setting is to be changed, which only something that does not run allows.

    Returns:
        some of ``stop``, ``update`` and ``start``, in this order.
    """
    running = status == "InService"
    stop = running and (differs or state in ("stopped", "restarted"))
    run = state in ("started", "restarted") or (state == "present" and running)
    start = run and (stop or not running)
    return ["stop"] * stop + ["update"] * differs + ["start"] * start
