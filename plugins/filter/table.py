# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Lists of things as aligned columns of text."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: table
version_added: 0.1.0
short_description: Aligned columns from a list of dictionaries
description:
  - Turns a list of dictionaries into lines of text with a heading, ready for M(ansible.builtin.debug).
positional: columns
options:
  _input:
    description: The rows.
    type: list
    elements: dict
    required: true
  columns:
    description:
      - The columns from left to right. The keys are the headings, the values say which member of a row goes there.
      - A dot leads into a dictionary within the row, for example C(price.hour).
    type: dict
    required: true
author:
  - The Lightsout authors (@lightsout)
"""

EXAMPLES = r"""
- name: Show the machines
  ansible.builtin.debug:
    msg: "{{ project.machines | lightsout.aws.table({'machine': 'name', 'state': 'state', 'USD/h': 'price.hour'}) }}"
"""

RETURN = r"""
_value:
  description: The heading and a line for each row. Empty when there are no rows.
  type: list
  elements: str
"""


def cell(row: dict[str, Any], path: str) -> str:
    """One member of a row as text; nothing where it is missing."""
    value: Any = row
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) >= 1 else f"{value:.4g}"
    return "-" if value is None or value == "" else str(value)


def table(rows: list[dict[str, Any]], columns: dict[str, str]) -> list[str]:
    """The rows as aligned text.

    Raises:
        AnsibleFilterError: the arguments are not a list of dictionaries and a dictionary.
    """
    if not isinstance(columns, dict) or not all(isinstance(row, dict) for row in rows):
        raise AnsibleFilterError("lightsout.aws.table needs a list of dictionaries and a dictionary of columns")
    if not rows:
        return []
    lines = [list(columns)] + [[cell(row, path) for path in columns.values()] for row in rows]
    widths = [max(len(line[number]) for line in lines) for number in range(len(columns))]
    return ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Name and function of each."""
        return {"table": table}
