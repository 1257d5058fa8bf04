"""Of what a playbook's policy allows, a run needs every single action: without it, it is refused.

Each run of tools/iam.yml is made by somebody who may do nothing, and again with what it was refused for, until it is
refused nothing. What was given by then is the policy in docs/iam.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import ROOT, Cloud, localcloud, start_cloud
from tests.helpers.least_privilege import user_who_may
from tools import iam

TELLS = iam.TABLE["tells"]


def only_tells(policy: str, action: str) -> bool:
    """Whether a run goes on without an action: it says then what it does not know."""
    return any(re.fullmatch(expression, action) for expression in [*TELLS["all"], *TELLS.get(policy, [])])


class Climber:
    """Runs playbooks with ever more permissions.

    Attributes:
        needed: for each policy the actions without which a run was refused.
        spared: those without which one went on.
    """

    def __init__(self, cloud: Cloud, variables: dict[str, Any]) -> None:
        self.cloud, self.variables = cloud, variables
        self.needed: dict[str, set[str]] = defaultdict(set)
        self.spared: dict[str, set[str]] = defaultdict(set)
        self._users = 0

    def climb(self, playbook: str, variables: dict[str, Any]) -> None:
        """Run a playbook until it is refused nothing."""
        name = iam.policy_of(playbook)
        allowed = iam.actions_of(iam.shipped(name))
        told = {action for action in allowed if only_tells(name, action)}
        if name in TELLS:
            lacking = told - {min(told)} if len(told) > 1 else told  # who may see nothing at all is refused
            look, _ = self._attempt(playbook, variables, allowed - lacking, "--check")
            assert look.returncode == 0, f"{playbook} does not go on without {lacking}:\n{look.stdout}{look.stderr}"
        while True:
            done, refused = self._attempt(playbook, variables, self.needed[name] | told)
            assert refused <= allowed, f"{playbook} asks for {refused - allowed}, which docs/iam/{name}.json lacks"
            if done.returncode == 0:
                if refused:
                    self.spared[name] |= refused
                return
            assert refused, f"{playbook} fails, and was refused nothing:\n{done.stdout}{done.stderr}"
            for action in sorted(refused) if len(refused) > 1 else ():  # asked for at the same time: is each needed?
                alone, asked = self._attempt(playbook, variables, allowed - {action})
                if alone.returncode == 0:  # and has done its work: the rest cannot be told
                    if action in asked:
                        self.spared[name].add(action)
                    else:  # one of these attempts has done what needs it
                        self.needed[name] |= refused
                    return
            self.needed[name] |= refused

    def finish(self, playbook: str, variables: dict[str, Any]) -> None:
        """Run it with all that its policy allows, so that the next finds what it expects."""
        done, _ = self._attempt(playbook, variables, iam.actions_of(iam.shipped(iam.policy_of(playbook))))
        assert done.returncode == 0, done.stdout + done.stderr

    def _attempt(
        self, playbook: str, variables: dict[str, Any], allowed: set[str], *arguments: str
    ) -> tuple[subprocess.CompletedProcess, set[str]]:
        """One run by a new user; what he was refused."""
        self._users += 1
        env = user_who_may(self.cloud, f"climber-{self._users}", iam.policy(allowed) if allowed else None)
        done = subprocess.run(
            [
                *("ansible-playbook", f"playbooks/{playbook}.yml", "-e", f"@{self.cloud.settings}"),
                *("-e", json.dumps({**self.variables, **variables}), *arguments),
            ],
            cwd=ROOT,
            env={**os.environ, **self.cloud.env, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        with urllib.request.urlopen(f"{self.cloud.endpoint}/lightsout/actions", timeout=30) as answer:
            asked = set(json.load(answer).get(env["AWS_ACCESS_KEY_ID"], []))
        return done, asked - allowed


@pytest.fixture
def climber(tmp_path) -> Iterator[Climber]:
    """On a cloud of its own, as a sweep sees everything."""
    cloud = start_cloud(f"climb-{os.getpid()}", tmp_path / "cloud")
    given = {
        "lightsout_project": "iam",
        "lightsout_key_directory": str(tmp_path / "keys"),
        "lightsout_price_cache": str(tmp_path / "prices.json"),
        "sagemaker_training_results": str(tmp_path / "results"),
    }
    yield Climber(cloud, given)
    localcloud("stop", "--state-dir", str(cloud.state_dir))


@pytest.mark.cloud
def test_without_any_one_action_machines_are_not_stopped(climber) -> None:
    """The short one, for every change."""
    climber.needed["provision"] = iam.actions_of(iam.shipped("provision"))
    climber.climb("provision", {})
    climber.climb("stop", {})
    assert climber.spared == {}
    needed = {action for action in iam.actions_of(iam.shipped("stop")) if not only_tells("stop", action)}
    assert climber.needed["stop"] == needed


@pytest.mark.long
@pytest.mark.cloud
@pytest.mark.timeout(5400)
def test_without_any_one_action_a_run_is_refused(climber) -> None:
    problems, unproven = [], {}
    for run in iam.TABLE["runs"]:
        try:
            iam.prepare(run, climber.cloud.env)
            climber.climb(run["playbook"], run.get("with", {}))
        except AssertionError as problem:
            problems.append(str(problem))
            climber.finish(run["playbook"], run.get("with", {}))
    assert not problems, "\n\n".join(problems)
    for name in {iam.policy_of(run["playbook"]) for run in iam.TABLE["runs"]}:
        recorded = iam.actions_of(iam.shipped(name)) - set(iam.TABLE["also"].get(name, []))
        unproven[name] = {action for action in recorded - climber.needed[name] if not only_tells(name, action)}
    spared = {name: actions - climber.needed[name] for name, actions in climber.spared.items()}
    told = {"nobody needs": spared, "not proven": unproven}
    assert {what: {n: a for n, a in found.items() if a} for what, found in told.items()} == {what: {} for what in told}
