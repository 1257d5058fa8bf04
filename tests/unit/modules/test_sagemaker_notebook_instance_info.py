"""Notebook instances are found, however many pages there are, with their tags."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ansible_collections.lightsout.aws.plugins.modules import sagemaker_notebook_instance_info as info

from tests.helpers.stubs import Stubs, stubbed

ARN = "arn:aws:sagemaker:us-east-1:123456789012:notebook-instance/"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubs]:
    # One after the other: the Stubber answers in order.
    monkeypatch.setattr(info, "at_once", lambda calls: {name: call() for name, call in calls.items()})
    with stubbed(monkeypatch) as stubs:
        yield stubs


def describes(aws: Stubs, name: str, **tags: str) -> None:
    answer = {"NotebookInstanceName": name, "NotebookInstanceArn": ARN + name, "NotebookInstanceStatus": "InService"}
    aws.answer("describe_notebook_instance", answer, NotebookInstanceName=name)
    listed = {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
    aws.answer("list_tags", listed, ResourceArn=ARN + name)


def page(*names: str) -> list[dict[str, str]]:
    return [{"NotebookInstanceName": name, "NotebookInstanceArn": ARN + name} for name in names]


def test_all_pages_are_read_and_tags_filter(aws, run) -> None:
    asked = {"NameContains": "lightsout-", "StatusEquals": "InService"}
    aws.answer("list_notebook_instances", {"NotebookInstances": page("b", "c"), "NextToken": "more"}, **asked)
    aws.answer("list_notebook_instances", {"NotebookInstances": page("a")}, **asked, NextToken="more")
    describes(aws, "a", project="lab")
    describes(aws, "b", project="lab", team="x")
    describes(aws, "c", project="other")
    filters = {"name_contains": "lightsout-", "status": "InService", "tags": {"project": "lab"}}
    found = run(info, filters=filters)["notebook_instances"]
    assert [(each["name"], each["tags"]) for each in found] == [
        ("a", {"project": "lab"}),
        ("b", {"project": "lab", "team": "x"}),
    ]


def test_one_by_name_is_two_calls(aws, run) -> None:
    describes(aws, "a")
    assert run(info, check=True, name="a")["notebook_instances"][0]["status"] == "InService"
    assert aws.calls == ["DescribeNotebookInstance", "ListTags"]


def test_none_is_an_empty_list(aws, run) -> None:
    aws.refuse("describe_notebook_instance", "ValidationException", "RecordNotFound")
    assert run(info, name="a")["notebook_instances"] == []


def test_what_is_refused_is_told(aws, run) -> None:
    aws.answer("list_notebook_instances", {"NotebookInstances": page("a")})
    aws.refuse("describe_notebook_instance", "AccessDeniedException", "no")
    assert "does not allow you to find the notebook instances" in run(info)["msg"]


def test_the_states_are_those_of_the_service(aws) -> None:
    shape = aws.client("sagemaker").meta.service_model.shape_for("NotebookInstanceStatus")
    assert shape.enum == info.STATES


def test_a_wrong_name_is_said_before_anybody_is_asked(aws, run) -> None:
    assert "name is 'a b'" in run(info, name="a b")["msg"] and aws.calls == []
