#!/usr/bin/python
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: sagemaker_training_job
version_added: 0.1.0
short_description: A training job of SageMaker, started once
description:
  - Runs a command in an image on machines that exist for as long as it takes, and waits for its end.
  - A job's name is its own for ever. So a second run of the same task finds the first one's job and waits for that;
    nothing runs twice. Other settings under the same name are refused, they need a new name.
  - A job cannot be changed or deleted, only stopped. What is left out is not compared with a job that there is.
options:
  name:
    description:
      - The job's name. Letters, digits and hyphens, at most 63.
    type: str
    required: true
  state:
    description:
      - V(present) starts the job, unless there is one of this name.
      - V(stopped) ends it. What it has written to its model folder is kept.
    type: str
    choices: [present, stopped]
    default: present
  image:
    description:
      - The image of the container, in ECR. Needed to start a job.
    type: str
  command:
    description:
      - What runs in it, its entry point. When not given, the image's own, which is called with C(train).
    type: list
    elements: str
  arguments:
    description:
      - Arguments of the command.
    type: list
    elements: str
  role_arn:
    description:
      - The role that the job acts as. Needed to start a job.
    type: str
  instance_type:
    description:
      - For example V(ml.g5.xlarge). Needed to start a job.
    type: str
  instance_count:
    description:
      - How many machines. V(1) when not given.
    type: int
  volume_size:
    description:
      - The size of each machine's volume in GiB. V(30) when not given.
    type: int
  inputs:
    description:
      - Channels and the S3 URI of each. A channel's files lie in C(/opt/ml/input/data/CHANNEL), on every machine.
    type: dict
  input_mode:
    description:
      - V(File) copies the inputs first, V(FastFile) reads them when they are opened, V(Pipe) streams them.
      - V(File) when not given.
    type: str
    choices: [File, FastFile, Pipe]
  output_s3_uri:
    description:
      - Below this S3 URI the job's C(/opt/ml/model) becomes C(NAME/output/model.tar.gz). Needed to start a job.
    type: str
  checkpoint_s3_uri:
    description:
      - What the job writes to C(/opt/ml/checkpoints) is kept here, and is there again when it goes on.
      - A spot job without it begins anew after each interruption.
    type: str
  spot:
    description:
      - Whether it runs on spot machines, which are cheaper and may be taken away. V(false) when not given.
    type: bool
  max_runtime:
    description:
      - The most seconds that it may run; then SageMaker stops it. V(86400), a day, when not given.
    type: int
  max_wait:
    description:
      - The most seconds that a spot job may run and wait for machines. O(max_runtime) when not given.
    type: int
  environment:
    description:
      - Environment variables. They are no place for secrets, whoever can describe the job can read them.
    type: dict
  hyperparameters:
    description:
      - What the job finds in C(/opt/ml/input/config/hyperparameters.json), as text.
    type: dict
  subnets:
    description:
      - Subnets of your VPC for the machines. They then reach what the VPC reaches.
    type: list
    elements: str
  security_group_ids:
    description:
      - Security groups for the machines. Needed with O(subnets).
    type: list
    elements: str
  network_isolation:
    description:
      - Whether the container reaches nothing at all; SageMaker itself still brings inputs and outputs.
      - V(false) when not given.
    type: bool
  encrypt_traffic:
    description:
      - Whether what the machines say to each other is encrypted, which costs time. V(false) when not given.
    type: bool
  kms_key_id:
    description:
      - The KMS key of the machines' volumes.
    type: str
  output_kms_key_id:
    description:
      - The KMS key of what is written to O(output_s3_uri).
    type: str
  wait:
    description:
      - Whether to wait for the job's end, and to fail when it fails.
    type: bool
    default: true
  wait_timeout:
    description:
      - How long to wait, in seconds. When not given, half an hour longer than the job may take.
      - A job that takes longer goes on; run the same task again to wait for it.
    type: int
extends_documentation_fragment:
  - lightsout.aws.sagemaker.tags
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    support: full
    description: Says what would happen, starts and stops nothing.
  diff_mode:
    support: full
    description: Shows the job before and after.
seealso:
  - module: lightsout.aws.sagemaker_training_job_info
author:
  - The Lightsout authors (@lightsout)
