# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Core's action for modules that have none of their own; modules are kept instead of packed and compiled anew.

ansible.cfg (``action_plugins``) puts it in the place of core's, as core provides for. What a module is given and what
it answers is the same; only how it gets there differs. Whatever is not one of Ansible's Python modules goes core's way.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

from ansible import constants as C
from ansible._internal._ansiballz._builder import ExtensionManager
from ansible.module_utils.common.json import Direction, get_module_encoder
from ansible.plugins.action import ActionBase
from ansible.utils.vars import merge_hash
from ansible_collections.lightsout.aws.plugins.plugin_utils.kept_modules import PROFILE, CannotKeepError, KeptModules


class ActionModule(ActionBase):
    """Runs the module of its task."""

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """As core's, whose class cannot be imported: ours has its name."""
        result = super().run(tmp, task_vars)
        wrap_async = self._task.async_val
        result = merge_hash(result, self._execute_module(task_vars=task_vars, wrap_async=wrap_async))
        if self._task.action in C._ACTION_SETUP:  # facts are not for -v
            result["_ansible_verbose_override"] = True
        if not wrap_async:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    def _configure_module(self, module_name: str, module_args: dict[str, Any], task_vars: dict[str, Any]) -> Any:
        """Where core asks for a module's payload."""
        if self._keeps(task_vars):
            with contextlib.suppress(CannotKeepError, ValueError):
                kept = KeptModules(self, [module_name], task_vars)
                encoder = get_module_encoder(PROFILE, Direction.CONTROLLER_TO_MODULE)
                params = json.dumps({"ANSIBLE_MODULE_ARGS": module_args}, cls=encoder)
                words = f"{kept.arguments}, {PROFILE!r}, {kept.fqns[module_name]!r}, {params!r}"
                return kept.payload(f"run_module({words})\n")
        return super()._configure_module(module_name, module_args, task_vars)

    def _keeps(self, task_vars: dict[str, Any]) -> bool:
        """Not where core's wrapper does more than to run the module, or somebody wants to see it."""
        return not (
            self._task.async_val
            or C.DEFAULT_KEEP_REMOTE_FILES
            or C.config.get_config_value("PYTHON_MODULE_RLIMIT_NOFILE", variables=task_vars)
            or ExtensionManager.create(task_vars=task_vars).extension_names
            or ".ps1" in self._connection.module_implementation_preferences
        )
