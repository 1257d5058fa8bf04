# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The controller's part of lightsout.aws.batch: what to send, and what the answers mean.

Built on ansible-core's own parts: ``_configure_module`` builds each module's payload, ``_execute_module`` carries ours
(pipelining, become, temporary files), and the modules run in core's own loader. Ours is what goes between.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import stat
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible._internal._templating._template_vars import generate_ansible_template_vars
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils._internal import _event_utils
from ansible.module_utils.common.json import Direction, get_module_encoder
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.plugins.action.copy import _create_remote_copy_args, _create_remote_file_args
from ansible.release import __version__
from ansible.template import Templar, trust_as_template
from ansible.vars.clean import namespace_facts
from ansible_collections.lightsout.aws.plugins.plugin_utils.kept_modules import PROFILE, SHELF, KeptModules, put
from ansible_collections.lightsout.aws.plugins.plugin_utils.kept_templates import KeptEnvironment, kept

KEYWORDS = {"notify", "no_log", "check_mode", "changed_when", "failed_when", "first"}
AROUND = {"name", "when", "loop"} | KEYWORDS
COPY = {"ansible.builtin.copy", "ansible.legacy.copy", "copy"}
TEMPLATE = {"ansible.builtin.template", "ansible.legacy.template", "template"}

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


def holds(condition: Any, templar: Templar) -> bool:
    """What ``when`` says: a condition, or a list of which all must hold."""
    return all(map(templar.evaluate_conditional, condition if isinstance(condition, list) else [condition]))


