# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The kinds of resources that only hold data: file systems, log groups and buckets."""

from __future__ import annotations

import datetime
from typing import Any

from ansible_collections.lightsout.aws.plugins.module_utils.calls import pages
from ansible_collections.lightsout.aws.plugins.module_utils.kinds import Kind, Resource, Scope, asked_for_tags
from ansible_collections.lightsout.aws.plugins.module_utils.naming import TAG_PROJECT, tags_as_dict
from ansible_collections.lightsout.aws.plugins.module_utils.prices import (
    EFS_GIB_MONTH,
    LOGS_GIB_MONTH,
)
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import error_code

_GIB = 2**30

#: Where log groups of ours can be: those with our name, and those that SageMaker makes for an endpoint.
LOG_GROUPS = ("lightsout", "/lightsout", "/aws/sagemaker/Endpoints/")


def find_file_systems(scope: Scope) -> list[Resource]:
    """File systems of EFS, which come with their tags."""
    resources = []
    for one in pages(scope.client("efs"), "describe_file_systems", "FileSystems"):
        tags, state = tags_as_dict(one.get("Tags")), one["LifeCycleState"]
        if state != "deleted" and scope.covers(tags):
            name = one.get("Name") or one["FileSystemId"]
            resources.append(
                Resource(
                    kind="file_system",
                    id=one["FileSystemId"],
                    name=name,
                    project=tags[TAG_PROJECT],
                    region=scope.region,
                    state=state,
                    leaving=state == "deleting",
                    tags=tags,
                    raw=one,
                )
            )
    return resources


def _delete_file_system(scope: Scope, resource: Resource) -> None:
    """First its ways into the network, and when they are gone the file system."""
    efs = scope.client("efs")
    targets = pages(efs, "describe_mount_targets", "MountTargets", FileSystemId=resource.id)
    for target in targets:
        if target["LifeCycleState"] != "deleting":
            efs.delete_mount_target(MountTargetId=target["MountTargetId"])
    if not targets:
        efs.delete_file_system(FileSystemId=resource.id)


def find_log_groups(scope: Scope) -> list[Resource]:
    """Groups of CloudWatch Logs that carry our tag. Those that all of an account's jobs share never do."""
    logs = scope.client("logs")
    found = [
        group
        for prefix in LOG_GROUPS
        for group in pages(logs, "describe_log_groups", "logGroups", logGroupNamePrefix=prefix)
    ]
    arns = {group["logGroupName"]: group["arn"].removesuffix(":*") for group in found}
    asked = asked_for_tags(
        {name: lambda arn=arn: logs.list_tags_for_resource(resourceArn=arn)["tags"] for name, arn in arns.items()},
        lambda error: error_code(error) == "ResourceNotFoundException",
    )
    resources = []
    for group in found:
        name, tags = group["logGroupName"], asked.get(group["logGroupName"], {})
        if scope.covers(tags):
            since = datetime.datetime.fromtimestamp(group["creationTime"] / 1000, datetime.UTC)
            raw = {**group, "since": since}
            resources.append(Resource("log_group", name, name, tags[TAG_PROJECT], scope.region, tags=tags, raw=raw))
    return resources


def find_buckets(scope: Scope) -> list[Resource]:
    """Buckets in the region. One whose tags we may not read is somebody else's."""
    s3 = scope.client("s3")
    found = [
        bucket
        for bucket in pages(s3, "list_buckets", "Buckets", BucketRegion=scope.region)
        if bucket.get("BucketRegion", scope.region) == scope.region
    ]
    names = [one["Name"] for one in found]
    asked = asked_for_tags(
        {name: lambda name=name: tags_as_dict(s3.get_bucket_tagging(Bucket=name)["TagSet"]) for name in names},
        lambda error: error_code(error) in ("NoSuchTagSet", "NoSuchBucket", "AccessDenied"),
    )
    resources = []
    for one in found:
        name, tags = one["Name"], asked.get(one["Name"], {})
        if scope.covers(tags):
            resources.append(Resource("bucket", name, name, tags[TAG_PROJECT], scope.region, tags=tags, raw=one))
    return resources


def _delete_bucket(scope: Scope, resource: Resource) -> None:
    s3 = scope.client("s3")
    if scope.empty_buckets:
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=resource.id):
            doomed = [
                {"Key": one["Key"], "VersionId": one["VersionId"]}
                for one in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            ]
            if doomed:
                _delete_objects(s3, resource.id, doomed)
    s3.delete_bucket(Bucket=resource.id)


def _delete_objects(s3: Any, bucket: str, doomed: list[dict[str, str]]) -> None:
    """Raises where the bucket keeps one, with the reason."""
    errors = s3.delete_objects(Bucket=bucket, Delete={"Objects": doomed, "Quiet": True}).get("Errors")
    if errors:
        raise PermissionError(f"{len(errors)} objects stay, the first is {errors[0]['Key']}: {errors[0]['Message']}")


STORAGE: dict[str, Kind] = {
    "file_system": Kind(
        "file system",
        "efs",
        find_file_systems,
        _delete_file_system,
        after=("instance", "notebook_instance", "studio_domain"),
        born="CreationTime",
        size=lambda resource: f"{resource.raw['SizeInBytes']['Value'] / _GIB:.1f} GiB",
        month=lambda resource: resource.raw["SizeInBytes"]["Value"] / _GIB * EFS_GIB_MONTH,
    ),
    "log_group": Kind(
        "log group",
        "logs",
        find_log_groups,
        lambda scope, resource: scope.client("logs").delete_log_group(logGroupName=resource.id),
        after=("endpoint",),
        born="since",
        month=lambda resource: resource.raw.get("storedBytes", 0) / _GIB * LOGS_GIB_MONTH,
    ),
    "bucket": Kind(
        "bucket",
        "s3",
        find_buckets,
        _delete_bucket,
        after=("instance", "notebook_instance", "training_job"),
        born="CreationDate",
        month=lambda _resource: None,
    ),
}
