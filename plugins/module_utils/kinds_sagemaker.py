# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The kinds of resources of SageMaker.

Its listings show no tags, so each thing is asked for its own. The account-wide index of tags (Resource Groups Tagging
API) would answer for all of them at once, but some time late, and knows neither apps nor what has just been made: no
base for a proof that nothing is left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ansible_collections.lightsout.aws.plugins.module_utils.calls import at_once, pages
from ansible_collections.lightsout.aws.plugins.module_utils.kinds import Kind, Resource, Scope, asked_for_tags
from ansible_collections.lightsout.aws.plugins.module_utils.naming import TAG_PROJECT, tags_as_dict, tags_as_list
from ansible_collections.lightsout.aws.plugins.module_utils.prices import (
    HOURS_PER_MONTH,
    SAGEMAKER_GIB_MONTH,
    SAGEMAKER_HOUR,
)
from ansible_collections.lightsout.aws.plugins.module_utils.sagemaker import is_missing
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import error_code
from ansible_collections.lightsout.aws.plugins.module_utils.studio import APP


def _machines(kind: str, count: int) -> str:
    return kind if count == 1 else f"{count} x {kind}"


def tags_of(scope: Scope, arns: list[str]) -> dict[str, dict[str, str]]:
    """The tags of each; without those that are gone by now."""
    client = scope.client("sagemaker")
    return asked_for_tags(
        {arn: lambda arn=arn: tags_as_dict(pages(client, "list_tags", "Tags", ResourceArn=arn)) for arn in arns},
        is_missing,
    )


def tagged(
    kind: str,
    operation: str,
    items: str,
    noun: str,
    status: str = "",
    leaving: tuple[str, ...] = ("Deleting",),
    more: Callable[[Any, dict[str, Any]], dict[str, Any]] | None = None,
) -> Callable[[Scope], list[Resource]]:
    """The way to find one of SageMaker's kinds that stand alone.

    Args:
        kind: the Kind's name.
        operation, items: the listing and the list's name in its answer.
        noun: what SageMaker calls one; the names of its members begin with it.
        status: the member that says its state.
        leaving: states in which it is being deleted.
        more: asks for what the listing does not tell and a price needs, of ours alone.
    """

    def find(scope: Scope) -> list[Resource]:
        found = pages(scope.client("sagemaker"), operation, items)
        return own(scope, kind, found, noun, status, leaving, more)

    return find


def own(
    scope: Scope,
    kind: str,
    found: list[dict[str, Any]],
    noun: str,
    status: str = "",
    leaving: tuple[str, ...] = ("Deleting",),
    more: Callable[[Any, dict[str, Any]], dict[str, Any]] | None = None,
) -> list[Resource]:
    """Those that are in scope; arguments as in ``tagged``."""
    client = scope.client("sagemaker")
    tags = tags_of(scope, [one[f"{noun}Arn"] for one in found])
    mine = [one for one in found if scope.covers(tags.get(one[f"{noun}Arn"], {}))]
    told = at_once({one[f"{noun}Arn"]: lambda one=one: more(client, one) for one in mine}) if more else {}
    resources = []
    for one in mine:
        answer = told.get(one[f"{noun}Arn"], {})
        if isinstance(answer, Exception):
            if is_missing(answer):
                continue
            raise answer
        name, own_tags, state = one[f"{noun}Name"], tags[one[f"{noun}Arn"]], one.get(status, "")
        resources.append(
            Resource(
                kind=kind,
                id=name,
                name=name,
                project=own_tags[TAG_PROJECT],
                region=scope.region,
                state=state,
                leaving=state in leaving,
                tags=own_tags,
                raw={**one, **answer},
            )
        )
    return resources


# -- notebook instances -----------------------------------------------------------------------------------------------
def _end_notebook_instance(scope: Scope, resource: Resource) -> None:
    """One step: it must have stopped before it can be deleted, and settled before it can be stopped."""
    client = scope.client("sagemaker")
    if resource.state == "InService":
        client.stop_notebook_instance(NotebookInstanceName=resource.id)
    elif resource.state in ("Stopped", "Failed"):
        client.delete_notebook_instance(NotebookInstanceName=resource.id)