def failure_among(results: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The first result that says that its call failed."""
    return next((result for result in results if result.get("failed")), None)


class Step:
    """One call of ``look`` or ``tasks``: a module, its options and the keywords around it.

    Attributes:
        chain: calls of one chain run one after another; chains run side by side.
        args: the module's options; empty for a call that is not wanted, whose templates need not make sense.
        call: what the runner takes; None for a call that is not wanted.
        changed: what it answered.
    """

    call: dict[str, Any] | None = None
    changed: bool = False

    def __init__(self, entry: Any, place: str, templar: Templar, chain: str = "") -> None:
        self.chain = chain
        if not isinstance(entry, Mapping):
            raise AnsibleActionFail(f"{place} is {entry!r}; it must be a task: a module name with its options")
        modules = [key for key in entry if key not in AROUND]
        if len(modules) != 1:
            raise AnsibleActionFail(f"{place} names {len(modules)} modules ({', '.join(modules)}); it must name one")
        self.module: str = modules[0]
        self.name = str(templar.template(entry.get("name", self.module)))
        self.wanted = holds(entry.get("when", True), templar)
        words = {key: templar.template(entry[key]) for key in KEYWORDS & set(entry) if self.wanted}
        self.args: dict[str, Any] = dict(templar.template(entry[self.module]) or {}) if self.wanted else {}
        self.no_log = boolean(words.get("no_log", False), strict=False)
        notify = words.get("notify") or []
        self.notify: list[str] = [notify] if isinstance(notify, str) else list(notify)
        self.check_mode: bool | None = None
        if "check_mode" in words:
            self.check_mode = boolean(words["check_mode"], strict=False)
        self.only_looks = not boolean(words.get("changed_when", True), strict=False)
        self.may_fail = not boolean(words.get("failed_when", True), strict=False)
        self.first = boolean(words.get("first", False), strict=False)


class ActionModule(ActionBase):
    """Runs ``tasks`` in one process on the target."""

    _supports_check_mode = True
    _supports_diff = True
    _supports_async = False
    _VALID_ARGS = frozenset({"problems", "look", "refuse", "hold", "tasks", "at_once", "role_paths"})

    @classmethod
    def finalize_task_arg(cls, name: str, value: Any, templar: Any, context: Any) -> Any:
        """Leave templates in the calls for later: they may speak of what is ``seen``."""
        if name in {"problems", "refuse", "hold"}:
            return value
        if name in {"look", "tasks"}:
            return cls._listed(value, templar)
        return super().finalize_task_arg(name, value, templar, context)

    @classmethod
    def _listed(cls, value: Any, templar: Any) -> Any:
        """The calls of a list that is a template, such as the name of a variable; and of its blocks that are."""
        entries = templar.resolve_to_container(value) if isinstance(value, str) else value
        if not isinstance(entries, list):
            return entries
        return [
            {**entry, "block": cls._listed(entry["block"], templar)}
            if isinstance(entry, Mapping) and isinstance(entry.get("block"), str)
            else entry
            for entry in entries
        ]

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The merged result; ``results`` holds each call's own, ``seen`` the answers to ``look`` by name."""
        super().run(tmp, task_vars)
        try:
            return self._run(task_vars)
        finally:
            KeptEnvironment.keep()

    def _run(self, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Look, and do what is to be done."""
        self._vars = dict(task_vars or {})
        roles = self._task.args.get("role_paths") or []
        self._vars["ansible_search_path"] = [*roles, *self._task.get_search_path()]

        if problems := self._lines("problems"):
            return {"failed": True, "msg": "\n".join(problems)}
        looks = self._steps("look")
        memory = Memory(self, looks)
        steps = self._foreseen(looks, memory.answers) if looks else self._steps("tasks")
        answers, digest, done = self._ask(looks, memory.digest, steps or [])
        if looks:
            answers = self._answers(looks, answers)
            if failure_among(answers):
                return self._summary(looks, answers)
            self._learn(looks, answers)
        if steps is None or done is None:  # nothing was done: what was seen is not what was foreseen
            memory.keep(answers, digest)
            if refusals := self._lines("refuse"):
                return {**self._told(looks, answers), "failed": True, "msg": "\n".join(refusals)}
            if self._holds():
                return {**self._told(looks, answers), "held": True}
            steps = self._steps("tasks")
            now, digest, done = self._ask([], "", steps, afterwards=looks)
            now = self._answers(looks, now)
            if digest and not failure_among(now):
                memory.keep(now, digest)
        work = self._answers(steps, done or [], hide=True)
        return {**self._told(looks, answers), **self._summary(steps, work), "held": False}

    # -- looking ------------------------------------------------------------------------------------------------
    def _foreseen(self, looks: list[Step], answers: list[dict[str, Any]]) -> list[Step] | None:
        """The work, told from what an earlier run saw: if the machine is still so, one exchange is enough."""
        with contextlib.suppress(AnsibleError):  # told from the truth, it may make sense
            if answers:
                self._learn(looks, answers)
                if not self._lines("refuse") and not self._holds():
                    return self._steps("tasks")
        return None

    def _learn(self, looks: list[Step], answers: list[dict[str, Any]]) -> None:
        """From here on templates know what was seen, facts included."""
        self._vars["seen"] = {answer["name"]: answer for answer in answers}
        facts = namespace_facts(self._facts(answers))["ansible_facts"]
        self._vars["ansible_facts"] = {**self._vars.get("ansible_facts", {}), **facts}

    def _told(self, looks: list[Step], answers: list[dict[str, Any]]) -> dict[str, Any]:
        """What the result says of the looking."""
        if not looks:
            return {}
        facts = self._facts(answers)
        return {
            "changed": False,
            "results": [],
            "seen": {answer["name"]: answer for answer in answers},
            **({"ansible_facts": facts} if facts else {}),
        }

    def _lines(self, name: str) -> list[str]:
        """What ``problems`` or ``refuse`` says, without empty lines."""
        said = self._here().template(self._task.args.get(name))
        texts = said if isinstance(said, list) else [said]  # a template that says nothing is None
        return [line.strip() for text in texts if text for line in text.split("\n") if line.strip()]

    def _holds(self) -> bool:
        """Whether somebody else must do something before the calls of ``tasks`` make sense."""
        return self._here().evaluate_conditional(self._task.args.get("hold", False))

    def _here(self, searchpath: list[str] | None = None, **more: Any) -> Templar:
        """Templates with all variables, and with what was seen."""
        return kept(self._templar.copy_with_new_env(available_variables={**self._vars, **more}), searchpath)

    # -- calling ------------------------------------------------------------------------------------------------
    def _steps(self, name: str) -> list[Step]:
        """The calls of ``look`` or ``tasks``, as they are now."""
        at_once = name == "tasks" and boolean(self._task.args.get("at_once", False), strict=False)
        steps: dict[str, Step] = {}
        for place, entry, templar in self._entries(name, self._task.args.get(name) or [], self._here()):
            step = Step(entry, place, templar, chain=place.partition(".")[0] if at_once else "")
            if name == "look":  # several roles may want to know the same
                step.check_mode, step.only_looks = False, True
                steps.setdefault(step.name, step)
            else:
                steps[place] = step
        for step in steps.values():
            marks = {"may_fail": step.may_fail, "first": step.first}
            step.call = {**self._call(step), **marks} if step.wanted else None
        return list(steps.values())

    def _entries(self, place: str, entries: Any, templar: Templar) -> Iterator[tuple[str, Any, Templar]]:
        """Each call with its place, and with templates that know its item.

        Of a block whose condition does not hold, the calls are not wanted.
        """
        for number, entry in enumerate(entries):
            here = f"{place}[{number}]"
            if isinstance(entry, Mapping) and "loop" in entry and "block" not in entry:
                for item_number, item in enumerate(templar.template(entry["loop"])):
                    yield f"{here}[{item_number}]", entry, self._here(item=item)
            elif not isinstance(entry, Mapping) or "block" not in entry:
                yield here, entry, templar
            elif strangers := set(entry) - {"name", "when", "block"}:
                raise AnsibleActionFail(
                    f"{here} is a block with {', '.join(sorted(strangers))}; it may have name and when"
                )
            else:
                wanted = holds(entry.get("when", True), templar)
                for below, inner, within in self._entries(f"{here}.block", entry["block"], templar):
                    yield below, inner if wanted else {**inner, "when": False}, within

    def _answers(self, steps: list[Step], answers: list[dict[str, Any]], hide: bool = False) -> list[dict[str, Any]]:
        """The result of each call, but for those after one that failed."""
        answered = iter(answers)
        results: list[dict[str, Any]] = []
        for step in steps:
            said = {"name": step.name, "module": step.module}
            if not step.wanted:
                results.append({**said, "changed": False, "skipped": True})
                continue
            answer = next(answered, None)
            if answer is None:  # an earlier call failed
                continue
            self._judge(step, answer)
            if step.no_log and hide:
                answer = self._censored(answer)
            step.changed = answer.get("changed", False)
            results.append({"changed": False, **answer, **said})
        return results

    def _ask(
        self, looks: list[Step], digest: str, steps: list[Step], afterwards: list[Step] | None = None
    ) -> tuple[list, str, list | None]:
        """One execution on the target.

        Args:
            looks: what to ask.
            digest: of the answers on which ``steps`` rest.
            steps: what to do if the answers are these.
            afterwards: what to ask once more if that changed something, where ``looks`` is empty.

        Returns:
            The answers, their digest, and the results of the work; None for these if the answers are others.
        """
        questions, later = ([step.call for step in kind if step.call] for kind in (looks, afterwards or []))
        chains: dict[str, list[dict[str, Any]]] = {}
        for step in steps:
            if step.call:
                chains.setdefault(step.chain, []).append(step.call)
        if not questions and not chains:
            return [], "", []
        self._calls = (questions, digest, list(chains.values()), later)
        whole = self._execute_module(module_name="lightsout.aws.batch", module_args={}, task_vars=self._vars)
        if "answers" not in whole:
            raise AnsibleActionFail(result=whole, message=str(whole.get("msg", "the batch could not be run")))
        seen, digest, done = json.loads(zlib.decompress(base64.b64decode(whole["answers"])))
        answers = list(map(self._result, seen))
        if done is None:
            return answers, digest, None
        results = []  # one for each call: None for those that were not made
        for calls, heard in zip(chains.values(), done, strict=True):
            results += [*map(self._result, heard), *[None] * (len(calls) - len(heard))]
        return answers, digest, results

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
        handlers = dict.fromkeys(handler for step in steps if step.changed for handler in step.notify)
        # The task executor reads this after we return; each call wakes its own handlers and no others.
        self._task.notify = [*(self._task.notify or []), *handlers]
        whole: dict[str, Any] = {
            "changed": any(result.get("changed") for result in results),
            "results": results,
            "diff": [d for result in results for d in self._diffs(result)],
            "warnings": [w for result in results for w in result.pop("warnings", [])],
            "deprecations": [w for result in results for w in result.pop("deprecations", [])],
        }
        if facts := self._facts(results):
            whole["ansible_facts"] = facts
        if bad := failure_among(results):
            whole |= {"failed": True, "msg": f"{bad['name']}: {bad.get('msg', 'failed')}"}
            whole |= {key: bad[key] for key in ("stderr", "stdout", "rc", "exception") if key in bad}
        return whole

    @staticmethod
    def _facts(results: list[dict[str, Any]]) -> dict[str, Any]:
        """The facts of all results together."""
        return {key: value for result in results for key, value in result.get("ansible_facts", {}).items()}

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
        looks, digest, chains, later = self._calls
        kinds = [looks, later, *chains]
        names = {name for calls in kinds for call in calls for name in (call["module"], call.get("file")) if name}
        # All that this task may ever call: the target unpacks and compiles one set, whatever is asked or done today.
        names |= set(filter(self._is_module, self._modules("look") | self._modules("tasks")))
        modules = KeptModules(self, sorted(names), self._vars, with_runner=True)
        asked, afterwards, *work = [
            [{**call, **{key: modules.fqns[call[key]] for key in ("module", "file") if key in call}} for call in calls]
            for calls in kinds
        ]
        sent = json.dumps([asked, digest, work, afterwards])
        return modules.payload(
            f"library = open_library({modules.arguments})\n"
            "import batch_runner, json\n"
            f"batch_runner.main(library, {PROFILE!r}, *json.loads({sent!r}))\n"
        )

    def _modules(self, option: str) -> set[str]:
        """The modules of an option's calls, whether they are wanted or not."""

        def of(entries: Any) -> Iterator[str]:
            for entry in entries:
                if isinstance(entry, Mapping) and "block" in entry:
                    yield from of(entry["block"])
                elif isinstance(entry, Mapping):
                    yield from set(entry) - AROUND

        named = set(of(self._task.args.get(option) or []))
        copying = {"ansible.builtin.copy", "ansible.builtin.file"} if named & (COPY | TEMPLATE) else set()
        return named - COPY - TEMPLATE | copying

    def _is_module(self, name: str) -> bool:
        """Whether it is there; of calls that are not wanted, it need not be."""
        return self._shared_loader_obj.module_loader.find_plugin_with_context(name, ".py").resolved

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
            source = self._found("files", args["src"])
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
                "diff": self._task.diff and not step.no_log,
            },
        }

    def _found(self, folder: str, source: str) -> Path:
        """A file on the controller, looked for as core does, and decrypted where it is a vault."""
        path = self._loader.path_dwim_relative_stack(self._vars["ansible_search_path"], folder, source)
        return Path(self._loader.get_real_file(path))

    def _rendered(self, step: Step, args: dict[str, Any]) -> bytes:
        """The template's text, as core's action renders it; core's lookup copies all variables for each template."""
        path = self._found("templates", args["src"])
        options = {key: args.pop(key) for key in list(args) if key in TEMPLATE_OPTIONS}
        told = generate_ansible_template_vars(args["src"], str(path), None, "ansible_managed" not in self._vars)
        folders = [place for p in self._vars["ansible_search_path"] for place in (f"{p}/templates", p)]
        templar = self._here([str(path.parent), *folders], **told)
        text = trust_as_template(path.read_text())
        return str(templar.template(text, escape_backslashes=False, overrides=options)).encode()

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


