"""Calls at once."""

from __future__ import annotations

import threading

from ansible_collections.lightsout.aws.plugins.module_utils import calls


def test_calls_run_at_the_same_time():
    meet = threading.Barrier(3, timeout=5)
    assert calls.at_once(dict.fromkeys("abc", meet.wait)).keys() == set("abc")
    assert not meet.broken


def test_a_failure_hides_no_other_answer():
    def fails():
        raise ValueError("no")

    answers = calls.at_once({"good": lambda: 1, "bad": fails})
    assert answers["good"] == 1 and isinstance(answers["bad"], ValueError)
    assert isinstance(calls.at_once({"bad": fails})["bad"], ValueError)


def test_pages_are_read_to_the_end():
    class Client:
        def can_paginate(self, operation):
            return operation == "describe_volumes"

        def get_paginator(self, operation):
            return self

        def paginate(self, **arguments):
            return [{"Volumes": [1, 2]}, {"Volumes": []}, {"Volumes": [arguments["Filters"]]}]

        def describe_addresses(self, **arguments):
            return {"Addresses": [arguments]}

    assert calls.pages(Client(), "describe_volumes", "Volumes", Filters=3) == [1, 2, 3]
    assert calls.pages(Client(), "describe_addresses", "Addresses", a=1) == [{"a": 1}]
