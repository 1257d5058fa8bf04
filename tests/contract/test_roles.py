"""Every role keeps the promises of the house: interface, documentation and scenario are there and agree."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tools import role_docs

ROOT = role_docs.ROOT
ROLES = sorted(p for p in (ROOT / "roles").iterdir() if p.is_dir())
TYPES = {"str": str, "path": str, "int": int, "float": (int, float), "bool": bool, "list": list, "dict": dict}

role = pytest.mark.parametrize("role", ROLES, ids=lambda p: p.name)


def load(path: Path) -> dict:
    """A YAML mapping, empty where the file is absent or empty."""
    return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}


@role
def test_role_has_the_same_skeleton_as_its_siblings(role: Path) -> None:
    for part in ("README.md", "defaults/main.yml", "meta/argument_specs.yml", "meta/main.yml", "tasks/main.yml"):
        assert (role / part).is_file(), f"{role.name} has no {part}"


@role
def test_spec_and_defaults_agree_by_key_value_and_type(role: Path) -> None:
    defaults = load(role / "defaults/main.yml")
    options = {}
    for entry in role_docs.argument_specs(role).values():
        options |= entry.get("options") or {}
    documented = {name: option["default"] for name, option in options.items() if option.get("default") is not None}
    public = {name: value for name, value in defaults.items() if not name.startswith("__")}
    assert set(documented) == {n for n, v in public.items() if v is not None}
    assert documented == {n: v for n, v in public.items() if v is not None}
    for name, value in documented.items():
        if isinstance(value, str) and "{{" in value:
            continue  # computed: its type is known only in a run
        assert isinstance(value, TYPES[options[name]["type"]]), f"{name} is no {options[name]['type']}"


@role
def test_variables_carry_the_role_name_or_are_project_wide(role: Path) -> None:
    names = set(load(role / "defaults/main.yml"))
    for entry in role_docs.argument_specs(role).values():
        names |= set(entry.get("options") or {})
    strangers = [n for n in names if not n.startswith((f"{role.name}_", f"__{role.name}_", "lightsout_"))]
    # A role that reads a neighbour's documented variable says so in its spec; nothing else may appear.
    allowed = {"preflight": ("ec2_machine_",)}.get(role.name, ())
    assert [n for n in strangers if not n.startswith(allowed or ("\0",))] == []


@role
def test_every_option_is_described(role: Path) -> None:
    for entry, spec in role_docs.argument_specs(role).items():
        assert spec.get("short_description"), f"{role.name}/{entry} has no short_description"
        for name, option in (spec.get("options") or {}).items():
            assert option.get("description"), f"{name} has no description"
            assert option.get("type"), f"{name} has no type"


@role
def test_readme_shows_the_variables_as_they_are(role: Path) -> None:
    assert (role / "README.md").read_text() == role_docs.rendered(role), "stale: run `make docs`"


@role
def test_role_has_a_molecule_scenario(role: Path) -> None:
    tested = {
        line.strip().removeprefix("# tests:").strip()
        for scenario in (ROOT / "molecule").glob("*/molecule.yml")
        for line in scenario.read_text().splitlines()
        if line.strip().startswith("# tests:")
    }
    names = {name.strip() for line in tested for name in line.split(",")} | {
        p.parent.name for p in (ROOT / "molecule").glob("*/molecule.yml")
    }
    assert role.name in names, f"{role.name}: no scenario has its name or a line `# tests: {role.name}`"
