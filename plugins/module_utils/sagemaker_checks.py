# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What can be said about the settings for SageMaker without asking AWS.

As in ``checks``, every sentence names the variable, its value and what is right.
"""

from __future__ import annotations

import base64
import pathlib
import re
from typing import Any

try:
    from botocore.loaders import create_loader
except ImportError:  # AnsibleAWSModule says it when the module starts
    create_loader = None

from ansible_collections.lightsout.aws.plugins.module_utils.checks import is_subnet_id
from ansible_collections.lightsout.aws.plugins.module_utils.naming import span_of
from ansible_collections.lightsout.aws.plugins.module_utils.sagemaker import LONGEST_NAME
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import did_you_mean

#: GiB of a notebook instance's volume.
SMALLEST_VOLUME, LARGEST_VOLUME = 5, 16384
#: Minutes without use after which Studio ends an app.
LEAST_IDLE, LONGEST_IDLE = 60, 525600
#: Characters of base64 that a lifecycle script may have.
LONGEST_SCRIPT = 16384
MOST_SECURITY_GROUPS, MOST_REPOSITORIES = 5, 4
#: Seconds that a training job may run: 28 days is AWS's own most.
LONGEST_JOB = 28 * 86400

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PLATFORM = re.compile(r"notebook-al2023-v\d")
_REPOSITORY = re.compile(r"https://[^/\s]+/\S+|[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
_JOB = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")
_S3 = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?")


def known_types(shape: str) -> list[str]:
    """The instance types that this botocore knows.

    Args:
        shape: ``InstanceType`` for notebook instances, ``AppInstanceType`` for Studio, ``TrainingInstanceType`` for
            training jobs.
    """
    return create_loader().load_service_model("sagemaker", "service-2")["shapes"][shape]["enum"]


def type_problems(variable: str, value: str, shape: str) -> list[str]:
    """A type that SageMaker does not have."""
    types = known_types(shape)
    if value in types:
        return []
    hint = did_you_mean(value if value.startswith("ml.") else f"ml.{value}", types) or ", for example 'ml.t3.medium'."
    return [f"{variable} is '{value}', which is not an instance type of SageMaker's{hint}"]


def network_problems(role: str, subnet: str, groups: list[str]) -> list[str]:
    """A subnet or security groups that cannot be."""
    problems = []
    if subnet and not is_subnet_id(subnet):
        problems.append(f"{role}_subnet_id is '{subnet}': a subnet's id looks like 'subnet-0123abcd'.")
    wrong = [group for group in groups if not re.fullmatch(r"sg-[0-9a-f]{8,17}", group)]
    if wrong:
        problems.append(
            f"{role}_security_group_ids holds '{wrong[0]}': a security group's id looks like 'sg-0123abcd'."
        )
    if len(groups) > MOST_SECURITY_GROUPS:
        problems.append(
            f"{role}_security_group_ids holds {len(groups)} groups: SageMaker takes at most {MOST_SECURITY_GROUPS}."
        )
    if bool(subnet) != bool(groups):
        given, missing = ("subnet_id", "security_group_ids") if subnet else ("security_group_ids", "subnet_id")
        problems.append(f"{role}_{given} is given without {role}_{missing}: give both, or neither.")
    return problems


def bucket_problems(variable: str, buckets: list[str]) -> list[str]:
    """Names that no bucket can have."""
    return [
        f"{variable} holds '{bucket}', which is not a bucket's name: they have 3 to 63 lower-case letters, digits, "
        "dots and hyphens, and no s3:// before them."
        for bucket in buckets
        if not _BUCKET.fullmatch(bucket)
    ]


def notebook_problems(notebook: dict[str, Any]) -> list[str]:
    """What is wrong with the settings of a notebook instance by themselves."""
    role = "sagemaker_notebook"
    problems = type_problems(f"{role}_instance_type", notebook["instance_type"], "InstanceType")
    if not SMALLEST_VOLUME <= notebook["volume_size"] <= LARGEST_VOLUME:
        problems.append(
            f"{role}_volume_size is {notebook['volume_size']}: a notebook instance's volume has {SMALLEST_VOLUME} to "
            f"{LARGEST_VOLUME} GiB."
        )
    if not _PLATFORM.fullmatch(notebook["platform"]):
        problems.append(
            f"{role}_platform is '{notebook['platform']}': give 'notebook-al2023-v1', or a later one of that kind."
        )
    problems += network_problems(role, notebook["subnet_id"], notebook["security_group_ids"])
    if not notebook["direct_internet"] and not notebook["subnet_id"]:
        problems.append(
            f"{role}_direct_internet is false, but {role}_subnet_id is empty: without a subnet of yours it would reach "
            "nothing, not even S3; give one with a NAT gateway or VPC endpoints."
        )
    problems += bucket_problems(f"{role}_buckets", notebook["buckets"])
    if len(notebook["repositories"]) > MOST_REPOSITORIES:
        problems.append(
            f"{role}_repositories holds {len(notebook['repositories'])}: SageMaker clones at most {MOST_REPOSITORIES}."
        )
    problems += [
        f"{role}_repositories holds '{one}': give an https:// address, or the name of a repository in SageMaker."
        for one in notebook["repositories"]
        if not _REPOSITORY.fullmatch(one)
    ]
    problems += idle_problems(role, notebook["idle"], notebook["idle_hard_limit"])
    for script in ("on_create", "on_start"):
        size = len(base64.b64encode(notebook[script].encode()))
        if size > LONGEST_SCRIPT:
            problems.append(
                f"{role}_{script} is too long: the whole script has {size} characters in base64, SageMaker takes "
                f"{LONGEST_SCRIPT}. Let it run a script that is in a repository or bucket."
            )
    return problems


def studio_problems(wanted: dict[str, Any]) -> list[str]:
    """What is wrong with the settings of an app of Studio by themselves."""
    role, minutes = "sagemaker_studio", wanted["idle_timeout"]
    problems = type_problems(f"{role}_instance_type", wanted["instance_type"], "AppInstanceType")
    if not SMALLEST_VOLUME <= wanted["volume_size"] <= LARGEST_VOLUME:
        problems.append(
            f"{role}_volume_size is {wanted['volume_size']}: a space's volume has {SMALLEST_VOLUME} to "
            f"{LARGEST_VOLUME} GiB."
        )
    if minutes and not LEAST_IDLE <= minutes <= LONGEST_IDLE:
        problems.append(
            f"{role}_idle_timeout is {minutes}: SageMaker takes {LEAST_IDLE} to {LONGEST_IDLE} minutes, or 0 for never."
        )
    return problems + bucket_problems(f"{role}_buckets", wanted["buckets"])


def idle_problems(role: str, idle: str, hard: str) -> list[str]:
    """Times of the idle stop that are none, or in the wrong order."""
    problems = []
    for name, value in (("idle", idle), ("idle_hard_limit", hard)):
        if not value and name == "idle":
            return []
        span = span_of(value)
        if span is None or span.total_seconds() < 1:
            problems.append(f"{role}_{name} is '{value}': write a number and s, m, h or d, for example '60m'.")
    if not problems and span_of(hard) < span_of(idle):
        problems.append(f"{role}_idle_hard_limit is '{hard}', which is shorter than {role}_idle ('{idle}').")
    return problems


def training_problems(training: dict[str, Any]) -> list[str]:
    """What is wrong with the settings of a training job by themselves."""
    role, problems = "sagemaker_training", []
    name, job = training["name"], training["job"]
    if not _JOB.fullmatch(job):
        problems.append(
            f"{role}_job is '{job}': a job's name has letters, digits and hyphens, with a letter or digit at both ends."
        )
    elif len(name) > LONGEST_NAME:
        problems.append(
            f"{role}_job is '{job}', which makes '{name}' with {len(name)} characters: SageMaker allows {LONGEST_NAME}."
        )
    problems += type_problems(f"{role}_instance_type", training["instance_type"], "TrainingInstanceType")
    limits = (("instance_count", 1, 1000), ("volume_size", 1, LARGEST_VOLUME))
    problems += [
        f"{role}_{setting} is {training[setting]}: give {least} to {most}."
        for setting, least, most in limits
        if not least <= training[setting] <= most
    ]
    problems += network_problems(role, training["subnet_id"], training["security_group_ids"])
    problems += time_problems(role, training)
    problems += [
        f"{role}_data has a channel '{channel}' at '{uri}': a channel is letters, digits and hyphens other than "
        "'source', its place an S3 URI, such as s3://my-bucket/folder/."
        for channel, uri in training["data"].items()
        if channel == "source" or not _JOB.fullmatch(channel) or not _S3.fullmatch(str(uri))
    ]
    if training["bucket"]:
        problems += bucket_problems(f"{role}_bucket", [training["bucket"]])
    return problems


def time_problems(role: str, training: dict[str, Any]) -> list[str]:
    """Times of a training job that are none, too long, or in the wrong order."""
    spans, problems = {}, []
    for name in ("max_runtime", "max_wait"):
        spans[name] = span_of(training[name])
        if spans[name] is None or not 1 <= spans[name].total_seconds() <= LONGEST_JOB:
            problems.append(
                f"{role}_{name} is '{training[name]}': write a number and s, m, h or d, at most 28d, for example '4h'."
            )
    if not problems and training["spot"] and spans["max_wait"] < spans["max_runtime"]:
        problems.append(
            f"{role}_max_wait is '{training['max_wait']}', but it includes the run: give at least "
            f"{role}_max_runtime ('{training['max_runtime']}')."
        )
    return problems


def new_training_problems(training: dict[str, Any]) -> list[str]:
    """What is missing to start a job, told where there is none of that name."""
    role, problems = "sagemaker_training", []
    if not training["image"]:
        problems.append(
            f"{role}_image is empty: give an image in ECR that the job runs in, for example one of AWS's Deep Learning "
            "Containers, 763104351884.dkr.ecr.REGION.amazonaws.com/pytorch-training:TAG."
        )
    if not training["command"].strip():
        problems.append(f"{role}_command is empty: say what the job runs, for example 'python train.py'.")
    if not training["source"]:
        problems.append(f"{role}_source is empty: give the file or folder that it needs, such as examples/reranker.")
    elif not pathlib.Path(training["source"]).expanduser().exists():
        problems.append(
            f"{role}_source is '{training['source']}', which is not there: give a file or folder on this computer, "
            "relative to the current folder."
        )
    return problems
