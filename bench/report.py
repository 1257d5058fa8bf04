"""Writes docs/performance.md and its picture from the results of a benchmark."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.cloud import ROOT
from bench.contender import PACKAGES_OF_OTHERS

PAGE, PICTURE = ROOT / "docs/performance.md", ROOT / "docs/performance.svg"

PHASES = {
    "again": "Nothing to change",
    "drift": "Three things spoiled by hand: one file's content, one file's mode, the service stopped",
    "first": "First run; packages and Anaconda are there",
    "install": "First run on a stock image: packages, Anaconda, everything",
}

TEXT = """\
# Performance

What `playbooks/configure.yml` takes, beside others that do the same work on the same machines. `make bench` measures
anew and writes this page; [bench/README.md](../bench/README.md) says how, and what is compared.

![Seconds of each contender for a run that changes nothing](performance.svg)

Measured on {machine}: {versions}.
Medians of rounds in alternation ({rounds}); `x` is the ratio to the bare shell script. The machines are
containers of the local cloud on the same computer, so they share its processors with the controller.

{tables}

## Starts of Python on the machine

In a run that changes nothing, for each machine. Starting Python costs 0.15 s, most of what Ansible takes; `make test`
holds Lightsout to its number.

{executions}
{journey}"""

JOURNEY = """
## From nothing to Jupyter

`up.yml` (provision and configure; it ends when Jupyter answers) beside what nobody can avoid: boot, packages, the
installer and Jupyter's start, done by the bare script one after another. `make bench-journey`, {date}, {machine},
medians of {rounds} rounds.

| | seconds | x |
|---|---:|---:|
| boot | {boot:.1f} | |
| packages, installer, Jupyter's start | {installation:.1f} | |
| both | {both:.1f} | 1.0 |
| `up.yml` | {up:.1f} | {ratio:.2f} |
| `provision.yml`, nothing to change | {again:.1f} | |
"""


def table(results: dict[str, Any], phase: str) -> str:
    """One phase, all contenders and numbers of machines."""
    rows = [row for row in results["medians"] if row["phase"] == phase]
    if not rows:
        return ""
    hosts = sorted({row["hosts"] for row in rows})
    found = {(row["contender"], row["hosts"]): row for row in rows}
    heads = [f"{n} machine{'s' * (n > 1)} | x | CPU here, per machine" for n in hosts]
    lines = [
        f"## {PHASES[phase]}\n",
        f"| | {' | '.join(heads)} |",
        "|---|" + "---:|---:|---:|" * len(hosts),
    ]
    for name in dict.fromkeys(row["contender"] for row in rows):
        cells = []
        for count in hosts:
            row, bare = found.get((name, count)), found.get(("bare shell", count))
            if not row:
                cells.append("- | - | -")
                continue
            ratio = f"{row['wall'] / bare['wall']:.1f}" if bare else "-"
            cells.append(f"{row['wall']:.2f} s | {ratio} | {row['controller'] / count:.2f} s")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def journey(results: dict[str, Any]) -> str:
    """The way from nothing to Jupyter, where it was measured."""
    if "journey" not in results:
        return ""
    found = results["journey"]
    median = found["medians"]
    both = median["boot"] + median["installation"]
    return JOURNEY.format(
        **{key: found[key] for key in ("date", "machine", "rounds")},
        **{key: median[key] for key in ("boot", "installation", "up")},
        both=both,
        ratio=median["up"] / both,
        again=median["provision again"],
    )


def write(results: dict[str, Any]) -> Path:
    """Write page and picture; where the page is."""
    executions = "\n".join(
        ["| | starts |", "|---|---:|", *(f"| {name} | {count} |" for name, count in results["executions"].items())]
    )
    tables = "\n".join(filter(None, (table(results, phase) for phase in PHASES)))
    PAGE.write_text(
        TEXT.format(
            machine=results["machine"],
            versions=results["versions"],
            rounds=", ".join(
                f"{n} with {hosts} machine{'s' * (int(hosts) > 1)} on {results['dates'][hosts]}"
                for hosts, n in results["rounds"].items()
            ),
            tables=tables.rstrip(),
            executions=executions,
            journey=journey(results),
        )
    )
    # The plot's library must not get in the way of Ansible's.
    words = [sys.executable, "-m", "bench.plot", str(PICTURE)]
    environment = {**os.environ, "PYTHONPATH": f"{PACKAGES_OF_OTHERS}:{ROOT}"}
    subprocess.run(words, input=json.dumps(results["medians"]), text=True, cwd=ROOT, env=environment, check=True)
    return PAGE
