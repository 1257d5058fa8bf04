"""A module's documentation is its interface: options, types, choices and defaults are those that it really has."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args
from ansible.plugins.loader import fragment_loader, init_plugin_loader
from ansible.utils.plugin_docs import add_fragments
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path.stem for path in (ROOT / "plugins/modules").glob("[a-z]*.py"))
PACKAGE = "ansible_collections.lightsout.aws.plugins.modules"

module = pytest.mark.parametrize("name", MODULES)


class Recorded(Exception):
    """Ends a module where it has named its options."""


def blocks(name: str) -> dict[str, str]:
    """DOCUMENTATION, EXAMPLES and RETURN as they stand in the file."""
    tree = ast.parse((ROOT / f"plugins/modules/{name}.py").read_text())
    assigned = [node for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)]
    return {node.targets[0].id: node.value.value for node in assigned}


def documented(name: str) -> dict[str, Any]:
    """The options with those of the fragments."""
    init_plugin_loader([str(ROOT / "collections")])
    document = yaml.safe_load(blocks(name)["DOCUMENTATION"])
    add_fragments(document, name, fragment_loader, is_module=True)
    return document["options"]


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


@module
def test_documentation_and_argument_spec_agree(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    in_code = {key: shape(option, "options") for key, option in accepted(name, monkeypatch).items()}
    in_words = {key: shape(option, "suboptions") for key, option in documented(name).items()}
    assert set(in_words) == set(in_code)
    assert in_words == in_code


@module
def test_examples_use_options_that_there_are(name: str) -> None:
    options = documented(name)
    known = set(options) | {alias for option in options.values() for alias in option.get("aliases") or []}
    tasks = yaml.safe_load(blocks(name)["EXAMPLES"])
    used = [task[key] for task in tasks for key in task if key == f"lightsout.aws.{name}"]
    assert used, "no example uses the module"
    for arguments in used:
        assert set(arguments or {}) <= known


@module
def test_returned_values_are_described(name: str) -> None:
    for key, value in yaml.safe_load(blocks(name)["RETURN"]).items():
        assert {"description", "type", "returned"} <= set(value), key


@module
def test_modules_reach_the_defaults_group(name: str) -> None:
    if issubclass(AnsibleAWSModule, object) and "AnsibleAWSModule(" in (ROOT / f"plugins/modules/{name}.py").read_text():
        group = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["action_groups"]["aws"]
        assert name in group
