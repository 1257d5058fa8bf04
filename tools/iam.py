"""Writes docs/iam/<playbook>.json: the policy with which a playbook can do its work, and no more.

``make iam`` runs the playbooks of tools/iam.yml on a local cloud of its own, which notes the IAM actions that each asks
for, and puts them together with that file's rules: to which things, on what condition. ``--to`` with ``--project``,
``--account`` and ``--boundary`` writes narrower ones for your own account, without a run.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import subprocess
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from localcloud.running import client, running
from tools import strays

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs/iam"
TABLE: dict[str, Any] = yaml.safe_load((ROOT / "tools/iam.yml").read_text())
STATE = ROOT / ".lightsout/iam"

#: The boundary's own name; see docs/iam/boundary.json.
BOUNDARY = "arn:aws:iam::*:policy/lightsout-boundary"

#: A managed policy may have so many characters, blanks not counted.
LONGEST = 6144

CONDITIONS: dict[str, dict[str, dict[str, Any]]] = {
    "ours": {"StringLike": {"aws:ResourceTag/lightsout:project": "*"}},
    "tagged": {"StringLike": {"aws:RequestTag/lightsout:project": "*"}},
    "making": {"Null": {"ec2:CreateAction": "false"}},
    "passed": {"StringEquals": {"iam:PassedToService": TABLE["passed"]}},
    "bounded": {"ArnLike": {"iam:PermissionsBoundary": BOUNDARY}},
}


def rules_of(action: str) -> list[dict[str, Any]]:
    """The rules that hold for an action.

    Raises:
        ValueError: there is none.
    """
    matching = [rule for rule in TABLE["rules"] if re.fullmatch(rule["actions"], action)]
    if not matching:
        raise ValueError(f"tools/iam.yml has no rule for {action}: say which things it may be done to")
    return matching


def policy(actions: Iterable[str]) -> dict[str, Any]:
    """A policy that allows these actions as far as the rules say."""
    statements: dict[str, dict[str, Any]] = {}
    for action in sorted(set(actions)):
        for rule in rules_of(action):
            condition: dict[str, dict[str, Any]] = {}
            for name in rule.get("when", []):
                for operator, keys in CONDITIONS[name].items():
                    condition.setdefault(operator, {}).update(keys)
            key = json.dumps([rule["to"], condition])
            statement = statements.setdefault(key, {"Effect": "Allow", "Action": [], "Resource": rule["to"]})
            statement["Action"].append(action)
            if condition:
                statement["Condition"] = condition
    return {"Version": "2012-10-17", "Statement": list(statements.values())}


def actions_of(document: dict[str, Any]) -> set[str]:
    """The actions that a policy of ours allows."""
    return {action for statement in document["Statement"] for action in statement["Action"]}


def shipped(name: str) -> dict[str, Any]:
    """A policy as it is in docs/iam."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def policy_of(playbook: str) -> str:
    """The name of the policy that a playbook needs."""
    return "machines" if playbook in TABLE["machines"] else TABLE["same"].get(playbook, playbook)


def narrowed(document: dict[str, Any], project: str, account: str, boundary: str) -> dict[str, Any]:
    """The same for one project, one account, and a boundary of another name; empty leaves that open."""
    text = json.dumps(document)
    if boundary:
        text = text.replace(BOUNDARY, boundary)
    if account:
        text = re.sub(r"(arn:aws:\w+:[^:]*:)\*:", rf"\g<1>{account}:", text)
    if project:
        text = re.sub(r'("aws:(?:Resource|Request)Tag/lightsout:project": )"\*"', rf'\1"{project}"', text)
        text = re.sub(r"((?:budget|schedule|schedule-group)/lightsout-)\*", rf"\g<1>{project}*", text)
    return json.loads(text)


def key_of(playbook: str) -> str:
    """The access key that tells a playbook's calls from those of playbooks with another policy."""
    return "IAM" + policy_of(playbook).upper().replace("_", "")


def prepare(run: dict[str, Any], env: dict[str, str]) -> None:
    """What a run shall find besides what the runs before it have made.

    Args:
        run: of the table.
        env: the variables that point at the cloud, with a key that may do everything.
    """
    if project := run.get("strays"):
        # An image keeps its project from being swept.
        strays.leave(functools.partial(client, env), project, image=run["playbook"] != "sweep")


def record() -> dict[str, set[str]]:
    """Run the playbooks on a local cloud of its own; the actions that each asked for."""
    with running("iam", STATE) as env:
        for cache in STATE.glob("prices-*.json"):  # whoever finds prices there does not ask for them
            cache.unlink()
        for run in TABLE["runs"]:
            prepare(run, env)
            variables = {
                "lightsout_project": "iam",
                "lightsout_key_directory": str(STATE / "keys"),
                "lightsout_price_cache": str(STATE / f"prices-{run['playbook']}.json"),
                **run.get("with", {}),
            }
            book = f"playbooks/{run['playbook']}.yml"
            subprocess.run(
                ["ansible-playbook", book, "-e", f"@{STATE}/settings.yml", "-e", json.dumps(variables)],
                cwd=ROOT,
                env={**os.environ, **env, "AWS_ACCESS_KEY_ID": key_of(run["playbook"])},
                stdin=subprocess.DEVNULL,
                check=True,
            )
        with urllib.request.urlopen(f"{env['AWS_ENDPOINT_URL']}/lightsout/actions", timeout=30) as answer:  # noqa: S310
            seen = json.load(answer)
    recorded = {policy_of(run["playbook"]): set(seen[key_of(run["playbook"])]) for run in TABLE["runs"]}
    for name, actions in TABLE["also"].items():
        recorded[name] |= set(actions)
    recorded["machines"] = {"ec2:DescribeInstances"}
    for name, parts in TABLE["together"].items():
        recorded[name] = set().union(*(recorded[part] for part in parts))
    return recorded


def write(folder: Path, documents: dict[str, dict[str, Any]]) -> None:
    """Each policy as a file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, document in documents.items():
        (folder / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
        print(f"{folder}/{name}.json: {len(actions_of(document))} actions")


def main() -> None:
    """Record and write, or write narrower ones."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--project", default="", help="only this project, instead of whatever carries our tag")
    parser.add_argument("--account", default="", help="only this account's things, by number")
    parser.add_argument("--boundary", default="", help=f"ARN of the permissions boundary, instead of {BOUNDARY}")
    parser.add_argument("--to", type=Path, help="the folder for the narrower ones")
    given = parser.parse_args()
    if not given.to:
        write(FOLDER, {name: policy(actions) for name, actions in record().items()})
        return
    names = [path.stem for path in sorted(FOLDER.glob("*.json"))]
    write(given.to, {name: narrowed(shipped(name), given.project, given.account, given.boundary) for name in names})


if __name__ == "__main__":
    main()
