"""``python -m bench``: let every contender do the same work on the same kind of machine, in alternation, and report."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from bench import report, work
from bench.cloud import ROOT, Cloud
from bench.contender import CONTENDERS, Contender, Playbook, Setting
from plugins.filter.jupyter_hash import jupyter_hash

RESULTS = ROOT / "bench/results.json"

#: Counts how often Python is started on the machine for Ansible.
COUNTING_PYTHON = """#!/bin/sh
echo >> /var/tmp/python-starts
exec /usr/bin/python3 "$@"
"""


@dataclass(frozen=True)
class Sample:
    """One run.

    Attributes:
        phase: ``install`` (from a stock image), ``first`` (Anaconda and packages are there), ``again``, ``drift``.
        wall, controller, machines: seconds by the clock, of CPU here, and of CPU on all machines together.
    """

    contender: str
    phase: str
    hosts: int
    wall: float
    controller: float
    machines: float


def cpu_of_children() -> float:
    """CPU seconds of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def timed(contender: Contender, setting: Setting, phase: str) -> Sample:
    """Let a contender run once."""
    before, cpu, began = sum(m.cpu_seconds() for m in setting.machines), cpu_of_children(), time.monotonic()
    contender.run(setting)
    wall, controller = time.monotonic() - began, cpu_of_children() - cpu
    used = sum(m.cpu_seconds() for m in setting.machines) - before
    sample = Sample(contender.name, phase, len(setting.machines), wall, controller, used)
    print(f"  {contender.name:22} {phase:8} {wall:7.2f} s   cpu {controller:6.2f} + {used:6.2f} s", flush=True)
    return sample


def bout(contender: Contender, setting: Setting, reference: str, first: str) -> Iterator[Sample]:
    """All phases on machines that are new; the end state must be the reference's."""
    yield timed(contender, setting, first)
    check(contender, setting, reference)
    for _ in range(2):
        yield timed(contender, setting, "again")
    for machine in setting.machines:
        setting.cloud.ssh(machine, "sudo bash -s", input=work.SPOIL)
    yield timed(contender, setting, "drift")
    check(contender, setting, reference)


def check(contender: Contender, setting: Setting, reference: str) -> None:
    """Everybody must have done all of the work."""
    for machine in setting.machines:
        state = work.state(setting.cloud, machine)
        if state != reference:
            sys.exit(f"{contender.name} left another state on {machine.id}:\n{state}\ninstead of:\n{reference}")


def module_executions(contender: Playbook, setting: Setting) -> int:
    """How often a run that changes nothing starts Python on a machine."""
    (machine,) = setting.machines
    install = "sudo tee /usr/local/bin/python-counted >/dev/null && sudo chmod 755 /usr/local/bin/python-counted"
    setting.cloud.ssh(machine, install, input=COUNTING_PYTHON)

    class Counted(type(contender)):
        """The same, by another interpreter."""

        def inventory(self, setting: Setting) -> Path:
            file = super().inventory(setting)
            file.write_text(file.read_text().replace("/usr/bin/python3", "/usr/local/bin/python-counted"))
            return file

    for _ in range(2):  # to the first, the interpreter is news
        setting.cloud.ssh(machine, "sudo install -m 666 /dev/null /var/tmp/python-starts")
        Counted().run(setting)
    return int(setting.cloud.ssh(machine, "wc -l < /var/tmp/python-starts").stdout)


def prepare(cloud: Cloud) -> tuple[work.Work, str, str]:
    """The work, the state that it must lead to, and an image in which Anaconda and the packages are there."""
    settings = yaml.safe_load(cloud.settings.read_text())
    installer = settings["anaconda_installer_url"]
    checksum = settings["anaconda_installer_checksum"].removeprefix("sha256:")
    (machine,) = cloud.launch(cloud.fresh, 1)
    hashed = jupyter_hash("correct horse battery")
    nothing = work.Work(installer, checksum, hashed, {})
    CONTENDERS["Lightsout"].run(Setting(cloud, nothing, [machine]))
    done = work.taken_from(cloud, machine, installer, checksum, hashed)
    reference = work.state(cloud, machine)
    cloud.ssh(machine, "sudo bash -s", input=work.UNDO)
    prepared = cloud.image_of(machine)
    cloud.terminate([machine])
    return done, reference, prepared


