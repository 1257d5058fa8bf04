# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Knows a Jupyter password's hash when it sees one."""

from __future__ import annotations

from typing import Any

from ansible_collections.lightsout.aws.plugins.filter.jupyter_hash import is_jupyter_hash


class TestModule:
    """Ansible finds tests here."""

    def tests(self) -> dict[str, Any]:
        """Name to function."""
        return {"jupyter_hash": is_jupyter_hash}
