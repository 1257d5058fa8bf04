"""Each control of ours can fail: the canary's things fail it; and the judges' board tells proof from luck."""

from __future__ import annotations

import boto3
import pytest
from moto import mock_aws

from tools import canary, controls, security


@pytest.fixture
def client(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        yield lambda service: boto3.client(service, region_name="us-east-1", endpoint_url=None)


#: moto knows no names of groups for machines with network interfaces, and nothing to compare; the local cloud does.
ELSEWHERE = {"Studio is in your network only"}


def test_the_canary_fails_every_control(client) -> None:
    image = client("ec2").describe_images()["Images"][0]["ImageId"]
    canary.make(client, image)
    found = controls.offenders(client, canary.PROJECT)
    assert {title for title, bad in found.items() if not bad} <= ELSEWHERE | {
        "machines are in our own group alone",
    }


def test_a_project_that_has_nothing_has_nothing_to_judge(client) -> None:
    assert controls.present(client, "nothing") == set()
    assert not any(controls.offenders(client, "nothing").values())


def finding(check: str, verdict: str, thing: str) -> security.Finding:
    return check, "", verdict, f"arn:aws:ec2:us-east-1:1:instance/{thing}"


def test_a_check_that_the_wrong_things_pass_proves_nothing(monkeypatch) -> None:
    monkeypatch.setitem(security.TABLE, "reasons", {"known": {"because": "so", "variable": "v"}})
    findings = [
        finding("good", "PASS", "ours"),
        finding("good", "FAIL", "wrong"),
        finding("blind", "PASS", "ours"),
        finding("blind", "PASS", "wrong"),
        finding("known", "FAIL", "ours"),
        finding("known", "PASS", "strict"),
        finding("new", "FAIL", "strict"),
        finding("new", "FAIL", "ours"),
        finding("account", "FAIL", "root"),
    ]
    rows, unexplained = security.board(findings, {"ours"}, {"strict"}, {"wrong"})
    verdicts = {row[0].strip("`"): row[2] for row in rows}
    assert verdicts == {
        "good": "passes",
        "blind": "passes, unproven",
        "known": "**not by default**",
        "new": "**not by default**",
    }
    assert unexplained == ["new"]
    assert {row[0].strip("`"): row[-1] for row in rows} == {"good": "", "blind": "", "known": "passes", "new": ""}
