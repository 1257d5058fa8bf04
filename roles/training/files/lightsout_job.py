#!/usr/bin/python3 -I
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# ruff: noqa: UP017, B905 - it has to run on Python 3.9
"""lightsout-job - run training jobs that outlive the laptop that started them

SYNOPSIS
    lightsout-job list [--all] [--json]         all jobs: state, since when, exit code, last line of the log
    lightsout-job log NAME [-n LINES] [-f]      the end of a job's log; -f goes on until the job ends
    lightsout-job cancel NAME [--grace SECONDS] ask a job to end (TERM), then make it (KILL)
    lightsout-job start NAME                    start a job that has been uploaded
    lightsout-job run NAME                      what systemd and screen call: run it here and keep its record
    lightsout-job after NAME                    what they call then, as root: stop the machine if that is wanted
    lightsout-job power-off                     what `after` calls a minute later, unless something runs again

    For the playbooks, in JSON: prepare, watch, results.

FILES
    ~/jobs/NAME/
        source/       what was uploaded; the job's working directory is here
        log           what the job printed, between a first and a last line of ours
        job.json      what was asked for: command, launcher, paths (no secrets)
        environment   the job's variables as JSON, mode 0600, possibly secrets
        state.json    name, run, state, started, ended, exit_code, signal, reason, pid, restarts, synced
        cancel        present once somebody asked for the end
    ~/jobs/NAME.1/    an earlier run of the same name, complete; NAME.2 is the one after it, and so on

STATES
    uploading   the folder is on its way; nothing runs yet
    queued      handed to the launcher, or waiting for those before it in its queue
    running     the command is alive
    succeeded   it ended with exit code 0
    failed      it ended with another exit code, or by a signal (exit code 128 + signal)
    cancelled   it was asked to end, and did
    interrupted the spot machine was taken away; what was saved is at the job's place, for a run with resume
    lost        its runner vanished without a word: the machine was rebooted, stopped or ran out of memory

    Every state is written to a new file that then takes the old one's place, so a reader never sees half of one.
    A runner is recognized by process id, start time and boot id: a number that was used again fools nobody.

EXIT STATUS
    `run`: the job's own exit code. Others: 0, 1 when it did not work out, 2 for bad input, 3 when there is
    no such job, 4 when `prepare` wants another version of this file, or a tool that is not here.

ENVIRONMENT OF A JOB
    PATH begins with the folder of its Python; PYTHONUNBUFFERED=1; LIGHTSOUT_JOB, LIGHTSOUT_RESULTS (a folder),
    LIGHTSOUT_RESTARTS (how often it was started again); then what the user gave. Nothing else is inherited: a job
    sees the same under systemd and in screen.

SEVERAL MACHINES
    A job on several machines is one job for torchrun, PyTorch's own launcher, and a job of the same name here on each
    machine: LIGHTSOUT_NODE says which of LIGHTSOUT_NODES this is. torchrun starts the workers anew, on all machines,
    when one of them fails; a torchrun that is killed is started anew by us, and joins the others again.

Part of Lightsout (role `training`). Standard library only, Python 3.9 and newer.
"""

import argparse
import contextlib
import ctypes
import datetime
import fcntl
import hashlib
import json
import os
import pathlib
import pwd
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from stat import S_ISLNK, S_ISREG

#: A job's name: what a file name, a systemd instance and a screen session can all be.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
#: The same, or an earlier run of it.
NAME_OF_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}(\.[1-9][0-9]{0,5})?")
ENDED = ("succeeded", "failed", "cancelled", "interrupted", "lost")
LAUNCHERS = ("systemd", "screen")
#: What a definition says of how a job is treated, not of what it does: it may change while the job runs.
POLICY = ("grace", "then", "then_delay", "sync", "restarts", "restart_delay")
#: What becomes of the machine when its last job has ended.
THEN = ("nothing", "stop", "terminate")
#: Seconds between a job's end and the end of the machine, for people who want to stay.
LAST_MINUTE = 60
#: Seconds before the first restart of a job that fails; twice as long before each further one, at most RESTART_LATEST.
RESTART_DELAY, RESTART_LATEST = 10, 300
#: Seconds between two syncs.
SYNC_INTERVAL = 300
#: What is to become of the machine when its last job has ended; gone at the next boot.
WISH = pathlib.Path(os.environ.get("LIGHTSOUT_WISH") or "/run/lightsout-then")
#: Until when somebody keeps the machine awake, whatever has ended: {"until": seconds since the kernel started}.
KEEP = pathlib.Path(os.environ.get("LIGHTSOUT_KEEP") or "/run/lightsout/keep.json")
#: Seconds between two looks at the queue, and at the spot machine's notice (AWS recommends 5 s).
QUEUE_POLL, NOTICE_POLL = 1, 5
#: Seconds that are kept of a spot machine's notice for the last sync.
LAST_SYNC = 30
#: The machine's metadata service; AWS's SDKs know the same variable.
METADATA = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or "http://169.254.169.254"
#: How our own lines in a log begin.
MARK = "[lightsout] "
#: Seconds between TERM and KILL, unless the job says otherwise.
GRACE = 30
#: The unit's TimeoutStopSec is above this: a longer grace would be cut short by systemd.
LONGEST_GRACE = 540
#: Seconds that `start` looks on, so that a command which fails at once is told at once.
FIRST_MOMENTS = 0.5
#: A watcher gets at most this many bytes of log in one answer.
CHUNK = 256 * 1024
#: `last line`: how far back to look, in bytes.
TAIL = 64 * 1024
#: Bytes that are kept free for the record of a job's end, and below which the disk counts as full.
RESERVE = 256 * 1024
SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
PR_SET_CHILD_SUBREAPER = 36


class Refused(Exception):
    """What was asked cannot be done; the message says why and what can. `code` is the exit status."""

    def __init__(self, message, code=2):
        super().__init__(message)
        self.code = code


# -- small things ------------------------------------------------------------------------------------------------
def now():
    """The time as text, UTC, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_of(text):
    """The seconds since 1970 of a time written by now()."""
    moment = datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")
    return moment.replace(tzinfo=datetime.timezone.utc).timestamp()


def duration(seconds):
    """Seconds for people: `7 s`, `3 min`, `2 h 05 min`, `3 d 4 h`."""
    seconds = max(0, int(seconds))
    if seconds < 60:
        return f"{seconds} s"
    minutes = seconds // 60
    if minutes < 60:
        return f"{minutes} min"
    hours = minutes // 60
    if hours < 48:
        return f"{hours} h {minutes % 60:02d} min"
    return f"{hours // 24} d {hours % 24} h"


def jobs_folder():
    """Where the jobs are: ~/jobs, or $LIGHTSOUT_JOBS (for tests)."""
    return pathlib.Path(os.environ.get("LIGHTSOUT_JOBS") or pathlib.Path.home() / "jobs")


def read_json(path):
    """The object in a JSON file, or {} when there is no such file or only half of one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}


def write_json(path, content):
    """Replace a JSON file as a whole, readable by its owner only, on the disk when this returns."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(content, stream, indent=2, sort_keys=True)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())
    beside.replace(path)


@contextlib.contextmanager
def lock():
    """One `prepare` or `start` at a time for this user."""
    jobs_folder().mkdir(mode=0o700, parents=True, exist_ok=True)
    with (jobs_folder() / ".lock").open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def boot_id():
    """What the kernel calls this boot."""
    return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def start_ticks(pid):
    """When a process began, in clock ticks since boot; None when it is gone (or a zombie)."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def descendants(pid):
    """The process ids below `pid`, children first."""
    children = {}
    for folder in pathlib.Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            fields = stat.rpartition(")")[2].split()
            if fields[0] not in "ZX":
                children.setdefault(int(fields[1]), []).append(int(folder.name))
    found, todo = [], [pid]
    while todo:
        below = children.get(todo.pop(0), [])
        found += below
        todo += below
    return found


