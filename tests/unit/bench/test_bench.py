"""The benchmark compares like with like, and its page says what was measured."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from base64 import b64decode
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from bench import report
from bench.cloud import Machine
from bench.contender import HERE, Lightsout, Plain, Setting, Shell
from bench.work import FILES, FOLDERS, PACKAGES, Work

ROOT = Path(__file__).resolve().parents[3]
MACHINE = Machine("i-1", "10.0.0.1", "container")


@pytest.fixture
def work() -> Work:
    return Work("http://10.0.0.9/a.sh", "0" * 64, "argon2:x", {path: f"{path}\n".encode() for path in FILES})


@pytest.fixture
def setting(work, tmp_path) -> Setting:
    cloud: Any = SimpleNamespace(folder=tmp_path, key=tmp_path / "key.pem", ssh_words=lambda: ["-i", "key.pem"])
    return Setting(cloud, work, [MACHINE])


def rows(phase: str) -> list[dict[str, Any]]:
    """Medians of two contenders."""
    common = {"phase": phase, "hosts": 1, "controller": 0.5, "machines": 0.1}
    return [{"contender": "bare shell", "wall": 0.5, **common}, {"contender": "Lightsout", "wall": 1.5, **common}]


def test_ratios_are_to_the_bare_shell():
    table = report.table({"medians": rows("again")}, "again")
    assert "| bare shell | 0.50 s | 1.0 | 0.50 s |" in table
    assert "| Lightsout | 1.50 s | 3.0 | 0.50 s |" in table
    assert report.table({"medians": rows("again")}, "first") == ""


def test_the_script_is_valid_and_carries_every_file(work):
    script = Shell.script(work, MACHINE)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    packed = re.search(r"<<'END'.*?\n(.*?)\nEND", script, re.DOTALL)
    with tarfile.open(fileobj=io.BytesIO(b64decode(packed[1]))) as archive:
        listing = archive.extractfile("list").read().decode()
        assert {f"/{name}" for name in archive.getnames()} == {*FILES, "/list"}
    assert [line.split()[1] for line in listing.splitlines()] == [*FOLDERS, *FILES]


def test_every_contender_installs_what_the_role_installs():
    role = yaml.safe_load((ROOT / "roles/base/vars/main/platforms.yml").read_text())
    assert role["__base_debian"] == PACKAGES


def test_the_inventory_names_the_machines_so_that_nobody_asks_aws(setting):
    inventory = yaml.safe_load(Lightsout().inventory(setting).read_text())["all"]["children"]
    assert set(inventory["lightsout_selected"]["hosts"]) == {"i-1"}
    assert inventory["lightsout_machines"]["hosts"]["i-1"]["ansible_host"] == "10.0.0.1"


def test_the_plain_playbook_gets_the_same_files(setting):
    (file,) = (word[1:] for word in Plain().words(setting) if word.startswith("@"))
    given = yaml.safe_load(Path(file).read_text())
    assert {one["path"]: one["text"] for one in given["files"]} == {path: f"{path}\n" for path in FILES}
    assert (HERE / "plain.yml").exists()
