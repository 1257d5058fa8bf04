"""The idle stop of a notebook instance: what keeps it awake, what does not, and that no error does for ever."""

from __future__ import annotations

import ast
import os
import subprocess
import sys

import pytest

from tests.unit.idle.conftest import HOUR, MINUTE, PROGRAM, Notebook, idle


def stops_after_an_hour(notebook: Notebook) -> None:
    """From now on nothing happens, and it is stopped an hour later, not before."""
    began = notebook.passed
    notebook.watch(3 * HOUR)
    assert notebook.stopped == 1
    assert HOUR <= notebook.passed - began <= HOUR + MINUTE


def test_an_idle_one_is_stopped_after_an_hour_and_not_before(notebook: Notebook) -> None:
    stops_after_an_hour(notebook)
    assert notebook.log[-1] == "stopping it after 60 min, 0 of them unknown: nothing happens"


class TestKernels:
    def test_a_busy_kernel_without_any_output_keeps_it_awake_for_longer_than_the_limit(
        self, notebook: Notebook
    ) -> None:
        notebook.kernel("busy")
        assert set(notebook.watch(4 * HOUR)) == {"busy"}
        notebook.kernel("idle")  # which is news: the hour begins here
        notebook.watch(MINUTE)
        stops_after_an_hour(notebook)

    def test_one_that_waits_does_not(self, notebook: Notebook) -> None:
        notebook.kernel("idle")
        stops_after_an_hour(notebook)

    def test_cells_that_are_run_now_and_then_do(self, notebook: Notebook) -> None:
        notebook.watch(3 * HOUR, each=lambda: notebook.passed % (50 * MINUTE) or notebook.kernel("idle"))
        assert not notebook.stopped

    @pytest.mark.parametrize("state", ["starting", "restarting", "dead"])
    def test_one_between_states_counts_for_ten_minutes(self, notebook: Notebook, state: str) -> None:
        notebook.kernel(state)
        assert notebook.watch(20 * MINUTE) == ["busy"] * 10 + ["idle"] * 10
        began = notebook.passed
        notebook.watch(3 * HOUR)
        assert notebook.stopped and notebook.passed - began == 50 * MINUTE

    def test_asking_is_no_activity(self, notebook: Notebook) -> None:
        notebook.watch(2 * MINUTE)
        assert set(notebook.jupyter.asked) == {f"/api/{what}?no_track_activity=1" for what in ("kernels", "terminals")}


class TestTerminals:
    def test_a_child_that_lives_keeps_it_awake_until_it_ends(self, notebook: Notebook) -> None:
        notebook.process(200, "/bin/bash", "-l", terminal=True)
        notebook.process(201, "python", "train.py", terminal=True)
        assert set(notebook.watch(3 * HOUR)) == {"busy"}
        assert "train.py" in notebook.log[-1]
        notebook.end(201)
        stops_after_an_hour(notebook)

    @pytest.mark.parametrize(
        "words", [("/bin/bash", "-l"), ("-bash",), ("less", "x"), ("screen", "-r"), ("sudo", "-s")], ids=" ".join
    )
    def test_a_shell_that_waits_and_who_watches_do_not(self, notebook: Notebook, words: tuple[str, ...]) -> None:
        notebook.process(200, *words, terminal=True)
        stops_after_an_hour(notebook)

    @pytest.mark.parametrize("words", [("bash", "train.sh"), ("sh", "-c", "sleep 9h"), ("vim", "a.py")], ids=" ".join)
    def test_a_shell_that_runs_something_and_an_editor_do(self, notebook: Notebook, words: tuple[str, ...]) -> None:
        notebook.process(200, *words, terminal=True)
        assert set(notebook.watch(2 * HOUR)) == {"busy"}

    def test_typing_does(self, notebook: Notebook) -> None:
        def type_now() -> None:
            if notebook.passed % (50 * MINUTE) == 0:
                notebook.jupyter.answers["terminals"] = [{"name": "1", "last_activity": notebook.now()}]

        notebook.watch(150 * MINUTE, each=type_now)
        assert not notebook.stopped
        stops_after_an_hour(notebook)

    def test_what_was_left_behind_does_while_it_computes(self, notebook: Notebook) -> None:
        used = iter(range(0, 100000, 30))
        notebook.watch(3 * HOUR, each=lambda: notebook.process(300, "python", "left.py", seconds=next(used)))
        assert not notebook.stopped and "50 % of a core used" in notebook.log[-1]
        stops_after_an_hour(notebook)

    def test_what_the_system_computes_does_not(self, notebook: Notebook) -> None:
        used = iter(range(0, 100000, 30))
        notebook.watch(2 * HOUR, each=lambda: notebook.process(300, "yum", "update", seconds=next(used), owner=0))
        assert notebook.stopped


class TestFiles:
    def test_a_file_that_is_saved_now_and_then_keeps_it_awake(self, notebook: Notebook) -> None:
        path = "home/ec2-user/SageMaker/deep/er/notes.txt"
        notebook.watch(150 * MINUTE, each=lambda: notebook.passed % (50 * MINUTE) or notebook.put(path, "x"))
        assert not notebook.stopped
        stops_after_an_hour(notebook)

    def test_hidden_ones_and_its_own_log_do_not(self, notebook: Notebook) -> None:
        def write() -> None:
            notebook.put("home/ec2-user/SageMaker/.jupyter_ystore.db", "x")
            notebook.put("home/ec2-user/SageMaker/.ipynb_checkpoints/a.ipynb", "x")
            notebook.note("something")

        notebook.watch(2 * HOUR, each=write)
        assert notebook.stopped


