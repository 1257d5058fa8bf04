# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Talks to `lightsout-job` on a machine over the connection that Ansible has anyway: one short command a task."""

from __future__ import annotations

import hashlib
import json
import pathlib
import re
import shlex
import shutil
import time
from typing import Any

from ansible import constants as C
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.lightsout.aws.plugins.module_utils import folders

display = Display()

VERBS = ["prepare", "start", "list", "log", "follow", "cancel", "compare"]
ENDED = {"succeeded", "failed", "cancelled", "interrupted", "lost"}
THEN = ["nothing", "stop", "terminate"]
#: systemd's own names of the limits, and what they may be.
LIMITS = {
    "memory": ("MemoryMax", re.compile(r"\d+[KMGT]?"), "a size such as 12G"),
    "cpus": ("CPUQuota", re.compile(r"\d+(\.\d+)?"), "a number of cores such as 2 or 1.5"),
}
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Seconds that one call waits on the machine for news of a job.
LISTEN = 20
#: Seconds between TERM and KILL of a job that does not say.
GRACE = 30
#: Seconds between two lines of `progress`.
PROGRESS = 15


def index_of(folder: pathlib.Path) -> folders.Index:
    """What was in a folder's files when they were last read, where Ansible keeps its own things."""
    name = hashlib.sha256(str(folder).encode()).hexdigest()[:24]
    return folders.Index(pathlib.Path(C.ANSIBLE_HOME) / "lightsout" / f"index-{name}.json")


class RunnerMissing(AnsibleActionFail):
    """There is no job runner on the machine, or one that does not speak our language."""


