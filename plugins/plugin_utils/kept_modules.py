# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Modules that are packed once and kept, on the controller and on targets (module_utils/kept_modules.py).

Core packs a module anew in each run, and the target compiles anew what it imports: that takes longer than most modules.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import hashlib
import io
import os
import time
import zipfile
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible.errors import AnsibleActionFail
from ansible.executor.interpreter_discovery import InterpreterDiscoveryRequiredError
from ansible.executor.module_common import _BuiltModule, _get_ansible_module_fqn, _get_shebang
from ansible.plugins.action import ActionBase
from ansible.release import __version__
from ansible.utils.collection_loader._collection_finder import _get_collection_path
from ansible_collections.lightsout.aws.plugins.module_utils.kept_modules import LONGEST_UNUSED

HELPERS = Path(__file__).resolve().parent.parent / "module_utils"
#: What comes before everything else on the target, and what runs batches there.
OPENER, RUNNER = HELPERS / "kept_modules.py", HELPERS / "batch_runner.py"

#: Where modules are kept packed, and what hosts answered.
SHELF = Path(C.ANSIBLE_HOME) / "lightsout"

#: How modules and controller write JSON to each other: core's default, which all of core's modules speak.
PROFILE = "legacy"


class CannotKeepError(AnsibleActionFail):
    """A module that is not packed as core's Python modules are."""


def put(file: Path, content: bytes) -> None:
    """Write a file to the shelf, whole or not at all, as other workers write too; what lay there for long goes."""
    SHELF.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = file.with_suffix(f".{os.getpid()}")
    part.touch(mode=0o600)
    part.write_bytes(content)
    part.rename(file)
    for old in SHELF.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - old.stat().st_mtime > LONGEST_UNUSED:
                old.unlink()


class KeptModules:
    """Modules in one zip, with the interpreter line for the target.

    A set of modules is packed once and kept in ``ANSIBLE_HOME/lightsout``.

    Attributes:
        fqns: the import name of each module.
        arguments: of ``open_library`` and ``run_module`` on the target: the zip, and a name for its content.
    """

    def __init__(
        self, action: ActionBase, modules: list[str], task_vars: dict[str, Any], with_runner: bool = False
    ) -> None:
        self._action, self._vars = action, task_vars
        self._paths = {name: self._path(name) for name in modules}
        self._added = [RUNNER] if with_runner else []
        self.fqns = {name: _get_ansible_module_fqn(path) for name, path in self._paths.items()}
        self._shebang = self._interpreter()
        kept = SHELF / f"modules-{self._key()}.zip"
        try:
            packed = kept.read_bytes()
        except OSError:
            packed = self._pack()
            put(kept, packed)
        self.arguments = f"{base64.b64encode(packed).decode()!r}, {hashlib.sha256(packed).hexdigest()[:24]!r}"

    def payload(self, last_lines: str) -> tuple[_BuiltModule, str]:
        """What core's ``_configure_module`` returns: a script that begins with OPENER and ends with these lines."""
        script = f"{self._shebang}\n{OPENER.read_text()}\n\n{last_lines}"
        built = _BuiltModule(
            b_module_data=script.encode(), module_style="new", shebang=self._shebang, serialization_profile=PROFILE
        )
        return built, next(iter(self._paths.values()))

    def _path(self, name: str) -> str:
        """The module's file."""
        action = self._action
        found = action._shared_loader_obj.module_loader.find_plugin_with_context(
            name, ".py", collection_list=action._task.collections
        )
        if not found.resolved:
            raise CannotKeepError(f"the module {name} was not found")
        return found.plugin_resolved_path

    def _interpreter(self) -> str:
        """Core's choice; where it must be discovered, core does so while it builds a module in its own way."""
        action, names = self._action, self._vars
        if action._task.delegate_to:
            names = names["ansible_delegated_vars"][action._task.delegate_to]
        try:
            local = bool(getattr(action._connection, "_remote_is_local", False))
            line, _ = _get_shebang("/usr/bin/python", names, action._templar, [], remote_is_local=local)
        except InterpreterDiscoveryRequiredError:
            line = self._built(next(iter(self._paths))).shebang
        return line

    def _key(self) -> str:
        """Changes with Ansible, with the set, and with any file of it."""
        files = [*map(Path, self._paths.values()), *self._added]
        for collection in sorted({".".join(fqn.split(".")[1:3]) for fqn in self.fqns.values()}):
            files += helpers_of(collection)
        parts = [__version__, *(f"{file} {file.stat().st_mtime_ns}" for file in files)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]

    def _built(self, name: str) -> _BuiltModule:
        """A module as core packs it."""
        return ActionBase._configure_module(self._action, name, {}, self._vars)[0]

    def _pack(self) -> bytes:
        """The union of the zips that core builds for each module; the same content makes the same zip."""
        content = {file.name: file.read_bytes() for file in self._added}
        for name in self._paths:
            with zipfile.ZipFile(io.BytesIO(zip_of(self._built(name)))) as one:
                content |= {entry: one.read(entry) for entry in one.namelist()}
        whole = io.BytesIO()
        with zipfile.ZipFile(whole, "w") as merged:
            for entry, data in sorted(content.items()):
                merged.writestr(zipfile.ZipInfo(entry), data, compress_type=zipfile.ZIP_DEFLATED)
        return whole.getvalue()


def helpers_of(collection: str) -> list[Path]:
    """The files that say which helpers a collection's modules have; none for core, whose version says it all.

    Of an installed collection that is its manifest, of one that is worked on its helpers themselves.
    """
    try:
        places = [Path(_get_collection_path(collection))]
    except ValueError:
        return []
    if collection == "lightsout.aws":  # its modules are built on these
        places.append(Path(_get_collection_path("amazon.aws")))
    files: list[Path] = []
    for place in places:
        manifest = place / "MANIFEST.json"
        files += [manifest] if manifest.exists() else sorted((place / "plugins/module_utils").rglob("*.py"))
    return files


def zip_of(built: _BuiltModule) -> bytes:
    """The zip within a payload of core's: an argument of the call at the end of its script."""
    with contextlib.suppress(SyntaxError, ValueError):
        for node in ast.walk(ast.parse(built.b_module_data)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "_ansiballz_main":
                given = {word.arg: ast.literal_eval(word.value) for word in node.keywords if word.arg != "date_time"}
                if given["profile"] != PROFILE:
                    raise CannotKeepError(
                        f"{given['ansible_module']} speaks the profile {given['profile']}, not {PROFILE}"
                    )
                return base64.b64decode(given["zip_data"])
    raise CannotKeepError("the module is not one of Ansible's Python modules: it needs a task of its own")
