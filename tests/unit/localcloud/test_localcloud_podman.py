"""Whether podman needs settings of ours, asked once; and what it says when it fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from localcloud import podman


@pytest.fixture
def computer(monkeypatch, tmp_path) -> Callable[[str], Path]:
    """A computer with a podman that is a shell script; returns a file that counts its calls."""

    def install(script: str) -> Path:
        counted = tmp_path / "calls"
        program = tmp_path / "bin/podman"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\necho call >> {counted}\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
        podman.environment.cache_clear()
        return counted

    monkeypatch.setattr(podman, "CACHE", tmp_path / "cache")
    monkeypatch.delenv("CONTAINERS_CONF", raising=False)
    yield install
    podman.environment.cache_clear()


def test_a_podman_that_works_needs_nothing(computer):
    calls = computer("exit 127")
    assert podman.environment() == {}
    assert calls.read_text() == "call\n"


def test_one_that_does_not_gets_modest_settings(computer, tmp_path):
    computer('[ -n "$CONTAINERS_CONF" ] && exit 127; echo "Error: crun: unknown version" >&2; exit 126')
    assert podman.environment() == {"CONTAINERS_CONF": str(tmp_path / "cache/containers.conf")}
    assert 'runtime = "runc"' in (tmp_path / "cache/containers.conf").read_text()


def test_one_that_works_with_neither_says_why(computer):
    computer('echo "warning" >&2; echo "Error: no space left" >&2; exit 125')
    with pytest.raises(podman.PodmanError, match="cannot run a container on this machine: no space left"):
        podman.environment()


def test_the_answer_is_kept_until_podman_changes(computer):
    calls = computer("exit 127")
    assert podman.environment() == {}
    podman.environment.cache_clear()  # as in the next process
    assert podman.environment() == {}
    assert calls.read_text() == "call\n"
    computer('[ -n "$CONTAINERS_CONF" ] && exit 127; exit 126 # an upgrade')
    assert podman.environment() != {}


def test_a_kept_answer_that_cannot_be_read_is_asked_anew(computer, tmp_path):
    computer("exit 127")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/podman.json").write_text("{")
    assert podman.environment() == {}


def test_no_podman_is_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(podman.PodmanError, match="sudo apt-get install podman"):
        podman._call("ps", environment={})


def test_a_failure_is_its_last_line(computer):
    computer('[ "$1" = run ] && exit 127; echo "time=1 level=warning" >&2; echo "Error: no such image" >&2; exit 125')
    with pytest.raises(podman.PodmanError, match=r"^podman rmi: no such image$"):
        podman.run("rmi", "x")
    assert podman.run("rmi", "x", check=False) == ""


def test_clouds_are_known_by_their_containers_and_networks(pod):
    pod.answers["ps",] = "one\none\ntwo\n"
    pod.answers["network", "ls"] = "podman\nlocalcloud-three\n"
    assert podman.clouds() == {"one", "two", "three"}


def test_only_containers_with_the_label_are_removed(pod):
    assert podman.remove_containers("lab") == 0
    pod.answers["ps",] = "a\nb\n"
    assert podman.remove_containers("lab") == 2
    assert "label=localcloud=lab" in pod.called("ps")[0]
    assert pod.called("rm") == [("rm", "--force", "--time", "0", "a", "b")]
