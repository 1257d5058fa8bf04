# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Paths as the user means them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def from_here(path: str) -> str:
    """A path on this computer, relative to the folder in which the command was typed; empty stays empty.

    Modules that run here run in the playbook's folder, and would take it from there.
    """
    return str(Path(path).expanduser().absolute()) if path else ""


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[[str], str]]:
        """Name to function."""
        return {"from_here": from_here}
