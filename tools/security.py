"""Writes docs/security.md: what independent judges say of what Lightsout makes, and which checks can fail here at all.

``make security`` makes a project on a local cloud of its own, and beside it things that are wrong in every way
(canary.py). Prowler looks at both. A check that passes ours counts only when it fails the wrong ones: there are checks
that an imitation of AWS passes whatever is there. Our own controls (controls.py) and checkov's rules come after.
Exit status 1: something fails, and tools/security.yml gives no reason. The tests of every change compare the page with
what the judges say then.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import boto3
import yaml

from localcloud.running import running
from tools import canary, controls

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/security.md"
TABLE: dict[str, Any] = yaml.safe_load((ROOT / "tools/security.yml").read_text())
#: The settings as they come, and with what turns on the rest.
PROJECT, STRICT = "judged", "strict"

#: The judges' locked requirements: each lives in an environment of its own, as they pin what we pin otherwise.
JUDGES = ROOT / "tools/judges"

INTRODUCTION = """\
Independent judges look at what the playbooks make, on the [local cloud](../localcloud/README.md). Beside it are things
that are wrong in every way we could think of: where a check fails those, that it passes ours means something. What
concerns the whole account (passwords, root, trails) is not here: it is [left to you](threat-model.md)."""

Finding = tuple[str, str, str, str]
Client = Callable[[str], Any]


def judge(name: str) -> Path:
    """The program of a judge, installed when it is not there (500 MB, some 20 seconds for both)."""
    locked = JUDGES / f"{name}.txt"
    home = ROOT / f".cache/judges/{name}-{hashlib.sha256(locked.read_bytes()).hexdigest()[:12]}"
    program = home / "bin" / name
    if not program.exists():
        uv = shutil.which("uv") or str(ROOT / ".venv/bin/uv")
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(home)], check=True)
        words = ["--quiet", "--require-hashes", "--python", str(home / "bin/python"), str(locked)]
        subprocess.run([uv, "pip", "sync", *words], check=True)
    return program


def version_of(name: str) -> str:
    """A judge's version."""
    return re.search(rf"^{name}==(\S+)", (JUDGES / f"{name}.in").read_text(), re.MULTILINE)[1]


