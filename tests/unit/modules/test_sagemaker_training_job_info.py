"""Training jobs are found, the newest first, with what they last said."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.lightsout.aws.plugins.modules import sagemaker_training_job_info as info

from tests.helpers.stubs import Stubs, stubbed

ARN = "arn:aws:sagemaker:us-east-1:123456789012:training-job/"
GROUP = "/aws/sagemaker/TrainingJobs"
NEWEST = {"SortBy": "CreationTime", "SortOrder": "Descending"}
WHEN = "2026-11-23T17:00:00Z"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubs]:
    # One after the other: the Stubber answers in order.
    monkeypatch.setattr(info, "at_once", lambda calls: {name: call() for name, call in calls.items()})
    with stubbed(monkeypatch) as stubs:
        yield stubs


def job(name: str, status: str = "Failed") -> dict[str, Any]:
    return {"TrainingJobName": name, "TrainingJobArn": ARN + name, "TrainingJobStatus": status, "CreationTime": WHEN}


def describes(aws: Stubs, name: str, **tags: str) -> None:
    answer = {
        **job(name),
        "SecondaryStatus": "Failed",
        "FailureReason": "AlgorithmError: exit code 3",
        "ModelArtifacts": {"S3ModelArtifacts": "s3://b/m"},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        "TrainingTimeInSeconds": 100,
        "BillableTimeInSeconds": 30,
        "TrainingStartTime": WHEN,
        "SecondaryStatusTransitions": [{"Status": "Failed", "StartTime": WHEN, "StatusMessage": "it failed"}],
    }
    aws.answer("describe_training_job", answer, TrainingJobName=name)
    listed = {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
    aws.answer("list_tags", listed, ResourceArn=ARN + name)


def test_all_pages_are_read_newest_first_and_tags_filter(aws, run) -> None:
    asked = {**NEWEST, "NameContains": "lab", "StatusEquals": "Failed"}
    aws.answer("list_training_jobs", {"TrainingJobSummaries": [job("c"), job("b")], "NextToken": "more"}, **asked)
    aws.answer("list_training_jobs", {"TrainingJobSummaries": [job("a")]}, **asked, NextToken="more")
    describes(aws, "c", project="lab")
    describes(aws, "b", project="other")
    describes(aws, "a", project="lab")
    filters = {"name_contains": "lab", "status": "Failed", "tags": {"project": "lab"}}
    found = run(info, filters=filters)["training_jobs"]
    assert [each["name"] for each in found] == ["c", "a"]
    one = found[0]
    assert (one["failure_reason"], one["status_message"]) == ("AlgorithmError: exit code 3", "it failed")
    assert (one["training_seconds"], one["billable_seconds"]) == (100, 30)
    assert one["start_time"].startswith("2026-11-23T17:00:00") and "logs" not in one


def test_no_more_are_looked_at_than_the_limit(aws, run) -> None:
    aws.answer("list_training_jobs", {"TrainingJobSummaries": [job("b"), job("a")], "NextToken": "more"}, **NEWEST)
    describes(aws, "b")
    assert [each["name"] for each in run(info, limit=1)["training_jobs"]] == ["b"]


def test_the_end_of_each_machines_log_comes_along(aws, run) -> None:
    describes(aws, "a")
    streams = [{"logStreamName": f"a/algo-{number}-17"} for number in (1, 2)]
    which = {"logGroupName": GROUP}
    aws.answer("describe_log_streams", {"logStreams": streams}, "logs", **which, logStreamNamePrefix="a/")
    for number in (1, 2):
        events = {"events": [{"timestamp": 1, "message": f"epoch {number}\n"}, {"timestamp": 2, "message": "end"}]}
        request = {**which, "logStreamName": f"a/algo-{number}-17", "limit": 5, "startFromHead": False}
        aws.answer("get_log_events", events, "logs", **request)
    (one,) = run(info, name="a", logs=True, log_lines=5)["training_jobs"]
    assert one["logs"] == {"algo-1-17": ["epoch 1", "end"], "algo-2-17": ["epoch 2", "end"]}


def test_a_job_that_said_nothing_yet_has_no_logs(aws, run) -> None:
    describes(aws, "a")
    aws.refuse("describe_log_streams", "ResourceNotFoundException", "The specified log group does not exist.", "logs")
    assert run(info, name="a", logs=True)["training_jobs"][0]["logs"] == {}


def test_none_is_an_empty_list(aws, run) -> None:
    aws.refuse("describe_training_job", "ValidationException", "Requested resource not found.")
    assert run(info, check=True, name="a")["training_jobs"] == []


def test_the_states_are_those_of_the_service(aws) -> None:
    assert aws.client("sagemaker").meta.service_model.shape_for("TrainingJobStatus").enum == info.STATES


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"name": "a b"}, "name is 'a b'"),
        ({"limit": 0}, "limit is 0"),
        ({"log_lines": 10001}, "log_lines is 10001"),
        ({"name": "a", "filters": {"status": "Failed"}}, "mutually exclusive"),
    ],
)
def test_what_cannot_be_is_said_before_anybody_is_asked(aws, run, wrong, words) -> None:
    assert words in run(info, **wrong)["msg"] and aws.calls == []