class Memory:
    """What a host answered when it was last asked the same, in ``ANSIBLE_HOME/lightsout``.

    It is a guess, never the truth: the host is asked again, and only if it answers the same is work done that was told
    from the guess. Answers with ``no_log`` are not written down, so batches that ask such a thing do not guess.

    Attributes:
        answers: of the calls of ``look``, in order; empty where nothing is remembered.
        digest: the host's own digest of them.
    """

    def __init__(self, action: ActionModule, looks: list[Step]) -> None:
        self.answers: list[dict[str, Any]] = []
        self.digest = ""
        secret = any(step.no_log for step in looks)
        self._file = None
        if not looks or secret or not action._task.args.get("tasks"):
            return
        names = ("inventory_hostname", "ansible_host", "ansible_port", "ansible_user", "ansible_connection")
        host = {name: str(action._vars.get(name)) for name in names}
        asked = json.dumps([__version__, host, [step.call for step in looks]], sort_keys=True)
        self._file = SHELF / f"seen-{hashlib.sha256(asked.encode()).hexdigest()[:24]}.json"
        with contextlib.suppress(OSError, ValueError):
            self.digest, self.answers = json.loads(self._file.read_text())

    def keep(self, answers: list[dict[str, Any]], digest: str) -> None:
        """Remember for the next run."""
        if self._file:
            put(self._file, json.dumps([digest, answers], default=str).encode())
