"""A training job runs once under its name, whoever asks how often, and says why it ended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.lightsout.aws.plugins.module_utils import training_jobs
from ansible_collections.lightsout.aws.plugins.modules import sagemaker_training_job

from tests.helpers.stubs import Stubs, stubbed

NAME = "lightsout-lab-1"
ARN = f"arn:aws:sagemaker:us-east-1:123456789012:training-job/{NAME}"
ROLE = "arn:aws:iam::123456789012:role/lightsout/us-east-1/lightsout-lab-sagemaker"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/lab:latest"
TAGS = {"lightsout:project": "lab"}
TAG_LIST = [{"Key": "lightsout:project", "Value": "lab"}]
JOB = {"image": IMAGE, "role_arn": ROLE, "instance_type": "ml.g5.xlarge", "output_s3_uri": "s3://bucket/out/"}
#: What CreateTrainingJob is sent for JOB, and DescribeTrainingJob shows.
MADE = {
    "RoleArn": ROLE,
    "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
    "OutputDataConfig": {"S3OutputPath": "s3://bucket/out/"},
    "ResourceConfig": {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
    "StoppingCondition": {"MaxRuntimeInSeconds": 86400},
    "EnableManagedSpotTraining": False,
    "EnableNetworkIsolation": False,
    "EnableInterContainerTrafficEncryption": False,
}
WHOLE = {
    "command": ["python", "train.py"],
    "arguments": ["--epochs", "3"],
    "instance_count": 2,
    "volume_size": 100,
    "inputs": {"code": "s3://bucket/code/", "train": "s3://bucket/data"},
    "input_mode": "FastFile",
    "checkpoint_s3_uri": "s3://bucket/checkpoints/",
    "spot": True,
    "max_runtime": 3600,
    "max_wait": 7200,
    "environment": {"A": "b", "N": 3},
    "hyperparameters": {"lr": 0.1, "fast": True},
    "subnets": ["subnet-2", "subnet-1"],
    "security_group_ids": ["sg-1"],
    "network_isolation": True,
    "encrypt_traffic": True,
    "kms_key_id": "key-1",
    "output_kms_key_id": "key-2",
}


def channel(name: str, uri: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


WHOLE_MADE = {
    "RoleArn": ROLE,
    "AlgorithmSpecification": {
        "TrainingImage": IMAGE,
        "TrainingInputMode": "FastFile",
        "ContainerEntrypoint": ["python", "train.py"],
        "ContainerArguments": ["--epochs", "3"],
    },
    "InputDataConfig": [channel("code", "s3://bucket/code/"), channel("train", "s3://bucket/data")],
    "OutputDataConfig": {"S3OutputPath": "s3://bucket/out/", "KmsKeyId": "key-2"},
    "ResourceConfig": {
        "InstanceType": "ml.g5.xlarge",
        "InstanceCount": 2,
        "VolumeSizeInGB": 100,
        "VolumeKmsKeyId": "key-1",
    },
    "StoppingCondition": {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 7200},
    "VpcConfig": {"Subnets": ["subnet-2", "subnet-1"], "SecurityGroupIds": ["sg-1"]},
    "CheckpointConfig": {"S3Uri": "s3://bucket/checkpoints/"},
    "Environment": {"A": "b", "N": "3"},
    "HyperParameters": {"lr": "0.1", "fast": "true"},
    "EnableManagedSpotTraining": True,
    "EnableNetworkIsolation": True,
    "EnableInterContainerTrafficEncryption": True,
}


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubs]:
    with stubbed(monkeypatch) as stubs:
        yield stubs


@pytest.fixture
def expect(aws):
    """Expects calls: a state is a Describe that says so, ``none`` one that finds nothing."""

    def expect(words: str, made: dict[str, Any] = MADE, tags: dict[str, str] = TAGS, **more: Any) -> None:
        for word in words.split():
            if word == "none":
                aws.refuse("describe_training_job", "ValidationException", "Requested resource not found.")
            elif word == "tags":
                answer = {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
                aws.answer("list_tags", answer, ResourceArn=ARN)
            elif word == "create":
                request = {"TrainingJobName": NAME, **made, "Tags": TAG_LIST}
                aws.answer("create_training_job", {"TrainingJobArn": ARN}, **request)
            elif word == "stop":
                aws.answer("stop_training_job", {}, TrainingJobName=NAME)
            else:
                answer = {
                    "TrainingJobName": NAME,
                    "TrainingJobArn": ARN,
                    "TrainingJobStatus": word,
                    "SecondaryStatus": "Training" if word == "InProgress" else word,
                    "ModelArtifacts": {"S3ModelArtifacts": f"s3://bucket/out/{NAME}/output/model.tar.gz"},
                    "CreationTime": "2026-11-23T17:00:00Z",
                    **({"FailureReason": "AlgorithmError: exit code 3"} if word == "Failed" else {}),
                    **made,
                    **more,
                }
                aws.answer("describe_training_job", answer, TrainingJobName=NAME)

    return expect


@pytest.fixture
def keep(run):
    def keep(check: bool = False, **params: Any) -> Any:
        return run(sagemaker_training_job, check=check, **{"name": NAME, "tags": TAGS, **params})

    return keep


@pytest.mark.parametrize(("more", "made"), [({}, MADE), (WHOLE, WHOLE_MADE)], ids=["bare", "whole"])
def test_a_job_starts_with_what_was_asked_for_and_is_waited_for(expect, keep, more, made) -> None:
    expect("none create InProgress InProgress Stopping Completed", made=made)
    result = keep(**JOB, **more)
    assert result["changes"] == {"training_job": "start"}, result["msg"] if result["failed"] else ""
    job = result["training_job"]
    assert (job["status"], job["tags"]) == ("Completed", TAGS)
    assert job["model_artifacts"] == f"s3://bucket/out/{NAME}/output/model.tar.gz"


@pytest.mark.parametrize(("more", "made"), [({}, MADE), (WHOLE, WHOLE_MADE)], ids=["bare", "whole"])
@pytest.mark.parametrize("status", ["InProgress", "Completed", "Stopped", "Stopping"])
def test_the_same_job_again_starts_no_second_one(aws, expect, keep, status, more, made) -> None:
    ended = status in training_jobs.ENDED
    expect(f"{status} tags" + ("" if ended else f" {status} Completed"), made=made)
    again = {**JOB, **more}
    if "subnets" in again:
        again["subnets"] = sorted(again["subnets"])
    assert not keep(**again)["changed"]
    if ended:
        assert aws.calls == ["DescribeTrainingJob", "ListTags"]


def test_the_name_alone_waits_for_what_there_is(expect, keep) -> None:
    expect("InProgress tags Completed", made=WHOLE_MADE)
    assert keep()["training_job"]["status"] == "Completed"


def test_other_settings_need_another_name(expect, keep) -> None:
    expect("Completed tags")
    msg = keep(**{**JOB, "instance_count": 2, "hyperparameters": {"lr": 1}})["msg"]
    assert "instance_count was 1, not 2" in msg and "hyperparameters was {}" in msg and "a new name" in msg


@pytest.mark.parametrize("state", ["present", "stopped"])
def test_somebody_elses_job_is_left_alone(expect, keep, state) -> None:
    expect("InProgress tags", tags={})
    assert "not ours" in keep(state=state, **JOB)["msg"]


@pytest.mark.parametrize("way", ["none create InProgress Failed", "Failed tags", "InProgress tags Failed"])
def test_a_job_that_fails_says_why_each_time(expect, keep, way) -> None:
    expect(way)
    result = keep(**JOB)
    assert result["failed"] and "AlgorithmError: exit code 3" in result["msg"] and "new name" in result["msg"]


@pytest.mark.parametrize("way", ["none create InProgress", "InProgress tags", "Failed tags"])
def test_without_waiting_it_returns_at_once(expect, keep, way) -> None:
    expect(way)
    assert keep(wait=False, **JOB)["training_job"]["status"] == way.split()[-1 if "create" in way else 0]


@pytest.mark.parametrize("code", ["ResourceInUse", "ValidationException"])
def test_another_run_that_was_first_is_as_good(aws, expect, keep, code) -> None:
    expect("none")
    aws.refuse("create_training_job", code, "Training job names must be unique … already exists")
    expect("InProgress tags Completed")
    assert not keep(**JOB)["changed"]


def test_a_role_that_is_new_is_waited_for(aws, expect, keep) -> None:
    expect("none")
    aws.refuse("create_training_job", "ValidationException", "Could not assume role arn:aws:iam::…")
    expect("create Completed")
    assert keep(**JOB)["changed"]


def test_a_limit_is_told_as_aws_tells_it(aws, expect, keep) -> None:
    expect("none")
    aws.refuse("create_training_job", "ResourceLimitExceeded", "ml.g5.xlarge for training job usage is 0 Instances")
    assert "ml.g5.xlarge for training job usage is 0 Instances" in keep(**JOB)["msg"]


@pytest.mark.parametrize(
    ("way", "changed"),
    [
        ("InProgress tags stop Stopping Stopping Stopped", True),
        ("Stopping tags Stopped", False),
        ("Stopped tags", False),
        ("Completed tags", False),
        ("Failed tags", False),
    ],
)
def test_stopping(expect, keep, way, changed) -> None:
    expect(way)
    assert keep(state="stopped")["changed"] is changed


def test_a_job_that_ends_by_itself_in_this_moment_is_no_failure(aws, expect, keep) -> None:
    expect("InProgress tags")
    aws.refuse("stop_training_job", "ValidationException", "The job is in status Completed")
    expect("Completed")
    assert not keep(state="stopped")["changed"]


def test_there_is_nothing_to_stop(expect, keep) -> None:
    expect("none")
    assert f"There is no training job {NAME} in us-east-1" in keep(state="stopped")["msg"]


def test_a_wait_is_as_long_as_the_job_may_take_and_says_the_state(aws, expect, keep) -> None:
    expect("InProgress tags" + " InProgress" * 8)
    assert "still InProgress after 50 seconds" in keep(wait_timeout=50, **JOB)["msg"]
    job = sagemaker_training_job.TrainingJob.__new__(sagemaker_training_job.TrainingJob)
    job.params, job.tags = {"wait_timeout": None}, {}
    job.raw = {"TrainingJobName": NAME, "TrainingJobArn": ARN, "TrainingJobStatus": "InProgress", **WHOLE_MADE}
    assert job.timeout() == 7200 + 1800


def test_a_check_starts_and_stops_nothing(expect, keep) -> None:
    expect("none")
    result = keep(check=True, **JOB)
    assert result["changed"] and result["training_job"] == {} and result["diff"]["after"]["image"] == IMAGE
    expect("InProgress tags")
    assert keep(check=True, state="stopped")["changes"] == {"training_job": "stop"}
    expect("InProgress tags")
    assert not keep(check=True, **JOB)["changed"]


def test_tags_can_change(aws, expect, keep) -> None:
    expect("Completed tags")
    aws.answer("add_tags", {}, ResourceArn=ARN, Tags=[{"Key": "a", "Value": "b"}])
    assert keep(**JOB, **{"tags": {**TAGS, "a": "b"}})["training_job"]["tags"] == {**TAGS, "a": "b"}


def test_what_a_job_needs_is_said(expect, keep) -> None:
    expect("none")
    msg = keep(image=IMAGE, role_arn=ROLE)["msg"]
    assert "instance_type is missing" in msg and "output_s3_uri is missing" in msg


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"name": "x" * 64}, "64 characters"),
        ({"name": "a_b"}, "name is 'a_b'"),
        ({"instance_type": "g5.xlarge"}, "instance_type is 'g5.xlarge'"),
        ({"role_arn": "me"}, "role_arn is 'me'"),
        ({"output_s3_uri": "bucket/out"}, "output_s3_uri is 'bucket/out'"),
        ({"checkpoint_s3_uri": "s3:/bucket"}, "checkpoint_s3_uri is 's3:/bucket'"),
        ({"inputs": {"train": "/data"}}, "inputs.train is '/data'"),
        ({"inputs": {"a b": "s3://bucket/"}}, "channel 'a b'"),
        ({"inputs": {f"c{n}": "s3://bucket/" for n in range(21)}}, "SageMaker allows 20"),
        ({"environment": {"1A": "x"}}, "variable '1A'"),
        ({"max_runtime": 2419201}, "give 1 to 2419200"),
        ({"instance_count": 0}, "instance_count is 0"),
        ({"max_wait": 100}, "only a spot job"),
        ({"spot": True, "max_wait": 100}, "at least 86400 (max_runtime)"),
        ({"subnets": ["subnet-1"]}, "belong together"),
    ],
)
def test_what_cannot_be_is_said_before_anybody_is_asked(aws, keep, wrong, words) -> None:
    result = keep(**{**JOB, **wrong})
    assert result["failed"] and words in result["msg"] and "\n" not in result["msg"] and aws.calls == []