def _notebook_month(resource: Resource) -> float | None:
    disk = resource.raw.get("VolumeSizeInGB", 5) * SAGEMAKER_GIB_MONTH
    if resource.state in ("Stopped", "Failed", "Deleting"):
        return disk
    hour = SAGEMAKER_HOUR.get(resource.raw["InstanceType"])
    return None if hour is None else hour * HOURS_PER_MONTH + disk


def _of_no_notebook(resource: Resource, found: list[Resource]) -> str:
    used = {one.raw.get("NotebookInstanceLifecycleConfigName") for one in found if one.kind == "notebook_instance"}
    return "" if resource.id in used else "no notebook instance uses it"


# -- jobs -------------------------------------------------------------------------------------------------------------
def find_training_jobs(scope: Scope) -> list[Resource]:
    """Training jobs that cost money. One that has ended is only remembered, unless it keeps its machines warm."""
    client, found = scope.client("sagemaker"), {}
    for wanted in ({"StatusEquals": "InProgress"}, {"StatusEquals": "Stopping"}, {"WarmPoolStatusEquals": "Available"}):
        for job in pages(client, "list_training_jobs", "TrainingJobSummaries", **wanted):
            if job["TrainingJobStatus"] in ("InProgress", "Stopping") or _is_warm(job):
                found[job["TrainingJobName"]] = job
    return own(scope, "training_job", list(found.values()), "TrainingJob", "TrainingJobStatus", ("Stopping",), _job)


def _is_warm(job: dict[str, Any]) -> bool:
    return job.get("WarmPoolStatus", {}).get("Status") == "Available"


def _job(client: Any, job: dict[str, Any]) -> dict[str, Any]:
    told = client.describe_training_job(TrainingJobName=job["TrainingJobName"])
    return {key: told[key] for key in ("ResourceConfig", "EnableManagedSpotTraining") if key in told}


def _end_training_job(scope: Scope, resource: Resource) -> None:
    client = scope.client("sagemaker")
    if resource.state == "InProgress":
        client.stop_training_job(TrainingJobName=resource.id)
    elif _is_warm(resource.raw):
        client.update_training_job(TrainingJobName=resource.id, ResourceConfig={"KeepAlivePeriodInSeconds": 0})


def _job_month(resource: Resource) -> float | None:
    """On demand; nobody here knows what its spot machines cost."""
    machines = resource.raw.get("ResourceConfig", {})
    hour = SAGEMAKER_HOUR.get(machines.get("InstanceType", ""))
    if hour is None or resource.raw.get("EnableManagedSpotTraining"):
        return None
    return hour * machines.get("InstanceCount", 1) * HOURS_PER_MONTH


# -- endpoints --------------------------------------------------------------------------------------------------------
def _endpoint(client: Any, endpoint: dict[str, Any]) -> dict[str, Any]:
    told = client.describe_endpoint(EndpointName=endpoint["EndpointName"])
    config = client.describe_endpoint_config(EndpointConfigName=told["EndpointConfigName"])
    counts = {one["VariantName"]: one.get("CurrentInstanceCount") for one in told.get("ProductionVariants", [])}
    return {
        "machines": [
            (one.get("InstanceType", ""), counts.get(one["VariantName"]) or one.get("InitialInstanceCount", 0))
            for one in config["ProductionVariants"]
            if "ServerlessConfig" not in one  # costs nothing while nobody calls it
        ]
    }


def _delete_endpoint(scope: Scope, resource: Resource) -> None:
    """Its log group stays behind and has no tag: it gets ours, so that it is found when the endpoint is gone."""
    if resource.state in ("Creating", "Updating", "SystemUpdating", "RollingBack"):
        return  # AWS refuses until it has settled
    arn = resource.raw["EndpointArn"].split(":")
    group = ":".join([*arn[:2], "logs", *arn[3:5], f"log-group:/aws/sagemaker/Endpoints/{resource.id}"])
    ours = {key: value for key, value in resource.tags.items() if key.startswith("lightsout:")}
    try:
        scope.client("logs").tag_resource(resourceArn=group, tags=ours)
    except Exception as error:
        if error_code(error) != "ResourceNotFoundException":  # it has written no log
            raise
    scope.client("sagemaker").delete_endpoint(EndpointName=resource.id)


