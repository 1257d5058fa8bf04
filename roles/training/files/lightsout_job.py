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

    For the playbooks, in JSON: prepare, watch, results.

FILES
    ~/jobs/NAME/
        source/       what was uploaded; the job's working directory is here
        log           what the job printed, between a first and a last line of ours
        job.json      what was asked for: command, launcher, paths (no secrets)
        environment   the job's variables as JSON, mode 0600, possibly secrets
        state.json    name, run, state, started, ended, exit_code, signal, reason, pid
        cancel        present once somebody asked for the end
    ~/jobs/NAME.1/    an earlier run of the same name, complete; NAME.2 is the one after it, and so on

STATES
    uploading   the folder is on its way; nothing runs yet
    queued      handed to the launcher
    running     the command is alive
    succeeded   it ended with exit code 0
    failed      it ended with another exit code, or by a signal (exit code 128 + signal)
    cancelled   it was asked to end, and did
    lost        its runner vanished without a word: the machine was rebooted, stopped or ran out of memory

    Every state is written to a new file that then takes the old one's place, so a reader never sees half of one.
    A runner is recognized by process id, start time and boot id: a number that was used again fools nobody.

EXIT STATUS
    `run`: the job's own exit code. Others: 0, 1 when it did not work out, 2 for bad input, 3 when there is
    no such job, 4 when `prepare` wants another version of this file.

ENVIRONMENT OF A JOB
    PATH begins with the folder of its Python; PYTHONUNBUFFERED=1; LIGHTSOUT_JOB, LIGHTSOUT_RESULTS (a folder);
    then what the user gave. Nothing else is inherited: a job sees the same under systemd and in screen.

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

