"""``python -m bench.transfer``: what uploads and fetches of many small files take, beside rsync by hand."""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shlex
import shutil
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from bench import work
from bench.cloud import ROOT, USER, Cloud, Machine
from bench.contender import Playbook, Setting

PAGE = ROOT / "docs/transfer.md"

TEXT = """\
# Transfers

What `train.yml` takes to upload a folder of {files} files ({size} MiB) and start a job with it, and `fetch.yml` to
bring as much home, beside `rsync --archive` by hand over ssh. `make bench-transfer` measures anew and writes this page.

Measured on {date}, {machine}; medians of {rounds} rounds in alternation, the machine is a container of the local cloud
on the same computer. `train.yml` and `fetch.yml` read every file once more than rsync does: by its checksum a job is
known again, and a result is proven to be what the machine has.

| | rsync | Lightsout | ratio |
|---|---:|---:|---:|
{rows}

From the start of `train.yml` to the first line of a one-line script: **{first:.1f} s**, and {again:.1f} s on a machine
that has run a job before.
"""


class Train(Playbook):
    """One of the playbooks for jobs."""

    def __init__(self, verb: str, **variables: object) -> None:
        self.verb, self.variables = verb, variables

    def words(self, setting: Setting) -> list[str]:
        settings = {"lightsout_project": "bench", "training_python": "/usr/bin/python3", **self.variables}
        return [f"playbooks/{self.verb}.yml", "-e", f"@{setting.cloud.settings}", "-e", json.dumps(settings)]


def many_files(folder: Path, files: int, size: int) -> None:
    """Files of random bytes of about the same length, ``size`` MiB together, a hundred in each folder."""
    source = random.Random(4711)  # noqa: S311
    for number in range(files):
        path = folder / f"{number // 100:03d}" / f"{number:05d}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.randbytes((size << 20) // files))


def clock(action: Callable[[], object]) -> float:
    """Seconds that something takes."""
    began = time.monotonic()
    action()
    return time.monotonic() - began


class Bench:
    """One machine, and who brings files there and back."""

    def __init__(self, cloud: Cloud, machine: Machine, folder: Path, source: Path) -> None:
        self.cloud, self.machine, self.folder, self.source = cloud, machine, folder, source
        self.setting = Setting(cloud, work.Work("", "", "", {}), [machine])
        self.took: dict[tuple[str, str], list[float]] = defaultdict(list)

    def rsync(self, *words: str) -> None:
        """By hand, over a connection of its own."""
        shell = shlex.join(["ssh", *self.cloud.ssh_words()])
        subprocess.run(["rsync", "--archive", f"--rsh={shell}", *words], check=True)

    def play(self, verb: str, **variables: object) -> None:
        """By a playbook of ours."""
        Train(verb, **variables).run(self.setting)

    def first_line(self, name: str) -> float:
        """Seconds from the start of train.yml to the script's first line, by the clock that both share."""
        began = time.time()
        self.play("train", training_job=name, training_command="date +%s.%N")
        log = self.cloud.ssh(self.machine, f"cat jobs/{name}/log").stdout.splitlines()
        return float(next(line for line in log if not line.startswith("["))) - began

    def round(self, number: int) -> None:
        """Everything once: there, there again, back, back again; each with another one first."""
        there, home = f"{USER}@{self.machine.address}", self.folder / "home"
        home.mkdir()
        job = {"training_job": f"round-{number}", "training_source": str(self.source)}
        job |= {"training_command": "cp -r 0* results/; echo done", "training_wait": True}
        fetch = {"training_job": f"round-{number}", "training_fetch_folder": str(home / "ours")}
        steps: dict[str, dict[str, Callable[[], None]]] = {
            "upload": {
                "rsync": lambda: self.rsync(f"{self.source}/", f"{there}:by-hand/"),
                "Lightsout": lambda: self.play("train", **{**job, "training_wait": False}),
            },
            "upload again, nothing has changed": {
                "rsync": lambda: self.rsync(f"{self.source}/", f"{there}:by-hand/"),
                "Lightsout": lambda: self.play("train", **{**job, "training_wait": False}),
            },
            "fetch": {
                "rsync": lambda: self.rsync(f"{there}:by-hand/", f"{home}/theirs/"),
                "Lightsout": lambda: self.play("fetch", **fetch),
            },
            "fetch again, nothing has changed": {
                "rsync": lambda: self.rsync(f"{there}:by-hand/", f"{home}/theirs/"),
                "Lightsout": lambda: self.play("fetch", **fetch),
            },
        }
        for what, contenders in steps.items():
            if what == "fetch":
                self.play("train", **job)  # its results are there
            for who in sorted(contenders, reverse=bool(number % 2)):
                self.took[what, who].append(clock(contenders[who]))
                print(f"  {who:10} {self.took[what, who][-1]:7.2f} s  {what}", flush=True)
        shutil.rmtree(home)
        self.cloud.ssh(self.machine, f"rm -rf by-hand jobs/round-{number}")


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(prog="python -m bench.transfer", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=1024, help="MiB (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as name, Cloud(Path(name)) as cloud:
        folder = Path(name)
        source = folder / "many files"
        many_files(source, options.files, options.size)
        (machine,) = cloud.launch(cloud.fresh, 1)
        cloud.ssh(machine, "sudo apt-get -qq update && sudo apt-get -qq install --yes rsync screen >/dev/null")
        bench = Bench(cloud, machine, folder, source)
        first = bench.first_line("first")
        again = statistics.median(bench.first_line(f"again-{number}") for number in range(options.rounds))
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", flush=True)
            bench.round(number)
    rows = []
    for what in dict.fromkeys(what for what, _who in bench.took):
        theirs, ours = (statistics.median(bench.took[what, who]) for who in ("rsync", "Lightsout"))
        rows.append(f"| {what} | {theirs:.1f} s | {ours:.1f} s | {ours / theirs:.1f} |")
    PAGE.write_text(
        TEXT.format(
            files=f"{options.files:,}",
            size=options.size,
            date=time.strftime("%Y-%m-%d"),
            machine=f"{os.cpu_count()} cores, {platform.freedesktop_os_release()['PRETTY_NAME']}",
            rounds=options.rounds,
            rows="\n".join(rows),
            first=first,
            again=again,
        )
    )
    print(PAGE.read_text())


if __name__ == "__main__":
    main()
