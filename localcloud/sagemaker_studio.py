"""SageMaker Studio: domains, user profiles, spaces, apps (without machines) and their lifecycle configurations.

https://docs.aws.amazon.com/sagemaker/latest/dg/studio-updated.html
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

from moto.efs.models import efs_backends
from moto.sagemaker.exceptions import AWSValidationException, ResourceInUseException, ResourceNotFound
from moto.sagemaker.models import SageMakerModelBackend
from moto.sagemaker.responses import SageMakerResponse

from localcloud import sagemaker
from localcloud.sagemaker import Record, arn, assume, check_network, given, listed, shelf, teach

#: What an app runs on when nobody asks for more, and a space's disk, in GB.
INSTANCE_TYPE, SPACE_DISK = "ml.t3.medium", 5

#: The kinds of apps that live in spaces of their own kind; Studio Classic's take no new ones.
IN_SPACES, CLASSIC = ("JupyterLab", "CodeEditor"), ("JupyterServer", "KernelGateway")

#: An app that is gone is shown as deleted for a day.
GONE = "Deleted"


def merged(before: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Settings with a change, which names only what changes."""
    result = dict(before)
    for name, value in change.items():
        below = result.get(name)
        result[name] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result


def _absent(kind: str, name: str) -> ResourceNotFound:
    return ResourceNotFound(message=f"{kind} [{name}] does not exist.")


def _in_use(kind: str, name: str, by: str) -> ResourceInUseException:
    return ResourceInUseException(message=f"Unable to delete {kind} [{name}] because {by}(s) are associated with it.")


def _taken(kind: str, name: str) -> ResourceInUseException:
    return ResourceInUseException(message=f"{kind} [{name}] already exists.")


def _ready(record: Record, kind: str, name: str) -> None:
    """Nothing can be done with what is on its way to another state."""
    if record.status not in ("InService", "Failed", "Update_Failed"):
        raise ResourceInUseException(message=f"{kind} [{name}] is in status {record.status}. Try again when it is not.")


def _settings(backend: SageMakerModelBackend, settings: dict[str, Any]) -> None:
    """Roles and security groups that settings name must be there."""
    if role := settings.get("ExecutionRole"):
        assume(backend, role)
    check_network(backend, [], settings.get("SecurityGroups", []))


# -- domains ----------------------------------------------------------------------------------------------------------
DOMAIN = (
    "DomainName",
    "AuthMode",
    "DefaultUserSettings",
    "DefaultSpaceSettings",
    "DomainSettings",
    "SubnetIds",
    "VpcId",
    "AppNetworkAccessType",
    "KmsKeyId",
    "AppSecurityGroupManagement",
    "HomeEfsFileSystemCreation",
    "TagPropagation",
)


def domain_of(response: SageMakerResponse) -> Record:
    """The domain that a request names.

    Raises:
        ResourceNotFound: there is none.
    """
    name = response._get_param("DomainId")
    if name not in response.sagemaker_backend.domains:
        raise _absent("Domain", name)
    return response.sagemaker_backend.domains[name]


def create_domain(response: SageMakerResponse) -> dict[str, Any]:
    """CreateDomain, with a file system for its homes."""
    backend = response.sagemaker_backend
    defaults = {
        "AppNetworkAccessType": "PublicInternetOnly",
        "HomeEfsFileSystemCreation": "Enabled",
        "TagPropagation": "DISABLED",
    }
    values = {**defaults, **given(response, *DOMAIN)}
    if any(other.values["DomainName"] == values["DomainName"] for other in backend.domains.values()):
        raise _taken("Domain", values["DomainName"])
    if not values.get("SubnetIds") or not values.get("VpcId"):
        raise AWSValidationException("VpcId and SubnetIds must be specified.")
    if not values["DefaultUserSettings"].get("ExecutionRole"):
        raise AWSValidationException("ExecutionRole must be specified in DefaultUserSettings.")
    check_network(backend, values["SubnetIds"], [])
    for settings in (values["DefaultUserSettings"], values.get("DefaultSpaceSettings", {})):
        _settings(backend, settings)
    name = f"d-{secrets.token_hex(6)}"
    place, url = arn(backend, f"domain/{name}"), f"https://{name}.studio.{backend.region_name}.sagemaker.aws"
    values |= {"DomainId": name, "DomainArn": place, "Url": url}
    record = backend.domains[name] = Record(place, "Status", values, response._get_param("Tags") or [])
    record.go("Pending", "InService", lambda: _make_home(record))
    return {"DomainArn": place, "DomainId": name, "Url": url}


