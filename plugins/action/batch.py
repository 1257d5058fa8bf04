# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The controller's part of lightsout.aws.batch: what to send, and what the answers mean.

Built on ansible-core's own parts: ``_configure_module`` builds each module's payload, ``_execute_module`` carries ours
(pipelining, become, temporary files), and the modules run in core's own loader. Ours is the merging of payloads.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import io
import json
import os
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible.errors import AnsibleActionFail
from ansible.executor.interpreter_discovery import InterpreterDiscoveryRequiredError
from ansible.executor.module_common import _BuiltModule, _get_ansible_module_fqn, _get_shebang
from ansible.module_utils._internal import _event_utils
from ansible.module_utils.common.json import Direction, get_module_encoder
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.plugins.action.copy import _create_remote_copy_args, _create_remote_file_args
from ansible.release import __version__

KEYWORDS = {"name", "when", "notify", "no_log", "check_mode", "changed_when", "failed_when"}
COPY = {"ansible.builtin.copy", "ansible.legacy.copy", "copy"}
TEMPLATE = {"ansible.builtin.template", "ansible.legacy.template", "template"}
RUNNER = Path(__file__).resolve().parent.parent / "module_utils/batch_runner.py"

#: Options of a template that are about rendering; the others are about the file.
TEMPLATE_OPTIONS = {
    "block_end_string",
    "block_start_string",
    "comment_end_string",
    "comment_start_string",
    "trim_blocks",
    "lstrip_blocks",
    "variable_end_string",
    "variable_start_string",
}

#: Modules whose action plugin does no more than run the module.
PLAIN = {"ansible.builtin.command"}

#: How modules and controller write JSON to each other: core's default, which all of core's modules speak.
PROFILE = "legacy"


class Step:
    """One entry of ``tasks``: a module, its options and the keywords around it.

    Attributes:
        call: what the runner takes; None for a call that is not wanted.
    """

    call: dict[str, Any] | None = None

    def __init__(self, entry: Any, number: int) -> None:
        if not isinstance(entry, Mapping):
            raise AnsibleActionFail(f"tasks[{number}] is {entry!r}; it must be a task: a module name with its options")
        modules = [key for key in entry if key not in KEYWORDS]
        if len(modules) != 1:
            raise AnsibleActionFail(
                f"tasks[{number}] names {len(modules)} modules ({', '.join(modules)}); it must name one"
            )
        self.module: str = modules[0]
        self.args: dict[str, Any] = dict(entry[self.module] or {})
        self.name: str = str(entry.get("name") or self.module)
        self.wanted = boolean(entry.get("when", True), strict=False)
        self.no_log = boolean(entry.get("no_log", False), strict=False)
        notify = entry.get("notify") or []
        self.notify: list[str] = [notify] if isinstance(notify, str) else list(notify)
        self.check_mode: bool | None = None
        if "check_mode" in entry:
            self.check_mode = boolean(entry["check_mode"], strict=False)
        self.only_looks = not boolean(entry.get("changed_when", True), strict=False)
        self.may_fail = not boolean(entry.get("failed_when", True), strict=False)

    def put_aside(self) -> dict[str, Any]:
        """Everything but the options, which ``call`` holds, as data that a later task can be given."""
        return {key: value for key, value in vars(self).items() if key != "args"}

    @classmethod
    def taken_up(cls, aside: Mapping[str, Any]) -> Step:
        """The step that ``put_aside`` was called on."""
        step = cls.__new__(cls)
        vars(step).update(aside)
        return step


