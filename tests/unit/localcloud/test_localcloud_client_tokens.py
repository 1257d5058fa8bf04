"""One token, one answer."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from localcloud.client_tokens import IdempotentParameterMismatch, InvalidToken, Tokens


class Request:
    """As much of moto's request as is looked at."""

    current_account = "123456789012"

    def __init__(self, region: str = "us-east-1", **params: Any) -> None:
        self.region = region
        self.params = params

    def _get_param(self, name: str) -> Any:
        return self.params.get(name)


def test_the_same_request_gets_the_first_answer_and_another_an_error():
    tokens, answers = Tokens(), iter("abc")
    assert tokens.once(Request(ClientToken="t", Type="x"), lambda: next(answers)) == "a"
    assert tokens.once(Request(Type="x", ClientToken="t"), lambda: next(answers)) == "a"
    with pytest.raises(IdempotentParameterMismatch) as error:
        tokens.once(Request(ClientToken="t", Type="y"), lambda: next(answers))
    assert error.value.code == "IdempotentParameterMismatch"
    assert next(answers) == "b"


def test_other_tokens_regions_and_requests_without_one_are_their_own():
    tokens, answers = Tokens(), iter("abcde")
    requests = [Request(ClientToken="t"), Request(ClientToken="u"), Request("eu-west-1", ClientToken="t")]
    requests += [Request(), Request()]
    assert [tokens.once(request, lambda: next(answers)) for request in requests] == list("abcde")


def test_a_failure_and_a_dry_run_leave_the_token_free():
    tokens = Tokens()
    with pytest.raises(ZeroDivisionError):
        tokens.once(Request(ClientToken="t"), lambda: 1 // 0)
    assert tokens.once(Request(ClientToken="t", DryRun=True), lambda: "dry") == "dry"
    assert tokens.once(Request(ClientToken="t", Type="y"), lambda: "made") == "made"


def test_the_answer_is_made_from_the_request_as_it_came():
    def run() -> str:
        request.params["MinCount"] = 2  # as a launch does
        return "a"

    tokens, request = Tokens(), Request(ClientToken="t", MinCount=1)
    assert tokens.once(request, run) == "a"
    assert tokens.once(Request(ClientToken="t", MinCount=1), lambda: "b") == "a"


def test_two_at_once_wait_for_each_other():
    tokens, made, both = Tokens(), [], threading.Barrier(2)

    def ask(_: int) -> str:
        both.wait(timeout=10)
        return tokens.once(Request(ClientToken="t"), lambda: made.append(1) or f"answer {len(made)}")

    with ThreadPoolExecutor() as pool:
        assert list(pool.map(ask, range(2))) == ["answer 1"] * 2
    assert made == [1]


@pytest.mark.parametrize("token", ["x" * 65, "é"])
def test_a_token_that_ec2_would_not_take_is_refused(token):
    with pytest.raises(InvalidToken):
        Tokens().once(Request(ClientToken=token), lambda: "a")