def _make_home(record: Record) -> None:
    """The file system that SageMaker makes in the customer's account, reachable from each subnet."""
    values = record.values
    if values["HomeEfsFileSystemCreation"] == "Disabled":
        return
    efs = efs_backends[record.account][record.region]
    home = efs.create_file_system(
        creation_token=values["DomainId"],
        performance_mode="generalPurpose",
        encrypted=True,
        kms_key_id=values.get("KmsKeyId", ""),
        throughput_mode="bursting",
        provisioned_throughput_in_mibps=0,
        availability_zone_name="",
        backup=False,
        tags=[{"Key": "ManagedByAmazonSageMakerResource", "Value": record.arn}],
    )
    for subnet in values["SubnetIds"]:
        efs.create_mount_target(home.file_system_id, subnet)
    values["HomeEfsFileSystemId"] = home.file_system_id


def _remove_home(record: Record) -> None:
    """The homes go, with all that is in them."""
    efs, home = efs_backends[record.account][record.region], record.values.get("HomeEfsFileSystemId")
    if home in efs.file_systems_by_id:
        for target in list(efs.file_systems_by_id[home].iter_mount_targets()):
            efs.delete_mount_target(target.mount_target_id)
        efs.delete_file_system(home)


def update_domain(response: SageMakerResponse) -> dict[str, Any]:
    """UpdateDomain."""
    record, names = domain_of(response), ("DefaultUserSettings", "DefaultSpaceSettings", "SubnetIds", "VpcId")
    _ready(record, "Domain", record.values["DomainId"])
    wanted = given(response, *names, "AppNetworkAccessType", "AppSecurityGroupManagement", "TagPropagation")
    if settings := response._get_param("DomainSettingsForUpdate"):
        wanted["DomainSettings"] = settings
    check_network(response.sagemaker_backend, wanted.get("SubnetIds", []), [])
    _settings(response.sagemaker_backend, wanted.get("DefaultUserSettings", {}))
    record.values.update(merged(record.values, wanted))
    record.go("Updating", "InService")
    return {"DomainArn": record.arn}


def delete_domain(response: SageMakerResponse) -> None:
    """DeleteDomain: one that is empty; its file system stays unless the request says otherwise."""
    backend, record = response.sagemaker_backend, domain_of(response)
    name = record.values["DomainId"]
    for kind, things in (("UserProfile", PROFILES), ("Space", SPACES)):
        if any(domain == name for domain, *_ in shelf(backend, things)):
            raise _in_use("Domain", name, kind)
    _ready(record, "Domain", name)
    policy = response._get_param("RetentionPolicy") or {}

    def work() -> None:
        if policy.get("HomeEfsFileSystem", "Retain") == "Delete":
            _remove_home(record)

    record.go("Deleting", lambda: backend.domains.pop(name, None), work)


def list_domains(response: SageMakerResponse) -> Any:
    """ListDomains."""
    return listed(response, "Domains", response.sagemaker_backend.domains.values(), "DomainName", "CreationTime")


# -- user profiles ----------------------------------------------------------------------------------------------------
PROFILES = "user-profile"


def profile_of(response: SageMakerResponse, name: str | None = None) -> Record:
    """The user profile that a request names.

    Args:
        name: its name, where the request has it in another place.

    Raises:
        ResourceNotFound: there is none.
    """
    name = name or response._get_param("UserProfileName")
    found = shelf(response.sagemaker_backend, PROFILES).get((response._get_param("DomainId"), name))
    if found is None:
        raise _absent("UserProfile", name)
    return found


def create_profile(response: SageMakerResponse) -> dict[str, Any]:
    """CreateUserProfile."""
    backend, domain = response.sagemaker_backend, domain_of(response)
    values = given(response, "DomainId", "UserProfileName", "UserSettings", "SingleSignOnUserIdentifier")
    key = values["DomainId"], values["UserProfileName"]
    if key in shelf(backend, PROFILES):
        raise _taken("UserProfile", key[1])
    _ready(domain, "Domain", key[0])
    _settings(backend, values.get("UserSettings", {}))
    place = arn(backend, f"user-profile/{key[0]}/{key[1]}")
    values |= {"UserProfileArn": place, "HomeEfsFileSystemUid": str(200000 + len(shelf(backend, PROFILES)) * 5)}
    record = shelf(backend, PROFILES)[key] = Record(place, "Status", values, response._get_param("Tags") or [])
    record.go("Pending", "InService")
    return {"UserProfileArn": place}


