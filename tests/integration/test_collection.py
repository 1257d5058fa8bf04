"""The repository is a collection, too: built, installed elsewhere, and used from there by its full names."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.helpers.playbook import ROOT

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(600)]

BOOK = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.import_role:
        name: lightsout.aws.preflight
      vars:
        lightsout_project: elsewhere
        lightsout_region: us-east-1
        preflight_machine: {instance_type: t3.medium, image: ubuntu-24.04, volume_size: 20}
    - lightsout.aws.batch:
        tasks:
          - ansible.builtin.copy: {content: "by the batch", dest: "{{ playbook_dir }}/made", mode: "0644"}
    - ansible.builtin.debug:
        msg: "{{ [{'a': 1}] | lightsout.aws.table({'column': 'a'}) }}"
"""


def run(*words: str, cwd: Path, **env: str) -> str:
    """Run a command of our environment; its output. Fails with that when the command does."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / words[0]), *words[1:]],
        cwd=cwd,
        env={**{key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The file that `ansible-galaxy collection build` makes of what git has."""
    folder = tmp_path_factory.mktemp("built")
    clone = folder / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    run("ansible-galaxy", "collection", "build", "--output-path", str(folder), cwd=clone)
    (file,) = folder.glob("lightsout-aws-*.tar.gz")
    return file


@pytest.fixture(scope="module")
def elsewhere(built: Path, tmp_path_factory) -> Path:
    """A clean folder with the collection installed, and nothing else of ours."""
    folder = tmp_path_factory.mktemp("elsewhere")
    where = ["--collections-path", str(folder / "collections"), "--no-deps", "--offline"]
    run("ansible-galaxy", "collection", "install", str(built), *where, cwd=folder)
    return folder


def test_the_file_holds_what_users_need_and_nothing_of_the_workshop(built: Path) -> None:
    with tarfile.open(built) as archive:
        names = archive.getnames()
    for wanted in ("plugins/modules/ec2_machine.py", "roles/jupyter/tasks/main.yml", "playbooks/teardown.yml"):
        assert wanted in names
    workshop = ("tests", "molecule", "localcloud", "inventory", "group_vars", "collections", ".venv", ".git", "results")
    assert not [name for name in names if name.split("/")[0] in workshop]


def test_a_role_a_module_and_a_filter_work_by_their_full_names(elsewhere: Path, cloud) -> None:
    (elsewhere / "book.yml").write_text(BOOK)
    out = run(
        *("ansible-playbook", "-i", "localhost,", "-c", "local", "book.yml", "-e", f"@{cloud.settings}"),
        *("-e", f"ansible_python_interpreter={sys.executable}", "-e", f"lightsout_key_directory={elsewhere}"),
        cwd=elsewhere,
        ANSIBLE_COLLECTIONS_PATH=str(elsewhere / "collections"),
        ANSIBLE_NOCOLOR="1",
        **cloud.env,
    )
    assert "USD" in out and "column" in out
    assert (elsewhere / "made").read_text() == "by the batch"
    assert "failed=0" in out


def filters_of(file: str) -> list[str]:
    """The names of the filters in a file."""
    module = importlib.import_module(f"ansible_collections.lightsout.aws.plugins.filter.{file}")
    return list(module.FilterModule().filters())


def test_every_plugin_is_documented_from_there(elsewhere: Path) -> None:
    where = {"ANSIBLE_COLLECTIONS_PATH": str(elsewhere / "collections")}
    for kind, folder in (("module", "modules"), ("filter", "filter"), ("test", "test"), ("callback", "callback")):
        files = [path.stem for path in sorted((ROOT / "plugins" / folder).glob("*.py"))]
        # A file may hold several filters.
        plugins = [filter for file in files for filter in filters_of(file)] if kind == "filter" else files
        names = [f"lightsout.aws.{name}" for name in sorted(plugins)]
        documented = json.loads(run("ansible-doc", "--json", "-t", kind, *names, cwd=elsewhere, **where))
        assert set(documented) == set(names)
        for name in names:
            assert documented[name]["doc"]["short_description"], name
            assert kind == "callback" or documented[name]["examples"], name
