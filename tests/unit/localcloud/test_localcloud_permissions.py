"""Who may do what on the local cloud."""

from __future__ import annotations

import pytest

from localcloud.permissions import Records, allows, needed

HEADERS = {"Authorization": "AWS4-HMAC-SHA256 Credential={}/20260101/us-east-1/{}/aws4_request, SignedHeaders=host"}


def statement(effect: str, *actions: str) -> dict:
    return {"Version": "2012-10-17", "Statement": [{"Effect": effect, "Action": list(actions), "Resource": "*"}]}


@pytest.mark.parametrize(
    ("service", "operation", "request_body", "actions"),
    [
        ("ec2", "DescribeInstances", "Action=DescribeInstances", {"ec2:DescribeInstances"}),
        ("ec2", "RunInstances", "Action=RunInstances&ImageId=ami-1", {"ec2:RunInstances"}),
        (
            "ec2",
            "RunInstances",
            "TagSpecification.1.Tag.1.Key=a&IamInstanceProfile.Name=b",
            {"ec2:RunInstances", "ec2:CreateTags", "iam:PassRole"},
        ),
        ("budgets", "CreateBudget", '{"ResourceTags": []}', {"budgets:ModifyBudget", "budgets:TagResource"}),
        ("s3", "HeadObject", "", {"s3:GetObject"}),
        ("tagging", "GetResources", "", {"tag:GetResources"}),
        (
            "sagemaker",
            "CreateNotebookInstance",
            '{"RoleArn": "a"}',
            {"sagemaker:CreateNotebookInstance", "iam:PassRole"},
        ),
        ("sts", "GetCallerIdentity", "", set()),
    ],
)
def test_permissions_have_iams_names_and_include_what_is_asked_besides(
    service, operation, request_body, actions
) -> None:
    assert needed(service, operation, request_body) == actions


def test_an_action_is_allowed_by_a_statement_and_by_none_that_denies() -> None:
    assert allows([statement("Allow", "ec2:Describe*")], "ec2:DescribeInstances")
    assert not allows([statement("Allow", "ec2:Describe*")], "ec2:RunInstances")
    assert not allows([statement("Allow", "*"), statement("Deny", "ec2:Run*")], "ec2:RunInstances")
    assert not allows([], "ec2:RunInstances")


def test_calls_are_noted_by_key_and_a_key_of_nobody_may_do_everything() -> None:
    records = Records()
    headers = {"Authorization": HEADERS["Authorization"].format("KEYOFNOBODY", "ec2")}
    assert records.check(headers, "StopInstances", "") is None
    assert records.check({}, "StopInstances", "") is None  # not signed: nobody to note
    assert records.as_dict() == {"KEYOFNOBODY": ["ec2:StopInstances"]}
