"""SageMaker's training jobs: the API.

https://docs.aws.amazon.com/sagemaker/latest/dg/how-it-works-training.html
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Any, Protocol

from moto.core.utils import utcnow
from moto.sagemaker.exceptions import AWSValidationException, ResourceInUseException
from moto.sagemaker.models import SageMakerModelBackend
from moto.sagemaker.responses import SageMakerResponse

from localcloud import sagemaker, spot
from localcloud.price_list import SPOT
from localcloud.sagemaker import Record, arn, assume, backends, check_network, given, listed, log, teach

#: A job may run for so long unless it says otherwise, in seconds.
MAX_RUNTIME = 86400

#: What Describe shows just as Create was told it.
KEPT = (
    "TrainingJobName",
    "HyperParameters",
    "AlgorithmSpecification",
    "RoleArn",
    "InputDataConfig",
    "OutputDataConfig",
    "ResourceConfig",
    "VpcConfig",
    "StoppingCondition",
    "CheckpointConfig",
    "Environment",
    "RetryStrategy",
    "DebugHookConfig",
    "ExperimentConfig",
    "TensorBoardOutputConfig",
)
SWITCHES = ("EnableNetworkIsolation", "EnableInterContainerTrafficEncryption", "EnableManagedSpotTraining")

#: The secondary states that are an end, and the state that each is one of.
ENDS = {
    "Completed": "Completed",
    "Stopped": "Stopped",
    "MaxRuntimeExceeded": "Stopped",
    "MaxWaitTimeExceeded": "Stopped",
    "Failed": "Failed",
}


class Job:
    """A training job on its way.

    Args:
        record: what Describe shows.

    Attributes:
        stopping: set when somebody asked for its end.
        interrupted: set when its spot machines are taken away.
        begun: when it was made, as `time.monotonic` counts.
        ran: for how many seconds its machines ran before they were taken away.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self.stopping, self.interrupted = threading.Event(), threading.Event()
        self.begun, self.ran = time.monotonic(), 0.0

    @property
    def name(self) -> str:
        """What it is called."""
        return self.record.values["TrainingJobName"]

    def enter(self, secondary: str, message: str) -> None:
        """Go on to another part of its way."""
        now, values = utcnow(), self.record.values
        transitions = values["SecondaryStatusTransitions"]
        if transitions:
            transitions[-1].setdefault("EndTime", now)
        transitions.append({"Status": secondary, "StartTime": now, "StatusMessage": message})
        values["SecondaryStatus"] = secondary
        values["LastModifiedTime"] = now
        if secondary == "Downloading":
            values["TrainingStartTime"] = now

    def end(self, secondary: str, message: str) -> None:
        """Come to the end."""
        values = self.record.values
        self.enter(secondary, message)
        values["SecondaryStatusTransitions"][-1]["EndTime"] = values["TrainingEndTime"] = utcnow()
        began = values.setdefault("TrainingStartTime", values["TrainingEndTime"])
        seconds = int((values["TrainingEndTime"] - began).total_seconds())
        values["TrainingTimeInSeconds"] = seconds
        values["BillableTimeInSeconds"] = int(seconds * (SPOT if values["EnableManagedSpotTraining"] else 1))
        self.record.status = ENDS[secondary]


class Engine(Protocol):
    """Who runs a job's machines."""

    def run(self, job: Job) -> str:
        """Run it to its end, which is one of ``ENDS``; say by `Job.enter` what it does.

        Raises:
            Exception: it failed; the text is the FailureReason.
        """


class Nobody:
    """There are no machines: a job is completed as soon as it was begun, or stopped if somebody wanted that."""

    def run(self, job: Job) -> str:
        job.enter("Downloading", "Downloading input data")
        job.enter("Training", "Training image download completed. Training in progress.")
        return "Stopped" if job.stopping.is_set() else "Completed"


