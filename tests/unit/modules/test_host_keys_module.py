"""The host keys of a project's machines come from their consoles, once, and are kept."""

from __future__ import annotations

import itertools

import pytest
from ansible_collections.lightsout.aws.plugins.modules import host_keys

from tests.unit.module_utils.test_host_keys import ECDSA, ED25519, OTHER, console
from tests.unit.modules.conftest import client_error


@pytest.fixture
def machine(aws) -> str:
    """A machine of ours; its id."""
    aws.someone_elses_machine(aws.image("another"))
    return aws.machines()[0]["InstanceId"]


@pytest.fixture
def say(aws, monkeypatch):
    """Lets consoles say one text after the other, the last one for ever."""
    monkeypatch.setattr(host_keys, "EVERY", 0.01)

    def start(*texts: str) -> None:
        said = itertools.chain(texts, itertools.repeat(texts[-1]))
        aws.on("GetConsoleOutput", lambda _request, _go_on: {"Output": next(said)}, times=100)

    return start


@pytest.fixture
def learn(run, tmp_path):
    """Runs the module."""
    return lambda **more: run(
        host_keys, **{"project": "lab", "known_hosts": str(tmp_path / "known_hosts"), "wait_timeout": 1, **more}
    )


def test_a_booting_machine_is_waited_for_and_its_key_is_kept(aws, machine, say, learn, tmp_path) -> None:
    say("", "Linux version 6.8", console(ECDSA, ED25519))
    told = learn(check=True)
    assert told["unknown"] == [machine] and not (tmp_path / "known_hosts").exists()
    done = learn()
    assert done["changed"] and done["keys_by_id"] == {machine: ED25519} and done["unknown"] == []
    assert (tmp_path / "known_hosts").read_text() == f"{machine} {ED25519}\n"
    assert (tmp_path / "known_hosts").stat().st_mode & 0o777 == 0o600
    aws.calls.clear()
    assert not learn()["changed"]
    assert "GetConsoleOutput" not in aws.calls and "CreateTags" not in aws.calls


def test_a_boot_that_is_over_without_a_key_is_not_waited_for(machine, say, learn) -> None:
    say("Cloud-init v. 24.1 finished at Sat, 28 Nov 2026 02:36:18 +0000.")
    assert learn(wait_timeout=3600) == {**learn(), "unknown": [machine], "changed": False}


def test_a_type_that_does_not_tell_at_once_is_asked_otherwise(aws, machine, learn) -> None:
    def answer(request, _go_on):
        if request.get("Latest"):
            raise client_error("UnsupportedOperation", "GetConsoleOutput")
        return {"Output": console(ED25519)}

    aws.on("GetConsoleOutput", answer, times=100)
    assert learn()["keys_by_id"] == {machine: ED25519}


def test_what_is_in_the_file_stays_and_another_key_is_an_error(machine, say, learn, tmp_path) -> None:
    path = tmp_path / "known_hosts"
    say(console(ED25519))
    path.write_text(f"i-1 {OTHER}")  # without a line's end
    learn()
    assert path.read_text() == f"i-1 {OTHER}\n{machine} {ED25519}\n"
    path.write_text(f"{machine} {OTHER}\n")
    failed = learn()
    assert failed["failed"] and f"ssh-keygen -R {machine}" in failed["msg"] and "\n" not in failed["msg"]
    assert path.read_text() == f"{machine} {OTHER}\n"
