"""Files, locks and claims of a cloud."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from localcloud.running import environment
from localcloud.settings import ROOT, CloudError, Settings, alive, claim, holder, recorded, take_lock


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings("lab", tmp_path, 5601, "bridge")


def elsewhere(code: str, *words: str) -> str:
    """What Python prints in another process."""
    return subprocess.check_output([sys.executable, "-c", code, *words], cwd=ROOT, text=True, timeout=30)


def test_the_shell_gets_the_endpoint_and_keys_that_are_none(settings):
    settings.write_files({})
    assert environment(settings.state_dir) == settings.environment()
    assert settings.environment()["AWS_ENDPOINT_URL"] == "http://127.0.0.1:5601"
    assert not settings.environment()["AWS_ACCESS_KEY_ID"].startswith(("AKIA", "ASIA"))


def test_extra_variables_are_yaml_whatever_is_in_them(settings):
    yaml = pytest.importorskip("yaml")
    variables = {"url": "http://10.0.0.1:1/a b#c", "odd": 'quote " and: colon'}
    settings.write_files(variables)
    assert yaml.safe_load((settings.state_dir / "settings.yml").read_text()) == variables


def test_a_record_is_read_back_and_a_broken_one_is_none(settings):
    assert recorded(settings.state_dir) == {}
    settings.remember(17)
    assert recorded(settings.state_dir) == {"pid": 17, "name": "lab", "port": 5601, "network": "bridge"}
    (settings.state_dir / "cloud.json").write_text(json.dumps({"pid": 1})[:-2])
    assert recorded(settings.state_dir) == {}


@pytest.mark.parametrize("name", ["", "Lab", "a b", "-a", "a" * 32, "a/b"])
def test_a_name_that_containers_cannot_have_is_refused(tmp_path, name):
    with pytest.raises(CloudError, match=r"^name: "):
        Settings(name, tmp_path, 1, "bridge")


def test_a_lock_is_held_by_one_process_which_it_names(tmp_path):
    path = tmp_path / "deep/lock"
    assert holder(path) is None
    lock = take_lock(path)
    assert take_lock(path) is None
    asked = "import sys, pathlib; from localcloud.settings import holder; print(holder(pathlib.Path(sys.argv[1])))"
    assert elsewhere(asked, str(path)) == f"{os.getpid()}\n"
    lock.close()
    assert holder(path) is None


def test_a_claim_ends_with_its_socket_and_holds_for_other_processes():
    what = f"unit-{os.getpid()}"
    first = claim(what)
    assert first is not None
    asked = f"from localcloud.settings import claim; print(claim({what!r}))"
    assert elsewhere(asked) == "None\n"
    first.close()
    assert elsewhere(asked) != "None\n"


def test_a_process_is_alive_until_it_ends_even_if_nobody_has_collected_it():
    process = subprocess.Popen(["sleep", "60"])
    assert alive(process.pid)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # now it is a zombie
    assert not alive(process.pid)
    process.wait()
    assert not alive(process.pid)