class Training:
    """The operations.

    Args:
        engine: who runs the jobs.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(self, response: SageMakerResponse) -> dict[str, Any]:
        """CreateTrainingJob."""
        backend, name = response.sagemaker_backend, response._get_param("TrainingJobName")
        place = arn(backend, f"training-job/{name}")
        if name in backend.training_jobs:
            raise ResourceInUseException(
                "Job name must be unique within an AWS account and region, and a training job with this name already "
                f"exists ({place})"
            )
        values = {**dict.fromkeys(SWITCHES, False), **given(response, *KEPT, *SWITCHES)}
        values["StoppingCondition"] = {"MaxRuntimeInSeconds": MAX_RUNTIME, **values.get("StoppingCondition", {})}
        _check(backend, values)
        output = values["OutputDataConfig"]["S3OutputPath"].rstrip("/")
        record = Record(place, "TrainingJobStatus", values, response._get_param("Tags") or [])
        values |= {
            "TrainingJobArn": place,
            "TrainingJobStatus": "InProgress",
            "SecondaryStatusTransitions": [],
            "ModelArtifacts": {"S3ModelArtifacts": f"{output}/{name}/output/model.tar.gz"},
        }
        job = record.hidden["job"] = Job(record)
        job.enter("Starting", "Preparing the instances for training")
        backend.training_jobs[name] = record
        sagemaker.in_background(lambda: self._run(job))
        return {"TrainingJobArn": place}

    def _run(self, job: Job) -> None:
        values = job.record.values
        try:
            if values["ResourceConfig"]["InstanceType"] in sagemaker.limits.exhausted:
                raise RuntimeError("CapacityError: Unable to provision requested ML compute capacity. Please retry.")
            end = self._engine.run(job)
        except Exception as error:
            values["FailureReason"] = str(error)[:1024]
            job.end("Failed", "Training job failed")
        else:
            job.end(end, "Training job completed" if end == "Completed" else "Training job stopped")
        log(f"training job {job.name}: {job.record.status} {values.get('FailureReason', '')}".rstrip())

    @staticmethod
    def stop(response: SageMakerResponse) -> None:
        """StopTrainingJob: of one that runs; a second time changes nothing."""
        record = job_named(response)
        if record.status not in ("InProgress", "Stopping"):
            raise AWSValidationException(
                f"The request was rejected because the training job is in status {record.status}."
            )
        if record.status == "InProgress":
            record.status = "Stopping"
            record.hidden["job"].enter("Stopping", "Stopping the training job")
            record.hidden["job"].stopping.set()

    @staticmethod
    def describe(response: SageMakerResponse) -> dict[str, Any]:
        """DescribeTrainingJob."""
        return job_named(response).values

    @staticmethod
    def list(response: SageMakerResponse) -> Any:
        """ListTrainingJobs."""
        jobs = response.sagemaker_backend.training_jobs.values()
        return listed(response, "TrainingJobSummaries", jobs, "TrainingJobName", sort="CreationTime")


def job_named(response: SageMakerResponse) -> Record:
    """The job that a request names.

    Raises:
        AWSValidationException: there is none.
    """
    found = response.sagemaker_backend.training_jobs.get(response._get_param("TrainingJobName"))
    if found is None:
        raise AWSValidationException("Requested resource not found.")
    return found


def _check(backend: SageMakerModelBackend, values: dict[str, Any]) -> None:
    """What the model cannot say.

    Raises:
        SagemakerClientError: SageMaker would not take it either, or the local cloud cannot do it.
    """
    algorithm, resources = values.get("AlgorithmSpecification", {}), values.get("ResourceConfig", {})
    if bool(algorithm.get("TrainingImage")) == bool(algorithm.get("AlgorithmName")):
        raise AWSValidationException("AlgorithmSpecification must have either TrainingImage or AlgorithmName.")
    for name in ("InstanceType", "InstanceCount"):
        if not resources.get(name):
            raise AWSValidationException(f"{name} must be specified in ResourceConfig.")
    channels = [channel["ChannelName"] for channel in values.get("InputDataConfig", [])]
    if twice := {name for name in channels if channels.count(name) > 1}:
        raise AWSValidationException(f"Duplicate channel name: {min(twice)}")
    condition = values["StoppingCondition"]
    longest, waited = condition["MaxRuntimeInSeconds"], condition.get("MaxWaitTimeInSeconds")
    if values["EnableManagedSpotTraining"] and (waited is None or waited < longest):
        raise AWSValidationException(
            "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to MaxRuntimeInSeconds"
        )
    if waited is not None and not values["EnableManagedSpotTraining"]:
        raise AWSValidationException(
            "MaxWaitTimeInSeconds is only supported when EnableManagedSpotTraining is set to true."
        )
    vpc = values.get("VpcConfig", {})
    check_network(backend, vpc.get("Subnets", []), vpc.get("SecurityGroupIds", []))
    assume(backend, values["RoleArn"])
    kind = resources["InstanceType"]
    used = sum(
        record.values["ResourceConfig"]["InstanceCount"]
        for record in backend.training_jobs.values()
        if record.status in ("InProgress", "Stopping") and record.values["ResourceConfig"]["InstanceType"] == kind
    )
    use = "spot training job" if values["EnableManagedSpotTraining"] else "training job"
    sagemaker.limits.admit(kind, use, used, resources["InstanceCount"])


def interrupt(name: str) -> spot.Interruption:
    """Take the spot machines of a job away; it starts again from its checkpoints.

    Raises:
        spot.Refused: there is no such job, or it cannot be interrupted now.
    """
    found = next((backend.training_jobs[name] for backend in backends() if name in backend.training_jobs), None)
    if found is None:
        raise spot.Refused(f"there is no instance and no training job '{name}'")
    if not found.values["EnableManagedSpotTraining"]:
        raise spot.Refused(f"training job {name} does not run on spot machines")
    if (found.status, found.values["SecondaryStatus"]) != ("InProgress", "Training"):
        raise spot.Refused(f"training job {name} is not in training, but {found.values['SecondaryStatus']}")
    found.hidden["job"].interrupted.set()
    now = datetime.now(UTC)
    return spot.Interruption("terminate", now, now)


def apply(engine: Engine) -> None:
    """Teach moto."""
    training = Training(engine)
    teach(
        create_training_job=training.create,
        describe_training_job=training.describe,
        list_training_jobs=training.list,
        stop_training_job=training.stop,
    )
