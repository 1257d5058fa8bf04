"""The ways to a machine: ssh by a name, a tunnel to Jupyter, PuTTY, Session Manager; never a blind yes."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from localcloud import podman
from tests.helpers.playbook import ROOT
from tests.helpers.project import Project, one_line
from tests.helpers.terminal import converse
from tools.jupyter_client import JupyterClient, LoginRefused

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(900)]

#: All that shells, files, forms and templates stumble over, and long.
PASSWORD = "quote ' and \" and $HOME `id` \\ {{ ansible_host }} {% raw %}\nünïcode 🗝 " + "and so on " * 15 + "."

#: The user's own configuration, whose other lines must stay as they are: to the byte.
THEIRS = b"# mine\r\nServerAliveInterval 7\n\nHost *.example.org\n\tUser ada   \nHost door-bell\n  HostName 192.0.2.1"


class Door(Project):
    """A project whose user has an ssh configuration of their own."""

    @property
    def config(self) -> Path:
        """That configuration."""
        return self.folder / "home/.ssh/config"

    def run(self, verb: str, *arguments: str, env: dict[str, str] | None = None, **variables):
        variables = {"access_ssh_config": str(self.config), "access_ssh_include": True, **variables}
        return super().run(verb, *arguments, env=env, **variables)

    def login(self, name: str, command: str, config: Path | None = None) -> subprocess.CompletedProcess[str]:
        """What people type, and no question is answered."""
        words = ["ssh", "-F", str(config or self.config), "-o", "BatchMode=yes", name, command]
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)

    def inside(self, command: str) -> str:
        """What the machine itself says, by a way that is not ssh."""
        (machine,) = self.machines()
        container = f"localcloud-{self.cloud.name}-{machine['InstanceId']}"
        return podman.run("exec", container, "sh", "-c", command)

    def in_terminal(self, verb: str, answers: list[tuple[str, str]], **variables) -> tuple[int, str]:
        """Run a playbook in a terminal where somebody answers."""
        given = {"lightsout_project": self.name, "lightsout_key_directory": str(self.keys), **variables}
        words = ["ansible-playbook", f"playbooks/{verb}.yml", "-e", f"@{self.cloud.settings}", "-e", json.dumps(given)]
        env = {**os.environ, **self.cloud.env, "LIGHTSOUT_JUPYTER_PASSWORD": "", "ANSIBLE_NOCOLOR": "1"}
        env["PATH"] = f"{self.wide_ps()}:{env['PATH']}"
        return converse(words, answers, env, str(ROOT))

    def wide_ps(self) -> Path:
        """A folder with ps as it is where processes' numbers may have seven digits: it puts blanks before them."""
        program = self.folder / "wide/ps"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\nprintf "  "\nexec {shutil.which("ps")} "$@"\n')
        program.chmod(0o755)
        return program.parent

    def jupyter(self) -> JupyterClient:
        """Jupyter through the tunnel that is open, and its certificate as the machine has it."""
        (path,) = self.keys.glob(f"{self.name}-*.tunnel")
        port = re.search(r"-(\d+)\.tunnel", path.name)[1]
        return JupyterClient(f"https://127.0.0.1:{port}", self.inside("cat /etc/lightsout/jupyter/certificate.pem"))


def unchanged(run) -> bool:
    """Whether nothing was changed."""
    return set(run.changed.values()) == {0}


def answers(address: str, port: int) -> bool:
    """Whether somebody listens there and a security group lets us in."""
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((address, port)) == 0


@pytest.fixture(scope="module")
def door(cloud, tmp_path_factory):
    """A project with its user's files around it."""
    project = Door(cloud, "door", tmp_path_factory.mktemp("door"))
    project.config.parent.mkdir(parents=True, mode=0o700)
    project.config.write_bytes(THEIRS)
    project.config.chmod(0o644)
    project.keys.mkdir(mode=0o700)
    for name in ("known_hosts", "other.pem", "other.config", "door-2.config", "door-2-8888.txt"):
        (project.keys / name).write_text(
            f"somebody's {name}\n" if name != "known_hosts" else "i-0123 ssh-ed25519 AAAA\n"
        )
    yield project
    project.run("teardown", teardown_confirm=False)


@pytest.fixture(scope="module")
def neighbors(door) -> dict[str, bytes]:
    """The files of others in the same folder, as they were."""
    return {path.name: path.read_bytes() for path in door.keys.iterdir() if path.is_file()}