def leave(*_: object) -> None:
    """Whatever ends the run, the cloud must go; a second signal must not keep it from that."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(1)


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hosts", default="1,4,12", help="numbers of machines (default: %(default)s)")
    parser.add_argument("--contenders", default=",".join(CONTENDERS), help="names (default: all)")
    parser.add_argument("--no-install", action="store_true", help="leave out the runs that install Anaconda")
    parser.add_argument("--add", action="store_true", help="keep what was measured with other numbers of machines")
    options = parser.parse_args()
    before = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    signal.signal(signal.SIGTERM, leave)
    contenders = [CONTENDERS[name] for name in options.contenders.split(",")]
    counts = [int(count) for count in options.hosts.split(",")]
    samples = [
        Sample(**sample)
        for sample in before.get("samples", ())
        if options.add and (sample["hosts"] not in counts or (options.no_install and sample["phase"] == "install"))
    ]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, Cloud(Path(folder)) as cloud:
        print("Preparing …", flush=True)
        done, reference, prepared = prepare(cloud)
        for hosts in counts:
            for number in range(options.rounds):
                print(f"{hosts} machine(s), round {number + 1} of {options.rounds}", flush=True)
                turn = number % len(contenders)
                for contender in contenders[turn:] + contenders[:turn]:
                    if hosts <= contender.most:
                        machines = cloud.launch(prepared, hosts)
                        samples += bout(contender, Setting(cloud, done, machines), reference, "first")
                        cloud.terminate(machines)
        for contender in contenders * (not options.no_install):
            machines = cloud.launch(cloud.fresh, 1)
            samples.append(timed(contender, Setting(cloud, done, machines), "install"))
            cloud.terminate(machines)
        executions = {}
        for contender in contenders:
            if isinstance(contender, Playbook):
                machines = cloud.launch(prepared, 1)
                contender.run(Setting(cloud, done, machines))
                executions[contender.name] = module_executions(contender, Setting(cloud, done, machines))
                cloud.terminate(machines)
    medians: dict[tuple[str, str, int], dict[str, float]] = {}
    groups: dict[tuple[str, str, int], list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[sample.contender, sample.phase, sample.hosts].append(sample)
    for key, group in groups.items():
        medians[key] = {
            kind: statistics.median(getattr(sample, kind) for sample in group)
            for kind in ("wall", "controller", "machines")
        }
    results = {
        "machine": f"{os.cpu_count()} cores, {platform.freedesktop_os_release()['PRETTY_NAME']}",
        "versions": versions(),
        "dates": {**before.get("dates", {}), **{str(hosts): time.strftime("%Y-%m-%d") for hosts in counts}},
        "rounds": {str(hosts): rounds_of(samples, hosts) for hosts in sorted({sample.hosts for sample in samples})},
        "executions": before.get("executions", {}) | executions,
        "samples": [asdict(sample) for sample in samples],
        "medians": [
            {"contender": who, "phase": phase, "hosts": hosts, **values}
            for (who, phase, hosts), values in medians.items()
        ],
    }
    results |= {"journey": before["journey"]} if "journey" in before else {}  # bench.journey's
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(report.write(results))


def rounds_of(samples: list[Sample], hosts: int) -> int:
    """In how many rounds so many machines were measured: each spoils them once for every contender."""
    return sum(
        sample.phase == "drift" and sample.hosts == hosts and sample.contender == "bare shell" for sample in samples
    )


def versions() -> str:
    """Of those who take part."""
    core = subprocess.run(["ansible", "--version"], capture_output=True, text=True, check=True).stdout.split("]")[0]
    pinned = [
        line.replace("==", " ")
        for line in (ROOT / "bench/requirements.txt").read_text().splitlines()
        if line.startswith(("pyinfra", "mitogen"))
    ]
    return ", ".join([core.replace("ansible [core", "ansible-core").strip(), *pinned])


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error}\n{error.stdout}\n{error.stderr or ''}")