"""

EXAMPLES = r"""
- name: A script on two spot machines; it goes on from its checkpoints when they are taken away
  lightsout.aws.sagemaker_training_job:
    name: lightsout-rerank-20261123-1
    image: 123456789012.dkr.ecr.us-east-1.amazonaws.com/rerank:latest
    command: [python, /opt/ml/input/data/code/train.py]
    arguments: [--epochs, "3"]
    role_arn: arn:aws:iam::123456789012:role/lightsout/us-east-1/lightsout-rerank-sagemaker
    instance_type: ml.g5.xlarge
    instance_count: 2
    inputs:
      code: s3://my-bucket/rerank/code/
      train: s3://my-bucket/rerank/data/
    output_s3_uri: s3://my-bucket/rerank/output/
    checkpoint_s3_uri: s3://my-bucket/rerank/checkpoints/20261123-1/
    spot: true
    max_runtime: 7200
    max_wait: 14400
    tags: {"lightsout:project": rerank}

- name: No longer
  lightsout.aws.sagemaker_training_job:
    name: lightsout-rerank-20261123-1
    state: stopped
"""

RETURN = r"""
training_job:
  description: The job as it is now, in check mode as it is still. Empty when there is none.
  returned: always
  type: dict
  contains:
    name: {description: Its name., type: str, returned: always}
    arn: {description: Its ARN., type: str, returned: always}
    status: {description: Its state., type: str, returned: always, sample: Completed}
    secondary_status: {description: Its state more exactly., type: str, returned: always, sample: Uploading}
    status_message: {description: What SageMaker says about it., type: str, returned: always}
    failure_reason: {description: Why it failed., type: str, returned: always}
    model_artifacts: {description: The S3 URI of what it made., type: str, returned: always}
    training_seconds: {description: How long it ran., type: int, returned: always}
    billable_seconds: {description: How much of this is paid for., type: int, returned: always}
    creation_time: {description: When it was asked for., type: str, returned: always}
    start_time: {description: When its machines began., type: str, returned: always}
    end_time: {description: When they ended., type: str, returned: always}
    tags: {description: Its tags., type: dict, returned: always}
changes:
  description: C(start), C(stop), or what the tags were and are.
  returned: always
  type: dict
  sample: {training_job: start}