class TestSsh:
    """``ssh <project>``, from the first login on."""

    def test_the_users_configuration_gets_one_line_and_a_copy(self, door, neighbors) -> None:
        for name in ("other.config", "door-2.config"):
            (door.keys / name).write_text("")
        door.run("provision")
        line = f"Include {door.keys}/*.config\n".encode()
        assert door.config.read_bytes() == line + THEIRS
        assert stat.S_IMODE(door.config.stat().st_mode) == 0o644
        (copy,) = [path for path in door.config.parent.iterdir() if path != door.config]
        assert copy.read_bytes() == THEIRS

    def test_the_host_key_is_known_before_the_first_login(self, door) -> None:
        (machine,) = door.machines()
        key = " ".join(door.inside("cat /etc/ssh/ssh_host_ed25519_key.pub").split()[:2])
        assert f"{machine['InstanceId']} {key}\n" in (door.keys / "known_hosts").read_text()
        assert {"Key": "lightsout:hostkey", "Value": key} in machine["Tags"]
        # This is the first one, and no yes is given.
        first = door.login("door", "id --user --name")
        assert (first.stdout, first.returncode) == ("ubuntu\n", 0), first.stderr
        assert "Permanently added" not in first.stderr
        shown = subprocess.run(["ssh", "-G", "-F", door.config, "door"], capture_output=True, text=True, check=True)
        assert "stricthostkeychecking true" in shown.stdout and f"hostkeyalias {machine['InstanceId']}" in shown.stdout

    def test_a_second_run_changes_nothing_and_asks_aws_nothing_more(self, door) -> None:
        assert unchanged(door.watched("provision"))
        assert not {"GetConsoleOutput", "CreateTags"} & set(door.calls)

    def test_another_computer_learns_the_key_from_the_tag(self, door, tmp_path) -> None:
        for name in ("door.pem", "door.pem.pub"):
            (tmp_path / name).write_bytes((door.keys / name).read_bytes())
            (tmp_path / name).chmod(0o400)
        door.watched("access", lightsout_key_directory=str(tmp_path), access_ssh_include=False)
        assert "GetConsoleOutput" not in door.calls
        assert door.login("door", "true", tmp_path / "door.config").returncode == 0

    def test_another_key_than_the_machines_is_refused_by_ssh_and_told_by_us(self, door) -> None:
        known = door.keys / "known_hosts"
        right = known.read_text()
        (machine,) = door.machines()
        wrong = "AAAAC3NzaC1lZDI1NTE5AAAAIHdu0N3nKGpJ1BYbzEwCVVwlq9dcGmXWYhOuZSpGjSQa"
        known.write_text(f"{machine['InstanceId']} ssh-ed25519 {wrong}\n")
        assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in door.login("door", "true").stderr
        line = one_line(door.run("access", expect=2))
        assert "is not the one that the machine printed" in line and f"ssh-keygen -R {machine['InstanceId']}" in line
        assert wrong in known.read_text()
        known.write_text(right)

    def test_somebody_at_a_terminal_is_asked(self, door, tmp_path) -> None:
        config = tmp_path / "ssh/config"
        status, screen = door.in_terminal("access", [("(yes or no", "yes")], access_ssh_config=str(config))
        assert status == 0 and config.read_text() == f"Include {door.keys}/*.config\n", screen