def session_of(pid):
    """The session that a process belongs to; None when it is gone."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[3])


def oom_kills():
    """How many processes the kernel has killed for memory since it started."""
    try:
        lines = pathlib.Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def signal_name(number):
    """`TERM` for 15."""
    try:
        return signal.Signals(number).name[3:]
    except ValueError:
        return str(number)


def as_root(*command):
    """A command line that runs as root: this user's own sudo where it is needed."""
    return list(command) if os.geteuid() == 0 else ["sudo", "--non-interactive", *command]


def call(command):
    """Run a short command; None when it worked, else what it complained about."""
    try:
        done = subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    return (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").replace("\n", " ")


def going_down():
    """True while the machine is shutting down or rebooting.

    systemd says so while it can be asked; when it no longer answers, or has handed over to its last process, it is so.
    """
    if not pathlib.Path("/run/systemd/system").is_dir():
        return False
    with contextlib.suppress(OSError):
        if pathlib.Path("/proc/1/comm").read_text(encoding="utf-8").startswith("systemd-shutdow"):
            return True
    try:
        done = subprocess.run(
            ["systemctl", "is-system-running"], check=False, capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.stdout.strip() in ("stopping", "offline", "unknown", "")


def metadata(path):
    """What the machine's metadata service (IMDSv2) says; None where there is none, or no such thing."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    token = urllib.request.Request(f"{METADATA}/latest/api/token", method="PUT", headers=lifetime)  # noqa: S310
    try:
        with direct.open(token, timeout=1) as answer:
            headers = {"X-aws-ec2-metadata-token": answer.read().decode()}
        asked = urllib.request.Request(f"{METADATA}/latest/meta-data/{path}", headers=headers)  # noqa: S310
        with direct.open(asked, timeout=1) as answer:
            return answer.read().decode()
    except (OSError, ValueError):  # HTTPError is an OSError
        return None


# -- a job ------------------------------------------------------------------------------------------------------
class Job:
    """One folder in ~/jobs."""

    def __init__(self, name):
        if not NAME_OF_RUN.fullmatch(name):
            raise Refused(
                f"'{name}' cannot be a job's name: use letters, digits, '-' and '_', beginning with a letter or digit, "
                "at most 63 characters."
            )
        self.name = name
        self.folder = jobs_folder() / name
        self.source = self.folder / "source"
        self.log = self.folder / "log"

    @classmethod
    def existing(cls, name):
        """The job of that name. Refused: when there is none; the message lists those that there are."""
        job = cls(name)
        if not job.exists():
            names = [other.name for other in all_jobs() if "." not in other.name]
            there_are = f"There are: {', '.join(names)}." if names else "There is none yet."
            raise Refused(f"There is no job '{name}' on this machine. {there_are}", 3)
        return job

    def exists(self):
        """True when the folder holds a job's record."""
        return (self.folder / "job.json").is_file()

    @property
    def definition(self):
        """What was asked for (job.json)."""
        return read_json(self.folder / "job.json")

    @property
    def state(self):
        """The last state that was written down (state.json)."""
        return read_json(self.folder / "state.json")

    def save(self, **changes):
        """Write a new state with these changes and return it."""
        state = {**self.state, **changes}
        write_json(self.folder / "state.json", state)
        return state

    @property
    def directory(self):
        """The working directory."""
        return self.source / self.definition.get("directory", ".")

    @property
    def results(self):
        """The folder (or file) that `fetch` brings home."""
        return self.directory / self.definition.get("results", "results")

    def runner_alive(self, state):
        """True while the runner that wrote this state is still there."""
        if state.get("boot_id") != boot_id():
            return False
        pid = state.get("runner_pid")
        if pid is None:  # queued: the launcher has not come to it yet
            return time.time() - seconds_of(state["since"]) < 60
        return start_ticks(pid) == state.get("runner_started")

    def view(self):
        """The state as it is now, for people and playbooks: a dictionary.

        A job whose runner is gone is `lost`, since its log was last written to.
        """
        state = self.state
        state.setdefault("state", "uploading")
        if state["state"] in ("queued", "running") and not self.runner_alive(state):
            pid = state.get("pid")
            state["ended"] = self.last_sign_of_life()
            state["since"] = state["ended"]
            rebooted = state.get("boot_id") != boot_id()
            state["reason"] = "the machine was restarted" if rebooted else "its runner vanished: killed, or a restart"
            if not rebooted and pid and start_ticks(pid) == state.get("pid_started"):
                state["reason"] = f"its runner was killed; process {pid} goes on, but its exit code will not be known"
            state["state"] = "lost"
        started, ended = state.get("started"), state.get("ended")
        if started:
            until = seconds_of(ended) if ended else time.time()
            state["seconds"] = max(0, int(until - seconds_of(started)))
            state["ran"] = duration(state["seconds"])
        definition = self.definition
        return {
            "seconds": None,
            "ran": "",
            "started": None,
            "ended": None,
            "exit_code": None,
            "signal": None,
            "reason": "",
            "restarts": 0,
            "synced": None,
            "run": 1,
            "since": None,
            **state,
            "name": self.name,
            "earlier": "." in self.name,
            "launcher": definition.get("launcher"),
            "queue": definition.get("queue", ""),
            "node": definition.get("node", 1),
            "nodes": (definition.get("torchrun") or {}).get("nodes", 1),
            "then": definition.get("then", "nothing"),
            "command": shown(definition),
            "digest": definition.get("digest"),
            "log": str(self.log),
            "results": str(self.results),
            "last_line": self.last_line(),
        }

    def last_sign_of_life(self):
        """When the log (or else the state) was last written to."""
        for path in (self.log, self.folder / "state.json"):
            with contextlib.suppress(OSError):
                moment = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.timezone.utc)
                return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        return now()

    def last_lines(self, count):
        """The last `count` lines of the log; what a carriage return has overwritten is left out."""
        if not self.log.exists() or count < 1:
            return []
        with self.log.open("rb") as stream:
            end = stream.seek(0, os.SEEK_END)
            block = b""
            while end > 0 and block.count(b"\n") <= count:
                size = min(end, TAIL)
                end -= size
                stream.seek(end)
                block = stream.read(size) + block
        lines = block.decode("utf-8", "replace").split("\n")
        if lines and not lines[-1]:
            lines.pop()
        return [overwritten(line) for line in lines[-count:]]

    def last_line(self):
        """The last line of the job's own that is not empty, at most 200 characters."""
        for line in reversed(self.last_lines(20)):
            if line.strip() and not line.startswith(MARK):
                return line.strip()[:200]
        return ""


def overwritten(line):
    """What a terminal would show of a line with carriage returns: the part after the last one."""
    return line.rstrip("\r").rpartition("\r")[2]


def all_jobs():
    """Every job and earlier run, by name."""
    try:
        names = sorted(entry.name for entry in jobs_folder().iterdir() if NAME_OF_RUN.fullmatch(entry.name))
    except OSError:
        return []
    return [job for job in map(Job, names) if job.exists()]


def shown(definition):
    """The command as a person would type it."""
    if definition.get("script"):
        return shlex.join([definition["script"], *definition.get("arguments", [])])
    return definition.get("command") or ""


# -- prepare: agree on what is going to run -----------------------------------------------------------------------
def check_definition(definition):
    """Refuse what this machine cannot run, all of it in one message, before anything is changed."""
    problems = []
    launcher = definition.get("launcher")
    if launcher not in LAUNCHERS:
        problems.append(f"The launcher '{launcher}' is unknown: systemd or screen.")
    if launcher == "screen" and not shutil.which("screen"):
        problems.append("screen is not installed on this machine: install it, or use training_launcher=systemd.")
    if launcher == "systemd" and not pathlib.Path("/run/systemd/system").is_dir():
        problems.append("systemd does not run on this machine: use training_launcher=screen.")
    python = interpreter(definition)
    if not (python.is_file() and os.access(python, os.X_OK)):
        wanted = "training_conda_environment" if definition.get("conda") else "training_python"
        problems.append(
            f"There is no {python} on this machine ({wanted}): name another, or run playbooks/configure.yml."
        )
    if bool(definition.get("command")) == bool(definition.get("script")):
        problems.append("Give either a command or a script.")
    for key in ("directory", "results", "script"):
        path = pathlib.PurePosixPath(definition.get(key) or ".")
        if path.is_absolute() or ".." in path.parts:
            problems.append(f"The {key} '{path}' must lie inside the uploaded folder.")
    if definition.get("then", "nothing") not in THEN:
        problems.append(f"training_then: '{definition['then']}' is unknown: {', '.join(THEN)}.")
    if definition.get("then") == "terminate" and not definition.get("sync"):
        problems.append(
            "training_then: with 'terminate' the disk goes with the machine: say where the results are kept "
            "(training_sync_to=s3://…), or use 'stop'."
        )
    sync = definition.get("sync") or {}
    tool = "rclone" if sync.get("to", "").startswith("s3://") else "rsync"
    if definition.get("reboot") and launcher != "systemd":
        problems.append("training_survive_reboot needs training_launcher=systemd, which starts at boot.")
    if definition.get("torchrun") and python.is_file() and not has_module(python, "torch"):
        problems.append(f"training_nodes and training_processes need PyTorch, which {python} does not have.")
    if definition.get("gpu") and not gpus():
        problems.append(
            "training_gpu: no NVIDIA GPU with a working driver answers on this machine (nvidia-smi): choose an "
            "instance type with one and an image with its driver (ec2_machine_image=deep-learning), or have the driver "
            "installed (playbooks/configure.yml -e training_driver=true)."
        )
    if not 0 <= float(definition.get("grace", GRACE)) <= LONGEST_GRACE:
        problems.append(f"The grace of {definition['grace']} s is not between 0 and {LONGEST_GRACE}.")
    if problems:
        raise Refused(" ".join(problems))
    if sync and not shutil.which(tool):
        raise Refused(f"training_sync_to needs {tool}, which is not on this machine.", 4)


def interpreter(definition):
    """The path of the job's Python: of its conda environment (a name, or a path), or the one that was asked for."""
    python = pathlib.Path(definition.get("python") or "/usr/bin/python3").expanduser()
    conda = definition.get("conda")
    if not conda:
        return python
    prefix = python.parent.parent
    if "/" in conda:
        prefix = pathlib.Path(conda).expanduser()
    elif conda != "base":
        prefix = prefix / "envs" / conda
    return prefix / "bin" / "python"


def has_module(python, name):
    """Whether a Python could import something; asked without importing it, which may take seconds."""
    look = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is None)"
    return call([str(python), "-I", "-c", look]) is None