def update_profile(response: SageMakerResponse) -> dict[str, Any]:
    """UpdateUserProfile."""
    record = profile_of(response)
    _ready(record, "UserProfile", record.values["UserProfileName"])
    wanted = given(response, "UserSettings")
    _settings(response.sagemaker_backend, wanted.get("UserSettings", {}))
    record.values.update(merged(record.values, wanted))
    record.go("Updating", "InService")
    return {"UserProfileArn": record.arn}


def delete_profile(response: SageMakerResponse) -> None:
    """DeleteUserProfile: one without apps and spaces of its own."""
    backend, record = response.sagemaker_backend, profile_of(response)
    key = record.values["DomainId"], record.values["UserProfileName"]
    if any(apps_alive(backend, key[0], profile=key[1])):
        raise _in_use("UserProfile", key[1], "App")
    for space in shelf(backend, SPACES).values():
        owner = space.values.get("OwnershipSettings", {}).get("OwnerUserProfileName")
        if (space.values["DomainId"], owner) == key:
            raise _in_use("UserProfile", key[1], "Space")
    _ready(record, "UserProfile", key[1])
    record.go("Deleting", lambda: shelf(backend, PROFILES).pop(key, None))


def list_profiles(response: SageMakerResponse) -> Any:
    """ListUserProfiles."""
    return listed(response, "UserProfiles", _of_domain(response, PROFILES), "UserProfileName", "CreationTime")


def _of_domain(response: SageMakerResponse, kind: str) -> list[Record]:
    """The records of a kind in the domain that a list asks for, or in all."""
    domain = response._get_param("DomainIdEquals")
    records = shelf(response.sagemaker_backend, kind).values()
    return [record for record in records if domain in (None, record.values["DomainId"])]


# -- spaces -----------------------------------------------------------------------------------------------------------
SPACES = "space"
SPACE = ("DomainId", "SpaceName", "SpaceDisplayName", "SpaceSettings", "OwnershipSettings", "SpaceSharingSettings")


def space_of(response: SageMakerResponse) -> Record:
    """The space that a request names.

    Raises:
        ResourceNotFound: there is none.
    """
    name = response._get_param("SpaceName")
    found = shelf(response.sagemaker_backend, SPACES).get((response._get_param("DomainId"), name))
    if found is None:
        raise _absent("Space", name)
    return found


def create_space(response: SageMakerResponse) -> dict[str, Any]:
    """CreateSpace."""
    backend, domain = response.sagemaker_backend, domain_of(response)
    values = given(
        response,
        "DomainId",
        "SpaceName",
        "SpaceDisplayName",
        "SpaceSettings",
        "OwnershipSettings",
        "SpaceSharingSettings",
    )
    key = values["DomainId"], values["SpaceName"]
    if key in shelf(backend, SPACES):
        raise _taken("Space", key[1])
    _ready(domain, "Domain", key[0])
    if ("OwnershipSettings" in values) != ("SpaceSharingSettings" in values):
        raise AWSValidationException("OwnershipSettings and SpaceSharingSettings must be specified together.")
    kind = values.get("SpaceSettings", {}).get("AppType")
    if kind in IN_SPACES and "OwnershipSettings" not in values:
        raise AWSValidationException(f"OwnershipSettings must be specified for a space with AppType {kind}.")
    if owner := values.get("OwnershipSettings", {}).get("OwnerUserProfileName"):
        profile_of(response, owner)
    if kind in IN_SPACES:
        disk = {"SpaceStorageSettings": {"EbsStorageSettings": {"EbsVolumeSizeInGb": SPACE_DISK}}}
        values["SpaceSettings"] = merged(disk, values["SpaceSettings"])
    place = arn(backend, f"space/{key[0]}/{key[1]}")
    values |= {"SpaceArn": place, "Url": f"{domain.values['Url']}/{(kind or 'jupyter').lower()}/default"}
    record = shelf(backend, SPACES)[key] = Record(place, "Status", values, response._get_param("Tags") or [])
    _summarize(record)
    record.go("Pending", "InService")
    return {"SpaceArn": place}


def _summarize(record: Record) -> None:
    """What lists show under other names."""
    for name in ("SpaceSettings", "SpaceSharingSettings", "OwnershipSettings"):
        if name in record.values:
            record.values[f"{name}Summary"] = record.values[name]


def _disk(values: dict[str, Any]) -> int:
    settings = values.get("SpaceSettings", {}).get("SpaceStorageSettings", {}).get("EbsStorageSettings", {})
    return settings.get("EbsVolumeSizeInGb", 0)


