"""Errors as sentences."""

from __future__ import annotations

import pytest
from ansible_collections.lightsout.aws.plugins.module_utils import sentences
from botocore import exceptions as boto


def client_error(code: str, message: str = "It says so.", operation: str = "RunInstances") -> boto.ClientError:
    return boto.ClientError({"Error": {"Code": code, "Message": message}}, operation)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (boto.NoCredentialsError(), "No AWS credentials were found"),
        (boto.ProfileNotFound(profile="lab"), "`aws configure list-profiles`"),
        (client_error("ExpiredToken"), "have expired"),
        (client_error("InvalidClientTokenId"), "does not know this access key"),
        (client_error("SignatureDoesNotMatch"), "clock"),
        (client_error("UnauthorizedOperation", "No. Encoded authorization failure: abc"), "(RunInstances): No. Ask"),
        (boto.EndpointConnectionError(endpoint_url="here"), "did not answer"),
        (client_error("InvalidParameterValue"), "Could not launch: It says so. (InvalidParameterValue)"),
        (ValueError("two\nlines"), "Could not launch: two lines (ValueError)"),
        (sentences.LightsoutError("As it is."), "As it is."),
    ],
)
def test_every_error_becomes_one_line_that_says_what_to_do(error, says):
    sentence = sentences.explain(error, "launch")
    assert says in sentence and "\n" not in sentence and "Encoded" not in sentence


def test_a_lost_answer_is_told_apart_from_a_refusal():
    assert sentences.is_unreachable(boto.ReadTimeoutError(endpoint_url="here"))
    assert not sentences.is_unreachable(client_error("UnauthorizedOperation"))
    assert sentences.is_denied(client_error("AccessDenied")) and not sentences.is_denied(ValueError())


def test_the_nearest_known_value_is_offered():
    assert sentences.did_you_mean("us-eats-1", ["us-east-1", "eu-west-1"]) == "; did you mean 'us-east-1'?"
    assert sentences.did_you_mean("zzz", ["us-east-1"]) == ""


def test_several_problems_are_counted_and_one_stands_alone():
    assert sentences.numbered(["one"]) == "one"
    lines = sentences.numbered(["one", "two"]).splitlines()
    assert lines[0].startswith("2 things") and lines[1:] == ["1. one", "2. two"]