"""

import re
from typing import Any

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.lightsout.aws.plugins.module_utils import sagemaker, training_jobs
from ansible_collections.lightsout.aws.plugins.module_utils.calls import Clients
from ansible_collections.lightsout.aws.plugins.module_utils.naming import tags_as_list
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import LightsoutError, numbered

_TYPE = re.compile(r"ml(\.[a-z0-9-]+){2}")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/\S+")
_S3 = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?")
_CHANNEL = re.compile(r"[A-Za-z0-9._-]{1,64}")
_VARIABLE = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,511}")

#: The longest that SageMaker lets a job run, 28 days.
LONGEST = 2419200
#: Seconds beyond a job's own limits that its end may take: machines come and go.
AROUND = 1800
NEEDED = ("image", "role_arn", "instance_type", "output_s3_uri")


def problems(params: dict[str, Any]) -> list[str]:
    """What is wrong with the options by themselves."""
    found = sagemaker.name_problems(params, "name")
    if params["instance_type"] is not None and not _TYPE.fullmatch(params["instance_type"]):
        found.append(f"instance_type is '{params['instance_type']}': write it as SageMaker does, such as ml.g5.xlarge.")
    if params["role_arn"] is not None and not _ROLE.fullmatch(params["role_arn"]):
        found.append(f"role_arn is '{params['role_arn']}': give a role's ARN, arn:aws:iam::123456789012:role/name.")
    places = {option: params[option] for option in ("output_s3_uri", "checkpoint_s3_uri")}
    inputs = params["inputs"] or {}
    places |= {f"inputs.{channel}": uri for channel, uri in inputs.items()}
    found += [
        f"{option} is '{uri}': give an S3 URI, such as s3://my-bucket/folder/."
        for option, uri in places.items()
        if uri and not _S3.fullmatch(str(uri))
    ]
    found += [
        f"inputs has a channel '{channel}': use 1 to 64 letters, digits and . _ -."
        for channel in inputs
        if not _CHANNEL.fullmatch(channel)
    ]
    if len(inputs) > 20:
        found.append(f"inputs has {len(inputs)} channels: SageMaker allows 20.")
    found += [
        f"environment has a variable '{key}': use letters, digits and _, not beginning with a digit."
        for key in params["environment"] or {}
        if not _VARIABLE.fullmatch(key)
    ]
    return found + _problems_of_limits(params)


def _problems_of_limits(params: dict[str, Any]) -> list[str]:
    found = [
        f"{option} is {params[option]}: give {least} to {most}."
        for option, least, most in (
            ("instance_count", 1, 1000),
            ("volume_size", 1, 16384),
            ("max_runtime", 1, LONGEST),
            ("max_wait", 1, LONGEST),
            ("wait_timeout", 1, 2 * LONGEST),
        )
        if params[option] is not None and not least <= params[option] <= most
    ]
    if params["max_wait"] is not None:
        runtime = params["max_runtime"] or training_jobs.DEFAULTS["max_runtime"]
        if not params["spot"]:
            found.append("max_wait is given without spot: only a spot job waits for machines.")
        elif params["max_wait"] < runtime:
            found.append(
                f"max_wait is {params['max_wait']}: it includes the run, so give at least {runtime} (max_runtime)."
            )
    if bool(params["subnets"]) != bool(params["security_group_ids"]):
        found.append("subnets and security_group_ids belong together: give both or neither.")
    return found


class TrainingJob:
    """Starts or stops one training job.

    Args:
        module: the AnsibleAWSModule with our options.
    """

    def __init__(self, module) -> None:
        self.module, self.params, self.check = module, module.params, module.check_mode
        self.client = Clients(module)("sagemaker")
        self.name: str = module.params["name"]
        self.what = f"training job {self.name}"
        self.raw: dict[str, Any] | None = None
        self.tags: dict[str, str] = {}
        self.changes: dict[str, Any] = {}

    @property
    def status(self) -> str:
        """The state that was seen last."""
        return self.raw["TrainingJobStatus"] if self.raw else ""

    def look(self) -> dict[str, Any] | None:
        """Describe it."""
        self.raw = training_jobs.look(self.client, self.name)
        return self.raw

    def look_whose(self) -> None:
        """Read its tags.

        Raises:
            LightsoutError: it is not ours.
        """
        self.tags = sagemaker.read_tags(self.client, self.raw["TrainingJobArn"])
        sagemaker.refuse_foreign(self.what, self.tags, self.params["tags"])

    def read(self) -> dict[str, Any]:
        """It as it was seen last."""
        return training_jobs.read(self.raw, self.tags)

    def ensure(self) -> dict[str, Any]:
        """Do what is to be done; returns the module's result."""
        if self.look():
            self.look_whose()
        before = after = self.read()
        if self.params["state"] == "stopped":
            self.ensure_stopped()
        elif self.raw:
            self.ensure_same()
        else:
            after = {"name": self.name, **self.start(), "tags": self.params["tags"] or {}}
        if not self.check:
            self.wait()
            after = self.read()
        return {
            "changed": bool(self.changes),
            "training_job": self.read(),
            "changes": self.changes,
            "diff": {"before": before, "after": after},
        }

    def start(self) -> dict[str, Any]:
        """Start it, and return its settings.

        Raises:
            LightsoutError: something that it needs is missing.
        """
        given = training_jobs.wanted(self.params)
        missing = [f"There is no {self.what} yet. {option} is missing." for option in NEEDED if not given.get(option)]
        if missing:
            raise LightsoutError(numbered(missing))
        if given.get("spot") and not given.get("checkpoint_s3_uri"):
            self.module.warn(
                "spot is true without checkpoint_s3_uri: each interruption throws away what was computed and paid for."
            )
        self.changes["training_job"] = "start"
        if self.check:
            return given
        tags = {"Tags": tags_as_list(self.params["tags"])} if self.params["tags"] else {}
        request = {**training_jobs.request(self.name, given), **tags}
        try:
            sagemaker.patiently(self.client.create_training_job, **request)
        except Exception as error:
            # Another run was first, or an answer was lost: what there is may be what was wanted.
            if not sagemaker.is_taken(error) or not self.look():
                raise
            del self.changes["training_job"]
            self.look_whose()
            self.ensure_same()
            return given
        self.tags = self.params["tags"] or {}
        self.look()
        return given

    def ensure_same(self) -> None:
        """What there is must be what is wanted, but for its tags.

        Raises:
            LightsoutError: it is another job.
        """
        different = training_jobs.differences(self.read(), training_jobs.wanted(self.params))
        if different:
            list_of = "; ".join(f"{key} was {old!r}, not {new!r}" for key, (old, new) in different.items())
            raise LightsoutError(
                f"There is a {self.what} already ({self.status}), with other settings: {list_of}. A job's name is its "
                "own for ever: give the new job a new name."
            )
        wanted = sagemaker.tags_after(self.tags, self.params["tags"], self.params["purge_tags"])
        if wanted == self.tags:
            return
        self.changes["tags"] = [self.tags, wanted]
        if not self.check:
            arn, purge = self.raw["TrainingJobArn"], self.params["purge_tags"]
            sagemaker.write_tags(self.client, arn, self.tags, self.params["tags"], purge)
            self.tags = wanted

    def ensure_stopped(self) -> None:
        """End it.

        Raises:
            LightsoutError: there is none.
        """
        if not self.raw:
            raise LightsoutError(
                f"There is no {self.what} in {self.module.region}, so it cannot be stopped: look with "
                "sagemaker_training_job_info."
            )
        if self.status != "InProgress":
            return
        self.changes["training_job"] = "stop"
        if self.check:
            return
        try:
            self.client.stop_training_job(TrainingJobName=self.name)
        except Exception:
            # It may have ended in this moment.
            self.look()
            if self.status == "InProgress":
                raise
            del self.changes["training_job"]
        else:
            self.look()

    def timeout(self) -> int:
        """How long to wait."""
        limits = self.read()
        return self.params["wait_timeout"] or max(limits["max_runtime"], limits["max_wait"]) + AROUND

    def wait(self) -> None:
        """Wait for its end, where that is wanted.

        Raises:
            LightsoutError: it failed, or it takes too long.
        """
        if not self.params["wait"]:
            return
        if self.status not in training_jobs.ENDED:
            sagemaker.wait_until(self.look, training_jobs.ENDED, self.what, self.timeout(), "TrainingJobStatus")
        job = self.read()
        if self.params["state"] == "present" and self.status == "Failed":
            raise LightsoutError(
                f"The {self.what} failed: {job['failure_reason'] or 'SageMaker gives no reason'}. "
                "sagemaker_training_job_info with logs shows its last lines; another try needs a new name."
            )
        if job["secondary_status"] in ("MaxRuntimeExceeded", "MaxWaitTimeExceeded"):
            self.module.warn(f"The {self.what} was ended by SageMaker: {job['secondary_status']}.")


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={
            "name": {"required": True},
            "state": {"choices": ["present", "stopped"], "default": "present"},
            "image": {},
            "command": {"type": "list", "elements": "str"},
            "arguments": {"type": "list", "elements": "str"},
            "role_arn": {},
            "instance_type": {},
            "instance_count": {"type": "int"},
            "volume_size": {"type": "int"},
            "inputs": {"type": "dict"},
            "input_mode": {"choices": ["File", "FastFile", "Pipe"]},
            "output_s3_uri": {},
            "checkpoint_s3_uri": {},
            "spot": {"type": "bool"},
            "max_runtime": {"type": "int"},
            "max_wait": {"type": "int"},
            "environment": {"type": "dict"},
            "hyperparameters": {"type": "dict"},
            "subnets": {"type": "list", "elements": "str"},
            "security_group_ids": {"type": "list", "elements": "str"},
            "network_isolation": {"type": "bool"},
            "encrypt_traffic": {"type": "bool"},
            "kms_key_id": {"no_log": False},
            "output_kms_key_id": {"no_log": False},
            **sagemaker.TAG_OPTIONS,
            "wait": {"type": "bool", "default": True},
            "wait_timeout": {"type": "int"},
        },
        supports_check_mode=True,
    )
    wrong = problems(module.params)
    if wrong:
        module.fail_json(msg=numbered(wrong))
    doing = "start" if module.params["state"] == "present" else "stop"
    sagemaker.finish(module, f"{doing} training job {module.params['name']}", lambda: TrainingJob(module).ensure())


if __name__ == "__main__":
    main()