def prowler(env: dict[str, str], out: Path) -> list[Finding]:
    """Prowler's findings: check, FSBP's number, PASS or FAIL, and what it is about.

    Args:
        env: the variables that point at what it looks at.
        out: a folder for its report; what is there goes.
    """
    shutil.rmtree(out, ignore_errors=True)
    words = [str(judge("prowler")), "aws", "--services", *TABLE["services"], "--no-banner", "-M", "json-ocsf"]
    words += ["-o", str(out), "-F", "all", "-f", env["AWS_REGION"]]
    done = subprocess.run(words, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    if done.returncode not in {0, 3}:  # 3: something failed
        raise SystemExit(f"Prowler could not look: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    found = []
    for one in json.loads((out / "all.ocsf.json").read_text()):
        number = one["unmapped"]["compliance"].get("AWS-Foundational-Security-Best-Practices", [])
        found.append((one["metadata"]["event_code"], ", ".join(number), one["status_code"], one["resources"][0]["uid"]))
    return found


def checkov() -> list[tuple[str, str, str]]:
    """checkov's findings in this repository: rule, what it says, and where."""
    words = [str(judge("checkov")), "-d", ".", "--skip-download", "--quiet", "-o", "json"]
    words += ["--framework", "ansible", "secrets"]
    for folder in (".venv", ".cache", ".lightsout", "collections", "results", "bench", "tools/judges"):
        words += ["--skip-path", folder]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    reports = json.loads(done.stdout)
    reports = reports if isinstance(reports, list) else [reports]
    return [
        (one["check_id"], one["check_name"], one["file_path"].lstrip("/"))
        for report in reports
        for one in report["results"]["failed_checks"]
    ]


def ids(client: Client, project: str) -> set[str]:
    """What a project has, by the last part of its ARN."""
    listers = {lister for _, lister, _ in controls.CONTROLS}
    return {id for lister in listers for id, _ in lister(client, project)}


def about(findings: Iterable[Finding], things: set[str]) -> dict[str, set[str]]:
    """For each check the verdicts on these things."""
    verdicts: dict[str, set[str]] = defaultdict(set)
    for check, _, verdict, uid in findings:
        if uid.rpartition("/")[2] in things:
            verdicts[check].add(verdict)
    return verdicts


def board(
    findings: list[Finding], ours: set[str], strict: set[str], wrong: set[str]
) -> tuple[list[list[str]], list[str]]:
    """The scoreboard's rows, and the failures that nobody gives a reason for.

    Args:
        findings: of Prowler.
        ours: what we made.
        strict: what we made with the variables that turn on what fails by default.
        wrong: what the canary made.
    """
    numbers = {check: number for check, number, _, _ in findings}
    mine, theirs, turned_on = about(findings, ours), about(findings, wrong), about(findings, strict)
    rows, unexplained = [], []
    for check, verdicts in sorted(mine.items()):
        reason = TABLE["reasons"].get(check)
        if "FAIL" in verdicts:
            if not reason:
                unexplained.append(check)
            row = ["**not by default**", *((reason["because"], f"`{reason['variable']}`") if reason else ("?", "?"))]
        elif "FAIL" in theirs.get(check, set()):
            row = ["passes", "", ""]
        else:
            row = ["passes, unproven", TABLE["unproven"].get(check, "Nothing here makes this check fail."), ""]
        turned = "passes" if "FAIL" in verdicts and turned_on.get(check) == {"PASS"} else ""
        rows.append([f"`{check}`", numbers[check], *row, turned])
    return rows, unexplained


def table(header: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


@contextlib.contextmanager
def cloud(state: Path) -> Iterator[dict[str, str]]:
    """A local cloud of our own; the variables that point at it."""
    with running(f"security-{os.getpid()}", state) as env:
        # Prowler asks whether a key looks like one of AWS's.
        yield {**env, "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE"}


def playbook(env: dict[str, str], state: Path, name: str, project: str, variables: dict[str, Any]) -> None:
    """Run one on a project."""
    given = {"lightsout_project": project, "lightsout_key_directory": str(state / "keys"), **variables}
    given |= {"access_ssh_include": False, "teardown_confirm": False}
    words = ["ansible-playbook", f"playbooks/{name}.yml", "-e", f"@{state}/settings.yml", "-e", json.dumps(given)]
    subprocess.run(words, cwd=ROOT, env={**os.environ, **env}, stdin=subprocess.DEVNULL, check=True)


def yours(client: Client) -> dict[str, str]:
    """What a strict user brings: a bucket, a place in a network, and a key for encryption."""
    ec2 = client("ec2")
    client("s3").create_bucket(Bucket="bucket")
    (vpc,) = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    in_it = [{"Name": "vpc-id", "Values": [vpc["VpcId"]]}]
    return {
        "subnet": ec2.describe_subnets(Filters=in_it)["Subnets"][0]["SubnetId"],
        "group": ec2.create_security_group(GroupName="theirs", Description="theirs", VpcId=vpc["VpcId"])["GroupId"],
        "key": client("kms").create_key()["KeyMetadata"]["Arn"],
    }


@dataclass
class Seen:
    """What was there, and what of it fails which judge; ``canary.PROJECT`` is what is wrong in every way.

    Attributes:
        findings: of Prowler.
        ids: what each project has.
        offenders: for each project what fails each of our own controls.
        there: the titles of the controls that something of ours could fail.
        left: what was there after the teardown.
    """

    findings: list[Finding]
    ids: dict[str, set[str]]
    offenders: dict[str, dict[str, list[str]]]
    there: set[str]
    left: set[str]


def look(state: Path) -> Seen:
    """Make all on a local cloud, let the judges see it, and tear it down."""
    with cloud(state) as env:
        session = boto3.Session(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], region_name=env["AWS_REGION"])

        def client(service: str) -> Any:
            return session.client(service, endpoint_url=env["AWS_ENDPOINT_URL"])

        brought = yours(client)

        def make(project: str) -> None:
            for run in TABLE["runs"]:
                if run["project"] == project:
                    variables = json.loads(Template(json.dumps(run["with"])).substitute(brought))
                    playbook(env, state, run["playbook"], project, variables)

        def unmake(project: str) -> None:
            playbook(env, state, "teardown", project, {})

        with ThreadPoolExecutor() as pool:
            list(pool.map(make, (PROJECT, STRICT)))
            (machine, *_) = controls.machines(client, PROJECT)
            canary.make(client, machine[1]["ImageId"])
            projects = (PROJECT, STRICT, canary.PROJECT)
            seen = Seen(
                findings=prowler(env, state / "prowler"),
                ids={name: ids(client, name) for name in projects},
                offenders={name: controls.offenders(client, name) for name in projects},
                there=controls.present(client, PROJECT),
                left=set(),
            )
            list(pool.map(unmake, (PROJECT, STRICT)))
        seen.left = ids(client, PROJECT) | ids(client, STRICT)
        return seen


def own_rows(seen: Seen) -> tuple[list[list[str]], list[str]]:
    """The rows of our own controls, and the failures that nobody gives a reason for."""
    ours, strict, wrong = (seen.offenders[name] for name in (PROJECT, STRICT, canary.PROJECT))
    rows, unexplained = [], []
    for title, bad in ours.items():
        reason = TABLE["reasons"].get(title) if bad else None
        verdict = "**not by default**" if bad else "passes" if title in seen.there else "nothing of that kind made"
        why = [reason["because"], f"`{reason['variable']}`"] if reason else ["", ""]
        why += ["passes" if bad and not strict[title] else ""]
        rows.append([title, verdict, *why, "fails as it must" if wrong[title] else "**no proof**"])
        if (bad and not (reason and not strict[title])) or not wrong[title]:
            unexplained.append(title)
    return rows, unexplained


def judged(state: Path) -> tuple[str, list[str]]:
    """The page, and what fails without a reason.

    Args:
        state: a folder for the local cloud.
    """
    with ThreadPoolExecutor() as pool:
        of_checkov = pool.submit(checkov)
        seen = look(state)
        repository = sorted(set(of_checkov.result()))
    rows, unexplained = board(seen.findings, *(seen.ids[name] for name in (PROJECT, STRICT, canary.PROJECT)))
    of_ours, more = own_rows(seen)
    unexplained += more
    unexplained += [f"{thing} is left after the teardown" for thing in sorted(seen.left)]
    unexplained += [rule for rule, _, _ in repository if rule not in TABLE["checkov"]]
    count = {word: sum(row[2] == word for row in rows) for word in ("passes", "passes, unproven", "**not by default**")}
    judges = f"Prowler {version_of('prowler')} and checkov {version_of('checkov')}"
    return (
        "\n".join(
            [
                "# What judges say",
                "",
                "<!-- written by `make security`; tests/integration/test_judges.py compares it with what they say -->",
                "",
                INTRODUCTION,
                "",
                f"The judges are {judges}. *Turned on* is a second project, made with the variables.",
                "",
                f"## Prowler: {count['passes']} pass, {count['**not by default**']} do not by default, "
                f"{count['passes, unproven']} unproven",
                "",
                table(["check", "FSBP", "verdict", "why", "turn it on", "turned on"], rows),
                "",
                "## Our own controls",
                "",
                "Asked of AWS itself (`tools/controls.py`).",
                "",
                table(["control", "ours", "why", "turn it on", "turned on", "the wrong things"], of_ours),
                "",
                f"After `playbooks/teardown.yml`, {len(seen.left)} things of either project are left: no machine that "
                "rests (EC2.4), no address (EC2.12), snapshot (EC2.1) or security group (EC2.22) that nobody uses.",
                "",
                "## checkov, on this repository",
                "",
                table(
                    ["rule", "where", "why it stays"],
                    [
                        [f"`{rule}` {name}", f"`{where}`", TABLE["checkov"].get(rule, "?")]
                        for rule, name, where in repository
                    ],
                ),
                "",
            ]
        ),
        unexplained,
    )


def main() -> None:
    """Judge and write."""
    page, unexplained = judged(ROOT / ".lightsout/security")
    PAGE.write_text(page)
    print(f"{PAGE.relative_to(ROOT)} is written.")
    if unexplained:
        raise SystemExit(f"These fail, and tools/security.yml says nothing of why: {', '.join(unexplained)}")


if __name__ == "__main__":
    main()