#: A job's name: what a file name, a systemd instance and a screen session can all be.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
#: The same, or an earlier run of it.
NAME_OF_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}(\.[1-9][0-9]{0,5})?")
ENDED = ("succeeded", "failed", "cancelled", "lost")
LAUNCHERS = ("systemd", "screen")
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
        definition = self.definition
        return {
            "seconds": None,
            "started": None,
            "ended": None,
            "exit_code": None,
            "signal": None,
            "reason": "",
            "run": 1,
            "since": None,
            **state,
            "name": self.name,
            "earlier": "." in self.name,
            "launcher": definition.get("launcher"),
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
    if not 0 <= float(definition.get("grace", GRACE)) <= LONGEST_GRACE:
        problems.append(f"The grace of {definition['grace']} s is not between 0 and {LONGEST_GRACE}.")
    if problems:
        raise Refused(" ".join(problems))


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


def prepare(name, request, check=False):
    """Agree on a job: decide whether it has to be started, and make room for what will be uploaded.

    `request`: {"definition": {...}, "environment": {...}, "rerun": bool}. With `check` nothing is written.
    Returns {"action": "start" or "none", "token", "upload_to", "copy_from", "job"}.
    Refused: for bad input, and for a name whose job runs with another definition.
    """
    if not NAME.fullmatch(name):
        raise Refused(f"'{Job(name).name}' is the name of an earlier run: give one without the dot.")
    definition, environment = request["definition"], request.get("environment") or {}
    check_definition(definition)
    with lock():
        job = Job(name)
        if job.folder.exists() and not job.exists():
            raise Refused(f"{job.folder} is there, but it is not a job of ours: give the job another name.")
        view = job.view() if job.exists() else None
        same = view is not None and view["digest"] == definition["digest"]
        state = view["state"] if view else None
        rerun = bool(request.get("rerun"))
        if state in ("queued", "running"):
            if same and not rerun:
                return {"action": "none", "job": view}
            why = "a second run was asked for" if same else "what was asked for now is something else"
            raise Refused(
                f"Job '{name}' is {state} since {view['since']}, and {why}. Nothing was touched. Wait for it, cancel "
                f"it (playbooks/cancel.yml -e training_job={name}), or give the new one a name of its own."
            )
        if state in ENDED and same and not rerun:
            return {"action": "none", "job": view}
        copy_from, run = "", view["run"] if view else 1
        if state in ENDED:
            run += 1
            kept = jobs_folder() / f"{name}.{view['run']}"
            copy_from = str((job.folder if check else kept) / "source")
            if not check:
                job.folder.rename(kept)
        token = secrets.token_hex(8)
        if not check:
            if state == "uploading" and not same:
                shutil.rmtree(job.source, ignore_errors=True)
            job.folder.mkdir(mode=0o700, exist_ok=True)
            job.source.mkdir(exist_ok=True)
            write_json(job.folder / "environment", environment)
            write_json(job.folder / "state.json", {"state": "uploading", "since": now(), "run": run, "token": token})
            write_json(job.folder / "job.json", definition)
        return {
            "action": "start",
            "token": token,
            "upload_to": str(job.source),
            "copy_from": copy_from,
            "job": job.view() if job.exists() else {"name": name, "state": "new", "run": run},
            "before": view,
        }


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


def launch(name, launcher):
    """Let systemd or screen call `lightsout-job run NAME`; None, or what went wrong."""
    if launcher == "systemd":
        return call(as_root("systemctl", "start", unit(name)))
    return call(["screen", "-U", "-d", "-m", "-S", name, str(pathlib.Path(__file__).resolve()), "run", name])


def start(name, token=None):
    """Start an uploaded job and look on for a moment; returns its view.

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
        job.save(state="queued", since=now(), boot_id=boot_id(), launcher=job.definition["launcher"])
        complaint = launch(name, job.definition["launcher"])
        if complaint:
            job.save(state="failed", since=now(), ended=now(), reason=f"it could not be started: {complaint}")
            raise Refused(f"Job '{name}' could not be started: {complaint}", 1)
    deadline = time.monotonic() + 20
    while job.view()["state"] == "queued" and time.monotonic() < deadline:
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
    }
    for key in ("TERM", "STY", "WINDOW"):  # screen's own
        if key in os.environ:
            environment[key] = os.environ[key]
    if definition.get("conda"):
        prefix = python.parent.parent
        environment.update(CONDA_PREFIX=str(prefix), CONDA_DEFAULT_ENV=prefix.name, CONDA_SHLVL="1")
    environment.update({key: str(value) for key, value in read_json(job.folder / "environment").items()})
    return environment


def command_line(job):
    """What to execute: a list, in the job's working directory."""
    definition = job.definition
    if definition.get("script"):
        script = job.source / definition["script"]
        path = os.path.relpath(script, job.directory)
        with script.open("rb") as stream:
            shebang = stream.read(2) == b"#!"
        if path.startswith("-"):
            path = f"./{path}"
        if path.endswith(".py"):
            command = [str(interpreter(definition)), path]
        elif shebang:
            command = [str(script)]
        else:
            command = ["/bin/bash", path]
        command += definition.get("arguments", [])
    else:
        command = ["/bin/bash", "-c", definition["command"]]
    if definition.get("conda"):
        # What `conda activate` does besides PATH: the scripts that packages leave there.
        hooks = (
            'for hook in "$CONDA_PREFIX"/etc/conda/activate.d/*.sh; do [ ! -r "$hook" ] || . "$hook"; done; exec "$@"'
        )
        command = ["/bin/bash", "-c", hooks, "lightsout-job", *command]
    return command


class Runner:
    """Runs one job in this process: starts the command, keeps the record, passes signals on.

    With a terminal (screen) the output goes there and to the log; without one straight to the log.
    """

    def __init__(self, job):
        self.job = job
        self.terminal = os.isatty(1)
        self.asked_to_end = None  # the signal, once somebody wants the end
        self.kill_at = None  # monotonic time
        self.child = None
        self.status = None  # as waitpid gives it
        self.log = None
        self.copier = None

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
        job = self.job
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        # Orphans of the command become ours, so that none can hide from the end of the job.
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.log = os.open(job.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        if (job.folder / "cancel").exists():
            return self.finish("cancelled", reason="cancelled before it began")
        kills = oom_kills()
        definition = job.definition
        self.note(f"job {job.name}, run {job.state.get('run', 1)}, began {now()}: {shown(definition)}")
        try:
            self.spawn(command_line(job), job_environment(job))
        except (OSError, subprocess.SubprocessError) as error:
            code = 126 if isinstance(error, PermissionError) else 127
            return self.finish("failed", exit_code=code, reason=f"it could not be executed: {error}")
        job.save(
            state="running",
            since=now(),
            started=now(),
            pid=self.child.pid,
            pid_started=start_ticks(self.child.pid),
            runner_pid=os.getpid(),
            runner_started=start_ticks(os.getpid()),
            boot_id=boot_id(),
        )
        while self.status is None:
            self.wait_for_signal()
        self.sweep_up()
        if self.copier:
            self.copier.join(timeout=5)
        return self.judge(oom_kills() > kills)

    def spawn(self, command, environment):
        """Start the command in a process group of its own; on a terminal it gets the keyboard."""
        terminal = os.dup(1)  # in the child, 1 is the pipe by then

        def in_child():
            os.setpgid(0, 0)
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
        """Sleep until something happens, and deal with it."""
        timeout = max(0.0, self.kill_at - time.monotonic()) if self.kill_at else 3600
        caught = signal.sigtimedwait(SIGNALS, timeout)
        if caught is None:
            if self.kill_at:
                self.note(f"it did not end by itself: killing it after {duration(self.grace)}")
                self.signal_all(signal.SIGKILL)
                self.kill_at = None
        elif caught.si_signo == signal.SIGCHLD:
            self.reap()
        elif self.asked_to_end is None:
            self.asked_to_end = caught.si_signo
            self.note(f"asked to end ({signal_name(caught.si_signo)}); it has {duration(self.grace)} to save its work")
            self.kill_at = time.monotonic() + self.grace
            self.signal_all(signal.SIGTERM)

    @property
    def grace(self):
        """Seconds from TERM to KILL: as the one who cancels wants it, or as the job was defined."""
        wanted = read_json(self.job.folder / "cancel").get("grace")
        return float(self.job.definition.get("grace", GRACE) if wanted is None else wanted)

    def signal_all(self, number):
        """Signal the command and everything below it."""
        for pid in descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

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

    def sweep_up(self):
        """End what the command has left running: the job is over when its command is.

        Whoever was asked to end keeps the grace that was promised: a shell dies of TERM at once, while the Python
        below it may still be saving.
        """
        if descendants(os.getpid()) and self.asked_to_end is None:
            self.note(f"ending {len(descendants(os.getpid()))} process(es) that the command left running")
            self.signal_all(signal.SIGTERM)
        deadline = self.kill_at or time.monotonic() + 5
        while descendants(os.getpid()):
            if time.monotonic() >= deadline:
                self.signal_all(signal.SIGKILL)
            signal.sigtimedwait({signal.SIGCHLD}, 0.1)
            self.reap()

    def judge(self, out_of_memory):
        """Say how it ended, write it down, and return the exit code."""
        code = os.waitstatus_to_exitcode(self.status)
        number, reason = (-code, f"ended by SIG{signal_name(-code)}") if code < 0 else (None, "")
        code = 128 + number if number else code
        if number and self.asked_to_end is None:  # whoever ends everything may have come to the command first
            caught = signal.sigtimedwait(SIGNALS - {signal.SIGCHLD}, 0.3)
            self.asked_to_end = caught.si_signo if caught else None
        wanted = (self.job.folder / "cancel").exists()
        # Ctrl-C in the attached screen goes to the command alone.
        outside = self.asked_to_end or (number == signal.SIGINT and self.terminal)
        if wanted:
            state, reason = "cancelled", reason or "it was cancelled, and ended by itself"
        elif out_of_memory and (number == signal.SIGKILL or outside):  # OOMPolicy=stop asks what is left to end
            state, reason = "failed", "the machine ran out of memory and the kernel killed it"
        elif outside and going_down():
            state, reason = "lost", "the machine was shut down"
        elif outside:
            state, reason = "cancelled", f"ended from outside (SIG{signal_name(self.asked_to_end or number)})"
        else:
            state = "succeeded" if code == 0 else "failed"
        return self.finish(state, exit_code=code, signal=signal_name(number) if number else None, reason=reason)

    def finish(self, state, exit_code=None, reason="", **more):
        """The last line of the log and the last state."""
        result = self.job.save(
            state=state, since=now(), ended=now(), exit_code=exit_code, reason=reason, runner_pid=None, pid=None, **more
        )
        took = ""
        if result.get("started"):
            took = f" after {duration(seconds_of(result['ended']) - seconds_of(result['started']))}"
        code = "" if exit_code is None else f", exit code {exit_code}"
        self.note(f"{state}{took}{code}{': ' + reason if reason else ''} ({result['ended']})")
        return 143 if exit_code is None else exit_code


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


def entry(path):
    """What a fetched copy is compared with: a link's target, or a file's checksum, size and time."""
    if path.is_symlink():
        return {"link": str(path.readlink())}
    stat = path.stat()
    return {"sha256": checksum(path), "size": stat.st_size, "mtime": stat.st_mtime}


def results(name):
    """What there is to fetch: {"job", "root", "files": {path: entry}, "log": entry or None}."""
    job = Job.existing(name)
    view, root, files = job.view(), job.results, {}
    if root.is_file():
        files[root.name] = entry(root)
        root = root.parent
    elif root.is_dir():
        for folder, below, names in os.walk(root):
            for each in [*names, *below]:
                path = pathlib.Path(folder, each)
                if path.is_symlink() or path.is_file():
                    with contextlib.suppress(FileNotFoundError):  # a checkpoint that was rotated away meanwhile
                        files[str(path.relative_to(root))] = entry(path)
    single = job.results.is_file()
    return {
        "job": view,
        "root": str(job.results) if single else f"{root}/",
        "files": files,
        "log": entry(job.log) if job.log.exists() else None,
    }


# -- the command line -----------------------------------------------------------------------------------------------
def table(views):
    """The jobs as a table: a list of lines."""
    if not views:
        return ["No job has been trained here yet."]
    rows = [("JOB", "STATE", "SINCE (UTC)", "RAN", "EXIT", "LAST LINE")]
    for view in views:
        since = (view["since"] or "").replace("T", " ").rstrip("Z")[:16]
        ran = "" if view["seconds"] is None else duration(view["seconds"])
        code = "" if view["exit_code"] is None else str(view["exit_code"])
        last = view["reason"] if view["state"] in ("lost", "cancelled") or not view["last_line"] else view["last_line"]
        rows.append((view["name"], view["state"], since, ran, code, last[:80]))
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
    verb("start", (["--token"], {}), as_json)
    verb("run")
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
        return 0, {"jobs": views, "table": table(views)} if options.json else "\n".join(table(views))
    if options.verb == "log":
        if options.follow:
            return follow(options.name, options.lines), None
        return 0, "\n".join(Job.existing(options.name).last_lines(options.lines))
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
        done = start(options.name, options.token)
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