class TestErrors:
    def test_one_that_cannot_be_asked_stays_awake_until_the_hard_limit_and_no_longer(self, notebook: Notebook) -> None:
        notebook.jupyter.broken = 500
        assert set(notebook.watch(4 * HOUR - MINUTE)) == {"unknown"}
        assert "kernels cannot be read: HTTP Error 500" in notebook.log[0]
        notebook.watch(2 * MINUTE)
        assert notebook.stopped
        assert "stopping it after 240 min, 240 of them unknown: kernels cannot be read" in notebook.log[-1]

    def test_errors_now_and_then_neither_count_as_idle_nor_keep_it_awake_for_ever(self, notebook: Notebook) -> None:
        def flicker() -> None:
            notebook.jupyter.broken = None if int(notebook.passed / MINUTE) % 5 == 0 else 503

        notebook.watch(10 * HOUR, each=flicker)
        assert notebook.stopped and HOUR < notebook.passed <= 4 * HOUR + MINUTE

    def test_use_that_is_seen_begins_all_anew(self, notebook: Notebook) -> None:
        notebook.watch(MINUTE)
        notebook.jupyter.broken = 500
        notebook.watch(3 * HOUR)
        notebook.jupyter.broken = None
        notebook.kernel("idle")
        notebook.watch(MINUTE)
        stops_after_an_hour(notebook)

    def test_jupyter_that_is_not_there_and_nonsense_are_unknown(self, notebook: Notebook) -> None:
        notebook.jupyter.answers["kernels"] = [{"what": "is this"}]
        assert notebook.watch(MINUTE) == ["unknown"]
        notebook.jupyter.shutdown()
        notebook.jupyter.server_close()
        assert notebook.watch(MINUTE) == ["unknown"]

    def test_a_stop_that_is_refused_is_tried_again_and_noted_once(self, notebook: Notebook) -> None:
        notebook.refuses = "AccessDenied: not yours"
        notebook.watch(2 * HOUR)
        assert not notebook.stopped
        assert sum("could not stop it, trying again at each look: AccessDenied" in line for line in notebook.log) == 1
        assert sum("stopping it after" in line for line in notebook.log) == 1
        notebook.refuses = None
        notebook.watch(2 * MINUTE)
        assert notebook.stopped == 1

    def test_time_that_nobody_watched_is_not_idle(self, notebook: Notebook) -> None:
        notebook.watch(10 * MINUTE)
        notebook.passed += 8 * HOUR
        assert notebook.guard.check() == "idle" and not notebook.stopped

    def test_its_log_follows_no_link_and_waits_for_no_pipe_and_is_short(self, notebook: Notebook) -> None:
        log, secret = notebook.home / "lightsout-idle.log", notebook.put("etc/secret", "as it was")
        log.symlink_to(secret)
        notebook.note("one")
        assert secret.read_text() == "as it was"
        log.unlink()
        os.mkfifo(log)
        notebook.note("two")
        log.unlink()
        log.write_text("x" * 100001)
        notebook.note("three")
        assert len(log.read_text()) < 100


class TestStop:
    """The real way to the API, with a program that stands for the AWS CLI or a Python with boto3."""

    def stop(self, notebook: Notebook, monkeypatch: pytest.MonkeyPatch, *programs: str) -> tuple[str | None, str]:
        """What `stop` returns, and the words that the last program was called with."""
        told = notebook.root / "told"
        files = []
        for number, text in enumerate(programs):
            file = notebook.put(f"bin/{number}", f'#!/bin/sh\nprintf "%s|" "$@" >{told}\n{text}\n')
            file.chmod(0o755)
            files.append(file)
        about = '{"ResourceName": "lab", "ResourceArn": "arn:aws:sagemaker:eu-west-1:1:notebook-instance/lab"}'
        notebook.put("opt/ml/metadata/resource-metadata.json", about)
        real = list(idle.Instance.ways(notebook))
        ways = [[str(file), *way[1:]] for file, way in zip(files, [real[0], *real[2:]], strict=False)]
        monkeypatch.setattr(notebook, "ways", lambda: ways)
        return idle.Instance.stop(notebook), told.read_text()

    def test_by_the_cli(self, notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
        words = "sagemaker|stop-notebook-instance|--notebook-instance-name|lab|--region|eu-west-1|"
        assert self.stop(notebook, monkeypatch, "exit 0", "exit 3") == (None, words)

    def test_by_a_python_when_the_cli_does_not(self, notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
        wrong, words = self.stop(notebook, monkeypatch, "exit 3", "exit 0")
        assert wrong is None and words.endswith("|lab|eu-west-1|") and "stop_notebook_instance" in words
        ast.parse(idle.STOP)

    def test_the_reason_that_helps_is_told(self, notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
        programs = ("echo An error: AccessDenied; exit 255", "echo ModuleNotFoundError: No module named boto3; exit 1")
        assert self.stop(notebook, monkeypatch, *programs)[0] == "An error: AccessDenied"

    def test_jupyters_own_python_is_among_the_ways(self, notebook: Notebook) -> None:
        notebook.put("opt/ml/metadata/resource-metadata.json", '{"ResourceName": "l", "ResourceArn": "a:b:c:d:e"}')
        pythons = [way[0] for way in idle.Instance.ways(notebook)]
        assert "/home/ec2-user/anaconda3/envs/JupyterSystemEnv/bin/python3.10" in pythons


def test_it_needs_nothing_but_the_standard_library_and_an_old_python() -> None:
    tree = ast.parse(PROGRAM.read_text(), feature_version=(3, 7))
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert modules <= sys.stdlib_module_names
    subprocess.run(["/usr/bin/python3", "-I", "-c", f"compile(open('{PROGRAM}').read(), 'x', 'exec')"], check=True)
