"""What a run looks like on the screen: a real playbook, run with the story callback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.playbook import ROOT
from tests.helpers.terminal import converse

PLAYBOOK = [
    {"name": "A play with nothing to tell", "hosts": "localhost", "tasks": [{"ansible.builtin.stat": {"path": "/"}}]},
    {
        "name": "Tell a story",
        "hosts": "localhost",
        "tasks": [
            {"name": "Say it", "ansible.builtin.debug": {"msg": ["first line", "", "second: {a}"]}},
            {"name": "Make a file", "ansible.builtin.copy": {"content": "x", "dest": "{{ folder }}/f", "mode": "0600"}},
            {
                "name": "Make two",
                "ansible.builtin.copy": {"content": "x", "dest": "{{ folder }}/{{ item }}", "mode": "0600"},
                "loop": ["f", "g"],
            },
            {
                "name": "Keep a secret",
                "ansible.builtin.copy": {"content": "hush", "dest": "{{ folder }}/s", "mode": "0600"},
                "no_log": True,
            },
            {"name": "Break", "ansible.builtin.command": {"argv": ["ls", "{{ folder }}/nothing"]}},
        ],
    },
]


def tell(folder: Path, playbook: list[dict]) -> str:
    """What is on the screen when a playbook has failed."""
    (folder / "play.yml").write_text(json.dumps(playbook))
    command = ["ansible-playbook", "-i", "localhost,", "-c", "local", str(folder / "play.yml"), "--diff"]
    done = subprocess.run(
        [*command, "-e", f"folder={folder}", "-e", f"ansible_python_interpreter={sys.executable}"],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    return done.stdout.replace(str(folder), "@")


@pytest.fixture(scope="module")
def story(tmp_path_factory) -> str:
    return tell(tmp_path_factory.mktemp("story"), PLAYBOOK)


def test_messages_are_text_and_not_data(story):
    assert "▸ Tell a story\n  first line\n\n  second: {a}\n" in story


def test_a_play_that_has_nothing_to_tell_is_not_mentioned(story):
    assert "A play with nothing to tell" not in story


def test_changes_are_one_line_each_and_items_have_their_name(story):
    # Seconds stand there when they were felt, on a busy computer.
    assert re.search(r"^  ✓ Make a file(  \d+ s)?$", story, re.MULTILINE)
    assert re.search(r"^  ✓ Make two(  \d+ s)?: g$", story, re.MULTILINE) and story.count("Make two") == 1


def test_diffs_are_shown_and_secrets_are_not(story):
    assert "+x" in story and "hush" not in story


def test_a_failure_says_what_the_command_said(story):
    assert "✗ Break" in story and "No such file" in story
    assert "localhost : ok=5 changed=3 unreachable=0 failed=1" in story


def test_a_setting_of_the_wrong_type_is_one_line_that_begins_with_what_is_wrong(tmp_path):
    role = {"name": "lightsout.aws.preflight", "tasks_from": "main"}
    wrong = {"preflight_project": "lab", "preflight_show": "perhaps", "lightsout_project": "lab"}
    shown = tell(tmp_path, [{"hosts": "localhost", "tasks": [{"ansible.builtin.import_role": role, "vars": wrong}]}])
    assert re.search(r"^  ✗ Check the settings: argument 'preflight_show' is of type str .*\n\n", shown, re.MULTILINE)


def test_nothing_is_drawn_over_what_somebody_types(tmp_path):
    asks = {"name": "Ask", "ansible.builtin.pause": {"prompt": "Who are you"}}
    play = [{"name": "Ask", "hosts": "localhost", "gather_facts": False, "tasks": [asks]}]
    (tmp_path / "play.yml").write_text(json.dumps(play))
    command = ["ansible-playbook", "-i", "localhost,", "-c", "local", str(tmp_path / "play.yml")]
    status, screen = converse(command, [("Who are you", "ada")], os.environ, str(ROOT), thinking=2.5)
    assert status == 0 and "\u2026" not in screen.partition("Who are you")[2].partition("ada")[0], screen
