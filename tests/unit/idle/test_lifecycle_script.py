"""What SageMaker runs at each start: within its limits, and really starts the agent, also where things are missing."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.unit.idle.conftest import PROGRAM

ROLE = PROGRAM.parents[1]

#: SageMaker's own: characters of base64.
MOST = 16384


def rendered(folder: Path, **variables: Any) -> str:
    """The script as the role makes it."""
    files = [word for name in ("defaults", "vars") for word in ("-e", f"@{ROLE / name}/main.yml")]
    template = f"src={ROLE}/templates/on_start.sh.j2 dest={folder}/on_start.sh"
    command = ["ansible", "localhost", "-m", "ansible.builtin.template", "-a", template, "--playbook-dir", str(ROLE)]
    variables = {"lightsout_project": "lab", **variables}
    subprocess.run([*command, *files, "-e", json.dumps(variables)], check=True, capture_output=True, timeout=120)
    return (folder / "on_start.sh").read_text()


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> str:
    return rendered(tmp_path_factory.mktemp("script"))


def heredoc(script: str, word: str) -> str:
    """The text between `<<'WORD'` and `WORD`."""
    return script.partition(f"<<'{word}'\n")[2].partition(f"\n{word}\n")[0]


def test_it_is_within_sagemakers_limit_with_room_for_a_users_own_lines(script: str) -> None:
    assert len(base64.b64encode(script.encode())) < MOST - 600


def test_it_has_no_carriage_return_and_begins_with_its_interpreter(script: str) -> None:
    assert "\r" not in script and script.startswith("#!/bin/bash\n")
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_what_it_writes_is_the_agent_and_its_settings(script: str) -> None:
    program = heredoc(script, "PROGRAM")
    names = {"__name__": "agent"}
    exec(compile(program, "idle.py", "exec"), names)  # noqa: S102 - that it can be run is what is tested
    assert names["DEFAULTS"]["url"] == "https://localhost:8443" and names["Guard"]
    assert json.loads(heredoc(script, "SETTINGS")) == {"idle": 3600, "hard": 14400, "interval": 60}


def test_without_idle_stop_it_holds_the_users_lines_only(tmp_path: Path) -> None:
    lines = rendered(tmp_path, sagemaker_notebook_idle="", sagemaker_notebook_on_start="echo 'mine'").splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["echo 'mine'"]


def test_it_downloads_nothing(script: str) -> None:
    for word in ("curl", "wget", "pip ", "yum", "dnf", "git "):
        assert word not in script


@pytest.mark.parametrize("systemd", [True, False])
def test_it_starts_the_agent_at_once_with_and_without_systemd(script: str, tmp_path: Path, systemd: bool) -> None:
    """The paths are moved below a folder, and systemd is one that notes what it was told."""
    agent, told = tmp_path / "opt/lightsout/idle.py", tmp_path / "told"
    (tmp_path / "bin").mkdir()
    for name in ("systemd-run", "systemctl", "python"):
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\necho {name} "$@" >>{told}\nexec sleep 0.1\n')
        (tmp_path / "bin" / name).chmod(0o755)
    if systemd:
        (tmp_path / "run/systemd/system").mkdir(parents=True)
    (tmp_path / "var/log").mkdir(parents=True)
    text = script.replace("/usr/bin/python3", f"{tmp_path}/bin/python")
    for folder in ("/etc/lightsout", "/opt/lightsout", "/run/systemd", "/var/log"):
        text = text.replace(folder, f"{tmp_path}{folder}")
    text = text.replace("sleep 60", "exit")
    env = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "AWS_REGION": "eu-west-1"}
    began = time.monotonic()
    done = subprocess.run(["bash"], input=text, text=True, env=env, capture_output=True, check=True, timeout=30)
    assert time.monotonic() - began < 10 and done.stderr == ""
    until = time.monotonic() + 10
    while str(agent) not in (told.read_text() if told.exists() else "") and time.monotonic() < until:
        time.sleep(0.05)
    lines = told.read_text().splitlines()
    if systemd:
        assert lines[1].startswith("systemd-run --unit=lightsout-idle") and "--setenv=AWS_REGION=eu-west-1" in lines[1]
        assert lines[1].endswith(f"-I {agent}")
    else:
        assert lines == [f"python -I {agent}"]