class ActionModule(ActionBase):
    """Runs ``tasks`` in one process on the target."""

    _supports_check_mode = True
    _supports_diff = True
    _supports_async = False
    _VALID_ARGS = frozenset({"tasks", "defer", "deferred"})

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The merged result; ``results`` holds each call's own."""
        super().run(tmp, task_vars)
        self._vars = task_vars or {}
        steps = self._steps()
        if boolean(self._task.args.get("defer", False), strict=False):
            return {"changed": False, "deferred": [step.put_aside() for step in steps]}
        answers = iter(self._ask([step.call for step in steps if step.call]))

        results: list[dict[str, Any]] = []
        for step in steps:
            said = {"name": step.name, "module": step.module}
            if not step.wanted:
                results.append({**said, "changed": False, "skipped": True})
                continue
            answer = next(answers, None)
            if answer is None:  # an earlier call failed
                break
            self._judge(step, answer)
            if step.no_log:
                answer = self._censored(answer)
            results.append({"changed": False, **answer, **said})
        return self._summary(steps, results)

    def _steps(self) -> list[Step]:
        """The calls of this task, each ready to be sent: put aside by earlier tasks, or its own."""
        if "deferred" in self._task.args:
            earlier = [result for result in self._task.args["deferred"] if "deferred" in result]
            return [Step.taken_up(aside) for result in earlier for aside in result["deferred"]]
        steps = [Step(entry, number) for number, entry in enumerate(self._task.args.get("tasks") or [])]
        for step in steps:
            step.call = {**self._call(step), "may_fail": step.may_fail} if step.wanted else None
        return steps

    def _ask(self, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """One execution on the target; the results of the calls, in order."""
        if not calls:
            return []
        self._calls = calls
        whole = self._execute_module(module_name="lightsout.aws.batch", module_args={}, task_vars=self._vars)
        if "answers" not in whole:
            raise AnsibleActionFail(result=whole, message=str(whole.get("msg", "the batch could not be run")))
        return [self._result(answer) for answer in whole["answers"]]

    def _result(self, answer: dict[str, Any]) -> dict[str, Any]:
        """A call's answer, read by the parser that core uses for every module."""
        if "result" in answer:
            return answer["result"]
        heard = {"rc": answer["rc"], "stdout": answer["stdout"], "stderr": answer["stderr"]}
        parsed = self._parse_returned_data({**heard, "stdout_lines": heard["stdout"].splitlines()}, PROFILE)
        parsed.remove_internal_keys()
        result = parsed.as_result_dict(for_round_trip=True)
        if not result.get("failed"):
            result.pop("failed", None)
        elif parsed.exception and not result.get("msg"):
            result["msg"] = _event_utils.format_event_brief_message(parsed.exception.event)
        added = answer.get("add", {})
        if added.get("diff") and not result.get("failed"):
            result["diff"] = added["diff"]
        return {**added, **result}

    def _summary(self, steps: list[Step], results: list[dict[str, Any]]) -> dict[str, Any]:
        """What the task as a whole reports, and which handlers it wakes."""
        handlers: dict[str, None] = {}
        for step, result in zip(steps, results, strict=False):
            if result.get("changed"):
                handlers |= dict.fromkeys(step.notify)
        # The task executor reads this after we return; each call wakes its own handlers and no others.
        self._task.notify = [*(self._task.notify or []), *handlers]
        whole: dict[str, Any] = {
            "changed": any(result.get("changed") for result in results),
            "results": results,
            "diff": [d for result in results for d in self._diffs(result)],
            "warnings": [w for result in results for w in result.pop("warnings", [])],
            "deprecations": [w for result in results for w in result.pop("deprecations", [])],
        }
        facts = {key: value for result in results for key, value in result.get("ansible_facts", {}).items()}
        if facts:
            whole["ansible_facts"] = facts
        if results and results[-1].get("failed"):
            last = results[-1]
            whole |= {"failed": True, "msg": f"{last['name']}: {last.get('msg', 'failed')}"}
            whole |= {key: last[key] for key in ("stderr", "stdout", "rc", "exception") if key in last}
        return whole

    @staticmethod
    def _judge(step: Step, answer: dict[str, Any]) -> None:
        """Apply ``failed_when`` and ``changed_when`` as core does: not to what was skipped."""
        if answer.get("skipped"):
            return
        if step.may_fail:
            answer.pop("failed", None)
            answer["failed_when_result"] = False
        if step.only_looks:
            answer |= {"changed": False, "changed_when_result": False}

    @staticmethod
    def _diffs(result: dict[str, Any]) -> list[dict[str, Any]]:
        """A call's diff as a list; callbacks print those of changed calls only."""
        diff = result.get("diff") or []
        return [] if not result.get("changed") else diff if isinstance(diff, list) else [diff]

    @staticmethod
    def _censored(answer: dict[str, Any]) -> dict[str, Any]:
        """What may be said of a call with ``no_log``."""
        kept = {key: answer[key] for key in ("changed", "failed", "skipped") if key in answer}
        return {**kept, "censored": "the output has been hidden due to the fact that 'no_log: true' was specified"}

    # -- what is sent -------------------------------------------------------------------------------------------
    def _configure_module(self, module_name, module_args, task_vars):
        """Where core asks for a module's payload: ours holds every module that the calls need, and the calls."""
        calls = [dict(call) for call in self._calls]
        modules = Package(self, sorted({name for call in calls for name in (call["module"], call.get("file")) if name}))
        for call in calls:
            call["module"] = modules.fqns[call["module"]]
            if "file" in call:
                call["file"] = modules.fqns[call["file"]]
        sent = json.dumps(calls)
        payload = (
            f"{modules.shebang}\n{RUNNER.read_text()}\n\n"
            f"main({modules.zip_base64!r}, {modules.key!r}, {PROFILE!r}, json.loads({sent!r}))\n"
        )
        built = _BuiltModule(
            b_module_data=payload.encode(), module_style="new", shebang=modules.shebang, serialization_profile=PROFILE
        )
        return built, str(RUNNER)

    def _call(self, step: Step) -> dict[str, Any]:
        """A step as the runner takes it."""
        if step.module in COPY | TEMPLATE:
            return self._copy(step)
        loader = self._shared_loader_obj.action_loader
        if step.module not in PLAIN and loader.find_plugin_with_context(step.module).resolved:
            raise AnsibleActionFail(f"{step.name}: {step.module} has an action plugin and needs a task of its own")
        return {"module": step.module, "args": self._encoded(step, step.module, step.args)}

    def _copy(self, step: Step) -> dict[str, Any]:
        """A copy or template: the content goes along, the target compares."""
        args = dict(step.args)
        basename: str | None = None
        if not args.get("dest"):
            raise AnsibleActionFail(f"{step.name}: dest is required")
        if step.module in TEMPLATE:
            basename = Path(args["src"]).name
            content = self._rendered(step, args)
        elif (content := args.pop("content", None)) is not None:
            content = (json.dumps(content) if isinstance(content, (dict, list)) else str(content)).encode()
        elif boolean(args.get("remote_src", False), strict=False):
            return {"module": "ansible.builtin.copy", "args": self._encoded(step, "ansible.builtin.copy", args)}
        else:
            source = Path(self._loader.get_real_file(self._find_needle("files", args["src"])))
            if source.is_dir():
                raise AnsibleActionFail(f"{step.name}: {source} is a folder; copying folders needs a task of its own")
            basename, content = source.name, source.read_bytes()
            if args.get("mode") == "preserve":
                args["mode"] = f"0{stat.S_IMODE(source.stat().st_mode):03o}"
        args.pop("src", None)
        checksum = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        follow = boolean(args.get("follow", False), strict=False)
        written = {**_create_remote_copy_args(args), "follow": follow, "_original_basename": basename}
        written.setdefault("checksum", checksum)
        mended = {**_create_remote_file_args(args), "_original_basename": basename, "recurse": False, "state": "file"}
        return {
            "module": "ansible.builtin.copy",
            "args": self._encoded(step, "ansible.legacy.copy", written),
            "file": "ansible.builtin.file",
            "file_args": self._encoded(step, "ansible.legacy.file", mended),
            "copy": {
                "content": base64.b64encode(content).decode(),
                "checksum": checksum,
                "dest": args["dest"],
                "basename": basename,
                "suffix": Path(args["dest"]).suffix,
                "force": boolean(args.get("force", True), strict=False),
                "follow": follow,
                "check": self._checks(step),
                "diff": self._task.diff,
            },
        }

    def _rendered(self, step: Step, args: dict[str, Any]) -> bytes:
        """The template's text, by core's own lookup: search path, includes and ``ansible_managed`` are core's."""
        lookup = self._shared_loader_obj.lookup_loader.get(
            "ansible.builtin.template", loader=self._loader, templar=self._templar
        )
        options = {key: args.pop(key) for key in list(args) if key in TEMPLATE_OPTIONS}
        (text,) = lookup.run([args["src"]], variables=self._vars, **options)
        return str(text).encode()

    def _checks(self, step: Step) -> bool:
        """Whether a call only looks what it would change."""
        return self._task.check_mode if step.check_mode is None else step.check_mode

    def _encoded(self, step: Step, module: str, args: dict[str, Any]) -> str:
        """The JSON that the module reads: its options and what core adds to every module's."""
        whole = dict(args)
        self._update_module_args(module, whole, self._vars)
        whole["_ansible_check_mode"] = self._checks(step)
        return json.dumps(
            {"ANSIBLE_MODULE_ARGS": whole}, cls=get_module_encoder(PROFILE, Direction.CONTROLLER_TO_MODULE)
        )


class Package:
    """The modules of a batch in one zip with the interpreter line for the target.

    A set of modules is packed once and kept in ``ANSIBLE_HOME/lightsout``: packing takes longer than running them.

    Attributes:
        fqns: the import name of each module.
        zip_base64: the zip; ``key`` names its content.
        shebang: the line that core would put above a module for this target.
    """

    def __init__(self, action: ActionModule, modules: list[str]) -> None:
        self._action = action
        self._paths = {name: self._path(name) for name in modules}
        self.fqns = {name: _get_ansible_module_fqn(path) for name, path in self._paths.items()}
        self.shebang = self._interpreter()
        kept = Path(C.ANSIBLE_HOME) / "lightsout" / f"batch-{self._key()}.zip"
        try:
            packed = kept.read_bytes()
        except OSError:
            packed = self._pack()
            kept.parent.mkdir(parents=True, exist_ok=True)
            # Whole or not at all: other workers pack the same set at the same time.
            part = kept.with_suffix(f".{os.getpid()}")
            part.write_bytes(packed)
            part.rename(kept)
        self.zip_base64 = base64.b64encode(packed).decode()
        self.key = hashlib.sha256(packed).hexdigest()[:24]

    def _path(self, name: str) -> str:
        """The module's file."""
        found = self._action._shared_loader_obj.module_loader.find_plugin_with_context(name, ".py")
        if not found.resolved:
            raise AnsibleActionFail(f"the module {name} was not found")
        return found.plugin_resolved_path

    def _interpreter(self) -> str:
        """Core's choice; where it must be discovered, core does so while it builds a module in its own way."""
        action = self._action
        try:
            local = bool(getattr(action._connection, "_remote_is_local", False))
            line, _ = _get_shebang("/usr/bin/python", action._vars, action._templar, [], remote_is_local=local)
        except InterpreterDiscoveryRequiredError:
            line = ActionBase._configure_module(action, next(iter(self._paths)), {}, action._vars)[0].shebang
        return line

    def _key(self) -> str:
        """Changes with Ansible, with the set, and with any of its files."""
        parts = [__version__, *(f"{p} {Path(p).stat().st_mtime_ns}" for p in self._paths.values())]
        ours = [p for p in self._paths.values() if "/lightsout/" in p]
        if ours:  # files under development: their helpers may change while they do not
            parts += [f"{p} {p.stat().st_mtime_ns}" for p in sorted(RUNNER.parent.glob("*.py"))]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]

    def _pack(self) -> bytes:
        """The union of the zips that core builds for each module."""
        whole = io.BytesIO()
        with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as merged:
            seen: set[str] = set()
            for name in self._paths:
                built = ActionBase._configure_module(self._action, name, {}, self._action._vars)[0]
                with zipfile.ZipFile(io.BytesIO(self._zip_of(built))) as one:
                    for entry in one.namelist():
                        if entry not in seen:
                            seen.add(entry)
                            merged.writestr(entry, one.read(entry))
        return whole.getvalue()

    @staticmethod
    def _zip_of(built: _BuiltModule) -> bytes:
        """The zip within a payload of core's: an argument of the call at the end of its script."""
        for node in ast.walk(ast.parse(built.b_module_data)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "_ansiballz_main":
                given = {word.arg: ast.literal_eval(word.value) for word in node.keywords if word.arg != "date_time"}
                if given["profile"] != PROFILE:
                    raise AnsibleActionFail(
                        f"{given['ansible_module']} speaks the profile {given['profile']}, not {PROFILE}"
                    )
                return base64.b64decode(given["zip_data"])
        raise AnsibleActionFail("the module is not one of Ansible's Python modules: it needs a task of its own")