def prepare(name, request, check=False):
    """Agree on a job: decide whether it has to be started, and make room for what will be uploaded.

    `request`: {"definition": {...}, "environment": {...}, "rerun": bool, "replace": bool}. With `check` nothing is
    written. A definition with `resume` starts a job again that did not succeed, from the results that it has left; with
    `replace` a job that runs with another definition is cancelled first.
    Returns {"action": "start" or "none", "token", "upload_to", "copy_from", "job"}.
    Refused: for bad input, and for a name whose job runs with another definition.
    """
    if not NAME.fullmatch(name):
        raise Refused(f"'{Job(name).name}' is the name of an earlier run: give one without the dot.")
    definition, environment = request["definition"], request.get("environment") or {}
    check_definition(definition)
    job, rerun, replace = Job(name), bool(request.get("rerun")), bool(request.get("replace"))
    if replace and not check and job.exists():
        view = job.view()
        if view["state"] in ("queued", "running") and (rerun or view["digest"] != definition["digest"]):
            cancel(name)  # before the lock is taken: its runner may need it to end
    with lock():
        if job.folder.exists() and not job.exists():
            raise Refused(f"{job.folder} is there, but it is not a job of ours: give the job another name.")
        view = job.view() if job.exists() else None
        same = view is not None and view["digest"] == definition["digest"]
        state = view["state"] if view else None
        if state in ("queued", "running") and same and not rerun:
            return {"action": "none", "job": view, "policy": treat(job, definition, check)}
        if state in ("queued", "running") and not (replace and check):
            why = "a second run was asked for" if same else "what was asked for now is something else"
            raise Refused(
                f"Job '{name}' is {state} since {view['since']}, and {why}. Nothing was touched. Wait for it, give the "
                "new one a name of its own, or let it take the other's place: -e training_replace=true"
            )
        resumes = bool(definition.get("resume")) and state in ENDED and state != "succeeded"
        if state in ENDED and same and not rerun and not resumes:
            return {"action": "none", "job": view}
        copy_from, run, left = "", view["run"] if view else 1, ""
        if view and state != "uploading":
            run += 1
            kept = jobs_folder() / f"{name}.{view['run']}"
            copy_from = str((job.folder if check else kept) / "source")
            if not check:
                job.folder.rename(kept)
                left = kept.name if resumes else ""
        token = secrets.token_hex(8)
        if not check:
            if state == "uploading" and not same:
                shutil.rmtree(job.source, ignore_errors=True)
            job.folder.mkdir(mode=0o700, exist_ok=True)
            job.source.mkdir(exist_ok=True)
            write_json(job.folder / "environment", environment)
            state = {"state": "uploading", "since": now(), "run": run, "token": token, "left_by": left}
            write_json(job.folder / "state.json", state)
            write_json(job.folder / "job.json", definition)
        return {
            "action": "start",
            "token": token,
            "upload_to": str(job.source),
            "copy_from": copy_from,
            "job": job.view() if job.exists() else {"name": name, "state": "new", "run": run},
            "before": view,
        }


def treat(job, definition, check):
    """Treat a job that runs as it is now asked for; what has changed, as `key=value`."""
    before = job.definition
    changed = [key for key in POLICY if before.get(key) != definition.get(key)]
    if changed and not check:
        write_json(job.folder / "job.json", {**before, **{key: definition.get(key) for key in changed}})
    return [f"{key}={json.dumps(definition.get(key))}" for key in changed]


