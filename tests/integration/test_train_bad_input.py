"""What is wrong with a job is said in one line each, before the machine hears of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.helpers.playbook import ROOT, Run
from tests.helpers.playbook import play as run_playbook

RUNNER = ROOT / "roles/training/files/lightsout_job.py"
#: An address that no machine has (RFC 5737): whoever talks to it fails in another way than the tests expect.
NOWHERE = {"ansible_host": "192.0.2.1", "ansible_ssh_timeout": 1}
#: Extra variables of every run. The runner is taken from where it is: nothing is ever installed on this computer.
ALWAYS = {"lightsout_project": "lab", "lightsout_region": "us-east-1", "__training_runner": str(RUNNER)}
MACHINE = {"aws_ec2_tags": {"lightsout:project": "lab"}}


def play(verb: str, env: dict, *arguments: str, **options: object) -> Run:
    """What the playbook of this name does on the machines that it has found."""
    role = {"name": "lightsout.aws.training", "tasks_from": "run" if verb == "train" else verb}
    tasks = [{"ansible.builtin.import_role": role}]
    book = Path(arguments[1]).parent / f"{verb}.yml"
    book.write_text(json.dumps([{"hosts": "lightsout_machines", "gather_facts": False, "tasks": tasks}]))
    return run_playbook(str(book), env, *arguments, **options)


def inventory(folder: Path, **machine: object) -> list[str]:
    """Words for the command line that name one running machine of project `lab`, as the dynamic inventory would."""
    path = folder / "inventory.json"
    hosts = {"lightsout-lab-machine-1": {**MACHINE, **machine}}
    path.write_text(json.dumps({"lightsout_machines": {"hosts": hosts}}))
    (folder / "inventory.yml").write_text(path.read_text())
    path.unlink()
    return ["-i", str(folder / "inventory.yml")]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with one good script."""
    folder = tmp_path / "my experiment"
    folder.mkdir()
    (folder / "train.py").write_text("print('never')\n")
    return folder


def train(folder: Path, machine: dict, **variables: object) -> Run:
    """`train.yml`, which must fail, for a job that is good but for what is given."""
    return play("train", {}, *inventory(folder, **machine), expect=2, **ALWAYS, **variables)


BAD = {
    "no name": ({"training_job": ""}, "training_job: '' cannot be a job's name: use letters, digits, '-' and '_'"),
    "a path as name": ({"training_job": "../../etc"}, "training_job: '../../etc' cannot be a job's name"),
    "an earlier run's name": ({"training_job": "rerank.1"}, "training_job: 'rerank.1' cannot be a job's name"),
    "no such folder": ({"training_source": "no/such/folder"}, f"training_source: there is no {ROOT}/no/such/folder"),
    "no such script in the folder": ({"training_script": "trian.py"}, "training_script: there is no 'trian.py' in /"),
    "no such script": (
        {"training_source": "", "training_script": "no/such.py"},
        f"training_script: there is no file {ROOT}/no/such.py",
    ),
    "script and command": (
        {"training_command": "python train.py"},
        "training_command and training_script are both given",
    ),
    "nothing to run": ({"training_script": ""}, "Nothing to run: give training_script=train.py"),
    "an unknown launcher": (
        {"training_launcher": "tmux"},
        "value of training_launcher must be one of: systemd, screen, got: tmux",
    ),
    "results elsewhere": (
        {"training_results": "/srv/results"},
        "training_results: '/srv/results' must be a path within",
    ),
    "working directory elsewhere": (
        {"training_directory": "../up"},
        "training_directory: '../up' must be a path within",
    ),
    "a variable with a wrong name": (
        {"training_environment": {"MY TOKEN": "x"}},
        "training_environment: 'MY TOKEN' cannot be the name of a variable",
    ),
    "a variable that is a list": (
        {"training_environment": {"LAYERS": [1, 2]}},
        "training_environment: the value of LAYERS must be a text or a number",
    ),
}


@pytest.mark.parametrize(("variables", "complaint"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_told_without_a_word_to_the_machine(
    tmp_path: Path, source: Path, variables: dict, complaint: str
) -> None:
    good = {"training_job": "rerank", "training_source": str(source), "training_script": "train.py"}
    run = train(tmp_path, NOWHERE, **{**good, **variables})
    assert complaint in run.output
    assert "unreachable=0" in run.output, "the machine was called"
    assert len(run.failures) == 1


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    run = train(tmp_path, NOWHERE, training_job="a b", training_source="nowhere", training_results="..")
    for word in ("training_job:", "training_source:", "training_results:"):
        assert word in run.output


def test_a_job_without_a_name_is_not_begun(tmp_path: Path, source: Path) -> None:
    run = train(tmp_path, NOWHERE, training_source=str(source))
    assert "missing required arguments: training_job" in run.output


class TestOnTheMachine:
    """What only the machine can know; this computer plays the machine, its jobs are in a folder of their own."""

    @pytest.fixture
    def machine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
        monkeypatch.setenv("LIGHTSOUT_JOBS", str(tmp_path / "jobs"))
        return {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
        }

    def test_a_missing_interpreter_is_named_before_anything_is_uploaded(
        self, tmp_path: Path, source: Path, machine: dict
    ) -> None:
        job = {"training_job": "rerank", "training_source": str(source), "training_script": "train.py"}
        run = train(tmp_path, machine, **job, training_python="/opt/anaconda9/bin/python")
        assert "There is no /opt/anaconda9/bin/python on this machine (training_python)" in run.output
        assert not (tmp_path / "jobs").exists()

    def test_a_missing_conda_environment_is_named(self, tmp_path: Path, source: Path, machine: dict) -> None:
        job = {"training_job": "rerank", "training_source": str(source), "training_script": "train.py"}
        run = train(tmp_path, machine, **job, training_conda_environment="nlp")
        assert "envs/nlp/bin/python on this machine (training_conda_environment)" in run.output

    def test_a_secret_is_not_told_even_when_the_job_is_refused(
        self, tmp_path: Path, source: Path, machine: dict
    ) -> None:
        secret = "long-and-unmistakable-secret-4711"
        job = {"training_job": "rerank", "training_source": str(source), "training_script": "train.py"}
        variables = {**job, "training_python": "/no/python", "training_environment": {"TOKEN": secret}}
        settings = tmp_path / "settings.json"
        settings.write_text(json.dumps({**ALWAYS, **variables}))
        run = play("train", {}, *inventory(tmp_path, **machine), "-vvvv", settings=settings, expect=2)
        assert "There is no /no/python" in run.output
        assert secret not in run.output

    @pytest.mark.parametrize("verb", ["logs", "attach", "cancel", "fetch"])
    def test_a_job_that_is_not_there_names_those_that_are(self, tmp_path: Path, machine: dict, verb: str) -> None:
        for name in ("alpha", "beta"):
            (tmp_path / "jobs" / name).mkdir(parents=True)
            (tmp_path / "jobs" / name / "job.json").write_text("{}")
        run = play(verb, {}, *inventory(tmp_path, **machine), expect=2, **ALWAYS, training_job="rerank")
        assert "There is no job 'rerank' on this machine. There are: alpha, beta." in run.output
        assert len(run.failures) == 1
        assert not (ROOT / "results/lab/rerank").exists()
