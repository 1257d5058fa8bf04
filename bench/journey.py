"""``python -m bench.journey``: from nothing to Jupyter's first answer, beside the waits that nobody can avoid.

What nobody can avoid is measured, too, by the bare shell script: the machine's boot, the packages, the installer and
Jupyter's own start, one after another and with nothing in between.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench import report
from bench.__main__ import RESULTS, prepare
from bench.cloud import Cloud
from bench.contender import Contender, Setting, Shell
from bench.work import Work

PROJECT = "journey"


def unavoidable(cloud: Cloud, work: Work) -> Iterator[tuple[str, float]]:
    """Seconds of each wait."""
    began = time.monotonic()
    machines = cloud.launch(cloud.fresh, 1)
    booted = time.monotonic()
    Shell().run(Setting(cloud, work, machines))
    yield "boot", booted - began
    yield "installation", time.monotonic() - booted
    cloud.terminate(machines)


def ours(cloud: Cloud, again: int) -> Iterator[tuple[str, float]]:
    """Seconds of ``up.yml``, which ends when Jupyter answers, and of each ``provision.yml`` after it."""

    def run(verb: str, **more: object) -> float:
        settings = {
            "lightsout_project": PROJECT,
            "lightsout_key_directory": str(cloud.folder / "keys"),
            "access_ssh_include": False,
            **more,
        }
        words = ["ansible-playbook", f"playbooks/{verb}.yml", "-e", f"@{cloud.settings}", "-e", json.dumps(settings)]
        began = time.monotonic()
        Contender.call(words, **cloud.environment, LIGHTSOUT_JUPYTER_PASSWORD=secrets.token_urlsafe())
        return time.monotonic() - began

    yield "up", run("up")
    for _ in range(again):
        yield "provision again", run("provision")
    run("teardown", teardown_confirm=False)


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(prog="python -m bench.journey", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--again", type=int, default=3, help="runs of provision.yml that change nothing, each round")
    options = parser.parse_args()
    taken: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, Cloud(Path(folder)) as cloud:
        print("Preparing …", flush=True)
        work, _reference, _prepared = prepare(cloud)
        for number in range(options.rounds):
            for what, seconds in [*unavoidable(cloud, work), *ours(cloud, options.again)]:
                taken.setdefault(what, []).append(seconds)
                print(f"  round {number + 1}: {what:16} {seconds:6.2f} s", flush=True)
    results = json.loads(RESULTS.read_text())
    results["journey"] = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} cores",
        "rounds": options.rounds,
        "medians": {what: statistics.median(seconds) for what, seconds in taken.items()},
        "samples": taken,
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(report.write(results))


if __name__ == "__main__":
    main()