def gpus():
    """The NVIDIA GPUs of this machine as nvidia-smi tells: dictionaries; none without a working driver."""
    fields = ("index", "name", "utilization.gpu", "memory.used", "memory.total")
    try:
        told = subprocess.run(
            ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"],
            check=False,
            capture_output=True,
            text=True,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    if told.returncode:
        return []
    return [dict(zip(fields, map(str.strip, line.split(",")))) for line in told.stdout.splitlines() if line.strip()]


def gpu_memory():
    """MiB of GPU memory by process id."""
    query = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    with contextlib.suppress(OSError, ValueError, subprocess.TimeoutExpired):
        told = subprocess.run(query, check=False, capture_output=True, text=True, timeout=20).stdout
        return {int(pid): int(size) for pid, size in (line.split(",") for line in told.splitlines() if "," in line)}
    return {}


def processor_seconds(pids):
    """CPU time that processes have taken together."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError, IndexError, ValueError):
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
            ticks += sum(map(int, fields.rpartition(")")[2].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def add_use(views):
    """Say of jobs that run how much CPU (in % of one core, over a moment) and GPU memory (MiB) they use."""
    running = {view["name"]: [view["pid"], *descendants(view["pid"])] for view in views if view.get("pid")}
    if not running:
        return
    before, began = {name: processor_seconds(pids) for name, pids in running.items()}, time.monotonic()
    memory = gpu_memory() if shutil.which("nvidia-smi") else {}
    time.sleep(max(0, 0.25 - (time.monotonic() - began)))
    for view in views:
        if pids := running.get(view["name"]):
            used = processor_seconds(pids) - before[view["name"]]
            view["cpu_percent"] = max(0, round(100 * used / (time.monotonic() - began)))
            if memory:
                view["gpu_memory"] = sum(memory.get(pid, 0) for pid in pids)


# -- start: hand it to the launcher ---------------------------------------------------------------------------------
def repair(job):
    """Make scripts from other systems run: `\\n` for `\\r\\n`, and a run bit. The controller has found them."""
    definition = job.definition
    for relative in definition.get("crlf", []):
        path = job.source / relative
        path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n"))
    for relative in [*definition.get("not_executable", []), *definition.get("crlf", [])]:
        path = job.source / relative
        with path.open("rb") as stream:
            if stream.read(2) == b"#!":
                path.chmod(path.stat().st_mode | 0o100)


def unit(name):
    """The systemd unit of a job."""
    return f"lightsout-job@{name}.service"


def launch(job):
    """Let systemd or screen call `lightsout-job run NAME`; None, or what went wrong."""
    definition = job.definition
    limits = [f"{key}={value}" for key, value in (definition.get("limits") or {}).items()]
    if definition["launcher"] == "systemd":
        if limits:
            complaint = call(as_root("systemctl", "set-property", "--runtime", unit(job.name), *limits))
            if complaint:
                return complaint
        verb = "enable" if definition.get("reboot") else "disable"
        if verb == "enable" or enabled(job.name):
            complaint = call(as_root("systemctl", "--quiet", verb, unit(job.name)))
        else:
            complaint = None
        return complaint or call(as_root("systemctl", "start", unit(job.name)))
    screen = ["screen", "-U", "-d", "-m", "-S", job.name, str(pathlib.Path(__file__).resolve()), "run", job.name]
    if limits:
        scope = ["systemd-run", "--quiet", "--scope", "--collect", f"--uid={os.getuid()}", f"--gid={os.getgid()}"]
        properties = [f"--property={limit}" for limit in limits]
        home = [f"--setenv=HOME={pathlib.Path.home()}", "--setenv=LANG=C.UTF-8"]
        return call(as_root(*scope, *properties, *home, *screen))
    return call(screen)


def enabled(name):
    """Whether systemd starts a job at boot."""
    return pathlib.Path(f"/etc/systemd/system/multi-user.target.wants/{unit(name)}").is_symlink()


def start(name, token=None, rendezvous=None):
    """Start an uploaded job and look on for a moment; returns its view.

    `rendezvous`: what torchrun on all machines of the job calls this run.
    Refused: when somebody else has prepared the same name since, or the launcher does not take it.
    """
    job = Job.existing(name)
    with lock():
        state = job.state
        if state.get("state") != "uploading":
            return {"changed": False, "job": job.view()}
        if token and state.get("token") != token:
            raise Refused(f"Another run of train.yml took job '{name}' over a moment ago: see playbooks/jobs.yml.", 1)
        repair(job)
        if not job.results.suffix:
            job.results.mkdir(parents=True, exist_ok=True)
        for leftover in ("cancel", "log"):
            (job.folder / leftover).unlink(missing_ok=True)
        if state.get("left_by"):
            earlier = Job(state["left_by"]).results
            if earlier.is_dir():
                shutil.copytree(earlier, job.results, symlinks=True, dirs_exist_ok=True)
        launcher = job.definition["launcher"]
        job.save(
            state="queued",
            since=now(),
            queued=time.time(),
            boot_id=boot_id(),
            launcher=launcher,
            rendezvous=rendezvous or token,
            reason="",
        )
        complaint = launch(job)
        if complaint:
            job.save(state="failed", since=now(), ended=now(), reason=f"it could not be started: {complaint}")
            raise Refused(f"Job '{name}' could not be started: {complaint}", 1)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        view = job.view()
        if view["state"] != "queued" or view["reason"]:  # the reason is for whom it waits
            break
        time.sleep(0.05)
    moment = time.monotonic() + FIRST_MOMENTS
    while job.view()["state"] == "running" and time.monotonic() < moment:
        time.sleep(0.05)
    return {"changed": True, "job": job.view()}


# -- run: what the launcher calls -----------------------------------------------------------------------------------
def job_environment(job):
    """Everything that the command sees of the environment: a dictionary."""
    definition = job.definition
    python = interpreter(definition)
    person = pwd.getpwuid(os.getuid())
    folders = [str(python.parent), f"{person.pw_dir}/.local/bin", "/usr/local/cuda/bin", "/usr/local/sbin"]
    folders += ["/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    environment = {
        "PATH": ":".join(folders),
        "HOME": person.pw_dir,
        "USER": person.pw_name,
        "LOGNAME": person.pw_name,
        "SHELL": person.pw_shell or "/bin/sh",
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "LIGHTSOUT_JOB": job.name,
        "LIGHTSOUT_RESULTS": str(job.results),
        "LIGHTSOUT_RESTARTS": str(job.state.get("restarts", 0)),
    }
    for key in ("TERM", "STY", "WINDOW"):  # screen's own
        if key in os.environ:
            environment[key] = os.environ[key]
    meeting = definition.get("rendezvous")
    if meeting:
        environment.update(LIGHTSOUT_NODE=str(definition["node"]), LIGHTSOUT_NODES=str(definition["torchrun"]["nodes"]))
        # Machines that were there before keep the store of the first round otherwise, and one that comes back waits in
        # vain to be told of it (seen with PyTorch 2.13: dynamic_rendezvous.py, `_bootstrap_store_info`).
        environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
        interface = interface_of(meeting["address"])
        if interface:  # left to themselves, they take the one that the host's name leads to: often the loopback
            environment.update(GLOO_SOCKET_IFNAME=interface, NCCL_SOCKET_IFNAME=interface)
    if definition.get("conda"):
        prefix = python.parent.parent
        environment.update(CONDA_PREFIX=str(prefix), CONDA_DEFAULT_ENV=prefix.name, CONDA_SHLVL="1")
    environment.update({key: str(value) for key, value in read_json(job.folder / "environment").items()})
    return environment


def interface_of(address):
    """The network interface that has an IPv4 address; None if there is none."""
    told = subprocess.run(["ip", "-json", "-4", "address"], check=False, capture_output=True, text=True, timeout=20)
    for interface in json.loads(told.stdout or "[]"):
        if any(entry.get("local") == address for entry in interface.get("addr_info", [])):
            return interface["ifname"]
    return None


def program(job):
    """What to execute in the job's working directory: (whether it is a script for Python, the words)."""
    definition = job.definition
    if not definition.get("script"):
        return False, ["/bin/bash", "-c", definition["command"]]
    script = job.source / definition["script"]
    arguments = definition.get("arguments", [])
    path = os.path.relpath(script, job.directory)
    with script.open("rb") as stream:
        shebang = stream.read(2) == b"#!"
    if path.startswith("-"):
        path = f"./{path}"
    if path.endswith(".py"):
        return True, [path, *arguments]
    return False, [*([str(script)] if shebang else ["/bin/bash", path]), *arguments]


def torchrun(job):
    """PyTorch's own launcher, which makes one job of the processes on this machine and those on the others."""
    definition, asked = job.definition, job.definition["torchrun"]
    words = [str(interpreter(definition)), "-m", "torch.distributed.run"]
    words += [f"--nproc-per-node={asked.get('processes') or len(gpus()) or 1}"]
    words += [f"--max-restarts={int(definition.get('restarts') or 0)}"]
    if asked["nodes"] == 1:
        return [*words, "--standalone"]
    meeting = definition["rendezvous"]
    patience = f"join_timeout={meeting['timeout']},read_timeout={meeting['timeout']}"
    return [
        *words,
        f"--nnodes={asked['least']}:{asked['nodes']}",
        "--rdzv-backend=c10d",
        f"--rdzv-id={job.state['rendezvous']}",
        f"--rdzv-endpoint={meeting['endpoint']}",
        f"--rdzv-conf=is_host={int(definition['node'] == 1)},{patience}",
        f"--local-addr={meeting['address']}",
    ]


def command_line(job):
    """What to execute: a list, in the job's working directory."""
    definition = job.definition
    is_python, command = program(job)
    if definition.get("torchrun"):
        command = [*torchrun(job), *([] if is_python else ["--no-python"]), *command]
    elif is_python:
        command = [str(interpreter(definition)), *command]
    if definition.get("conda"):
        # What `conda activate` does besides PATH: the scripts that packages leave there.
        hooks = (
            'for hook in "$CONDA_PREFIX"/etc/conda/activate.d/*.sh; do [ ! -r "$hook" ] || . "$hook"; done; exec "$@"'
        )
        command = ["/bin/bash", "-c", hooks, "lightsout-job", *command]
    return command


class Sync:
    """Brings a job's results to their place: now and then while it runs, in a process beside it, and at its end."""

    def __init__(self, job, note):
        self.job = job
        self.note = note
        self.process = None
        self.sessions = set()
        self.due = time.monotonic() + self.interval
        self.complained = False

    @property
    def settings(self):
        """`to` and the rest; {} when nothing is synced. They may change while the job runs."""
        return self.job.definition.get("sync") or {}

    @property
    def interval(self):
        """Seconds between two syncs."""
        return float(self.settings.get("interval") or SYNC_INTERVAL)

    def call(self, *words):
        """Start lightsout-sync, which lies beside this file; what it complains of goes to the job's folder."""
        here = pathlib.Path(__file__).resolve()
        program = here.with_name(here.name.replace("job", "sync"))
        with (self.job.folder / "sync.log").open("w", encoding="utf-8") as complaints:
            process = subprocess.Popen(
                [sys.executable, "-I", str(program), *words, str(self.job.folder)],
                stdin=subprocess.DEVNULL,
                stdout=complaints,
                stderr=complaints,
                start_new_session=True,
            )
        self.sessions.add(process.pid)
        return process

    def owns(self, pid):
        """Whether a process is a sync's, also one that outlives the one that started it."""
        return bool(self.sessions) and session_of(pid) in self.sessions

    def begin(self):
        """Sync once, beside the job; one at a time."""
        self.due = time.monotonic() + self.interval
        if self.settings and not self.process:
            self.process = self.call("push")

    def ended(self, status):
        """The process is gone."""
        self.process = None
        code = os.waitstatus_to_exitcode(status)
        if code and not self.complained:
            self.note(f"the results could not be brought to {self.settings.get('to')}: {self.complaint(code)}")
        self.complained = bool(code)

    def complaint(self, code):
        """What the sync complained of first; the rest follows from it."""
        with contextlib.suppress(OSError):
            lines = (self.job.folder / "sync.log").read_text(encoding="utf-8", errors="replace").split("\n")
            told = [line for line in lines if line.strip()]
            if told:
                return told[0].strip()
        return f"exit code {code}"

    def at_once(self, *words):
        """Sync now, and wait for it; None when it worked, else the complaint."""
        if self.process:
            self.process.wait()
            self.process = None
        code = self.call(*words).wait()
        return self.complaint(code) if code else None

    def last(self):
        """When the job has ended: everything, verified. Writes down whether the results are safe."""
        if not self.settings:
            return
        complaint = self.at_once("push", "--verify")
        self.job.save(synced={"at": now(), "to": self.settings["to"], "ok": complaint is None})
        self.note(
            f"the results are at {self.settings['to']}/{self.job.name}"
            if complaint is None
            else f"the results are NOT safe, {self.settings['to']}: {complaint}"
        )


class Runner:
    """Runs one job in this process: starts the command, keeps the record, passes signals on.

    With a terminal (screen) the output goes there and to the log; without one straight to the log.
    """

    def __init__(self, job):
        self.job = job
        self.terminal = os.isatty(1)
        self.asked_to_end = None  # the signal, once somebody wants the end
        self.interruption = None  # when the spot machine goes, once AWS has said it
        self.kill_at = None  # monotonic time
        self.notice_due = None  # monotonic time; None where no machine is taken away
        self.child = None
        self.status = None  # as waitpid gives it
        self.log = None
        self.copier = None
        self.sync = Sync(job, self.note)

    def note(self, text):
        """One line of ours in the log (and on the terminal)."""
        line = f"{MARK}{text}\n".encode()
        with contextlib.suppress(OSError):  # a full disk must not end the job's record
            os.write(self.log, line)
        if self.terminal:
            with contextlib.suppress(OSError):
                os.write(1, line)

    def run(self):
        """Run it to its end; returns the exit code."""
        job, state = self.job, self.job.state
        definition = job.definition
        # Whoever starts it anew makes it `queued`; systemd at boot finds it as the end of the machine has left it.
        goes_on = bool(definition.get("reboot")) and job.view()["state"] == "lost"
        if state.get("state") in ENDED and not goes_on:
            return state.get("exit_code") or 0  # systemd starts it at boot, but it has ended long ago
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        # Orphans of the command become ours, so that none can hide from the end of the job.
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.log = os.open(job.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        if (job.folder / "cancel").exists():
            return self.finish("cancelled", reason="cancelled before it began")
        if not self.wait_for_turn():
            return self.finish(
                *(
                    ("lost", None, "the machine was shut down")
                    if going_down()
                    else ("cancelled", None, "it had to wait")
                )
            )
        again = ", after a restart of the machine" if goes_on else ""
        self.note(f"job {job.name}, run {job.state.get('run', 1)}, began {now()}{again}: {shown(definition)}")
        if definition.get("resume") and self.sync.settings and not goes_on:
            complaint = self.sync.at_once("pull")
            if complaint:
                return self.finish("failed", reason=f"the earlier results could not be had: {complaint}")
            self.note(f"goes on from the results at {self.sync.settings['to']}/{job.name}")
        self.reserve(RESERVE)
        while True:
            kills = oom_kills()
            try:
                self.spawn(command_line(job), job_environment(job))
            except (OSError, subprocess.SubprocessError) as error:
                code = 126 if isinstance(error, PermissionError) else 127
                return self.finish("failed", exit_code=code, reason=f"it could not be executed: {error}")
            self.record_start()
            if self.notice_due is None and metadata("instance-life-cycle") == "spot":
                self.notice_due = time.monotonic()
            while self.status is None:
                self.wait_for_signal()
            self.sweep_up()
            if self.copier:
                self.copier.join(timeout=5)
            self.hear_late()
            if not self.starts_again():
                break
        code = self.judge(oom_kills() > kills)
        self.sync.last()
        self.call_after()
        return code

    def wait_for_turn(self):
        """In a queue, wait for those that were there before; False when somebody wants the end meanwhile."""
        queue = self.job.definition.get("queue")
        if not queue:
            return True
        mine = self.job.save(**self.identity())["queued"]
        told = None
        while True:
            before = [
                other.name
                for other in all_jobs()
                if other.name != self.job.name
                and other.definition.get("queue") == queue
                and other.view()["state"] in ("queued", "running")
                and other.state.get("queued", 0) < mine
            ]
            if before != told:
                told = before
                waits = f"waits for {', '.join(before)} in the queue '{queue}'" if before else ""
                self.job.save(reason=waits)
                if waits:
                    self.note(waits)
            if not before:
                return True
            caught = signal.sigtimedwait(SIGNALS, QUEUE_POLL)
            if caught and caught.si_signo != signal.SIGCHLD:
                return False

    @staticmethod
    def identity():
        """What tells this runner from any other process."""
        return {"runner_pid": os.getpid(), "runner_started": start_ticks(os.getpid()), "boot_id": boot_id()}

    def reserve(self, size):
        """Take room on the disk, or with 0 give it back: a job that fills the disk must not take its record with it."""
        path = self.job.folder / ".reserve"
        if not size:
            path.unlink(missing_ok=True)
            return
        with contextlib.suppress(OSError), path.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, size)

    def record_start(self):
        """The command runs."""
        state = self.job.state
        self.job.save(
            state="running",
            since=now(),
            started=state.get("started") or now(),
            ended=None,
            reason="",
            pid=self.child.pid,
            pid_started=start_ticks(self.child.pid),
            **self.identity(),
        )

    def starts_again(self):
        """Whether a command that failed is started again; waits until it is time."""
        definition, restarts = self.job.definition, self.job.state.get("restarts", 0)
        code = os.waitstatus_to_exitcode(self.status)
        most = int(definition.get("restarts") or 0)
        wanted = self.asked_to_end or self.interruption or (self.job.folder / "cancel").exists()
        if code == 0 or wanted or restarts >= most or (code == -signal.SIGINT and self.terminal):
            return False
        if code > 0 and definition.get("torchrun"):  # it has started its workers anew by itself, as often as it may
            return False
        first = definition.get("restart_delay")
        delay = min((RESTART_DELAY if first is None else float(first)) * 2**restarts, RESTART_LATEST)
        how = f"exit code {code}" if code >= 0 else f"SIG{signal_name(-code)}"
        self.note(f"failed ({how}): starting it again in {duration(delay)}, {restarts + 1} of {most}")
        self.job.save(restarts=restarts + 1)
        deadline = time.monotonic() + delay
        while time.monotonic() < deadline:
            caught = signal.sigtimedwait(SIGNALS, max(0, deadline - time.monotonic()))
            if caught and caught.si_signo != signal.SIGCHLD:
                self.asked_to_end = caught.si_signo
                return False
        self.status = None
        return True

    def call_after(self):
        """systemd calls `after` by itself (ExecStopPost); in screen we have to."""
        wanted = (self.job.definition.get("then") or "nothing") != "nothing" or WISH.exists()
        if wanted and self.job.definition.get("launcher") == "screen":
            jobs = f"--setenv=LIGHTSOUT_JOBS={jobs_folder()}"
            program = str(pathlib.Path(__file__).resolve())
            complaint = call(
                as_root("systemd-run", "--quiet", "--no-block", "--collect", jobs, program, "after", self.job.name)
            )
            if complaint:
                self.note(f"the machine cannot be stopped: {complaint}")

    def spawn(self, command, environment):
        """Start the command in a process group of its own; on a terminal it gets the keyboard."""
        terminal = os.dup(1)  # in the child, 1 is the pipe by then

        def in_child():
            os.setpgid(0, 0)
            for number in (signal.SIGINT, signal.SIGQUIT):  # background commands of a shell ignore them
                signal.signal(number, signal.SIG_DFL)
            if self.terminal:
                signal.signal(signal.SIGTTOU, signal.SIG_IGN)
                os.tcsetpgrp(terminal, os.getpgrp())
                signal.signal(signal.SIGTTOU, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

        self.child = subprocess.Popen(
            command,
            cwd=self.job.directory,
            env=environment,
            stdin=None if self.terminal else subprocess.DEVNULL,
            stdout=subprocess.PIPE if self.terminal else self.log,
            stderr=subprocess.STDOUT,
            preexec_fn=in_child,  # noqa: PLW1509 - the only thread is started below
        )
        with contextlib.suppress(OSError):  # when memory runs out, the command goes first and the record stays
            pathlib.Path(f"/proc/{self.child.pid}/oom_score_adj").write_text("300", encoding="ascii")
        if self.terminal:
            self.copier = threading.Thread(target=self.copy_output, daemon=True)
            self.copier.start()

    def copy_output(self):
        """From the command to the log and the terminal, until the last writer is gone."""
        while True:
            block = os.read(self.child.stdout.fileno(), 65536)
            if not block:
                return
            with contextlib.suppress(OSError):
                os.write(self.log, block)
            with contextlib.suppress(OSError):
                os.write(1, block)

    def wait_for_signal(self):
        """Sleep until something happens or is due, and deal with it."""
        due = [self.kill_at, self.notice_due, self.sync.due if self.sync.settings else None]
        timeout = min((moment - time.monotonic() for moment in due if moment is not None), default=3600)
        caught = signal.sigtimedwait(SIGNALS, max(0.0, min(timeout, 3600)))
        if caught is None:
            self.do_what_is_due()
        elif caught.si_signo == signal.SIGCHLD:
            self.reap()
        elif self.asked_to_end is None:
            self.asked_to_end = caught.si_signo
            self.note(f"asked to end ({signal_name(caught.si_signo)}); it has {duration(self.grace)} to save its work")
            self.end_within(self.grace)

    def do_what_is_due(self):
        """Kill, look for a notice, sync."""
        moment = time.monotonic()
        if self.kill_at and moment >= self.kill_at:
            self.note(f"it did not end by itself: killing it after {duration(self.grace)}")
            self.signal_all(signal.SIGKILL)
            self.kill_at = None
        if self.notice_due is not None and moment >= self.notice_due:
            self.look_for_notice()
        if self.sync.settings and moment >= self.sync.due:
            self.sync.begin()

    def look_for_notice(self):
        """AWS says two minutes before that it takes a spot machine away."""
        self.notice_due = time.monotonic() + NOTICE_POLL
        told = metadata("spot/instance-action")
        if not told:
            return
        try:
            self.interruption = json.loads(told)["time"]
            left = seconds_of(self.interruption) - time.time()
        except (KeyError, TypeError, ValueError):
            return
        self.notice_due = None
        grace = max(1, min(self.grace, left - LAST_SYNC))
        self.note(f"AWS takes this spot machine away at {self.interruption}: {duration(grace)} to save the work")
        self.end_within(grace)

    def end_within(self, seconds):
        """Ask the command to end; it is killed when it does not."""
        self.kill_at = time.monotonic() + seconds
        self.signal_all(signal.SIGTERM)

    @property
    def grace(self):
        """Seconds from TERM to KILL: as the one who cancels wants it, or as the job was defined."""
        wanted = read_json(self.job.folder / "cancel").get("grace")
        return float(self.job.definition.get("grace", GRACE) if wanted is None else wanted)

    def signal_all(self, number):
        """Signal the command and everything below it."""
        for pid in self.below():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def below(self):
        """The processes of the job: all below this one but for a sync."""
        return [pid for pid in descendants(os.getpid()) if not self.sync.owns(pid)]

    def reap(self):
        """Collect all children that have ended; the command's own status is kept."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.child.pid:
                self.status = status
                self.child.returncode = os.waitstatus_to_exitcode(status)
            elif self.sync.process and pid == self.sync.process.pid:
                self.sync.process.returncode = os.waitstatus_to_exitcode(status)
                self.sync.ended(status)

    def sweep_up(self):
        """End what the command has left running: the job is over when its command is.

        Whoever was asked to end keeps the grace that was promised: a shell dies of TERM at once, while the Python
        below it may still be saving.
        """
        if self.below() and not (self.asked_to_end or self.interruption):
            self.note(f"ending {len(self.below())} process(es) that the command left running")
            self.signal_all(signal.SIGTERM)
        deadline = self.kill_at or time.monotonic() + 5
        while self.below():
            if time.monotonic() >= deadline:
                self.signal_all(signal.SIGKILL)
            signal.sigtimedwait({signal.SIGCHLD}, 0.1)
            self.reap()

    def hear_late(self):
        """Whoever ends everything may have come to the command first."""
        if os.WIFSIGNALED(self.status) and self.asked_to_end is None:
            caught = signal.sigtimedwait(SIGNALS - {signal.SIGCHLD}, 0.3)
            self.asked_to_end = caught.si_signo if caught else None

    def judge(self, out_of_memory):
        """Say how it ended, write it down, and return the exit code."""
        code = os.waitstatus_to_exitcode(self.status)
        number, reason = (-code, f"ended by SIG{signal_name(-code)}") if code < 0 else (None, "")
        code = 128 + number if number else code
        wanted = (self.job.folder / "cancel").exists()
        # Ctrl-C in the attached screen goes to the command alone.
        outside = self.asked_to_end or (number == signal.SIGINT and self.terminal)
        if self.interruption:
            state, reason = "interrupted", f"AWS took the spot machine away at {self.interruption}"
        elif wanted:
            state, reason = "cancelled", reason or "it was cancelled, and ended by itself"
        elif out_of_memory and (number == signal.SIGKILL or outside):  # OOMPolicy=stop asks what is left to end
            state, reason = "failed", "the machine ran out of memory and the kernel killed it"
        elif outside and going_down():
            state, reason = "lost", "the machine was shut down"
        elif outside:
            state, reason = "cancelled", f"ended from outside (SIG{signal_name(self.asked_to_end or number)})"
        else:
            state = "succeeded" if code == 0 else "failed"
            disk = os.statvfs(self.job.folder)
            if code and disk.f_bavail * disk.f_frsize < RESERVE:
                reason = reason or "the disk is full"
        return self.finish(state, exit_code=code, signal=signal_name(number) if number else None, reason=reason)

    def finish(self, state, exit_code=None, reason="", **more):
        """The last line of the log, then the last state: whoever sees the state then sees the whole log."""
        self.reserve(0)
        ended = now()
        took = ""
        if started := self.job.state.get("started"):
            took = f" after {duration(seconds_of(ended) - seconds_of(started))}"
        code = "" if exit_code is None else f", exit code {exit_code}"
        self.note(f"{state}{took}{code}{': ' + reason if reason else ''} ({ended})")
        self.job.save(
            state=state, since=ended, ended=ended, exit_code=exit_code, reason=reason, runner_pid=None, pid=None, **more
        )
        return 143 if exit_code is None else exit_code


# -- after: what becomes of the machine -------------------------------------------------------------------------------
def active():
    """The names of the jobs that run or wait."""
    return [job.name for job in all_jobs() if job.view()["state"] in ("uploading", "queued", "running")]


def say(job, text):
    """A line of ours in a job's log."""
    with job.log.open("a", encoding="utf-8") as stream:
        stream.write(f"{MARK}{text}\n")


def after(name):
    """When a job's runner has ended, as root: bring about what was wished for then, once no other job runs.

    Nothing is done for a job that somebody cancelled: they are there. Nor for one whose machine goes anyway.
    """
    job = Job.existing(name)
    view, definition = job.view(), job.definition
    if enabled(name) and view["state"] != "lost":
        call(["systemctl", "--quiet", "disable", unit(name)])
    then = definition.get("then") or "nothing"
    if then != "nothing" and view["state"] in ("succeeded", "failed"):
        if then == "terminate" and not (view["synced"] or {}).get("ok"):
            say(job, "the machine is not terminated, as the results are not safe")
        else:
            WISH.write_text(then, encoding="ascii")
    if not WISH.exists() or active():
        return
    delay = definition.get("then_delay")
    delay = LAST_MINUTE if delay is None else int(delay)
    wish = {"stop": "stops", "terminate": "is terminated"}[WISH.read_text(encoding="ascii")]
    stay = "sudo systemctl stop lightsout-power-off.timer"
    say(job, f"the machine {wish} in {duration(delay)}; to keep it: {stay}")
    call(["wall", f"Lightsout: all jobs have ended, and this machine {wish} in {duration(delay)}. To keep it: {stay}"])
    timer = ["systemd-run", "--quiet", "--collect", "--unit=lightsout-power-off", f"--on-active={delay}"]
    again = [f"--setenv=LIGHTSOUT_JOBS={jobs_folder()}", str(pathlib.Path(__file__).resolve()), "power-off"]
    complaint = call([*timer, "--timer-property=AccuracySec=1s", *again])
    if complaint:
        say(job, f"the machine cannot be stopped: {complaint}")


def kept():
    """Whether somebody asked to keep the machine awake (`lightsout-autostop keep`)."""
    return read_json(KEEP).get("until", 0) > time.clock_gettime(time.CLOCK_BOOTTIME)


def power_off():
    """The end of the last minute: stop the machine, unless something runs again or somebody keeps it."""
    if not active() and not kept():
        call(["systemctl", "poweroff"])


# -- cancel, watch, results -----------------------------------------------------------------------------------------
def cancel(name, grace=None, check=False):
    """Ask a job to end, wait, and make it end; returns {"changed", "job"}."""
    job = Job.existing(name)
    view = job.view()
    if view["state"] == "uploading":
        if not check:
            job.save(state="cancelled", since=now(), ended=now(), reason="cancelled before it began")
        return {"changed": True, "job": view if check else job.view()}
    if view["state"] in ENDED:
        return {"changed": False, "job": view}
    if grace is not None and not 0 <= grace <= LONGEST_GRACE:
        raise Refused(f"The grace of {grace:g} s is not between 0 and {LONGEST_GRACE}.")
    if check:
        return {"changed": True, "job": view}
    write_json(job.folder / "cancel", {"at": now(), "grace": grace})
    patience = float(job.definition.get("grace", GRACE)) if grace is None else grace
    deadline = time.monotonic() + patience + 10
    asked = False
    while time.monotonic() < deadline:
        state = job.state
        if job.view()["state"] in ENDED:
            break
        if state.get("runner_pid") and not asked:
            with contextlib.suppress(ProcessLookupError):
                os.kill(state["runner_pid"], signal.SIGTERM)
            asked = True
        time.sleep(0.05)
    else:
        end_by_force(job)
    wait_for_unit(job)
    if enabled(name):
        call(as_root("systemctl", "--quiet", "disable", unit(name)))
    return {"changed": True, "job": job.view()}


def end_by_force(job):
    """The runner itself does not answer: end everything that belongs to the job."""
    state = job.state
    pid = state.get("runner_pid")
    if pid and start_ticks(pid) == state.get("runner_started"):
        for each in [*descendants(pid), pid]:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(each, signal.SIGKILL)
    if job.definition.get("launcher") == "systemd":
        call(as_root("systemctl", "kill", "--signal=KILL", unit(job.name)))
    why = "it was killed together with its runner, which did not answer"
    job.save(state="cancelled", since=now(), ended=now(), exit_code=137, signal="KILL", reason=why)


def wait_for_unit(job):
    """The record is written a moment before the runner exits: let the unit go, so that a new start finds it free."""
    if job.definition.get("launcher") != "systemd":
        return
    for _ in range(100):
        if call(["systemctl", "--quiet", "is-active", unit(job.name)]) is not None:
            return
        time.sleep(0.05)


def watch(name, offset, seconds, lines):
    """What a follower needs: wait for news of a job, at most `seconds`; returns {"job", "offset", "text"}.

    `offset`: where the last answer ended; None to begin with the last `lines` lines.
    """
    job = Job.existing(name)
    if offset is None:
        text = "".join(f"{line}\n" for line in job.last_lines(lines))
        return {"job": job.view(), "offset": job.log.stat().st_size if job.log.exists() else 0, "text": text}
    deadline = time.monotonic() + seconds
    while True:
        view = job.view()  # before the log: what is written until the end is then in it
        size = job.log.stat().st_size if job.log.exists() else 0
        if size < offset:  # another run has begun
            offset = 0
        if size > offset or view["state"] in ENDED or time.monotonic() >= deadline:
            break
        time.sleep(0.1)
    block = b""
    if size > offset:
        with job.log.open("rb") as stream:
            stream.seek(offset)
            block = stream.read(min(size - offset, CHUNK))
        if view["state"] not in ENDED or len(block) == CHUNK:  # whole lines only, if there is one
            end = max(block.rfind(b"\n"), block.rfind(b"\r")) + 1
            block = block[: end or len(block)]
    more = offset + len(block) < size
    return {"job": view, "offset": offset + len(block), "text": block.decode("utf-8", "replace"), "more": more}


def checksum(path):
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def walk(folder):
    """Everything below a folder that is no folder: pairs of path and stat; folders that are links are links."""
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from walk(entry.path)
            else:
                with contextlib.suppress(FileNotFoundError):  # a checkpoint that was rotated away meanwhile
                    yield entry.path, entry.stat(follow_symlinks=False)


def checksums(files, memory):
    """SHA-256 of files: a dictionary. What was read before and has not changed since is not read again.

    As git does, a file is known again by size, times and inode, but not if it changed in the two seconds before it was
    read. `files`: pairs of path and stat. `memory`: the file in which the checksums are kept.
    """
    before, after, found = read_json(memory), {}, {}
    settled = time.time_ns() - 2_000_000_000
    for path, status in files:
        mark = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        known = before.get(path)
        with contextlib.suppress(FileNotFoundError):
            found[path] = known[1] if known and known[0] == mark else checksum(pathlib.Path(path))
            if max(mark[1:3]) < settled:
                after[path] = [mark, found[path]]
    if after != before:
        with contextlib.suppress(OSError):  # a full disk: it is only quicker with it
            memory.write_text(json.dumps(after), encoding="utf-8")
    return found


def results(name):
    """What there is to fetch: {"job", "root", "files": {path: entry}, "log": entry or None}.

    An entry is what a copy is compared with: a link's target, or a file's checksum, size and time.
    """
    job = Job.existing(name)
    view, root = job.view(), job.results
    single = root.is_file()
    files = [(str(root), root.stat())] if single else list(walk(root))
    log = [(str(job.log), job.log.stat())] if job.log.exists() else []
    regular = {path: entry for path, entry in files + log if S_ISREG(entry.st_mode)}
    digests = checksums(regular.items(), job.folder / ".checksums.json")
    entries = {
        path: {"sha256": digest, "size": regular[path].st_size, "mtime": regular[path].st_mtime}
        for path, digest in digests.items()
    }
    for path, entry in files:
        if S_ISLNK(entry.st_mode):
            entries[path] = {"link": str(pathlib.Path(path).readlink())}
    start = len(str(root.parent if single else root)) + 1
    return {
        "job": view,
        "root": str(root) if single else f"{root}/",
        "log": entries.pop(str(job.log), None),
        "files": {path[start:]: entry for path, entry in entries.items()},
    }


# -- the command line -----------------------------------------------------------------------------------------------
def table(views):
    """The jobs as a table: a list of lines."""
    if not views:
        return ["No job has been trained here yet."]
    gpu = any("gpu_memory" in view for view in views)
    rows = [("JOB", "STATE", "SINCE (UTC)", "RAN", "EXIT", "CPU", *["GPU MEMORY"] * gpu, "LAST LINE")]
    for view in views:
        since = (view["since"] or "").replace("T", " ").rstrip("Z")[:16]
        code = "" if view["exit_code"] is None else str(view["exit_code"])
        silent = view["state"] in ("lost", "cancelled", "interrupted", "queued") or not view["last_line"]
        last = view["reason"] if silent else view["last_line"]
        cpu = f"{view['cpu_percent']} %" if "cpu_percent" in view else ""
        memory = [f"{view['gpu_memory']} MiB" if "gpu_memory" in view else ""] * gpu
        rows.append((view["name"], view["state"], since, view["ran"], code, cpu, *memory, last[:80]))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip() for row in rows]


def follow(name, lines):
    """Print a job's log as it grows, until the job ends; returns 0."""
    answer = watch(name, None, 0, lines)
    while True:
        sys.stdout.write(answer["text"])
        sys.stdout.flush()
        if answer["job"]["state"] in ENDED and not answer.get("more"):
            return 0
        answer = watch(name, answer["offset"], 60, lines)


def arguments():
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="lightsout-job",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=argparse.SUPPRESS,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", title="verbs", help=argparse.SUPPRESS)

    def verb(name, *options, job=True):
        sub = verbs.add_parser(name)
        if job:
            sub.add_argument("name", metavar="NAME")
        for flags, settings in options:
            sub.add_argument(*flags, **settings)

    as_json = (["--json"], {"action": "store_true", "help": "one JSON object"})
    check = (["--check"], {"action": "store_true", "help": "only say what would happen"})
    lines = (["-n", "--lines"], {"type": int, "default": 20, "metavar": "LINES"})
    verb("list", as_json, (["--all"], {"action": "store_true", "help": "earlier runs too"}), job=False)
    verb("log", lines, (["-f", "--follow"], {"action": "store_true"}))
    verb("cancel", (["--grace"], {"type": float, "metavar": "SECONDS"}), as_json, check)
    verb("start", (["--token"], {}), (["--rendezvous"], {}), as_json)
    verb("run")
    verb("after")
    verb("power-off", job=False)
    version = {"metavar": "SHA256", "help": "refuse (4) unless this is the checksum of this file"}
    verb("prepare", check, (["--version"], version))
    verb("watch", (["--offset"], {"type": int}), (["--seconds"], {"type": float, "default": 0.0}), lines)
    verb("results")
    return parser


def answer(options):
    """Do what was asked; returns (exit code, text or object to print or None)."""
    if options.verb == "list":
        views = [job.view() for job in all_jobs()]
        views = [view for view in views if options.all or not view["earlier"]]
        add_use(views)
        return 0, {"jobs": views} if options.json else "\n".join(table(views))
    if options.verb == "log":
        if options.follow:
            return follow(options.name, options.lines), None
        return 0, "\n".join(Job.existing(options.name).last_lines(options.lines))
    if options.verb == "after":
        return 0, after(options.name)
    if options.verb == "power-off":
        return 0, power_off()
    if options.verb == "run":
        return Runner(Job.existing(options.name)).run(), None
    if options.verb == "prepare":
        if options.version not in (None, checksum(pathlib.Path(__file__))):
            raise Refused("This is another version of lightsout-job than the one asked for.", 4)
        return 0, prepare(options.name, json.load(sys.stdin), options.check)
    if options.verb == "watch":
        return 0, watch(options.name, options.offset, options.seconds, options.lines)
    if options.verb == "results":
        return 0, results(options.name)
    if options.verb == "start":
        done = start(options.name, options.token, options.rendezvous)
    else:
        done = cancel(options.name, options.grace, options.check)
    view = done["job"]
    text = f"Job '{view['name']}' is {view['state']}{': ' + view['reason'] if view['reason'] else ''}."
    return 0, done if options.json else text


def main():
    """Exit code of one call."""
    options = arguments().parse_args()
    try:
        code, out = answer(options)
    except Refused as refusal:
        print(f"lightsout-job: {refusal}", file=sys.stderr)
        return refusal.code
    if out is not None:
        print(out if isinstance(out, str) else json.dumps(out))
    return code


if __name__ == "__main__":
    sys.exit(main())