class TestJupyter:
    """Through the tunnel, with any password."""

    def test_nobody_else_reaches_it(self, door) -> None:
        door.run("configure", env={"LIGHTSOUT_JUPYTER_PASSWORD": PASSWORD})
        (machine,) = door.machines()
        assert [rule["FromPort"] for rule in door.group()["IpPermissions"]] == [22]
        assert not answers(machine["PublicIpAddress"], 8888)
        listening = door.inside("python3 -c \"print(open('/proc/net/tcp').read())\"")
        assert re.findall(r"(\S+):22B8 \S+ 0A", listening) == ["0100007F"]  # 127.0.0.1, 8888, listens

    def test_the_tunnel_is_made_and_checked_and_any_password_logs_in(self, door) -> None:
        run = door.run("jupyter")
        port = int(re.search(r"https://127\.0\.0\.1:(\d+)/lab", run.output)[1])
        assert re.search(r"fingerprint: [0-9A-F:]{95}$", run.output, re.MULTILINE)
        with door.jupyter() as jupyter:
            for wrong in (PASSWORD[:-1], PASSWORD.replace("\n", " ")):
                with pytest.raises(LoginRefused):
                    jupyter.login(wrong)
            jupyter.login(PASSWORD)
            assert jupyter.run_cell("print(6 * 7)").strip() == "42"
        again = door.run("jupyter")
        assert unchanged(again) and f":{port}/lab" in again.output

    def test_a_password_is_made_kept_in_a_vault_and_changed_in_one_command(self, door, tmp_path) -> None:
        secret, file = tmp_path / "secret", tmp_path / "vault.yml"
        secret.write_text("of the vault\n")
        made = {"access_password": "generate", "access_password_file": str(file), "access_password_vault": str(secret)}
        run = door.run("password", env={"LIGHTSOUT_JUPYTER_PASSWORD": ""}, **made)
        assert file.stat().st_mode & 0o777 == 0o600
        shown = subprocess.run(
            [
                *("ansible", "localhost", "-m", "ansible.builtin.debug", "-a", "var=jupyter_password"),
                *("-e", f"@{file}", f"--vault-password-file={secret}"),
            ],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
        password = re.search(r"jupyter_password: (\w{24})$", shown.stdout, re.MULTILINE)[1]
        assert password not in run.output
        for kept in (file, door.keys / "door.jupyter"):
            assert password not in kept.read_text()
        with door.jupyter() as jupyter:
            with pytest.raises(LoginRefused):
                jupyter.login(PASSWORD)
            jupyter.login(password)
        # What is kept is what the next run takes.
        assert unchanged(door.run("configure", env={"LIGHTSOUT_JUPYTER_PASSWORD": ""}))

    def test_somebody_at_a_terminal_is_asked_twice(self, door) -> None:
        twice = [("Password for Jupyter", "asked for at a terminal"), ("The same again", "asked for at a terminal")]
        status, screen = door.in_terminal("password", twice)
        assert status == 0 and "asked for at a terminal" not in screen, screen
        with door.jupyter() as jupyter:
            jupyter.login("asked for at a terminal")

    @pytest.mark.parametrize(
        ("verb", "password", "what"),
        [
            ("configure", "Passw0rd!", "guessing program"),
            ("password", "a space at its end ", "login page takes away"),
        ],
    )
    def test_a_weak_password_is_refused(self, door, verb, password, what) -> None:
        line = one_line(door.run(verb, expect=2, env={"LIGHTSOUT_JUPYTER_PASSWORD": password}))
        assert line.startswith("jupyter_password: it ") and what in line and password not in line

    def test_two_that_are_not_the_same_are_refused_and_so_is_nobody_there(self, door) -> None:
        kept = (door.keys / "door.jupyter").read_text()
        unlike = [("Password for Jupyter", "one of the two"), ("The same again", "the other one")]
        status, screen = door.in_terminal("password", unlike)
        assert status == 2 and "are not the same; nothing was changed" in screen
        line = one_line(door.run("password", expect=2, env={"LIGHTSOUT_JUPYTER_PASSWORD": ""}))
        assert "-e access_password=generate" in line
        assert (door.keys / "door.jupyter").read_text() == kept


class TestWindows:
    """PuTTY's own programs take what is written."""

    @pytest.fixture(scope="class")
    def files(self, door) -> Path:
        """The folder."""
        door.run("windows")
        assert unchanged(door.run("windows"))
        return door.keys / "door-windows"

    def test_the_keys_are_the_key(self, door, files) -> None:
        public = (door.keys / "door.pem.pub").read_text().split()[:2]
        for version, name in ((3, "door.ppk"), (2, "door-old.ppk")):
            assert (files / name).read_text().startswith(f"PuTTY-User-Key-File-{version}: ssh-ed25519")
            assert (files / name).stat().st_mode & 0o777 == 0o600
            back = files.parent / "back"
            subprocess.run(["puttygen", files / name, "-O", "private-openssh-new", "-o", back], check=True)
            again = subprocess.run(["ssh-keygen", "-y", "-f", back], capture_output=True, text=True, check=True).stdout
            assert again.split()[:2] == public
            back.unlink()

    @pytest.mark.parametrize("key", ["door.ppk", "door-old.ppk"])
    def test_plink_logs_in_by_the_session_and_takes_no_other_host_key(self, files, tmp_path, key) -> None:
        text = (files / "door.reg").read_bytes().decode("ascii")
        assert text.startswith(
            "Windows Registry Editor Version 5.00\r\n\r\n[HKEY_CURRENT_USER\\Software\\SimonTatham\\PuTTY\\"
        )
        # PuTTY on Unix has the same settings, in a file.
        session = {}
        for name, number, value in re.findall(r'^"(\w+)"=(?:dword:(\w{8})|"(.*)")\r$', text, re.MULTILINE):
            session[name] = str(int(number, 16)) if number else value.replace("\\\\", "\\")
        assert session.pop("PublicKeyFile") == "C:\\lightsout\\door\\door.ppk"
        session.pop("PortForwardings")
        sessions = tmp_path / ".putty/sessions"
        sessions.mkdir(parents=True)

        def plink(**changed: str) -> subprocess.CompletedProcess[str]:
            written = {**session, "PublicKeyFile": str(files / key), **changed}
            (sessions / "lightsout-door").write_text("".join(f"{n}={v}\n" for n, v in written.items()))
            words = ["plink", "-batch", "-load", "lightsout-door", "id --user --name"]
            return subprocess.run(
                words,
                env={**os.environ, "HOME": str(tmp_path)},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )

        assert plink().stdout == "ubuntu\n"
        refused = plink(SSHManualHostKeys="AAAAC3NzaC1lZDI1NTE5AAAAIHdu0N3nKGpJ1BYbzEwCVVwlq9dcGmXWYhOuZSpGjSQa")
        assert refused.returncode != 0 and "Host key not in manually configured list" in refused.stderr

    def test_winscp_and_the_page_name_the_same_machine(self, door, files) -> None:
        (machine,) = door.machines()
        site = (files / "door.ini").read_text()
        assert f"[Sessions\\lightsout-door]\nHostName={machine['PublicIpAddress']}\n" in site
        assert "PublicKeyFile=C:%5Clightsout%5Cdoor%5Cdoor.ppk" in site
        fingerprint = door.inside("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub").split()[1]
        page = (files / "READ-ME.html").read_text()
        assert fingerprint in page and machine["PublicIpAddress"] in page

    def test_without_puttygen_one_line_says_what_to_install(self, door, tmp_path) -> None:
        programs = {
            path.name: path
            for folder in ("/usr/bin", "/bin", Path(sys.executable).parent)
            for path in Path(folder).iterdir()
        }
        for name in programs.keys() - {"puttygen"}:
            (tmp_path / name).symlink_to(programs[name])
        line = one_line(door.run("windows", expect=2, env={"PATH": str(tmp_path)}))
        assert "apt-get install putty-tools" in line


class TestAnotherAddress:
    """Yours, and the machine's."""

    def test_one_command_opens_to_where_you_are_and_closes_the_old(self, door) -> None:
        (machine,) = door.machines()
        subprocess.run(["ssh", "-F", door.config, "-O", "exit", "door"], capture_output=True, check=False)
        door.run("access", lightsout_access_cidr="198.51.100.7")  # as if provisioned from there
        assert not answers(machine["PublicIpAddress"], 22)
        dry = door.watched("access", "--check")
        assert "would be opened: port 22" in dry.output and door.changing_calls == []
        run = door.watched("access")
        assert door.changing_calls == ["AuthorizeSecurityGroupIngress", "RevokeSecurityGroupIngress"]
        assert "closed: port 22 from 198.51.100.7/32" in run.output
        assert door.login("door", "true").returncode == 0
        assert unchanged(door.run("access"))

    def test_a_stopped_machine_says_so_and_after_the_start_all_is_as_it_was(self, door) -> None:
        (before,) = door.machines()
        door.run("stop")
        asleep = door.login("door", "true")
        assert asleep.returncode != 0 and "door-machine-1 is stopped. Start it: ansible-playbook" in asleep.stderr
        assert before["PublicIpAddress"] not in (door.keys / "door.config").read_text()
        door.run("start")
        (after,) = door.machines()
        assert after["PublicIpAddress"] != before["PublicIpAddress"]
        assert door.login("door", "id --user --name").stdout == "ubuntu\n"
        # The tunnel led to the old address.
        run = door.run("jupyter")
        assert run.changed["localhost"] == 1
        with door.jupyter() as jupyter:
            jupyter.login("asked for at a terminal")
        door.run("jupyter", access_tunnel="closed")
        assert not list(door.keys.glob("door-*.tunnel"))

    @pytest.mark.long  # test_autostop uses it, too
    def test_directly_when_it_is_asked_for(self, door) -> None:
        way = {"access_jupyter": "direct"}
        door.run("provision", **way)
        door.run("configure", env={"LIGHTSOUT_JUPYTER_PASSWORD": ""})  # the tag knows the way
        (machine,) = door.machines()
        assert {rule["FromPort"] for rule in door.group()["IpPermissions"]} == {22, 443, 8888}
        run = door.run("jupyter")
        assert f"https://{machine['PublicIpAddress']}:8888/lab" in run.output and unchanged(run)
        url = f"https://{machine['PublicIpAddress']}:8888"
        with JupyterClient(url, door.inside("cat /etc/lightsout/jupyter/certificate.pem")) as jupyter:
            jupyter.login("asked for at a terminal")


def test_teardown_leaves_everything_else_as_it_was(door, neighbors) -> None:
    for name in ("other.config", "door-2.config"):
        (door.keys / name).write_bytes(neighbors[name])
    door.run("teardown", teardown_confirm=False)
    ours = {"door.pem", "door.pem.pub"}  # never deleted unless asked
    assert {path.name: path.read_bytes() for path in door.keys.iterdir() if path.name not in ours} == neighbors
    assert door.config.read_bytes() == f"Include {door.keys}/*.config\n".encode() + THEIRS


#: What Session Manager does for ssh: a way in from inside, past the security group. In place of the AWS CLI.
SESSION_MANAGER = """#!{python}
import sys
sys.path.insert(0, {root!r})
import os
from localcloud import podman
words = dict(zip(sys.argv[1:], sys.argv[2:]))
assert sys.argv[1:3] == ["ssm", "start-session"] and words["--document-name"] == "AWS-StartSSHSession", sys.argv
assert words["--parameters"] == "portNumber=22" and words["--region"] == "us-east-1", sys.argv
relay = '''
import os, socket, threading
peer = socket.create_connection(("127.0.0.1", 22))
def upwards():
    while data := os.read(0, 65536):
        peer.sendall(data)
threading.Thread(target=upwards, daemon=True).start()
while data := peer.recv(65536):
    os.write(1, data)
'''
command = ["podman", "exec", "--interactive", "localcloud-{cloud}-" + words["--target"], "python3", "-c", relay]
os.execvpe("podman", command, podman.environment())
"""


@pytest.mark.long
class TestSessionManager:
    """No open port at all. The AWS CLI is played by a program that goes in by the container; the rest is real."""

    @pytest.fixture(scope="class")
    def hatch(self, cloud, tmp_path_factory):
        """A project that is reached in this way."""
        project = Door(cloud, "hatch", tmp_path_factory.mktemp("hatch"))
        tools = project.folder / "bin"
        tools.mkdir()
        text = SESSION_MANAGER.format(python=sys.executable, root=str(ROOT), cloud=cloud.name)
        for name, content in (("aws", text), ("session-manager-plugin", "#!/bin/sh\n")):
            (tools / name).write_text(content)
            (tools / name).chmod(0o755)
        project.path = {"PATH": f"{tools}:{os.environ['PATH']}"}
        yield project
        project.run("teardown", teardown_confirm=False)

    def test_without_the_plugin_one_line_says_what_is_missing(self, hatch) -> None:
        line = one_line(hatch.run("provision", expect=2, access_jupyter="ssm"))
        assert "session-manager-plugin" in line and hatch.machines() == []

    def test_ssh_and_ansible_get_in_and_nobody_else(self, hatch, monkeypatch) -> None:
        hatch.run("provision", env=hatch.path, access_jupyter="ssm")
        (machine,) = hatch.machines()
        assert hatch.group()["IpPermissions"] == []
        assert not answers(machine["PublicIpAddress"], 22)
        attached = hatch.iam.list_attached_role_policies(RoleName="lightsout-hatch-machine")["AttachedPolicies"]
        assert [policy["PolicyName"] for policy in attached] == ["AmazonSSMManagedInstanceCore"]
        monkeypatch.setenv("PATH", hatch.path["PATH"])
        assert hatch.login("hatch", "id --user --name").stdout == "ubuntu\n"
        assert unchanged(hatch.run("provision", access_jupyter="ssm"))
        words = [
            "ansible",
            "-i",
            "inventory",
            machine_name := "lightsout-hatch-machine-1",
            "-m",
            "ansible.builtin.ping",
        ]
        words += ["-e", f"lightsout_key_directory={hatch.keys}"]
        done = subprocess.run(
            words, cwd=ROOT, env={**os.environ, **hatch.cloud.env}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 and machine_name in done.stdout, done.stdout + done.stderr


def test_a_password_can_be_made_before_there_is_a_machine_or_a_folder_of_keys(cloud, tmp_path) -> None:
    early = Project(cloud, "early", tmp_path)
    file = tmp_path / "password"
    run = early.run("password", access_password="generate", access_password_file=str(file))
    assert "No machine of project early runs: playbooks/configure.yml will give it" in run.output
    assert len(file.read_text().strip()) == 24 and file.read_text().strip() not in run.output
    assert early.keys.stat().st_mode & 0o777 == 0o700
    assert (early.keys / "early.jupyter").read_text().startswith("argon2:")
    check = early.run("password", "--check", access_password="generate", lightsout_key_directory=str(tmp_path / "none"))
    assert not (tmp_path / "none").exists() and check.returncode == 0
