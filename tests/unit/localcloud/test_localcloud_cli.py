"""The command line: what it refuses, and what it says where no cloud runs."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from localcloud import cli, images
from localcloud.podman import PodmanError
from localcloud.settings import ROOT, claim, take_lock


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "command"),
        (["begin"], "invalid choice: 'begin'"),
        (["start", "--port", "http"], "'http' is not a port"),
        (["start", "--port", "65536"], "'65536' is not a port"),
        (["start", "--port", "-1"], "'-1' is not a port"),
        (["start", "--network", "wifi"], "invalid choice: 'wifi'"),
        (["interrupt"], "INSTANCE_ID"),
        (["interrupt", "i-1", "--notice", "soon"], "'soon' is no notice: give whole seconds from 0"),
        (["interrupt", "i-1", "--notice", "-1"], "'-1' is no notice"),
        (["stop", "--name", "lab"], "unrecognized arguments"),
    ],
)
def test_what_cannot_be_understood_is_told_and_nothing_is_done(words, reason, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    assert end.value.code == 2
    assert reason in capsys.readouterr().err


def test_a_bad_name_is_one_line_before_anything_is_made(tmp_path, capsys):
    state = tmp_path / "cloud"
    assert cli.main(["start", "--name", "Big Lab", "--state-dir", str(state)]) == 1
    assert capsys.readouterr().err == (
        "localcloud: name: 'Big Lab' must be 1 to 31 lower-case letters, digits and hyphens\n"
    )
    assert not state.exists()


def test_where_no_cloud_runs(tmp_path, capsys, pod):
    place = ["--state-dir", str(tmp_path)]
    assert cli.main(["status", *place]) == 3
    assert capsys.readouterr().out == "No local cloud runs here. Start one: python -m localcloud start\n"
    assert cli.main(["interrupt", "i-1", *place]) == 3
    assert capsys.readouterr().out == "No local cloud runs here. Start one: python -m localcloud start\n"
    assert cli.main(["stop", *place]) == 0
    assert capsys.readouterr().out == "No local cloud runs here.\n"
    assert cli.main(["logs", *place]) == 1
    assert "there is no log" in capsys.readouterr().err
    assert pod.calls == []


def remember(state: Any, **record: Any) -> None:
    (state / "cloud.json").write_text(json.dumps({"name": "unit-dead", "port": 1, "network": "bridge", **record}))


def test_what_a_dead_cloud_left_is_removed_by_stop(tmp_path, capsys, pod):
    remember(tmp_path, pid=1)
    (tmp_path / "env").write_text("export A=b\n")
    pod.answers["ps",] = "0123\n"
    assert cli.main(["stop", "--state-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "The local cloud had died; what it left behind is removed.\n"
    assert pod.called("rm") == [("rm", "--force", "--time", "0", "0123")]
    assert pod.called("network", "rm") == [("network", "rm", "--force", "localcloud-unit-dead")]
    assert not (tmp_path / "env").exists()


def test_start_where_one_runs_says_so_and_status_tells_one_that_does_not_answer(tmp_path, capsys, pod):
    lock = take_lock(tmp_path / "lock")
    assert cli.main(["status", "--state-dir", str(tmp_path)]) == 3
    assert "is starting" in capsys.readouterr().out
    remember(tmp_path, pid=os.getpid())
    assert cli.main(["start", "--state-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "The local cloud runs already: http://127.0.0.1:1\n"
    assert cli.main(["status", "--state-dir", str(tmp_path)]) == 1
    assert "does not answer at http://127.0.0.1:1" in capsys.readouterr().err
    assert pod.calls == []
    lock.close()


def test_a_cloud_that_cannot_start_gives_its_reason(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "_build_for_start", lambda: None)
    taken = claim("unit-taken")
    words = ["start", "--name", "unit-taken", "--state-dir", str(tmp_path), "--port", "0"]
    assert cli.main(words) == 1
    assert "it did not start: name: a cloud called 'unit-taken' runs already" in capsys.readouterr().err
    taken.close()


def test_clean_removes_the_dead_and_the_images_and_leaves_the_living(tmp_path, capsys, monkeypatch, pod):
    monkeypatch.setattr(cli.podman, "CACHE", tmp_path / "cache")
    (tmp_path / "cache/files").mkdir(parents=True)
    (tmp_path / "cache/files/installer.sh").touch()
    (tmp_path / "cache/podman.json").touch()
    monkeypatch.setattr(cli.podman, "clouds", lambda: {"unit-dead", "unit-alive"})
    monkeypatch.setattr(images, "built_images", lambda name="": [] if name else ["localhost/a:1", "localhost/a:2"])
    pod.answers["rmi", "localhost/a:2"] = PodmanError("podman rmi: image is in use by a container")
    living = claim("unit-alive")
    assert cli.main(["clean", "--state-dir", str(tmp_path / "state")]) == 0
    living.close()
    out = capsys.readouterr().out
    assert "Removed the image localhost/a:1." in out
    assert "Kept the image localhost/a:2: containers use it." in out
    assert "Left alone, because they run: unit-alive." in out
    assert pod.called("network", "rm") == [("network", "rm", "--force", "localcloud-unit-dead")]
    assert list((tmp_path / "cache").iterdir()) == []


def test_podman_env_is_for_eval(capsys, monkeypatch):
    monkeypatch.setattr(cli.podman, "environment", lambda: {"CONTAINERS_CONF": "/a/b"})
    assert cli.main(["podman-env"]) == 0
    assert capsys.readouterr().out == "export CONTAINERS_CONF=/a/b\n"


def test_the_cloud_does_not_inherit_somebodys_keys_or_endpoint(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "real")
    monkeypatch.setenv("MOTO_PORT", "1")
    assert not [key for key in cli._clean_env() if key.startswith(("AWS_", "MOTO_"))]


def test_paths_are_shown_as_a_user_in_the_repository_types_them(tmp_path):
    assert cli._short(ROOT / ".lightsout/cloud") == ".lightsout/cloud"
    assert cli._short(tmp_path) == str(tmp_path)