def _endpoint_month(resource: Resource) -> float | None:
    prices = [(SAGEMAKER_HOUR.get(kind), count) for kind, count in resource.raw["machines"]]
    if any(price is None for price, _count in prices):
        return None
    return sum((price or 0.0) * count for price, count in prices) * HOURS_PER_MONTH


# -- Studio -----------------------------------------------------------------------------------------------------------
def find_domains(scope: Scope) -> list[Resource]:
    """Studio's domains."""
    found = pages(scope.client("sagemaker"), "list_domains", "Domains")
    named = [{**one, "DomainName": one.get("DomainName") or one["DomainId"]} for one in found]
    return [replace(one, id=one.raw["DomainId"]) for one in own(scope, "studio_domain", named, "Domain", "Status")]


def in_domains(
    kind: str, operation: str, items: str, path: Callable[[dict[str, Any]], str], name: Callable[[dict[str, Any]], str]
) -> Callable[[Scope], list[Resource]]:
    """The way to find what is in Studio's domains: what people make there carries no tag, and is the domain's.

    What carries another project's tag is that one's. Apps and their like are listed without their ARN, so it is put
    together here; for one that turns out to be another, the domain's tags speak alone.

    Args:
        kind: the Kind's name.
        operation, items: the listing and the list's name in its answer.
        path: the end of its ARN.
        name: what people call it.
    """

    def find(scope: Scope) -> list[Resource]:
        client = scope.client("sagemaker")
        domains = {one["DomainId"]: one["DomainArn"] for one in pages(client, "list_domains", "Domains")}
        if not domains:
            return []
        found = [one for one in pages(client, operation, items) if one["Status"] != "Deleted"]
        found = [one for one in found if one["DomainId"] in domains]
        arns = [f"{domains[one['DomainId']].rsplit(':', 1)[0]}:{path(one)}" for one in found]
        tags = tags_of(scope, [*{domains[one["DomainId"]] for one in found}, *arns])
        resources = []
        for one, arn in zip(found, arns, strict=True):
            its = {**tags.get(domains[one["DomainId"]], {}), **tags.get(arn, {})}
            if scope.covers(its):
                state = one["Status"]
                leaving, project = state == "Deleting", its[TAG_PROJECT]
                ident = path(one).split("/", 1)[1]
                resources.append(
                    Resource(kind, ident, name(one), project, scope.region, state, leaving, its, {**one, "arn": arn})
                )
        return resources

    return find


def _whose(app: dict[str, Any]) -> str:
    return app.get("SpaceName") or app.get("UserProfileName") or ""


def _delete_app(scope: Scope, resource: Resource) -> None:
    scope.client("sagemaker").delete_app(**APP.key_of(resource.raw))


def _delete_domain(scope: Scope, resource: Resource) -> None:
    """With the home directories, or without them: then their file system gets our tag, to be found again."""
    client = scope.client("sagemaker")
    if scope.keep_files:
        home = client.describe_domain(DomainId=resource.id).get("HomeEfsFileSystemId")
        if home:
            ours = {key: value for key, value in resource.tags.items() if key.startswith("lightsout:")}
            scope.client("efs").tag_resource(ResourceId=home, Tags=tags_as_list(ours))
    policy = "Retain" if scope.keep_files else "Delete"
    client.delete_domain(DomainId=resource.id, RetentionPolicy={"HomeEfsFileSystem": policy})


def _app_month(resource: Resource) -> float | None:
    machine = resource.raw.get("ResourceSpec", {}).get("InstanceType", "system")
    if resource.state not in ("InService", "Pending") or machine == "system":
        return 0.0
    hour = SAGEMAKER_HOUR.get(machine)
    return None if hour is None else hour * HOURS_PER_MONTH


def _space_disk(resource: Resource) -> int:
    storage = resource.raw.get("SpaceSettingsSummary", {}).get("SpaceStorageSettings", {})
    return storage.get("EbsStorageSettings", {}).get("EbsVolumeSizeInGb", 0)


