"""What the playbooks really ask AWS for is what the policies in docs/iam allow, to the last action."""

from __future__ import annotations

import pytest

from tools import iam


@pytest.mark.long
@pytest.mark.cloud
@pytest.mark.timeout(1800)
def test_every_policy_holds_the_actions_that_its_playbook_asked_for_and_no_other() -> None:
    recorded = iam.record()
    assert {name: iam.actions_of(iam.shipped(name)) for name in recorded} == recorded, "run `make iam`"
