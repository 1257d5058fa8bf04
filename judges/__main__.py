"""``python -m judges``: Prowler and our own assertions judge what the playbooks make; writes docs/security.md."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from judges import canary, own
from judges.estate import Estate
from localcloud.settings import ROOT
from tests.conftest import Cloud, localcloud, start_cloud
from tests.helpers.project import Project

PROWLER = ROOT / ".cache/prowler/bin/prowler"
PAGE = ROOT / "docs/security.md"
BUCKET = "of-the-judged"

PASSES, FAILS, NOTHING, NO_JUDGE = "passes", "**fails**", "none made", "cannot be judged here"

TEXT = """\
# Security: the scoreboard

`make security` judges anew and writes this page. Judged on {date} by {prowler}, against the local cloud.

Two projects are made by `playbooks/provision.yml` and `playbooks/sagemaker_up.yml`: one with the settings as they
come, one with those variables that the last column names. Only what carries their tags is judged. In a third project,
the canary, everything is wrong: a judge that does not fail it there cannot tell good from bad, and does not count.

*FSBP* is the number in AWS's Foundational Security Best Practices. *Prowler* is an independent judge; *own* is an
assertion of ours ([judges/own.py](../judges/own.py)), most of which `make test` makes each time
(`tests/integration/test_controls.py`).

**{passed} of {total} pass by default, {strict} of {total} with the variables.** {unjudged}

## While it is up

{up}

## After the teardown

A canary that was left behind fails each of these.

{gone}

## Not judged

{yours}