SAGEMAKER: dict[str, Kind] = {
    "training_job": Kind(
        "training job",
        "sagemaker",
        find_training_jobs,
        _end_training_job,
        alive=True,
        born="CreationTime",
        size=lambda resource: _machines(
            resource.raw.get("ResourceConfig", {}).get("InstanceType", ""),
            resource.raw.get("ResourceConfig", {}).get("InstanceCount", 1),
        ),
        month=_job_month,
    ),
    "notebook_instance": Kind(
        "notebook instance",
        "sagemaker",
        tagged(
            "notebook_instance",
            "list_notebook_instances",
            "NotebookInstances",
            "NotebookInstance",
            "NotebookInstanceStatus",
            more=lambda client, one: client.describe_notebook_instance(
                NotebookInstanceName=one["NotebookInstanceName"]
            ),
        ),
        _end_notebook_instance,
        alive=True,
        born="LastModifiedTime",
        size=lambda resource: resource.raw["InstanceType"],
        month=_notebook_month,
    ),
    "notebook_lifecycle_config": Kind(
        "lifecycle configuration",
        "sagemaker",
        tagged(
            "notebook_lifecycle_config",
            "list_notebook_instance_lifecycle_configs",
            "NotebookInstanceLifecycleConfigs",
            "NotebookInstanceLifecycleConfig",
        ),
        lambda scope, resource: scope.client("sagemaker").delete_notebook_instance_lifecycle_config(
            NotebookInstanceLifecycleConfigName=resource.id
        ),
        after=("notebook_instance",),
        unused=_of_no_notebook,
        born="LastModifiedTime",
    ),
    "endpoint": Kind(
        "endpoint",
        "sagemaker",
        tagged("endpoint", "list_endpoints", "Endpoints", "Endpoint", "EndpointStatus", more=_endpoint),
        _delete_endpoint,
        leaves=("log_group",),
        alive=True,
        born="CreationTime",
        size=lambda resource: ", ".join(_machines(*one) for one in resource.raw["machines"]),
        month=_endpoint_month,
    ),
    "endpoint_config": Kind(
        "endpoint configuration",
        "sagemaker",
        tagged("endpoint_config", "list_endpoint_configs", "EndpointConfigs", "EndpointConfig"),
        lambda scope, resource: scope.client("sagemaker").delete_endpoint_config(EndpointConfigName=resource.id),
        after=("endpoint",),
        born="CreationTime",
    ),
    "model": Kind(
        "model",
        "sagemaker",
        tagged("model", "list_models", "Models", "Model"),
        lambda scope, resource: scope.client("sagemaker").delete_model(ModelName=resource.id),
        after=("endpoint", "endpoint_config"),
        born="CreationTime",
    ),
    "studio_app": Kind(
        "Studio app",
        "sagemaker",
        in_domains(
            "studio_app",
            "list_apps",
            "Apps",
            lambda one: f"app/{one['DomainId']}/{_whose(one)}/{one['AppType'].lower()}/{one['AppName']}",
            lambda one: f"{_whose(one)}/{one['AppType']}",
        ),
        _delete_app,
        born="CreationTime",
        size=lambda resource: resource.raw.get("ResourceSpec", {}).get("InstanceType", ""),
        month=_app_month,
    ),
    "studio_space": Kind(
        "Studio space",
        "sagemaker",
        in_domains(
            "studio_space",
            "list_spaces",
            "Spaces",
            lambda one: f"space/{one['DomainId']}/{one['SpaceName']}",
            lambda one: one["SpaceName"],
        ),
        lambda scope, resource: scope.client("sagemaker").delete_space(
            DomainId=resource.raw["DomainId"], SpaceName=resource.name
        ),
        after=("studio_app",),
        born="CreationTime",
        size=lambda resource: f"{_space_disk(resource)} GiB",
        month=lambda resource: _space_disk(resource) * SAGEMAKER_GIB_MONTH,
    ),
    "studio_user_profile": Kind(
        "Studio user profile",
        "sagemaker",
        in_domains(
            "studio_user_profile",
            "list_user_profiles",
            "UserProfiles",
            lambda one: f"user-profile/{one['DomainId']}/{one['UserProfileName']}",
            lambda one: one["UserProfileName"],
        ),
        lambda scope, resource: scope.client("sagemaker").delete_user_profile(
            DomainId=resource.raw["DomainId"], UserProfileName=resource.name
        ),
        after=("studio_app", "studio_space"),
        born="CreationTime",
    ),
    "studio_domain": Kind(
        "Studio domain",
        "sagemaker",
        find_domains,
        _delete_domain,
        after=("studio_app", "studio_space", "studio_user_profile"),
        alive=True,
        born="CreationTime",
    ),
}
