"""What a machine said, or why it said nothing, stands beside what AWS says about it."""

from __future__ import annotations

import pytest
from ansible_collections.lightsout.aws.plugins.filter.with_autostop import with_autostop


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            {"rc": 0, "stdout": "   cpu  idle\nAt 10:00: it stays on, because of jobs."},
            "At 10:00: it stays on, because of jobs.",
        ),
        ({"unreachable": True, "msg": "timed out"}, "(not reachable from here)"),
        ({"rc": 1, "stdout": "", "stderr": "it has not looked yet"}, "(nothing)"),
        ({"msg": "no such file", "rc": 2}, "(nothing)"),
    ],
)
def test_each_machine_gets_its_own_answer_and_nothing_else_gets_one(answer, told) -> None:
    hosts = {"localhost": {}, "machine-1": {"aws_instance_id": "i-1", "status_autostop": answer}}
    rows = with_autostop([{"id": "i-1"}, {"id": "i-2"}, {"id": "vol-1"}], hosts)
    assert [row["autostop"] for row in rows] == [told, "", ""]
