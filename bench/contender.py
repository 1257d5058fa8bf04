"""Who takes part: each is given machines and makes them right; how, is its own business."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bench.cloud import ROOT, USER, Cloud, Machine
from bench.work import FILES, FOLDERS, JUPYTER, PACKAGES, PREFIX, Work, save

HERE = Path(__file__).resolve().parent / "contenders"

#: Where `make bench` installs what is not part of Lightsout.
PACKAGES_OF_OTHERS = ROOT / ".cache/bench"


@dataclass(frozen=True)
class Setting:
    """What a contender works with."""

    cloud: Cloud
    work: Work
    machines: list[Machine]

    @property
    def folder(self) -> Path:
        """For its files."""
        return self.cloud.folder


class Contender:
    """One way to configure machines.

    Attributes:
        name: in tables.
        most: the largest number of machines that it is asked for; it would take minutes.
    """

    name = ""
    most = 1000

    def run(self, setting: Setting) -> str:
        """Make the machines right.

        Returns:
            what it printed.

        Raises:
            subprocess.CalledProcessError: it failed.
        """
        raise NotImplementedError

    @staticmethod
    def call(words: list[str], cwd: Path = ROOT, **environment: str) -> str:
        """Run a command and return its output."""
        done = subprocess.run(
            words,
            cwd=cwd,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=1800,
        )
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, words, done.stdout)
        return done.stdout


class Shell(Contender):
    """A script over one ssh for each machine, all at once."""

    name = "bare shell"

    def run(self, setting: Setting) -> str:
        with ThreadPoolExecutor(len(setting.machines)) as pool:
            return "".join(pool.map(lambda machine: self._one(setting, machine), setting.machines))

    def _one(self, setting: Setting, machine: Machine) -> str:
        words = ["ssh", *setting.cloud.ssh_words(), f"{USER}@{machine.address}", "sudo bash -s"]
        script = self.script(setting.work, machine)
        done = subprocess.run(words, input=script, capture_output=True, text=True, check=False)
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, words, done.stdout + done.stderr)
        return done.stdout

    @staticmethod
    def script(work: Work, machine: Machine) -> str:
        """The script with its files in it."""
        listing = [f"folder {path} {' '.join(how)}" for path, how in FOLDERS.items()]
        listing += [f"file {path} {' '.join(how)}" for path, how in FILES.items()]
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for path, content in {**work.contents, "/list": "\n".join([*listing, ""]).encode()}.items():
                member = tarfile.TarInfo(path.lstrip("/"))
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return f"""
payload=$(mktemp --directory) && trap 'rm -r "$payload"' EXIT
base64 --decode <<'END' | tar --extract --gzip --directory="$payload"
{b64encode(packed.getvalue()).decode()}
END
packages='{" ".join(PACKAGES)}' prefix={PREFIX} jupyter={JUPYTER} address={machine.address}
installer={work.installer} checksum={work.checksum}
{(HERE / "configure.sh").read_text()}
"""


class Pyinfra(Contender):
    """pyinfra's own operations."""

    name = "pyinfra"

    def run(self, setting: Setting) -> str:
        inventory = setting.folder / "pyinfra_inventory.py"
        hosts = [
            (machine.address, {"ssh_user": USER, "ssh_key": str(setting.cloud.key), "address": machine.address})
            for machine in setting.machines
        ]
        options = {"ssh_strict_host_key_checking": "no", "ssh_known_hosts_file": "/dev/null"}
        inventory.write_text(f"machines = ({hosts!r}, {options!r})\n")
        return self.call(
            ["python", "-m", "pyinfra", "--yes", str(inventory), str(HERE / "deploy.py")],
            cwd=setting.folder,
            PYTHONPATH=str(PACKAGES_OF_OTHERS),
            BENCH_WORK=str(save(setting.work, setting.folder)),
        )


class Playbook(Contender):
    """An ansible-playbook run with an inventory of these machines, and connections that no earlier run has opened."""

    def run(self, setting: Setting) -> str:
        connections = setting.folder / "connections"
        subprocess.run(["pkill", "-f", str(connections)], check=False)
        return self.call(
            ["ansible-playbook", "-i", str(self.inventory(setting)), *self.words(setting)],
            ANSIBLE_SSH_CONTROL_PATH_DIR=str(connections),
            ANSIBLE_HOST_KEY_CHECKING="false",
            ANSIBLE_NOCOLOR="1",
            **self.environment(setting),
        )

    def inventory(self, setting: Setting) -> Path:
        """The machines in the groups of Lightsout's own playbooks."""
        hosts = {
            machine.id: {
                "ansible_host": machine.address,
                "ansible_user": USER,
                "ansible_ssh_private_key_file": str(setting.cloud.key),
                "ansible_ssh_common_args": " ".join(setting.cloud.ssh_words()[:-2]),
                "ansible_python_interpreter": "/usr/bin/python3",
                "aws_instance_id": machine.id,
            }
            for machine in setting.machines
        }
        here = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
        names: dict[str, dict] = {name: {} for name in hosts}
        groups = {"lightsout_machines": {"hosts": hosts}, "lightsout_selected": {"hosts": names}}
        file = setting.folder / "inventory.yml"
        file.write_text(json.dumps({"all": {"hosts": {"localhost": here}, "children": groups}}))
        return file

    def words(self, setting: Setting) -> list[str]:
        """The rest of the command line."""
        return [
            str(HERE / "plain.yml"),
            *("-e", f"@{save(setting.work, setting.folder)}"),
            *("--limit", "lightsout_selected"),
        ]

    def environment(self, setting: Setting) -> dict[str, str]:
        """More variables."""
        return {}


class Lightsout(Playbook):
    """playbooks/configure.yml, as it is."""

    name = "Lightsout"

    def words(self, setting: Setting) -> list[str]:
        settings = {
            "lightsout_project": "bench",
            "anaconda_installer_url": setting.work.installer,
            "anaconda_installer_checksum": f"sha256:{setting.work.checksum}",
            "jupyter_password_hash": setting.work.hash,
            # The others have nothing like these.
            "autostop_enabled": False,
            "base_ssh_hardening": False,
        }
        return ["playbooks/configure.yml", "-e", f"@{setting.cloud.settings}", "-e", json.dumps(settings)]


class Mitogen(Playbook):
    """The plain playbook under Mitogen's strategy."""

    name = "Mitogen"

    def environment(self, setting: Setting) -> dict[str, str]:
        return {
            "PYTHONPATH": str(PACKAGES_OF_OTHERS),
            "ANSIBLE_STRATEGY_PLUGINS": str(PACKAGES_OF_OTHERS / "ansible_mitogen/plugins/strategy"),
            "ANSIBLE_STRATEGY": "mitogen_linear",
            "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
        }


class Plain(Playbook):
    """The plain playbook, with this repository's ansible.cfg (pipelining, forks)."""

    name = "plain Ansible"
    most = 4

    def environment(self, setting: Setting) -> dict[str, str]:
        return {"ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default"}


CONTENDERS: dict[str, Contender] = {
    contender.name: contender for contender in (Shell(), Lightsout(), Mitogen(), Pyinfra(), Plain())
}
