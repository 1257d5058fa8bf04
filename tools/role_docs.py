"""Writes the variable tables of the roles' READMEs from their argument specs, the single source of both.

Run by ``make docs``; ``tests/contract`` fails while a README is stale.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
START, END = "<!-- variables:start -->", "<!-- variables:end -->"


def roles() -> list[Path]:
    """The folders of all roles, by name."""
    return sorted(spec.parent.parent for spec in (ROOT / "roles").glob("*/meta/argument_specs.yml"))


def argument_specs(role: Path) -> dict[str, Any]:
    """The role's entry points and their options, as in ``meta/argument_specs.yml``."""
    return yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]


def as_text(description: str | list[str]) -> str:
    """A description in Ansible's markup as one line of Markdown, safe within a table."""
    text = " ".join(description) if isinstance(description, list) else description
    text = re.sub(r"\b[CVOIBE]\(([^)]*)\)", r"`\1`", text)
    text = re.sub(r"\bM\(([^)]*)\)", r"`\1`", text)
    return " ".join(text.split()).replace("|", "\\|")


def kind(option: dict[str, Any]) -> str:
    """The type as people write it: ``list of str``, ``int``, ``str: a, b or c``."""
    name = option.get("type", "str")
    if name == "list" and option.get("elements"):
        name = f"list of {option['elements']}"
    if option.get("choices"):
        name += ": " + ", ".join(f"`{choice}`" for choice in option["choices"])
    return name


def default(option: dict[str, Any]) -> str:
    """The default as YAML would show it; required options have none."""
    if option.get("required"):
        return "**required**"
    value = option.get("default")
    if value is None:
        return ""
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    shown = " ".join(shown.split()).replace("|", "\\|")
    return f"`{shown}`" if shown else '`""`'


def table(role: Path) -> str:
    """The Markdown between the markers: one table for each entry point."""
    parts = []
    specs = argument_specs(role)
    for entry, spec in specs.items():
        if len(specs) > 1:
            parts += [f"### `{entry}`: {as_text(spec.get('short_description', ''))}", ""]
        rows = [
            f"| `{name}` | {kind(option)} | {default(option)} | {as_text(option.get('description', ''))} |"
            for name, option in (spec.get("options") or {}).items()
        ]
        header = ["| variable | type | default | meaning |", "|---|---|---|---|"]
        parts += [*header, *rows, ""] if rows else ["No variables.", ""]
    return "\n".join([START, "<!-- written by `make docs` from meta/argument_specs.yml -->", "", *parts, END])


def rendered(role: Path) -> str:
    """The README as it should be.

    Raises:
        ValueError: the README lacks the two markers.
    """
    text = (role / "README.md").read_text()
    if START not in text or END not in text:
        raise ValueError(f"{role.name}/README.md lacks the lines {START} and {END}")
    before, rest = text.split(START, 1)
    return before + table(role) + rest.split(END, 1)[1]


def main() -> int:
    """Write every README; say which changed."""
    for role in roles():
        readme = role / "README.md"
        wanted = rendered(role)
        if readme.read_text() != wanted:
            readme.write_text(wanted)
            print(f"roles/{role.name}/README.md: variables renewed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