class ActionModule(ActionBase):
    """See plugins/modules/job.py for the interface."""

    TRANSFERS_FILES = False
    _requires_connection = True

    def run(self, tmp: Any = None, task_vars: dict | None = None) -> dict:
        """Do one verb; raises AnsibleActionFail with a sentence when it cannot be done."""
        result = super().run(tmp, task_vars)
        self._task_vars = task_vars
        text = {"type": "str", "default": ""}
        _, self.args = self.validate_argument_spec(
            argument_spec={
                "verb": {"type": "str", "required": True, "choices": VERBS},
                "name": {"type": "str"},
                "runner": {"type": "str", "default": "/usr/local/bin/lightsout-job"},
                "source": text,
                "script": text,
                "arguments": {"type": "raw", "default": []},
                "command": text,
                "launcher": {"type": "str", "choices": ["systemd", "screen"], "default": "systemd"},
                "directory": {"type": "str", "default": "."},
                "results": {"type": "str", "default": "results"},
                "python": {"type": "str", "default": "/usr/bin/python3"},
                "conda_environment": text,
                "environment": {"type": "dict", "default": {}, "no_log": True},
                "exclude": {"type": "list", "elements": "str", "default": []},
                "grace": {"type": "int"},
                "queue": text,
                "restarts": {"type": "int", "default": 0},
                "restart_delay": {"type": "int", "default": 10},
                "survive_reboot": {"type": "bool", "default": False},
                "memory": text,
                "cpus": text,
                "gpu": {"type": "bool", "default": False},
                "then": {"type": "str", "choices": THEN, "default": "nothing"},
                "then_delay": {"type": "int", "default": 60},
                "sync_to": text,
                "sync_interval": {"type": "int", "default": 300},
                "sync_endpoint": text,
                "sync_region": text,
                "nodes": {"type": "int", "default": 1},
                "nodes_least": {"type": "int"},
                "processes": {"type": "int"},
                "node": {"type": "int", "default": 1},
                "addresses": {"type": "list", "elements": "str", "default": []},
                "rendezvous_port": {"type": "int", "default": 29400},
                "rendezvous_timeout": {"type": "int", "default": 300},
                "rendezvous": text,
                "resume": {"type": "bool", "default": False},
                "rerun": {"type": "bool", "default": False},
                "replace": {"type": "bool", "default": False},
                "token": {**text, "no_log": False},
                "version": text,
                "all": {"type": "bool", "default": False},
                "lines": {"type": "int", "default": 20},
                "progress": {"type": "bool", "default": False},
                "must_succeed": {"type": "bool", "default": False},
                "patience": {"type": "int", "default": 300},
                "destination": text,
            },
            required_if=[(("verb"), verb, ["name"]) for verb in VERBS if verb != "list"],
        )
        result["changed"] = False
        result.update(getattr(self, f"_{self.args['verb']}")())
        for view in [*result.get("jobs", []), result.get("job") or {}]:
            view["machine"] = self._task_vars["inventory_hostname"]
        return result

    # -- calling the runner -----------------------------------------------------------------------------------
    def _call(self, *words: str, stdin: dict | None = None) -> dict:
        """Run `lightsout-job WORDS` and return its answer. The command line holds nothing secret; `stdin` may."""
        data = json.dumps(stdin).encode() if stdin is not None else None
        done = self._low_level_execute_command(shlex.join([self.args["runner"], *words]), sudoable=False, in_data=data)
        if done["rc"] == 0:
            return json.loads(done["stdout"].strip().rpartition("\n")[2] or "null")
        if done["rc"] == 127:
            raise RunnerMissing(
                "No job has been trained on this machine yet (it has no lightsout-job). "
                "Begin: ansible-playbook playbooks/train.yml -e training_job=… -e training_source=…"
            )
        said = done["stderr"].strip() or done["stdout"].strip()
        ours = [line for line in said.splitlines() if line.startswith("lightsout-job: ")]
        # An older one does not know the words; argparse says so.
        if done["rc"] == 4 or (done["rc"] == 2 and (not ours or ours[-1].startswith("lightsout-job: error: "))):
            raise RunnerMissing(
                "The job runner on this machine is of another version: ansible-playbook playbooks/configure.yml"
            )
        raise AnsibleActionFail(ours[-1].partition(": ")[2] if ours else f"lightsout-job did not work: {said}")

    @property
    def _check(self) -> bool:
        return bool(self._task.check_mode)

    # -- the verbs --------------------------------------------------------------------------------------------
    def _prepare(self) -> dict:
        problems, upload, definition = self._request()
        answer: dict = {"problems": problems, "action": "none", "notices": [], "upload": upload}
        if problems:
            return answer
        request = {"definition": definition, **{key: self.args[key] for key in ("environment", "rerun", "replace")}}
        words = ["--version", self.args["version"]] if self.args["version"] else []
        words += ["--check"] if self._check else []
        try:
            agreed = self._call("prepare", self.args["name"], *words, stdin=request)
        except RunnerMissing:
            agreed = {"action": "install", "job": {"name": self.args["name"], "state": "new", "run": 1}}
        except AnsibleActionFail as failure:
            # Told by the task after this one: what this one says is hidden where the environment is secret.
            where = f"{self._task_vars['inventory_hostname']}: " if self.args["nodes"] > 1 else ""
            return {**answer, "problems": [where + failure.message]}
        answer.update(action=agreed["action"], job=agreed["job"])
        answer["changed"] = agreed["action"] == "start" or bool(agreed.get("policy"))
        answer["notices"] = [f"It runs already; from now on {change}." for change in agreed.get("policy", [])]
        if agreed["action"] != "none":
            upload["to"] = agreed.get("upload_to", "")
            if agreed.get("copy_from"):
                upload["options"].append(f"--copy-dest={agreed['copy_from']}")
            answer["token"] = agreed.get("token", "")
            answer["notices"] += [
                *(f"{path} has Windows line ends (CRLF): mended on the machine." for path in definition["crlf"]),
                *(f"{path} had no run bit: set on the machine." for path in definition["not_executable"]),
            ]
        return answer

    def _request(self) -> tuple[list[str], dict, dict]:
        """Look at the input and the source on the controller: (problems, upload, definition)."""
        args = self.args
        problems: list[str] = []
        # A list, or a line as it comes from `-e training_arguments='--epochs 3'`.
        arguments = args["arguments"] or []
        arguments = shlex.split(arguments) if isinstance(arguments, str) else [str(word) for word in arguments]
        name, command, script = args["name"], args["command"].strip(), args["script"]
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", name):
            problems.append(
                f"training_job: '{name}' cannot be a job's name: use letters, digits, '-' and '_', beginning with a "
                "letter or digit, at most 63 characters."
            )
        if command and script:
            problems.append("training_command and training_script are both given: give the one that is to run.")
        source, script, complaint = self._locate(args["source"], script)
        if complaint:
            problems.append(complaint)
        elif not command and not script:
            problems.append(
                "Nothing to run: give training_script=train.py (with training_arguments), "
                "or training_command='python train.py --epochs 3'."
            )
        for key in ("directory", "results"):
            path = pathlib.PurePosixPath(args[key])
            if not args[key] or path.is_absolute() or ".." in path.parts:
                problems.append(f"training_{key}: '{args[key]}' must be a path within the uploaded folder.")
        for key, value in args["environment"].items():
            if not VARIABLE.fullmatch(str(key)):
                problems.append(f"training_environment: '{key}' cannot be the name of a variable.")
            elif isinstance(value, (dict, list)) or value is None or "\0" in str(value):
                problems.append(f"training_environment: the value of {key} must be a text or a number.")
        problems += self._policy_problems()
        if source and not shutil.which("rsync"):
            problems.append("rsync is not installed on this computer: sudo apt-get install rsync (or `make setup`).")
        if problems:
            return problems, {}, {}

        results = (pathlib.PurePosixPath(args["directory"]) / args["results"]).as_posix()
        exclude = args["exclude"] + ([f"/{results}"] if results != "." else [])
        found = folders.summarize(source, exclude, index_of(source)) if source else folders.Summary(digest="")
        definition = {
            "launcher": args["launcher"],
            "directory": args["directory"],
            "results": args["results"],
            "python": args["python"],
            "conda": args["conda_environment"],
            "source": found.digest,
            **({"script": script, "arguments": arguments} if script else {}),
            **({"command": command} if command else {}),
            **({"gpu": True} if args["gpu"] else {}),
            **({"queue": args["queue"]} if args["queue"] else {}),
            **({"reboot": True} if args["survive_reboot"] else {}),
            **({"limits": limits} if (limits := self._limits()) else {}),
            **({"torchrun": torchrun} if (torchrun := self._torchrun()) else {}),
        }
        environment = {str(key): str(value) for key, value in sorted(args["environment"].items())}
        identity = json.dumps([definition, environment], sort_keys=True)
        definition["digest"] = hashlib.sha256(identity.encode()).hexdigest()
        definition.update(
            grace=GRACE if args["grace"] is None else args["grace"],
            restarts=args["restarts"],
            restart_delay=args["restart_delay"],
            then=args["then"],
            then_delay=args["then_delay"],
            sync=self._sync(),
            resume=args["resume"],
            **self._meeting(),
            crlf=found.crlf,
            not_executable=found.not_executable,
        )
        upload = {
            "from": f"{source}/" if source and source.is_dir() else str(source or ""),
            "options": ["--copy-unsafe-links", *(f"--exclude={pattern}" for pattern in exclude)],
            "files": found.files,
            "size": found.size,
        }
        return problems, upload, definition

    def _policy_problems(self) -> list[str]:
        """What is wrong with how the job is to be treated."""
        args, problems = self.args, []
        if args["queue"] and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", args["queue"]):
            problems.append(
                f"training_queue: '{args['queue']}' cannot be a queue's name: use letters, digits, '-', '_'."
            )
        for key, (_, form, right) in LIMITS.items():
            if args[key] and not form.fullmatch(args[key]):
                problems.append(f"training_{key}: '{args[key]}' is not {right}.")
        for key in ("restarts", "restart_delay", "then_delay"):
            if args[key] < 0:
                problems.append(f"training_{key}: {args[key]} is negative.")
        to = args["sync_to"]
        if to and not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/\S*)?|/\S+|\S+@?\S*:\S+", to):
            problems.append(f"training_sync_to: '{to}' is no place: write s3://bucket/prefix, host:path or /path.")
        if to and args["sync_interval"] < 10:
            problems.append(f"training_sync_interval: {args['sync_interval']} s is too often; use at least 10.")
        problems += self._nodes_problems()
        if args["resume"] and args["rerun"]:
            problems.append("training_resume goes on from earlier results and training_rerun begins anew: give one.")
        return problems

    def _nodes_problems(self) -> list[str]:
        """What is wrong with how many machines and processes there are to be."""
        args, problems = self.args, []
        nodes, least = args["nodes"], args["nodes_least"]
        if nodes < 1:
            problems.append(f"training_nodes: {nodes} is no number of machines: give 1 or more.")
        if least is not None and not 1 <= least <= nodes:
            problems.append(f"training_nodes_least: {least} is not between 1 and training_nodes, {nodes}.")
        if args["processes"] is not None and args["processes"] < 1:
            problems.append(f"training_processes: {args['processes']} is no number of processes: give 1 or more.")
        if nodes < 2:
            return problems
        if len(args["addresses"]) < nodes:
            problems.append(
                f"training_nodes: {nodes} machines are asked for, and {len(args['addresses'])} run: make more with "
                f"playbooks/provision.yml -e ec2_machine_count={nodes}, or start those that are stopped."
            )
        elif not all(args["addresses"][:nodes]):
            problems.append("training_addresses: give the address at which each machine is reached by the others.")
        if args["rendezvous_timeout"] < 10:
            problems.append(f"training_rendezvous_timeout: {args['rendezvous_timeout']} s is too short; at least 10.")
        return problems

    def _torchrun(self) -> dict[str, int]:
        """How many machines and processes; empty when torchrun is not needed."""
        nodes, processes = self.args["nodes"], self.args["processes"]
        if nodes == 1 and processes is None:
            return {}
        least = nodes if self.args["nodes_least"] is None else self.args["nodes_least"]
        return {"nodes": nodes, "least": least, **({"processes": processes} if processes else {})}

    def _meeting(self) -> dict[str, Any]:
        """Where this machine and the others meet; empty for a job on one."""
        args = self.args
        if args["nodes"] < 2:
            return {}
        meeting = {
            "endpoint": f"{args['addresses'][0]}:{args['rendezvous_port']}",
            "address": args["addresses"][args["node"] - 1],
            "timeout": args["rendezvous_timeout"],
        }
        return {"node": args["node"], "rendezvous": meeting}

    def _limits(self) -> dict[str, str]:
        """The limits as systemd takes them."""
        limits = {}
        if self.args["memory"]:
            limits |= {"MemoryMax": self.args["memory"], "MemorySwapMax": "0"}
        if self.args["cpus"]:
            limits["CPUQuota"] = f"{float(self.args['cpus']) * 100:.0f}%"
        return limits

    def _sync(self) -> dict[str, Any] | None:
        """Where the results go."""
        if not self.args["sync_to"]:
            return None
        keys = ("to", "interval", "endpoint", "region")
        return {key: self.args[f"sync_{key}"] for key in keys if self.args[f"sync_{key}"]}

    def _locate(self, source: str, script: str) -> tuple[pathlib.Path | None, str, str]:
        """Find out what to upload and what to run: (source, script within it, complaint)."""
        if source:
            path = pathlib.Path(source).expanduser().absolute()
            if not path.exists():
                return None, "", f"training_source: there is no {path} on this computer."
            if path.is_dir():
                if script and not (path / script).is_file():
                    return None, "", f"training_script: there is no '{script}' in {path}."
                return path, script, ""
            if script and pathlib.Path(script).name != path.name:
                return None, "", f"training_source is the file {path.name}: give its folder to run '{script}' from it."
            return path, "" if self.args["command"].strip() else path.name, ""
        if script:
            path = pathlib.Path(script).expanduser().absolute()
            if not path.is_file():
                return None, "", f"training_script: there is no file {path} on this computer."
            return path, path.name, ""
        return None, "", ""

    def _start(self) -> dict:
        if self._check:
            return {"changed": True, "job": {"name": self.args["name"], "state": "new"}}
        words = ["--rendezvous", self.args["rendezvous"]] if self.args["rendezvous"] else []
        answer = self._call("start", self.args["name"], "--json", "--token", self.args["token"], *words)
        if answer["job"]["state"] == "failed":
            return {**answer, "failed": True, "msg": self._ending(answer["job"])}
        return answer

    def _list(self) -> dict:
        try:
            return self._call("list", "--json", *["--all"] * self.args["all"])
        except RunnerMissing:
            return {"jobs": []}

    def _log(self) -> dict:
        answer = self._watch(None, 0)
        return {"job": answer["job"], "lines": answer["text"].splitlines()}

    def _watch(self, offset: int | None, seconds: float) -> dict:
        """One look at a job's log: from `offset` on, or its last lines; waits on the machine for at most `seconds`."""
        where = ["--lines", str(self.args["lines"])] if offset is None else ["--offset", str(offset)]
        return self._call("watch", self.args["name"], "--seconds", str(seconds), *where)

    def _follow(self) -> dict:
        answer = self._watch(None, 0)
        out_of_reach = last_told = None
        last_line = ""
        who = f"node {answer['job']['node']}: " if answer["job"]["nodes"] > 1 else ""
        while True:
            if self.args["progress"]:
                line = answer["job"]["last_line"]
                if line != last_line and (last_told is None or time.monotonic() - last_told >= PROGRESS):
                    display.display(f"    {who}{line}")
                    last_line, last_told = line, time.monotonic()
            else:
                for line in answer["text"].splitlines():
                    display.display(f"    {who}{line.rpartition(chr(13))[2]}")
            if self._check or (answer["job"]["state"] in ENDED and not answer.get("more")):
                break
            if answer["job"]["state"] == "uploading":
                raise AnsibleActionFail(
                    f"Job '{self.args['name']}' has not been started: its upload is under way or was interrupted. "
                    "Run the same playbooks/train.yml again."
                )
            try:
                answer = self._watch(answer["offset"], LISTEN)
                out_of_reach = None
            except AnsibleConnectionFailure as failure:
                # The job does not need us; whoever watches it survives a loss of Wi-Fi.
                out_of_reach = out_of_reach or time.monotonic()
                if time.monotonic() - out_of_reach > self.args["patience"]:
                    raise
                display.warning(f"The machine is out of reach; the job goes on without us. Trying again: {failure}")
                time.sleep(5)
                self._connection.reset()
        job = answer["job"]
        if self.args["must_succeed"] and job["state"] in ("failed", "lost", "cancelled", "interrupted"):
            return {"job": job, "failed": True, "msg": self._ending(job)}
        return {"job": job}

    def _ending(self, job: dict) -> str:
        """How a job failed, with the end of its log."""
        code = "" if job["exit_code"] is None else f" with exit code {job['exit_code']}"
        reason = f" ({job['reason']})" if job["reason"] else ""
        # torchrun ends with a page of its own, below what the script has said.
        self.args["lines"] = 45 if job["nodes"] > 1 else 15
        lines = self._watch(None, 0)["text"].splitlines()
        tail = "".join(f"\n    {line}" for line in lines)
        return f"Job '{job['name']}' {'was ' if job['state'] != 'failed' else ''}{job['state']}{code}{reason}.{tail}"

    def _cancel(self) -> dict:
        grace = [] if self.args["grace"] is None else ["--grace", str(self.args["grace"])]
        return self._call("cancel", self.args["name"], "--json", *grace, *["--check"] * self._check)

    def _compare(self) -> dict:
        """Which results are new or other than the ones here."""
        answer = self._call("results", self.args["name"])
        folder = pathlib.Path(self.args["destination"]).expanduser().absolute()
        if answer["job"]["node"] > 1:
            folder /= f"node-{answer['job']['node']}"
        outside = folders.escapes(answer["files"])
        if outside:
            raise AnsibleActionFail(
                f"The machine lists results outside their folder, which is not honest: {outside[0]}"
            )
        try:
            here = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            here = {}
        job = answer["job"]
        # What was fetched from another run of this name is moved aside, never written over.
        other = here.get("run") if here.get("started") not in (None, job["started"]) else None
        difference = folders.compare(answer["files"], folder, index_of(folder))
        if other:
            difference.changed += difference.newer_here
            difference.newer_here = []
        record = {key: job.get(key) for key in RECORD}
        log = folders.compare({"job.log": answer["log"]} if answer["log"] else {}, folder)
        return {
            "job": job,
            "fetch": {
                "from": answer["root"],
                "to": str(folder),
                "new": difference.new,
                "changed": difference.changed,
                "newer_here": difference.newer_here,
                "same": len(difference.same),
                "log": bool(log.new or log.changed or log.newer_here),
                "record": record,
                "record_differs": here != record,
                "aside": str(folder.with_name(f"{folder.name}.{other}")) if other else "",
                "size": sum(each.get("size", 0) for each in answer["files"].values()),
            },
        }


#: What is kept of a job beside its results (job.json).
RECORD = ("name", "run", "state", "command", "launcher", "started", "ended", "exit_code", "signal", "reason")
