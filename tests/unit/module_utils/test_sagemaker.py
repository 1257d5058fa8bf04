"""The SageMaker modules' shared part keeps to what SageMaker says."""

from __future__ import annotations

import datetime

import pytest
from ansible_collections.lightsout.aws.plugins.module_utils import sagemaker
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import LightsoutError
from botocore.exceptions import ClientError


def error(code: str, message: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "DescribeNotebookInstance")


@pytest.mark.parametrize("name", ["a", "a-b", "a--b", "A1", "x" * 63])
def test_good_names(name: str) -> None:
    assert sagemaker.name_problem("name", name) is None


@pytest.mark.parametrize(
    ("name", "words"),
    [("x" * 64, "64 characters"), ("", "letters"), ("-a", "both ends"), ("a-", "both ends"), ("a_b", "hyphens")],
)
def test_a_bad_name_is_a_sentence_with_option_and_value(name: str, words: str) -> None:
    problem = sagemaker.name_problem("name", name)
    assert problem.startswith(f"name is '{name}'") and words in problem


@pytest.mark.parametrize(
    ("code", "message", "missing"),
    [
        ("ValidationException", "RecordNotFound", True),
        ("ResourceNotFound", "x", True),
        ("ValidationException", "Notebook Instance Lifecycle Config does not exist.", True),
        ("ValidationException", "Status (InService) not in ([Stopped, Failed]).", False),
        ("AccessDeniedException", "the role was not found", False),
    ],
)
def test_what_is_missing_is_told_from_what_fails(code: str, message: str, missing: bool) -> None:
    assert sagemaker.is_missing(error(code, message)) is missing

    def call() -> None:
        raise error(code, message)

    if missing:
        assert sagemaker.describe(call) is None
    else:
        with pytest.raises(ClientError):
            sagemaker.describe(call)


def test_an_answer_becomes_plain() -> None:
    when = datetime.datetime(2026, 11, 23, 17, tzinfo=datetime.UTC)
    answer = {"AppArn": "arn", "App": 1, "Deep": [{"CreatedAt": when}], "HyperParameters": {"A-B": "1"}}
    assert sagemaker.plain(answer, "App") == {
        "arn": "arn",
        "app": 1,
        "deep": [{"created_at": "2026-11-23T17:00:00+00:00"}],
        "hyper_parameters": {"A-B": "1"},
    }
    assert sagemaker.plain(None) == {}


@pytest.mark.parametrize(
    ("now", "wanted", "same"),
    [
        ("arn:aws:kms:us-east-1:1:key/a", "a", True),
        ("a", "arn:aws:kms:us-east-1:1:key/a", True),
        ("a", "b", False),
        ("", "a", False),
        ("", "", True),
        ("a", "alias/mine", True),
        ("", "alias/mine", False),
    ],
)
def test_a_key_is_known_by_id_and_arn(now: str, wanted: str, same: bool) -> None:
    assert sagemaker.same_key(now, wanted) is same


def test_tags_are_purged_only_when_asked_and_never_those_of_aws() -> None:
    current = {"a": "1", "b": "2", "aws:x": "y"}
    assert sagemaker.tags_to_drop(current, {"a": "1"}, False) == []
    assert sagemaker.tags_to_drop(current, None, True) == []
    assert sagemaker.tags_to_drop(current, {"a": "1"}, True) == ["b"]
    assert sagemaker.tags_after(current, {"a": "3"}, True) == {"a": "3", "aws:x": "y"}


def test_what_has_not_our_tag_is_refused() -> None:
    ours = {"lightsout:project": "lab"}
    sagemaker.refuse_foreign("app x", ours, ours)
    sagemaker.refuse_foreign("app x", {}, {"team": "y"})
    for foreign in ({}, {"lightsout:project": "other"}):
        with pytest.raises(LightsoutError, match="not ours"):
            sagemaker.refuse_foreign("app x", foreign, ours)


def test_a_wait_ends_with_the_state_in_its_message(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(sagemaker.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(sagemaker.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    with pytest.raises(LightsoutError, match="app x is still InMaintenance after 60 seconds, not InService or gone"):
        sagemaker.wait_until(lambda: {"Status": "InMaintenance"}, ["InService", None], "app x", 60)
    assert clock[0] == 60
    with pytest.raises(LightsoutError, match="deleted while"):
        sagemaker.wait_until(lambda: None, ["InService"], "app x", 60)
    assert sagemaker.wait_until(lambda: None, ["InService", None], "app x", 60) is None
