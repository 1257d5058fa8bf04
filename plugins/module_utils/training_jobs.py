# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""SageMaker training jobs under the names of our options, and the other way round."""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.lightsout.aws.plugins.module_utils.sagemaker import describe, plain, same_key

#: States that last.
ENDED = ("Completed", "Failed", "Stopped")

LOG_GROUP = "/aws/sagemaker/TrainingJobs"

#: What a new job has when nothing is said.
DEFAULTS = {
    "command": [],
    "arguments": [],
    "instance_count": 1,
    "volume_size": 30,
    "inputs": {},
    "input_mode": "File",
    "checkpoint_s3_uri": "",
    "spot": False,
    "max_runtime": 86400,
    "environment": {},
    "hyperparameters": {},
    "subnets": [],
    "security_group_ids": [],
    "network_isolation": False,
    "encrypt_traffic": False,
    "kms_key_id": "",
    "output_kms_key_id": "",
}
#: What a job is made of. None of it can change later.
SETTINGS = ("image", "role_arn", "instance_type", "output_s3_uri", "max_wait", *DEFAULTS)


def texts(values: dict[str, Any] | None) -> dict[str, str] | None:
    """Values as SageMaker takes them, all text: a number or boolean as JSON writes it."""
    if values is None:
        return None
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}


def wanted(params: dict[str, Any]) -> dict[str, Any]:
    """The settings that were given."""
    given = {option: params[option] for option in SETTINGS if params[option] is not None}
    for option in ("environment", "hyperparameters"):
        if option in given:
            given[option] = texts(given[option])
    return given


def request(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """CreateTrainingJob's members, but for the tags."""
    job = {**DEFAULTS, **given}
    members = {
        "TrainingJobName": name,
        "RoleArn": job["role_arn"],
        "AlgorithmSpecification": {
            "TrainingImage": job["image"],
            "TrainingInputMode": job["input_mode"],
            "ContainerEntrypoint": job["command"],
            "ContainerArguments": job["arguments"],
        },
        "InputDataConfig": [
            {
                "ChannelName": channel,
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": "S3Prefix",
                        "S3Uri": uri,
                        "S3DataDistributionType": "FullyReplicated",
                    }
                },
            }
            for channel, uri in job["inputs"].items()
        ],
        "OutputDataConfig": {"S3OutputPath": job["output_s3_uri"], "KmsKeyId": job["output_kms_key_id"]},
        "ResourceConfig": {
            "InstanceType": job["instance_type"],
            "InstanceCount": job["instance_count"],
            "VolumeSizeInGB": job["volume_size"],
            "VolumeKmsKeyId": job["kms_key_id"],
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": job["max_runtime"]},
        "VpcConfig": {"Subnets": job["subnets"], "SecurityGroupIds": job["security_group_ids"]},
        "CheckpointConfig": {"S3Uri": job["checkpoint_s3_uri"]},
        "HyperParameters": job["hyperparameters"],
        "Environment": job["environment"],
        "EnableManagedSpotTraining": job["spot"],
        "EnableNetworkIsolation": job["network_isolation"],
        "EnableInterContainerTrafficEncryption": job["encrypt_traffic"],
    }
    if job["spot"]:
        members["StoppingCondition"]["MaxWaitTimeInSeconds"] = job.get("max_wait") or job["max_runtime"]
    return _filled(members)


def _filled(members: dict[str, Any]) -> dict[str, Any]:
    """Members without those that hold nothing, which SageMaker would refuse."""
    inner = {key: _filled(value) if isinstance(value, dict) else value for key, value in members.items()}
    return {key: value for key, value in inner.items() if value not in ("", [], {}, None)}


def read(raw: dict[str, Any] | None, tags: dict[str, str]) -> dict[str, Any]:
    """A job under the names of our options; empty for none."""
    if not raw:
        return {}
    algorithm, resources = raw.get("AlgorithmSpecification") or {}, raw.get("ResourceConfig") or {}
    limits, network = raw.get("StoppingCondition") or {}, raw.get("VpcConfig") or {}
    output = raw.get("OutputDataConfig") or {}
    transitions = raw.get("SecondaryStatusTransitions") or [{}]
    times = plain({key: raw.get(key) for key in ("CreationTime", "TrainingStartTime", "TrainingEndTime")}, "Training")
    return {
        "name": raw["TrainingJobName"],
        "arn": raw["TrainingJobArn"],
        "status": raw["TrainingJobStatus"],
        "secondary_status": raw.get("SecondaryStatus", ""),
        "status_message": transitions[-1].get("StatusMessage", ""),
        "failure_reason": raw.get("FailureReason", ""),
        "model_artifacts": (raw.get("ModelArtifacts") or {}).get("S3ModelArtifacts", ""),
        "training_seconds": raw.get("TrainingTimeInSeconds", 0),
        "billable_seconds": raw.get("BillableTimeInSeconds", 0),
        **times,
        "image": algorithm.get("TrainingImage", ""),
        "input_mode": algorithm.get("TrainingInputMode", "File"),
        "command": algorithm.get("ContainerEntrypoint") or [],
        "arguments": algorithm.get("ContainerArguments") or [],
        "role_arn": raw.get("RoleArn", ""),
        "instance_type": resources.get("InstanceType", ""),
        "instance_count": resources.get("InstanceCount", 1),
        "volume_size": resources.get("VolumeSizeInGB", 0),
        "kms_key_id": resources.get("VolumeKmsKeyId", ""),
        "inputs": {
            channel["ChannelName"]: (channel["DataSource"].get("S3DataSource") or {}).get("S3Uri", "")
            for channel in raw.get("InputDataConfig") or []
        },
        "output_s3_uri": output.get("S3OutputPath", ""),
        "output_kms_key_id": output.get("KmsKeyId", ""),
        "checkpoint_s3_uri": (raw.get("CheckpointConfig") or {}).get("S3Uri", ""),
        "spot": raw.get("EnableManagedSpotTraining", False),
        "max_runtime": limits.get("MaxRuntimeInSeconds", 0),
        "max_wait": limits.get("MaxWaitTimeInSeconds", 0),
        "environment": raw.get("Environment") or {},
        "hyperparameters": raw.get("HyperParameters") or {},
        "subnets": network.get("Subnets") or [],
        "security_group_ids": network.get("SecurityGroupIds") or [],
        "network_isolation": raw.get("EnableNetworkIsolation", False),
        "encrypt_traffic": raw.get("EnableInterContainerTrafficEncryption", False),
        "tags": tags,
    }


def differences(now: dict[str, Any], given: dict[str, Any]) -> dict[str, list[Any]]:
    """What is and what is wanted, for the settings that were given and differ."""

    def same(option: str) -> bool:
        if option in ("subnets", "security_group_ids"):
            return sorted(now[option]) == sorted(given[option])
        if option in ("kms_key_id", "output_kms_key_id"):
            return same_key(now[option], given[option])
        return now[option] == given[option]

    return {option: [now[option], given[option]] for option in given if not same(option)}


def look(client, name: str) -> dict[str, Any] | None:
    """Describe a job, None when there is none."""
    return describe(client.describe_training_job, TrainingJobName=name)
