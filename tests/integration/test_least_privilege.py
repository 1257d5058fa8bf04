"""Of what a playbook's policy allows, a run needs every single action: without it, it is refused."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest

from tests.helpers.least_privilege import keys_for
from tests.helpers.project import Project

pytestmark = [pytest.mark.long, pytest.mark.cloud, pytest.mark.timeout(3600)]

#: Runs go on without these: what they tell is then said to be unknown.
ONLY_TELL = {
    "ec2:DescribeSpotPriceHistory",
    "freetier:GetAccountPlanState",
    "pricing:GetProducts",
    "servicequotas:GetServiceQuota",
    "servicequotas:ListServiceQuotas",
}


def needed(cloud: Any, key: str) -> set[str]:
    """What the holder of a key has asked for."""
    with urllib.request.urlopen(f"{cloud.endpoint}/lightsout/actions", timeout=30) as answer:
        return set(json.load(answer)[key])


@pytest.mark.parametrize("verb", ["provision", "sagemaker_up", "studio_up"])
def test_without_any_one_action_the_run_is_refused(cloud, tmp_path, verb) -> None:
    name = verb.replace("_", "-")
    whole = keys_for(cloud, verb, prefix=name)
    project = Project(cloud, f"{name}-0", tmp_path)
    project.run(verb, env=whole)
    project.run("teardown", teardown_confirm=False)
    asked = needed(cloud, whole["AWS_ACCESS_KEY_ID"])
    assert len(asked) > 10
    wrong = {}
    for number, action in enumerate(sorted(asked), 1):
        project = Project(cloud, f"{name}-{number}", tmp_path)
        run = project.run(verb, env=keys_for(cloud, verb, without=action, prefix=name), expect=None)
        project.run("teardown", teardown_confirm=False)
        if (run.returncode == 0) != (action in ONLY_TELL):
            wrong[action] = run.output
    assert not wrong, "\n".join(f"without {action}:\n{output}" for action, output in wrong.items())
