"""A module's documentation is its interface: options, types, choices and defaults are those that it really has."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path.stem for path in (ROOT / "plugins/modules").glob("[a-z]*.py"))
PACKAGE = "ansible_collections.lightsout.aws.plugins.modules"

#: What an action plugin does by itself has a module's documentation and no code there.
CODED = [name for name in MODULES if "def main(" in (ROOT / f"plugins/modules/{name}.py").read_text()]

module = pytest.mark.parametrize("name", MODULES)


class Recorded(Exception):
    """Ends a module where it has named its options."""


@pytest.fixture(scope="module")
def pages() -> dict[str, dict[str, Any]]:
    """What ansible-doc shows of each module, options of fragments included."""
    command = [Path(sys.executable).with_name("ansible-doc"), "--json", "-t", "module"]
    command += [f"lightsout.aws.{name}" for name in MODULES]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {name.rpartition(".")[2]: page for name, page in json.loads(done.stdout).items()}


def accepted(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The options that the module hands to Ansible."""
    seen: dict[str, Any] = {}

    def record(_self: Any, argument_spec: dict[str, Any], **_rest: Any) -> None:
        seen.update(argument_spec)
        raise Recorded

    monkeypatch.setattr(basic.AnsibleModule, "__init__", record)
    with patch_module_args({}), pytest.raises(Recorded):
        importlib.import_module(f"{PACKAGE}.{name}").main()
    return seen


def shape(option: dict[str, Any], suboptions: str) -> dict[str, Any]:
    """What documentation and code must agree on."""
    kind = option.get("type", "str")
    default = option.get("default")
    if kind == "bool" and default is not None:
        default = str(default).lower() in ("true", "yes", "1")
    return {
        "type": kind,
        "elements": option.get("elements"),
        "required": bool(option.get("required", False)),
        "choices": [str(choice) for choice in option.get("choices") or []],
        "default": default,
        "aliases": sorted(option.get("aliases") or []),
        "options": {key: shape(inner, suboptions) for key, inner in (option.get(suboptions) or {}).items()},
    }


@pytest.mark.parametrize("name", CODED)
def test_documentation_and_argument_spec_agree(name: str, pages, monkeypatch: pytest.MonkeyPatch) -> None:
    in_code = {key: shape(option, "options") for key, option in accepted(name, monkeypatch).items()}
    in_words = {key: shape(option, "suboptions") for key, option in pages[name]["doc"]["options"].items()}
    assert in_words == in_code


@module
def test_examples_use_options_that_there_are(name: str, pages) -> None:
    options = pages[name]["doc"]["options"]
    known = set(options) | {alias for option in options.values() for alias in option.get("aliases") or []}
    tasks = yaml.safe_load(pages[name]["examples"])
    used = [task[key] for task in tasks for key in task if key == f"lightsout.aws.{name}"]
    assert used, "no example uses the module"
    for arguments in used:
        assert set(arguments or {}) <= known


@module
def test_what_is_returned_is_described(name: str, pages) -> None:
    for key, value in pages[name]["return"].items():
        assert {"description", "type", "returned"} <= set(value), key


@module
def test_modules_that_talk_to_aws_reach_its_defaults_group(name: str) -> None:
    group = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["action_groups"]["aws"]
    assert ("AnsibleAWSModule(" in (ROOT / f"plugins/modules/{name}.py").read_text()) is (name in group)
