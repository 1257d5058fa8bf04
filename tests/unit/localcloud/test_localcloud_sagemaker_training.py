"""SageMaker's training jobs: what the API tells and refuses, and what their machines get."""

from __future__ import annotations

import io
import json
import tarfile
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from localcloud import sagemaker, sagemaker_jobs, sagemaker_training, spot
from localcloud.sagemaker_jobs import Bucket, Host, JobFailed, TrainingMachines
from localcloud.settings import ACCOUNT, Settings
from tests.helpers.moto import refusal

ROLE = f"arn:aws:iam::{ACCOUNT}:role/notebook"


class Engine(sagemaker_training.Nobody):
    """Runs nothing; `fails` and `ends` say how it ends."""

    def __init__(self) -> None:
        self.fails, self.ends = "", ""

    def run(self, job: sagemaker_training.Job) -> str:
        if self.fails:
            raise JobFailed(self.fails)
        return super().run(job) if not self.ends else self.ends


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def sm(taught, engine, client_of_sagemaker) -> Any:
    sagemaker_training.apply(engine)
    return client_of_sagemaker


def asked(name: str = "one", **words: Any) -> dict[str, Any]:
    return {
        "TrainingJobName": name,
        "RoleArn": ROLE,
        "AlgorithmSpecification": {"TrainingImage": "any/image:1", "TrainingInputMode": "File"},
        "ResourceConfig": {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/out/"},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        **words,
    }


def statuses(sm: Any, name: str = "one") -> tuple[str, str]:
    found = sm.describe_training_job(TrainingJobName=name)
    return found["TrainingJobStatus"], found["SecondaryStatus"]


def test_a_job_goes_its_way(sm, backstage):
    sm.create_training_job(**asked(HyperParameters={"lr": "1"}, Environment={"A": "b"}))
    assert statuses(sm) == ("InProgress", "Starting")
    backstage.work()
    found = sm.describe_training_job(TrainingJobName="one")
    assert (found["TrainingJobStatus"], found["SecondaryStatus"]) == ("Completed", "Completed")
    way = found["SecondaryStatusTransitions"]
    assert [step["Status"] for step in way] == ["Starting", "Downloading", "Training", "Completed"]
    assert all("EndTime" in step for step in way)
    assert found["ModelArtifacts"] == {"S3ModelArtifacts": "s3://bucket/out/one/output/model.tar.gz"}
    assert (found["HyperParameters"], found["Environment"]) == ({"lr": "1"}, {"A": "b"})
    assert found["EnableManagedSpotTraining"] is False


def test_spot_is_billed_for_less_time(sm, backstage):
    limits = {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 60}
    sm.create_training_job(**asked(EnableManagedSpotTraining=True, StoppingCondition=limits))
    (backend,) = sagemaker.backends()
    job = backend.training_jobs["one"].hidden["job"]
    job.enter("Downloading", "")
    job.record.values["TrainingStartTime"] -= timedelta(seconds=100)
    job.end("Completed", "")
    found = sm.describe_training_job(TrainingJobName="one")
    assert (found["TrainingTimeInSeconds"], found["BillableTimeInSeconds"]) == (100, 40)


@pytest.mark.parametrize(
    ("end", "status"), [("MaxRuntimeExceeded", "Stopped"), ("MaxWaitTimeExceeded", "Stopped"), ("Stopped", "Stopped")]
)
def test_a_job_that_took_too_long_is_stopped(sm, backstage, engine, end, status):
    engine.ends = end
    sm.create_training_job(**asked())
    backstage.work()
    assert statuses(sm) == (status, end)


def test_a_job_that_fails_says_why(sm, backstage, engine):
    engine.fails = "AlgorithmError: no, exit code: 1" + "!" * 2000
    sm.create_training_job(**asked())
    backstage.work()
    found = sm.describe_training_job(TrainingJobName="one")
    assert statuses(sm) == ("Failed", "Failed")
    assert found["FailureReason"].startswith("AlgorithmError: no, exit code: 1!")
    assert len(found["FailureReason"]) == 1024


def test_only_a_job_that_runs_is_stopped(sm, backstage):
    sm.create_training_job(**asked())
    sm.stop_training_job(TrainingJobName="one")
    assert statuses(sm) == ("Stopping", "Stopping")
    sm.stop_training_job(TrainingJobName="one")
    backstage.work()
    assert statuses(sm) == ("Stopped", "Stopped")
    code, message = refusal(sm.stop_training_job, TrainingJobName="one")
    assert (code, message.endswith("is in status Stopped.")) == ("ValidationException", True)
    assert refusal(sm.stop_training_job, TrainingJobName="two") == (
        "ValidationException",
        "Requested resource not found.",
    )


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ({"TrainingJobName": "a.b"}, "at 'trainingJobName' failed to satisfy constraint"),
        ({"AlgorithmSpecification": {"TrainingInputMode": "File"}}, "either TrainingImage or AlgorithmName"),
        (
            {"AlgorithmSpecification": {"TrainingImage": "a"}},
            "null at 'algorithmSpecification.trainingInputMode'",
        ),
        ({"ResourceConfig": {"InstanceType": "ml.g5.xlarge"}}, "InstanceCount must be specified"),
        ({"ResourceConfig": {"InstanceType": "g5.xlarge", "InstanceCount": 1}}, "at 'resourceConfig.instanceType'"),
        ({"StoppingCondition": {"MaxRuntimeInSeconds": 0}}, "at 'stoppingCondition.maxRuntimeInSeconds'"),
        ({"EnableManagedSpotTraining": True}, "Invalid MaxWaitTimeInSeconds"),
        ({"StoppingCondition": {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 60}}, "only supported when Enable"),
        ({"OutputDataConfig": {"S3OutputPath": "bucket"}}, "at 'outputDataConfig.s3OutputPath' failed to satisfy"),
        ({"RoleArn": ROLE + "s"}, "Could not assume role"),
        ({"VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]}}, "The subnet ID 'subnet-1'"),
    ],
)
def test_what_cannot_be_is_refused(sm, words, complaint):
    code, message = refusal(sm.create_training_job, **asked(**words))
    assert (code, complaint in message) == ("ValidationException", True), message
    assert sm.list_training_jobs()["TrainingJobSummaries"] == []


def test_a_channel_has_its_name_for_itself(sm):
    data = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/in"}}
    twice = [{"ChannelName": "train", "DataSource": data}] * 2
    assert "Duplicate channel name: train" in refusal(sm.create_training_job, **asked(InputDataConfig=twice))[1]


def test_a_name_is_used_once_for_ever_and_machines_are_limited(sm, backstage):
    sagemaker.limits.order({"quotas": {"ml.g5.xlarge": 1}})
    sm.create_training_job(**asked())
    assert refusal(sm.create_training_job, **asked("two"))[0] == "ResourceLimitExceeded"
    backstage.work()
    assert refusal(sm.create_training_job, **asked())[0] == "ResourceInUse"
    sm.create_training_job(**asked("two"))
    backstage.work()
    names = [job["TrainingJobName"] for job in sm.list_training_jobs(SortOrder="Descending")["TrainingJobSummaries"]]
    assert names == ["two", "one"]
    assert sm.list_training_jobs(StatusEquals="Failed")["TrainingJobSummaries"] == []


def test_no_machine_left_is_a_failure_of_the_job(sm, backstage):
    sagemaker.limits.order({"exhausted": ["ml.g5.xlarge"]})
    sm.create_training_job(**asked())
    backstage.work()
    assert sm.describe_training_job(TrainingJobName="one")["FailureReason"].startswith("CapacityError: ")


# -- machines ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def store(taught) -> Bucket:
    """S3 with a bucket that has some data."""
    client = boto3.client("s3", region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s")
    client.create_bucket(Bucket="bucket")
    for key in ("in/a.csv", "in/deep/b.csv", "in/c.csv", "other/d.csv", "in/folder/"):
        client.put_object(Bucket="bucket", Key=key, Body=key.encode())
    return Bucket(client)


def files(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def host(folder: Path, number: int = 1, code: int | None = None) -> Host:
    process = SimpleNamespace(poll=lambda: code, wait=lambda timeout: code)
    return Host(f"algo-{number}", f"c-{number}", f"10.0.0.{number}", folder / f"algo-{number}", process)


def test_data_comes_below_its_prefix_and_divided_where_asked(store, tmp_path):
    assert store.download("s3://bucket/in", tmp_path / "all") == 3
    assert files(tmp_path / "all") == {"a.csv", "deep/b.csv", "c.csv"}
    store.download("s3://bucket/in/", tmp_path / "first", (0, 2))
    store.download("s3://bucket/in/", tmp_path / "second", (1, 2))
    assert (files(tmp_path / "first"), files(tmp_path / "second")) == ({"a.csv", "deep/b.csv"}, {"c.csv"})
    store.download("s3://bucket/other/d.csv", tmp_path / "one")
    assert files(tmp_path / "one") == {"d.csv"}


def test_only_what_has_changed_is_uploaded_again(store, tmp_path):
    (tmp_path / "a").write_text("1")
    store.upload_new(tmp_path, "s3://bucket/cp/")
    store.client.delete_object(Bucket="bucket", Key="cp/a")
    (tmp_path / "b").write_text("2")
    store.upload_new(tmp_path, "s3://bucket/cp/")
    assert [key for key, _ in store.keys("s3://bucket/cp/")] == ["cp/b"]


def test_an_archive_holds_what_all_machines_made(store, tmp_path):
    for name in "xy":
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / name).write_text(name)
    store.upload_archive([tmp_path / "x", tmp_path / "y"], "s3://bucket/m.tar.gz")
    body = store.client.get_object(Bucket="bucket", Key="m.tar.gz")["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        assert {"sub/x", "sub/y"} <= set(archive.getnames())


@pytest.fixture
def job(sm, backstage) -> sagemaker_training.Job:
    """A job of two machines, with data and checkpoints."""
    data = {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/in", "S3DataDistributionType": "ShardedByS3Key"}
    sm.create_training_job(
        **asked(
            InputDataConfig=[{"ChannelName": "train", "DataSource": {"S3DataSource": data}}],
            ResourceConfig={"InstanceType": "ml.g5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 30},
            CheckpointConfig={"S3Uri": "s3://bucket/cp"},
            HyperParameters={"epochs": "3"},
        )
    )
    (backend,) = sagemaker.backends()
    return backend.training_jobs["one"].hidden["job"]


def test_each_machine_finds_opt_ml_as_sagemaker_fills_it(store, job, tmp_path):
    hosts = [host(tmp_path, 1), host(tmp_path, 2)]
    for index, each in enumerate(hosts):
        TrainingMachines._prepare(job, hosts, each, index, store)
    second = hosts[1].folder
    told = {name: json.loads((second / f"input/config/{name}.json").read_text()) for name in ("resourceconfig",)}
    assert told["resourceconfig"]["current_host"] == "algo-2"
    assert told["resourceconfig"]["hosts"] == ["algo-1", "algo-2"]
    assert json.loads((second / "input/config/hyperparameters.json").read_text()) == {"epochs": "3"}
    assert json.loads((second / "input/config/inputdataconfig.json").read_text()) == {
        "train": {"TrainingInputMode": "File", "S3DistributionType": "ShardedByS3Key", "RecordWrapperType": "None"}
    }
    assert files(hosts[0].folder / "input/data/train") == {"a.csv", "deep/b.csv"}
    assert files(second / "input/data/train") == {"c.csv"}


@pytest.mark.parametrize("uri", ["s3://bucket/nothing", "s3://nobucket/in"])
def test_data_that_is_not_there_fails_the_job(store, job, tmp_path, uri):
    job.record.values["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"] = uri
    with pytest.raises(JobFailed, match="ClientError: Data download failed"):
        TrainingMachines._prepare(job, [host(tmp_path)], host(tmp_path), 0, store)


def test_the_first_failure_that_says_something_is_the_reason(tmp_path):
    hosts = [host(tmp_path, 1, 137), host(tmp_path, 2, 3)]
    assert sagemaker_jobs._reason(hosts) == "AlgorithmError: , exit code: 137"
    (hosts[1].folder / "output").mkdir(parents=True)
    (hosts[1].folder / "output/failure").write_text("out of data\n")
    assert sagemaker_jobs._reason(hosts) == "AlgorithmError: out of data, exit code: 3"


@pytest.fixture
def machines(tmp_path, pod) -> TrainingMachines:
    return TrainingMachines(Settings("unit", tmp_path, 1, "bridge"), SimpleNamespace(kind="bridge"))


@pytest.mark.parametrize(
    ("codes", "condition", "stop", "end", "stopped"),
    [
        ((0, 0), {}, False, "Completed", []),
        ((1, None), {}, False, "Completed", ["c-2"]),
        ((None, None), {}, True, "Stopped", ["c-1", "c-2"]),
        ((None, None), {"MaxRuntimeInSeconds": -1}, False, "MaxRuntimeExceeded", ["c-1", "c-2"]),
        ((None, 0), {"MaxRuntimeInSeconds": 9, "MaxWaitTimeInSeconds": -1}, False, "MaxWaitTimeExceeded", ["c-1"]),
    ],
)
def test_what_ends_a_job(machines, job, store, tmp_path, pod, codes, condition, stop, end, stopped):
    job.record.values["StoppingCondition"] |= condition
    if stop:
        job.stopping.set()
    hosts = [host(tmp_path, number, code) for number, code in enumerate(codes, 1)]
    for each in hosts:
        (each.folder / "checkpoints").mkdir(parents=True)
    assert machines._until_the_end(job, hosts, store) == end
    assert sorted(words[-1] for words in pod.called("stop", "--time", "120")) == stopped


def test_machines_that_are_taken_away_leave_checkpoints_and_the_time_that_they_ran(machines, job, store, tmp_path, pod):
    job.record.values["EnableManagedSpotTraining"] = True
    with pytest.raises(spot.Refused, match="not in training"):
        sagemaker_training.interrupt("one")
    job.enter("Training", "")
    sagemaker_training.interrupt("one")
    hosts = [host(tmp_path)]
    (hosts[0].folder / "checkpoints").mkdir(parents=True)
    (hosts[0].folder / "checkpoints/step").write_text("7")
    hosts[0].process.stdout = []
    machines._start = lambda *_: None
    assert machines._train(job, hosts, "image", store) == "Interrupted"
    assert pod.called("stop")[0][-1] == "c-1"
    assert [key for key, _ in store.keys("s3://bucket/cp")] == ["cp/step"]
    assert 0 < job.ran < 5
    assert job.record.values["SecondaryStatus"] == "Interrupted"
    assert [key for key, _ in store.keys("s3://bucket/out")] == []


def test_only_spot_machines_are_taken_away(job):
    with pytest.raises(spot.Refused, match="does not run on spot machines"):
        sagemaker_training.interrupt("one")
    with pytest.raises(spot.Refused, match="no training job 'two'"):
        sagemaker_training.interrupt("two")


def test_with_forwarded_ports_a_job_has_one_machine(machines, job):
    machines._network = SimpleNamespace(kind="forward")
    with pytest.raises(JobFailed, match="runs one instance a job"):
        machines.run(job)
