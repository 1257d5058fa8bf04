"""An account that may have no such machine in SageMaker learns it before anything is made, and how to ask for one."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lightsout.aws.plugins.module_utils.quotas import sagemaker_quota
from ansible_collections.lightsout.aws.plugins.modules import sagemaker_preflight_info

NOTEBOOK = {
    "name": "lightsout-lab-notebook",
    "instance_type": "ml.g5.xlarge",
    "volume_size": 20,
    "platform": "notebook-al2023-v1",
}


def told(aws, **machines: int) -> None:
    """Let AWS tell these quotas, on the second of two pages."""
    others = {"Quotas": [{"QuotaName": "ml.g5.xlarge for endpoint usage", "QuotaCode": "L-0", "Value": 9.0}]}
    ours = {
        "Quotas": [
            {
                "QuotaName": f"ml.g5.xlarge for {use.replace('_', ' ')} usage",
                "QuotaCode": f"L-{use}",
                "Value": float(many),
            }
            for use, many in machines.items()
        ]
    }

    def page(request: dict[str, Any], _go_on: Any) -> dict[str, Any]:
        return ours if request.get("NextToken") else {**others, "NextToken": "2"}

    aws.on("ListServiceQuotas", page, times=9)


@pytest.mark.parametrize(
    ("use", "code"), [("notebook", "L-notebook_instance"), ("spot_training", "L-spot_training_job")]
)
def test_a_quota_is_found_by_type_and_use(aws, use, code) -> None:
    told(aws, notebook_instance=2, training_job=4, spot_training_job=3)
    assert sagemaker_quota(aws.client("service-quotas"), "ml.g5.xlarge", use)["code"] == code
    assert sagemaker_quota(aws.client("service-quotas"), "ml.p5.48xlarge", use) == {}


def test_none_to_be_had_is_a_problem_with_the_command_that_asks_for_one(aws, run) -> None:
    told(aws, notebook_instance=0)
    result = run(sagemaker_preflight_info, project="lab", owner="ada", notebook=NOTEBOOK)
    assert result["failed"]
    (problem,) = result["problems"]
    assert "sagemaker_notebook_instance_type is 'ml.g5.xlarge'" in problem
    assert "--service-code sagemaker --quota-code L-notebook_instance --desired-value 1" in problem


def test_some_to_be_had_are_told_in_the_plan(aws, run) -> None:
    told(aws, notebook_instance=2)
    plan = run(sagemaker_preflight_info, project="lab", owner="ada", notebook=NOTEBOOK)["plan"]
    assert plan["quota"]["machines"] == 2
    assert "Quota    2 notebook instances of this type" in plan["lines"]


def test_a_quota_that_nobody_may_read_is_no_problem(aws, run) -> None:
    aws.refuse("ListServiceQuotas", "AccessDeniedException")
    result = run(sagemaker_preflight_info, project="lab", owner="ada", notebook=NOTEBOOK)
    assert not result["failed"] and "Quota    unknown (AWS did not tell)" in result["plan"]["lines"]


@pytest.mark.parametrize("ending", ["instance", "instances"])
@pytest.mark.parametrize("kind", ["JupyterLab", "CodeEditor"])
def test_studios_quotas_have_names_of_their_own(aws, kind, ending) -> None:
    quota = {"QuotaName": f"Studio {kind} Apps running on ml.g5.xlarge {ending}", "QuotaCode": "L-1", "Value": 3.0}
    aws.on("ListServiceQuotas", lambda _request, _go_on: {"Quotas": [quota]}, times=9)
    assert sagemaker_quota(aws.client("service-quotas"), "ml.g5.xlarge", kind)["machines"] == 3
    assert sagemaker_quota(aws.client("service-quotas"), "ml.g5.2xlarge", kind) == {}