What this is about, and what is left to you: [threat-model.md](threat-model.md).
"""


def opinions(cloud: Cloud, checks: Iterable[str], folder: Path) -> dict[str, dict[str, set[str]]]:
    """What Prowler says: for each check and status, the names and ids of things."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")} | cloud.env
    words = [PROWLER, "aws", "--region", cloud.env["AWS_REGION"], "--check", *sorted(set(checks))]
    words += ["--output-formats", "json-ocsf", "--output-directory", folder, "--output-filename", "said"]
    done = subprocess.run(
        [*map(str, words), "--ignore-exit-code-3", "--no-banner", "--no-color"],
        env=env,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    file = folder / "said.ocsf.json"
    if done.returncode or not file.exists():
        raise SystemExit(f"Prowler failed ({done.returncode}):\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    said: dict[str, dict[str, set[str]]] = {}
    for finding in json.loads(file.read_text()):
        about = said.setdefault(finding["metadata"]["event_code"], {}).setdefault(finding["status_code"], set())
        for thing in finding["resources"]:
            about |= {thing.get("name", ""), *re.split("[/:]", thing.get("uid", ""))}
    return said


@dataclass(frozen=True)
class Verdict:
    """What became of a control.

    Attributes:
        judges: whose opinion counts: those that fail the canary.
        silent: those that do not.
        of: a verdict for each project, in the order of the projects.
    """

    control: dict[str, Any]
    judges: list[str]
    silent: list[str]
    of: list[str]


def judge(
    control: dict[str, Any], said: dict[str, dict[str, set[str]]], wrong: Estate, projects: list[Estate], gone: bool
) -> Verdict:
    """Ask all judges of a control, the canary first."""
    kind, counting, silent = control["of"], [], []
    voices: list[list[str]] = [[] for _ in projects]
    if check := control.get("prowler"):
        failed, passed = (said.get(check, {}).get(status, set()) for status in ("FAIL", "PASS"))
        if failed & wrong.names()[kind]:
            counting.append(f"Prowler `{check}`")
            for voice, estate in zip(voices, projects, strict=True):
                ours = estate.names()[kind]
                silence = PASSES if gone else NOTHING
                voice.append(FAILS if failed & ours else PASSES if passed & ours else silence)
        else:
            silent.append(check)
    if name := control.get("own"):
        ask = getattr(own, name)
        if ask(wrong):
            counting.append(f"own `{name}`")
            for voice, estate in zip(voices, projects, strict=True):
                nothing = not gone and not estate.names()[kind]
                voice.append(FAILS if ask(estate) else NOTHING if nothing else PASSES)
        else:
            silent.append(name)
    worst = [next((v for v in (FAILS, PASSES, NOTHING) if v in voice), NO_JUDGE) for voice in voices]
    return Verdict(control, counting, silent, worst)


def table(verdicts: list[Verdict], strict: bool) -> str:
    """Markdown."""
    heads = ["FSBP", "what it asks", "judges that fail the canary", "by default"]
    heads += ["with the variable", "why not by default, and the variable"] if strict else []
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for verdict in verdicts:
        control = verdict.control
        cells = [control["control"], control["says"], ", ".join(verdict.judges) or "none", *verdict.of]
        if strict:
            notes = [f"{control['reason']}: {control['variable']}"] if "reason" in control else []
            notes += [f"`{name}` does not fail the canary on the local cloud" for name in verdict.silent]
            cells.append("; ".join(notes))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def make(cloud: Cloud, folder: Path) -> list[Project]:
    """The project with the settings as they come, the strict one, and the canary."""
    cloud.client("s3").create_bucket(Bucket=BUCKET)
    ec2 = cloud.client("ec2")
    vpc = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    subnet = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["Subnets"][0]["SubnetId"]
    group = ec2.create_security_group(GroupName="of-notebooks", Description="theirs", VpcId=vpc)["GroupId"]
    key = cloud.client("kms").create_key()["KeyMetadata"]["Arn"]
    settings: dict[str, dict[str, Any]] = {
        "judged": {},
        "strict": {
            "ec2_machine_public_ip": False,
            "sagemaker_notebook_subnet_id": subnet,
            "sagemaker_notebook_security_group_ids": [group],
            "sagemaker_notebook_kms_key_id": key,
        },
    }
    projects = []
    for name, variables in settings.items():
        project = Project(cloud, name, folder / name)
        print(f"Making the project {name} …", flush=True)
        project.run("provision", training_sync_to=f"s3://{BUCKET}/{name}", **variables)
        project.run("sagemaker_up", sagemaker_notebook_buckets=[BUCKET], **variables)
        projects.append(project)
    print("Making the canary …", flush=True)
    canary.plant(cloud.client)
    canary.left_overs(ec2)
    canary.notebook(cloud.client("sagemaker"), f"arn:aws:iam::123456789012:role/{canary.NAME}")
    return projects


def sit(folder: Path) -> tuple[list[Verdict], list[Verdict], list[dict[str, str]]]:
    """Make everything, judge it, tear it down, judge again."""
    controls = yaml.safe_load((Path(__file__).parent / "controls.yml").read_text())
    cloud = start_cloud(f"judges-{os.getpid()}", folder / "cloud")
    try:
        projects = make(cloud, folder)
        verdicts = {}
        for phase in ("up", "gone"):
            if phase == "gone":
                for project in projects:
                    print(f"Tearing down {project.name} …", flush=True)
                    project.run("teardown", teardown_confirm=False)
            print(f"Prowler looks ({phase}) …", flush=True)
            output = folder / phase
            said = opinions(cloud, (c["prowler"] for c in controls[phase] if "prowler" in c), output)
            wrong, *estates = (Estate(cloud.client, n) for n in (canary.PROJECT, *(p.name for p in projects)))
            estates = estates[:1] if phase == "gone" else estates
            verdicts[phase] = [judge(c, said, wrong, estates, phase == "gone") for c in controls[phase]]
        return verdicts["up"], verdicts["gone"], controls["yours"]
    finally:
        localcloud("stop", "--state-dir", str(cloud.state_dir))


def problems(up: list[Verdict], gone: list[Verdict]) -> list[str]:
    """What must not be: a failure that has no reason, or that its variable does not mend; a control without a judge."""
    lines = []
    for verdict in [*up, *gone]:
        control = verdict.control
        default, strict = verdict.of[0], verdict.of[-1]
        what = f"{control['control']}, {control['says']}"
        if NO_JUDGE in verdict.of:
            lines.append(f"{what}: nobody fails the canary ({', '.join(verdict.silent)})")
        if FAILS in {strict, default} and not (strict != FAILS and "reason" in control):
            lines.append(f"{what}: fails")
        if default == PASSES and "reason" in control:
            lines.append(f"{what}: passes by default, so the reason in controls.yml is out of date")
    return lines


def write(up: list[Verdict], gone: list[Verdict], yours: list[dict[str, str]]) -> None:
    """The page."""
    both = [*up, *gone]
    version = subprocess.run([PROWLER, "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0]
    unjudged = [f"{v.control['control']} ({v.control['says']})" for v in both if NO_JUDGE in v.of]
    rows = [f"| {each['control']} | {each['says']} | {each['why']} |" for each in yours]
    PAGE.write_text(
        TEXT.format(
            date=datetime.datetime.now(datetime.UTC).date(),
            prowler=version.strip(),
            passed=sum(v.of[0] in {PASSES, NOTHING} for v in both),
            strict=sum(v.of[-1] in {PASSES, NOTHING} for v in both),
            total=len(both),
            unjudged=f"Nobody can judge here: {', '.join(unjudged)}." if unjudged else "Each has a judge.",
            up=table(up, strict=True),
            gone=table(gone, strict=False),
            yours="\n".join(["| FSBP | what it asks | why |", "|---|---|---|", *rows]),
        )
    )


def main() -> int:
    """Judge, write, and say what is wrong; 1 when something is."""
    parser = argparse.ArgumentParser(prog="python -m judges", description=__doc__)
    parser.parse_args()
    if not PROWLER.exists():
        print("judges: Prowler is not installed: run `make security`", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="judges-") as folder:
        up, gone, yours = sit(Path(folder))
    write(up, gone, yours)
    wrong = problems(up, gone)
    print(f"Wrote {PAGE.relative_to(ROOT)}.", *wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
