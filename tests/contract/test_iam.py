"""The policies that we ship: as tight as their rules, whole, and small enough for IAM."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from localcloud.permissions import allows
from tests.helpers.least_privilege import policy_without
from tools import iam

POLICIES = sorted(path.stem for path in iam.FOLDER.glob("*.json") if path.stem != "boundary")
LOOKS = re.compile(r"\w+:(Describe|Get|List|View)\w*")
#: What a launch uses, and nobody owns.
COMMON = re.compile(r"arn:aws:ec2:\*:\*?:(image|subnet|snapshot|vpc)/\*")

every = pytest.mark.parametrize("name", POLICIES)


def test_every_playbook_has_a_policy() -> None:
    books = {path.stem for path in (iam.ROOT / "playbooks").glob("*.yml")} - {"select_machines"}  # a part of others
    lacking = {book for book in books if iam.policy_of(book) not in POLICIES}
    assert not lacking, f"add a line for {sorted(lacking)} to tools/iam.yml, and run `make iam`"


@every
def test_it_is_what_the_rules_make_of_its_actions(name) -> None:
    assert iam.shipped(name) == iam.policy(iam.actions_of(iam.shipped(name))), "stale: run `make iam`"


@every
def test_it_fits_into_a_managed_policy(name) -> None:
    assert len(json.dumps(iam.shipped(name), separators=(",", ":"))) <= iam.LONGEST


@every
def test_whatever_changes_something_is_bound_to_our_tag_or_our_names(name) -> None:
    for statement in iam.shipped(name)["Statement"]:
        assert not [action for action in statement["Action"] if "*" in action]
        if all(LOOKS.fullmatch(action) for action in statement["Action"]):
            continue
        assert "*" not in statement["Resource"], statement
        tagged = any("/lightsout:project" in key for c in statement.get("Condition", {}).values() for key in c)
        assert tagged or all("lightsout" in to or COMMON.fullmatch(to) for to in statement["Resource"]), statement


@every
def test_roles_are_ours_bounded_and_passed_to_few(name) -> None:
    for statement in iam.shipped(name)["Statement"]:
        condition = statement.get("Condition", {})
        if "iam:PassRole" in statement["Action"]:
            assert statement["Resource"] == ["arn:aws:iam::*:role/lightsout/*"]
            assert condition["StringEquals"]["iam:PassedToService"] == iam.TABLE["passed"]
        if {"iam:CreateRole", "iam:PutRolePolicy", "iam:AttachRolePolicy"} & set(statement["Action"]):
            assert condition["ArnLike"]["iam:PermissionsBoundary"] == iam.BOUNDARY


@every
def test_no_action_is_there_twice_over(name) -> None:
    """Without any one of them, what needed it is refused."""
    document = iam.shipped(name)
    for action in iam.actions_of(document):
        assert allows([document], action) and not allows([policy_without(document, action)], action)


def test_an_action_without_a_rule_is_refused() -> None:
    with pytest.raises(ValueError, match="no rule for iam:CreateUser"):
        iam.policy(["iam:CreateUser"])


def test_what_is_narrowed_names_project_account_and_boundary(tmp_path: Path) -> None:
    boundary = "arn:aws:iam::111122223333:policy/mine"
    text = json.dumps(iam.narrowed(iam.shipped("provision"), "rerank", "111122223333", boundary))
    assert '"aws:RequestTag/lightsout:project": "rerank"' in text
    assert ':project": "*"' not in text and iam.BOUNDARY not in text and boundary in text
    assert "arn:aws:ec2:*:111122223333:instance/*" in text and "arn:aws:iam::111122223333:role/lightsout/*" in text
    assert "arn:aws:ec2:*::image/*" in text  # images are nobody's
    assert "schedule-group/lightsout-rerank" in text


def test_the_boundary_lets_no_role_touch_iam_or_what_is_not_ours() -> None:
    boundary = json.loads((iam.FOLDER / "boundary.json").read_text())
    for action in ("iam:CreateRole", "iam:PutRolePolicy", "iam:CreateUser", "sts:AssumeRole", "ec2:RunInstances"):
        assert not allows([boundary], action)
    for statement in boundary["Statement"]:
        if "ec2:StopInstances" in statement["Action"]:
            assert "aws:ResourceTag/lightsout:project" in statement["Condition"]["StringLike"]