def update_space(response: SageMakerResponse) -> dict[str, Any]:
    """UpdateSpace: one without a running app; its disk only grows."""
    backend, record = response.sagemaker_backend, space_of(response)
    domain, name = record.values["DomainId"], record.values["SpaceName"]
    _ready(record, "Space", name)
    wanted = merged(record.values, given(response, "SpaceSettings", "SpaceDisplayName"))
    if _disk(wanted) < _disk(record.values):
        raise AWSValidationException(
            f"The size of a space's EBS volume cannot be decreased: it is {_disk(record.values)} GB, not "
            f"{_disk(wanted)} GB."
        )
    if any(apps_alive(backend, domain, space=name)):
        raise ResourceInUseException(message=f"Unable to update Space [{name}] because App(s) are associated with it.")
    record.values.update(wanted)
    _summarize(record)
    record.go("Updating", "InService")
    return {"SpaceArn": record.arn}


def delete_space(response: SageMakerResponse) -> None:
    """DeleteSpace: one without apps."""
    backend, record = response.sagemaker_backend, space_of(response)
    key = record.values["DomainId"], record.values["SpaceName"]
    if any(apps_alive(backend, key[0], space=key[1])):
        raise _in_use("Space", key[1], "App")
    _ready(record, "Space", key[1])
    record.go("Deleting", lambda: shelf(backend, SPACES).pop(key, None))


def list_spaces(response: SageMakerResponse) -> Any:
    """ListSpaces."""
    return listed(response, "Spaces", _of_domain(response, SPACES), "SpaceName", "CreationTime")


# -- apps -------------------------------------------------------------------------------------------------------------
APPS = "app"
APP = ("DomainId", "UserProfileName", "SpaceName", "AppType", "AppName")


def apps_alive(
    backend: SageMakerModelBackend, domain: str, *, profile: str | None = None, space: str | None = None
) -> Iterator[Record]:
    """The apps of a user profile or of a space that are not deleted."""
    for record in shelf(backend, APPS).values():
        values = record.values
        where = values["DomainId"], values.get("UserProfileName"), values.get("SpaceName")
        if where == (domain, profile, space) and record.status != GONE:
            yield record


def app_of(response: SageMakerResponse) -> Record:
    """The app that a request names.

    Raises:
        ResourceNotFound: there is none.
    """
    key = tuple(response._get_param(name) for name in APP)
    found = shelf(response.sagemaker_backend, APPS).get(key)
    if found is None:
        raise _absent("App", key[-1])
    return found


def create_app(response: SageMakerResponse) -> dict[str, Any]:
    """CreateApp: in a space of its kind, one at a time."""
    backend = response.sagemaker_backend
    domain_of(response)
    values = given(response, *APP, "ResourceSpec", "RecoveryMode")
    kind, key = values["AppType"], tuple(values.get(name) for name in APP)
    if ("UserProfileName" in values) == ("SpaceName" in values):
        raise AWSValidationException("Either UserProfileName or SpaceName must be specified, and not both.")
    if kind in CLASSIC:
        raise AWSValidationException(f"Creation of {kind} apps is no longer supported: use JupyterLab in a space.")
    if kind in IN_SPACES:
        if "SpaceName" not in values:
            raise AWSValidationException(f"SpaceName must be specified for AppType {kind}.")
        if values["AppName"] != "default":
            raise AWSValidationException(f"The AppName of AppType {kind} must be default.")
        space = space_of(response)
        _ready(space, "Space", values["SpaceName"])
        of_space = space.values.get("SpaceSettings", {}).get("AppType")
        if of_space not in (None, kind):
            raise AWSValidationException(f"Space [{values['SpaceName']}] is for AppType {of_space}, not {kind}.")
    elif "UserProfileName" in values:
        profile_of(response)
    if any(apps_alive(backend, key[0], profile=key[1], space=key[2])) and kind in IN_SPACES:
        raise _taken("App", values["AppName"])
    values["ResourceSpec"] = {"InstanceType": INSTANCE_TYPE, **values.get("ResourceSpec", {})}
    machine = values["ResourceSpec"]["InstanceType"]
    used = [
        app
        for app in shelf(backend, APPS).values()
        if app.values["ResourceSpec"]["InstanceType"] == machine and app.status != GONE
    ]
    sagemaker.limits.admit(machine, f"Studio {kind} Apps", len(used))
    owner = values.get("SpaceName") or values["UserProfileName"]
    place = arn(backend, f"app/{key[0]}/{owner}/{kind.lower()}/{values['AppName']}")
    values["AppArn"] = place
    record = shelf(backend, APPS)[key] = Record(place, "Status", values, response._get_param("Tags") or [])

    def work() -> None:
        if machine in sagemaker.limits.exhausted:
            raise RuntimeError(f"InsufficientCapacityError: no {machine} is available. Try again later.")

    record.go("Pending", "InService", work)
    return {"AppArn": place}


def delete_app(response: SageMakerResponse) -> None:
    """DeleteApp."""
    record = app_of(response)
    if record.status in (GONE, "Deleting", "Pending"):
        raise ResourceInUseException(
            message=f"App [{record.values['AppName']}] is in status {record.status} and cannot be deleted now."
        )
    record.go("Deleting", GONE)


def list_apps(response: SageMakerResponse) -> Any:
    """ListApps; those that were deleted are shown, too."""
    profile, space = response._get_param("UserProfileNameEquals"), response._get_param("SpaceNameEquals")
    found = [
        record
        for record in _of_domain(response, APPS)
        if profile in (None, record.values.get("UserProfileName")) and space in (None, record.values.get("SpaceName"))
    ]
    return listed(response, "Apps", found, "AppName", "CreationTime")


# -- lifecycle configurations -----------------------------------------------------------------------------------------
CONFIGS = "studio-lifecycle-config"
CONFIG = "StudioLifecycleConfig"


def config_of(response: SageMakerResponse) -> Record:
    """The lifecycle configuration that a request names.

    Raises:
        ResourceNotFound: there is none.
    """
    name = response._get_param(f"{CONFIG}Name")
    found = shelf(response.sagemaker_backend, CONFIGS).get(name)
    if found is None:
        raise _absent(CONFIG, name)
    return found


def create_config(response: SageMakerResponse) -> dict[str, Any]:
    """CreateStudioLifecycleConfig."""
    backend = response.sagemaker_backend
    values = given(response, f"{CONFIG}Name", f"{CONFIG}Content", f"{CONFIG}AppType")
    name = values[f"{CONFIG}Name"]
    if name in shelf(backend, CONFIGS):
        raise _taken(CONFIG, name)
    place = values[f"{CONFIG}Arn"] = arn(backend, f"{CONFIGS}/{name}")
    shelf(backend, CONFIGS)[name] = Record(place, "", values, response._get_param("Tags") or [])
    return {f"{CONFIG}Arn": place}


def delete_config(response: SageMakerResponse) -> None:
    """DeleteStudioLifecycleConfig."""
    config_of(response)
    del shelf(response.sagemaker_backend, CONFIGS)[response._get_param(f"{CONFIG}Name")]


def list_configs(response: SageMakerResponse) -> Any:
    """ListStudioLifecycleConfigs."""
    kind = response._get_param("AppTypeEquals")
    records = shelf(response.sagemaker_backend, CONFIGS).values()
    found = [record for record in records if kind in (None, record.values[f"{CONFIG}AppType"])]
    return listed(response, f"{CONFIG}s", found, f"{CONFIG}Name", "CreationTime")


# -- all of it --------------------------------------------------------------------------------------------------------
def presign(response: SageMakerResponse) -> dict[str, Any]:
    """CreatePresignedDomainUrl."""
    domain, profile = domain_of(response), profile_of(response)
    for record, kind in ((domain, "Domain"), (profile, "UserProfile")):
        _ready(record, kind, record.arn.rpartition("/")[2])
    if response._get_param("SpaceName"):
        space_of(response)
    return {"AuthorizedUrl": f"{domain.values['Url']}/auth?token={secrets.token_urlsafe(48)}"}


def apply() -> None:
    """Teach moto."""
    teach(
        create_domain=create_domain,
        describe_domain=lambda response: domain_of(response).values,
        update_domain=update_domain,
        delete_domain=delete_domain,
        list_domains=list_domains,
        create_presigned_domain_url=presign,
        create_user_profile=create_profile,
        describe_user_profile=lambda response: profile_of(response).values,
        update_user_profile=update_profile,
        delete_user_profile=delete_profile,
        list_user_profiles=list_profiles,
        create_space=create_space,
        describe_space=lambda response: space_of(response).values,
        update_space=update_space,
        delete_space=delete_space,
        list_spaces=list_spaces,
        create_app=create_app,
        describe_app=lambda response: app_of(response).values,
        delete_app=delete_app,
        list_apps=list_apps,
        create_studio_lifecycle_config=create_config,
        describe_studio_lifecycle_config=lambda response: config_of(response).values,
        delete_studio_lifecycle_config=delete_config,
        list_studio_lifecycle_configs=list_configs,
    )
