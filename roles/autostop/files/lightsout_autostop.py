#!/usr/bin/python3 -IS
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""lightsout-autostop - power this machine off when nobody and nothing uses it any more

SYNOPSIS
    lightsout-autostop explain [--json]      look now: each signal, what it says, and which one decides; changes nothing
    lightsout-autostop status [--json]       what the last look said
    lightsout-autostop keep 4h               stay awake for so long (s, m, h, d), whatever is idle; `keep off` ends that
    lightsout-autostop check                 what the timer calls each minute: look, remember, warn, power off

    As root (`sudo lightsout-autostop explain`): others may not see all signals.

SIGNALS
    boot         the machine has just started
    setup        it is being set up: cloud-init, packages, conda, pip
    keep         somebody said `keep`
    jobs         training jobs that run or wait (see lightsout-job)
    results      results that are not safe yet, on a machine whose power-off terminates it
    kernels      Jupyter's: `busy` wins over any time; `starting` and `dead` count for ten minutes; else news of use
    programs     what people have started, in a terminal, in screen, tmux or Jupyter, over ssh, or left behind
    keyboards    terminals that somebody has typed into
    connections  ssh without a terminal (sftp, VS Code, tunnels) and SSM, while data moves
    cpu, gpu     how busy the processors were, over a window of minutes

    No work: a shell that waits, an empty screen, Jupyter itself, who watches (top, less, tail, …), this program.

VERDICT
    One signal that says `busy` keeps the machine awake; so does one that cannot be read (`unknown`). Otherwise the time
    since the last look counts as idle. After `idle` of that in one piece the machine is powered off; `warning` before,
    it says so on every terminal, in /run/lightsout/warning and in the log. Whatever happens then cancels it.
    The deadline (the end of the machine's lease) is above all that: lightsout-deadline.timer, a unit of its own which
    does not need this program, powers off at that time whatever the signals say.

    News, not times: a signal with a time of last use (keyboards, kernels) is busy when that time is another than at the
    last look. Idle is what was watched: a look adds at most three intervals. So no machine is idle because its clock
    jumped or because it was suspended. And to ask Jupyter (with ?no_track_activity=1) is not to use it.

FILES
    /etc/lightsout/autostop.json                     settings, written by the role
    /etc/systemd/system/lightsout-deadline.timer     the deadline
    /run/lightsout/autostop.json                     what the last look saw; in memory, as a full disk must change
                                                     nothing, and gone at a new boot, as it should be
    /run/lightsout/keep.json, /run/lightsout/warning
    /var/lib/lightsout/autostop.log                  the last 200 changes of mind (journalctl has all)

EXIT STATUS
    0; 1 when it did not work out; 2 for bad input.

Part of Lightsout (role `autostop`). Standard library only, Python 3.8 and newer. It has no AWS credentials: the
machine powers itself off, and EC2 stops it (or terminates it, if that is the machine's shutdown behaviour).
"""

import argparse
import calendar
import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import time
from collections import namedtuple

BUSY, IDLE, UNKNOWN = "busy", "idle", "unknown"

#: One signal: its name, busy/idle/unknown, and why, for people.
Reading = namedtuple("Reading", "name verdict why")

#: Spans, percent of one core and of the busiest GPU, and names of programs that are no work.
DEFAULTS = {
    **{"idle": "60m", "warning": "10m", "grace": "10m", "interval": "1m", "window": "5m"},
    **{"cpu_percent": 20, "gpu_percent": 5, "ignore": []},
}
#: A look adds at most so many intervals of idle time: what nobody watched does not count.
LONGEST_STEP = 3
#: Seconds that a kernel may be `starting` or `dead` before it counts as gone.
BETWEEN_STATES = 600
#: Seconds that Jupyter and nvidia-smi have to answer.
PATIENCE = 10
#: Lines of the log that are kept.
LOG_LINES = 200
#: Clock ticks a second in /proc: 100 on every Linux that Python runs on (USER_HZ).
TICKS = 100

SHELLS = {"ash", "bash", "csh", "dash", "fish", "ksh", "rbash", "sh", "tcsh", "zsh"}
#: What surrounds work and is none itself.
AROUND = {
    *("agetty", "getty", "login", "newgrp", "runuser", "script", "su", "sudo"),
    *("sshd", "sshd-auth", "sshd-session", "sftp-server", "internal-sftp", "ssh-agent", "gpg-agent"),
    *("screen", "tmux", "systemd", "(sd-pam)", "dbus-daemon", "dbus-broker", "dbus-broker-launch"),
    *("amazon-ssm-agent", "ssm-agent-worker", "ssm-session-worker", "lightsout-autostop"),
}
#: Who watches works no more than a wall clock does; nor does what they start.
WATCHERS = {
    *(
        "btop",
        "gpustat",
        "htop",
        "journalctl",
        "less",
        "man",
        "more",
        "nvitop",
        "nvtop",
        "pager",
        "tail",
        "top",
        "watch",
    ),
}
JUPYTER = {"jupyter-lab", "jupyter-labhub", "jupyter-notebook", "jupyter-server", "jupyterlab-server"}
SETTING_UP = {
    *("apt", "apt-get", "aptitude", "dpkg", "dnf", "yum", "rpm", "unattended-upgrade", "snap", "needrestart"),
    *("cloud-init", "conda", "mamba", "micromamba", "pip", "pip3", "uv"),
}
#: An editor's server at the far end of ssh. Its terminals and what runs in them are seen as anybody's.
EDITOR_SERVER = re.compile(r"/\.(vscode|cursor|windsurf|positron)[^/]*-server[^/]*/|/\.vscode-remote/")
#: Control groups of what people start: logins, and systems without logind or with SSM.
PEOPLES = re.compile(r"/user\.slice/|/sshd?(@[^/]*)?\.service|amazon-ssm-agent\.service")
#: How sshd names the half of it that serves somebody: `user@pts/0`, `user@notty`, or `user` for tunnels alone.
SSH_SESSION = re.compile(r"sshd(?:-session)?: (?P<user>[^@ \[]+)(@(?P<where>[^ ]+))?\s*")
DURATION = re.compile(r"(\d{1,6})\s*([smhd])")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


# -- small things -----------------------------------------------------------------------------------------------------
def seconds_of(text):
    """The seconds of `90m`, `4h` and the like; None when it is nothing like that."""
    found = DURATION.fullmatch(text.strip())
    return int(found[1]) * UNITS[found[2]] if found else None


def duration(seconds):
    """Seconds for people: `7 s`, `3 min`, `2 h 05 min`, `3 d 4 h`."""
    seconds = max(0, int(seconds))
    if seconds < 60:
        return f"{seconds} s"
    minutes = seconds // 60
    if minutes < 60:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def utc(seconds):
    """Seconds since 1970 as text, UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def read_json(path):
    """The object in a JSON file, {} when there is none, or no object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write(path, text):
    """Replace a file as a whole; everyone may read it."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text, encoding="utf-8")
    beside.chmod(0o644)
    beside.replace(path)


# -- the machine, as the signals see it -------------------------------------------------------------------------------
class Process:
    """One process: what /proc tells everybody."""

    def __init__(self, folder):
        head, _, rest = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")
        fields = rest.split()
        self.pid = int(folder.name)
        self.comm = head.partition("(")[2]
        self.state = fields[0]
        self.parent = int(fields[1])
        tty = int(fields[4])
        major, minor = tty >> 8 & 0xFFF, tty & 0xFF | tty >> 12 & 0xFFF00
        #: The terminal that it has, such as `pts/3`, or `ttyS0`; None without.
        self.terminal = None
        if 136 <= major <= 143:
            self.terminal = f"pts/{(major - 136) * 256 + minor}"
        elif major == 4:
            self.terminal = f"tty{minor}" if minor < 64 else f"ttyS{minor - 64}"
        self.ticks = int(fields[11]) + int(fields[12])
        self.started = int(fields[19])
        words = (folder / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        self.words = [word for word in words if word]
        self.owner = folder.stat().st_uid
        self.names = self.called()

    @property
    def key(self):
        """Who it is, also when its number is used again."""
        return f"{self.pid}@{self.started}"

    def called(self):
        """What it may be called: the program, and the script or module that an interpreter runs."""
        names = [word.rpartition("/")[2] for word in self.words[:1]]
        if names and re.match(r"python|node|perl|ruby|(ba|da|z|k)?sh$", names[0].lstrip("-")):
            names += [word.rpartition("/")[2] for word in self.words[1:] if not word.startswith("-")][:1]
        return {name.lstrip("-") for name in names} | {self.comm.partition(":")[0].lower()}

    @property
    def waits(self):
        """Whether it is a shell in front of somebody, not one that runs a script or a command."""
        if not self.words or self.words[0].rpartition("/")[2].lstrip("-") not in SHELLS:
            return False
        words = iter(self.words[1:])
        for word in words:
            if word in ("--init-file", "--rcfile"):
                next(words, None)
            elif not word.startswith("-") or re.fullmatch(r"-[a-z]*c[a-z]*", word):
                return False
        return True

    def __str__(self):
        text = " ".join(self.words)
        return f"{text if len(text) <= 60 else text[:57] + '...'} ({self.pid})"


class Machine:
    """Where everything that is looked at comes from, so that tests can give another one.

    `root`: the file system.
    """

    def __init__(self, root="/"):
        self.root = pathlib.Path(root)
        self.memory = self.root / "run/lightsout"
        given = {**DEFAULTS, **read_json(self.root / "etc/lightsout/autostop.json")}
        self.settings = {key: seconds_of(value) if isinstance(value, str) else value for key, value in given.items()}

    # -- clocks: wall time for people and the deadline, the others for spans
    now = staticmethod(time.time)
    #: Stands still while the machine is suspended.
    watched = staticmethod(time.monotonic)

    @staticmethod
    def boottime():
        """Seconds since the kernel started, also those asleep."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def uptime(self):
        """Seconds since process 1 began: also right in a container, whose kernel is older."""
        return self.boottime() - Process(self.root / "proc/1").started / TICKS

    # -- the rest
    @staticmethod
    def run(*words):
        """(exit code, output) of a command; the code is None when it cannot run or does not end."""
        try:
            done = subprocess.run(
                words, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=PATIENCE
            )
        except (OSError, subprocess.TimeoutExpired):
            return None, ""
        return done.returncode, done.stdout.decode("utf-8", "replace")

    def read(self, path):
        """A file's text; None when it cannot be read."""
        try:
            return (self.root / path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None

    def processes(self):
        """All processes by their number, without those of the kernel and the dead."""
        found = {}
        for folder in (self.root / "proc").iterdir():
            if folder.name.isdigit():
                try:
                    process = Process(folder)
                except (OSError, ValueError, IndexError):
                    continue  # gone meanwhile
                if process.words and process.state not in "ZX":
                    found[process.pid] = process
        return found

    def homes(self):
        """The folders that people's files are in, by user id."""
        found = {}
        for line in (self.read("etc/passwd") or "").splitlines():
            fields = line.split(":")
            if len(fields) == 7:
                found.setdefault(int(fields[2]), self.root / fields[5].lstrip("/"))
        return found

    def last_typed(self, terminal):
        """A mark that is another one when somebody has typed; None for a terminal that is gone.

        What is read from a terminal (typed) moves its atime; what is written to it, our warning too, its mtime.
        """
        try:
            return int((self.root / "dev" / terminal).stat().st_atime)
        except OSError:
            return None

    def processor_seconds(self):
        """CPU time that the machine has used: of its control group (a container's own), else of all processors."""
        usage = re.search(r"^usage_usec (\d+)", self.read("sys/fs/cgroup/cpu.stat") or "", re.MULTILINE)
        if usage:
            return int(usage[1]) / 1e6
        for name in ("cpuacct", "cpu,cpuacct"):
            usage = self.read(f"sys/fs/cgroup/{name}/cpuacct.usage")
            if usage:
                return int(usage) / 1e9
        fields = list(map(int, self.read("proc/stat").splitlines()[0].split()[1:9]))
        return (sum(fields) - fields[3] - fields[4]) / TICKS

    def deadline(self):
        """When the lease ends, seconds since 1970, as the timer has it; None without a deadline."""
        timer = self.read("etc/systemd/system/lightsout-deadline.timer") or ""
        found = re.search(r"^OnCalendar=(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC$", timer, re.MULTILINE)
        return calendar.timegm(tuple(map(int, re.split(r"[- :]", found[1])))) if found else None

    def tell(self, text):
        """Say something on every terminal, as wall does; also in screen, tmux and Jupyter's."""
        for path in (self.root / "dev/pts").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                descriptor = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
                try:
                    os.write(descriptor, f"\r\n\a*** {text} ***\r\n".encode())
                finally:
                    os.close(descriptor)

    @staticmethod
    def ask(server, path):
        """What a Jupyter server answers, from JSON. `server`: its own file of url, token and so on.

        Its certificate is often signed by nobody, and this is the machine itself: only its user could have written that
        file, and only its user could listen in that process.
        """
        import http.client  # noqa: PLC0415 - costs more than all the rest, and only those with Jupyter need it
        import ssl  # noqa: PLC0415

        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1", "*": "127.0.0.1"}  # noqa: S104
        address = (host.get(server["hostname"], server["hostname"]), int(server["port"]))
        if server.get("secure"):
            blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
            line = http.client.HTTPSConnection(*address, timeout=PATIENCE, context=blind)
        else:
            line = http.client.HTTPConnection(*address, timeout=PATIENCE)
        with contextlib.closing(line):
            line.request(
                "GET", server.get("base_url", "/") + path, headers={"Authorization": f"token {server['token']}"}
            )
            answer = line.getresponse()
            if answer.status != 200:
                raise OSError(f"it answered {answer.status}")
            return json.loads(answer.read(1 << 20))

    def power_off(self):
        """The end. Returns whether systemd took it."""
        return self.run("systemctl", "--no-block", "poweroff")[0] == 0


# -- the signals ------------------------------------------------------------------------------------------------------
class Look:
    """One look at the machine. `before`: what the last one remembered; `after`: what the next one should know."""

    def __init__(self, machine, before, asking=None):
        self.machine, self.settings = machine, machine.settings
        self.before, self.after = before, {"marks": {}, "since": {}}
        self.processes = machine.processes()
        #: Whoever asks is not what is asked about: their own line of processes and terminal.
        self.own = {process.pid for process in self.line(asking)}
        self.own_terminals = {process.terminal for process in self.line(asking)} - {None}
        self.readings = [self.judged(signal) for signal in self.SIGNALS]

    def judged(self, signal):
        """The reading of one signal; whatever goes wrong in it, it is `unknown` and the others still speak."""
        name = signal.__name__
        try:
            verdict, why = signal(self)
        except Exception as error:  # the machine must stay awake, and its user must hear why
            verdict, why = UNKNOWN, f"it cannot be read: {type(error).__name__}: {error}"
        return Reading(name, verdict, why)

    # -- helpers
    def line(self, pid):
        """A process and those above it."""
        found = []
        while pid in self.processes and len(found) < 100:
            found.append(self.processes[pid])
            pid = self.processes[pid].parent
        return found

    def below(self, pid, names):
        """Whether one of the processes above it, or itself, has one of these names."""
        return any(names & process.names for process in self.line(pid))

    def news(self, name, marks):
        """Those whose mark is new or another than at the last look; remembers the marks."""
        self.after["marks"][name] = marks
        before = self.before.get("marks", {}).get(name, {})
        return [key for key, mark in marks.items() if before.get(key) != mark]

    def is_jupyter(self, process):
        """Whether this is a Jupyter server itself."""
        return bool(JUPYTER & process.names)

    def of_jupyter(self, process):
        """Whether a Jupyter server has started it."""
        return process.parent in self.processes and self.is_jupyter(self.processes[process.parent])

    # -- signals: each returns (verdict, why)
    def boot(self):
        up = self.machine.uptime()
        return (BUSY if up < self.settings["grace"] else IDLE), f"the machine is up for {duration(up)}"

    def setup(self):
        for process in self.processes.values():
            found = SETTING_UP & process.names
            # Ubuntu has a process that only waits for the end: unattended-upgrade-shutdown, another name.
            if found and process.pid not in self.own:
                return BUSY, f"it is being set up: {process}"
        return IDLE, "nothing is being installed"

    def keep(self):
        left = read_json(self.machine.memory / "keep.json").get("until", 0) - self.machine.boottime()
        if left > 0:
            return BUSY, f"somebody asked to keep it until {utc(self.machine.now() + left)}"
        return IDLE, "nobody asked to keep it"

    def jobs(self):
        running = []
        for process in self.processes.values():
            if "lightsout-job" in process.names and "run" in process.words:
                running += process.words[process.words.index("run") + 1 :][:1]
        units = (self.machine.root / "run/systemd/units").glob("invocation:lightsout-job@*.service")
        running += [path.name.partition("@")[2][: -len(".service")] for path in units]
        return (BUSY if running else IDLE), ", ".join(sorted(set(running))) or "no job runs or waits"

    def results(self):
        """A power-off that terminates the machine takes the disk with it."""
        for home in self.machine.homes().values():
            with contextlib.suppress(OSError):
                for folder in sorted((home / "jobs").iterdir()):
                    wants, state = read_json(folder / "job.json").get("then"), read_json(folder / "state.json")
                    unsafe = state.get("ended") and not (state.get("synced") or {}).get("ok")
                    if wants == "terminate" and unsafe and "." not in folder.name:
                        return BUSY, f"those of job {folder.name} are not safe, and a power-off terminates the machine"
        return IDLE, "none that a power-off would lose"

    def kernels(self):
        servers = [process for process in self.processes.values() if self.is_jupyter(process)]
        servers = [server for server in servers if not self.of_jupyter(server)]  # it has helpers
        homes, marks, since, busy, count = self.machine.homes(), {}, {}, [], 0
        for server in servers:
            path = homes[server.owner] / f".local/share/jupyter/runtime/jpserver-{server.pid}.json"
            try:
                kernels = self.machine.ask(
                    json.loads(path.read_text(encoding="utf-8")), "api/kernels?no_track_activity=1"
                )
            except Exception as error:  # whatever it is: it may be busy
                busy.append((UNKNOWN, f"{server} does not say: {error}"))
                continue
            for kernel in kernels:
                count += 1
                name, state = kernel["id"][:8], kernel["execution_state"]
                marks[kernel["id"]] = kernel["last_activity"]
                if state == "busy":
                    busy.append((BUSY, f"kernel {name} computes"))
                elif state != "idle":
                    key = f"{kernel['id']} {state}"
                    since[key] = self.before.get("since", {}).get(key, self.machine.watched())
                    if self.machine.watched() - since[key] < BETWEEN_STATES:
                        busy.append((BUSY, f"kernel {name} is {state}"))
        self.after["since"] = since
        news = self.news("kernels", marks)
        if busy:
            return sorted(busy)[0]
        if news:
            return BUSY, f"kernel {news[0][:8]} was used"
        return IDLE, f"{count} of Jupyter's, none computes" if servers else "no Jupyter runs"

    def programs(self):
        ignored = AROUND | JUPYTER | WATCHERS | set(self.settings["ignore"])
        for process in self.processes.values():
            if process.pid in self.own or process.waits or ignored & process.names:
                continue
            if EDITOR_SERVER.search(" ".join(process.words[: 2 if SHELLS & process.names else 1])):
                continue
            if self.below(process.parent, WATCHERS):
                continue
            if not process.terminal:
                if self.of_jupyter(process):
                    continue  # a kernel: `kernels` asks about it
                group = self.machine.read(f"proc/{process.pid}/cgroup") or ""
                if not PEOPLES.search(group) or re.search(r"user@\d+\.service/(init\.scope|session\.slice)", group):
                    continue
            return BUSY, f"{process} runs{' at ' + process.terminal if process.terminal else ''}"
        return IDLE, "nothing runs that people have started"

    def keyboards(self):
        terminals = {process.terminal for process in self.processes.values()} - {None} - self.own_terminals
        typed = {terminal: self.machine.last_typed(terminal) for terminal in terminals}
        news = self.news("keyboards", {terminal: mark for terminal, mark in typed.items() if mark is not None})
        if news:
            return BUSY, f"somebody typed at {', '.join(sorted(news))}"
        return IDLE, f"nobody typed at {', '.join(sorted(typed))}" if typed else "nobody is logged in at a terminal"

    def connections(self):
        ends, marks = {}, {}
        for process in self.processes.values():
            session = SSH_SESSION.fullmatch(process.words[0])
            if session and session["where"] in (None, "notty"):
                ends[process.pid] = f"ssh of {session['user']}"
            elif "ssm-session-worker" in process.names:
                ends[process.pid] = "an SSM session"
        for pid in [pid for pid in ends if pid in self.own]:
            del ends[pid]
        for process in self.processes.values():
            for above in self.line(process.pid):
                if above.pid in ends:  # sshd alone moves a tunnel's bytes; sftp-server those of files
                    key = above.key
                    marks[key] = marks.get(key, 0) + process.ticks
        names = {self.processes[pid].key: name for pid, name in ends.items()}
        news = self.news("connections", marks)
        if news:
            return BUSY, f"data moves: {', '.join(sorted({names[key] for key in news}))}"
        return IDLE, f"quiet: {', '.join(sorted(ends.values()))}" if ends else "none without a terminal"

    def cpu(self):
        now, used = self.machine.watched(), self.machine.processor_seconds()
        samples = self.before.get("cpu", [])
        window = [sample for sample in samples if sample[0] >= now - self.settings["window"] - 1] or samples[-1:]
        self.after["cpu"] = [*window, [now, used]]
        if not window or now - window[0][0] < 1:
            return UNKNOWN, "not watched for long enough"
        percent = 100 * (used - window[0][1]) / (now - window[0][0])
        over = duration(now - window[0][0])
        return (BUSY if percent >= self.settings["cpu_percent"] else IDLE), f"{percent:.0f} % of a core over {over}"

    def gpu(self):
        if not (self.machine.root / "proc/driver/nvidia/version").exists():
            return IDLE, "no NVIDIA GPU with a driver"
        code, told = self.machine.run("nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits")
        if code != 0:
            return UNKNOWN, "nvidia-smi does not answer"
        now = self.machine.watched()
        window = [sample for sample in self.before.get("gpu", []) if sample[0] >= now - self.settings["window"] - 1]
        self.after["gpu"] = [*window, [now, max(map(int, told.split()))]]
        percent = max(sample[1] for sample in self.after["gpu"])
        return (BUSY if percent >= self.settings["gpu_percent"] else IDLE), f"{percent} % of the busiest at most"

    SIGNALS = (boot, setup, keep, jobs, results, kernels, programs, keyboards, connections, cpu, gpu)


# -- the verdict ------------------------------------------------------------------------------------------------------
class Guard:
    """Looks, remembers, warns, powers off."""

    def __init__(self, machine):
        self.machine, self.settings = machine, machine.settings
        self.state_file = machine.memory / "autostop.json"
        self.warning_file = machine.memory / "warning"

    def look(self, asking=None):
        """The verdict of now, as a dictionary; what the next look must know is under `memory`."""
        before = read_json(self.state_file)
        look = Look(self.machine, before.get("memory", {}), asking)
        watched, wall = self.machine.watched(), self.machine.now()
        step = watched - before.get("watched", watched)
        step = min(max(0, step), LONGEST_STEP * self.settings["interval"])
        awake = [reading for reading in look.readings if reading.verdict == BUSY]
        awake += [reading for reading in look.readings if reading.verdict == UNKNOWN]
        idle = 0 if awake else before.get("idle", 0) + step
        left = self.settings["idle"] - idle
        deadline = self.machine.deadline()
        over = deadline is not None and wall >= deadline and self.machine.uptime() >= self.settings["grace"]
        verdict = "stop" if over or left <= 0 else "awake" if awake else "idle"
        decided = "deadline" if over else awake[0].name if awake else "idle"
        return {
            "verdict": verdict,
            "decided": decided,
            "why": "the lease has ended"
            if over
            else awake[0].why
            if awake
            else f"nothing happened for {duration(idle)}",
            "at": utc(wall),
            "idle": round(idle, 1),
            "limit": self.settings["idle"],
            "stops": None if awake and not over else utc(wall + max(0, left)),
            "deadline": None if deadline is None else utc(deadline),
            "signals": [reading._asdict() for reading in look.readings],
            "watched": watched,
            "warned": before.get("warned"),
            "told": before.get("told"),
            "memory": look.after,
        }

    def check(self):
        """One look of the timer's; returns what it did: `awake`, `idle`, `warned` or `stop`."""
        state = self.look()
        done = state["verdict"]
        if done == "stop":
            self.say(f"powering off: {state['why']}", loud=True)
        elif self.soon(state):
            done = "warned"
        else:
            if state["warned"]:
                self.say(f"not powering off: {state['why']}", loud=True)
                with contextlib.suppress(OSError):
                    self.warning_file.unlink()
            state["warned"] = None
            told = f"{done}: {state['decided']}"
            if told != state["told"]:
                self.say(f"{done}: {state['why']}")
            state["told"] = told
        write(self.state_file, json.dumps(state))
        if done == "stop" and not self.machine.power_off():
            self.say("systemd did not take the power-off; the next look tries again")
        return done

    def soon(self, state):
        """Whether the end is near: then people are told, once for each reason."""
        ends = [("idle", state["limit"] - state["idle"])] if state["verdict"] == "idle" else []
        if state["deadline"]:
            ends.append(("deadline", self.machine.deadline() - self.machine.now()))
        near = [(left, reason) for reason, left in ends if left <= self.settings["warning"]]
        if not near:
            return False
        left, reason = min(near)
        if state["warned"] != reason:
            why = {
                "idle": f"{state['why']}. To stay: type something, or sudo lightsout-autostop keep 2h",
                "deadline": "its lease ends. To renew it, on your own computer: ansible-playbook playbooks/renew.yml",
            }[reason]
            text = f"This machine is powered off in {duration(max(0, left))}: {why}"
            self.say(text, loud=True)
            with contextlib.suppress(OSError):
                write(self.warning_file, f"{state['at']} {text}\n")
        state["warned"] = reason
        state["told"] = "warned"
        return True

    def say(self, text, loud=False):
        """A line for the journal and the log; `loud`: on the terminals, too."""
        print(text, flush=True)
        if loud:
            self.machine.tell(f"Lightsout: {text}")
        self.note(text)

    def note(self, text):
        """A line for the log, which a full disk silences."""
        path = self.machine.root / "var/lib/lightsout/autostop.log"
        with contextlib.suppress(OSError):
            lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
            write(path, "".join(f"{line}\n" for line in [*lines, f"{utc(self.machine.now())} {text}"][-LOG_LINES:]))

    def keep(self, words):
        """Stay awake for a while; returns the sentence to print."""
        path = self.machine.memory / "keep.json"
        if words == "off":
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            return "Kept no longer: the signals decide again."
        span = seconds_of(words)
        if not span:
            raise ValueError(
                f"'{words}' is not a length of time: write a number and s, m, h or d, for example 4h, or off"
            )
        now, deadline = self.machine.now(), self.machine.deadline()
        cut = deadline is not None and now + span > deadline
        if cut:
            span = max(0, deadline - now)
        write(path, json.dumps({"until": self.machine.boottime() + span}))
        self.note(f"kept until {utc(now + span)}")
        more = (
            " Then its lease ends; to renew it, on your own computer: ansible-playbook playbooks/renew.yml"
            if cut
            else ""
        )
        return f"Kept until {utc(now + span)}.{more}"


# -- the command line -------------------------------------------------------------------------------------------------
def as_text(state):
    """A verdict for people: a list of lines."""
    rows = [tuple(reading.values()) for reading in state["signals"]]
    end = state["deadline"]
    rows.append(("deadline", "over" if state["decided"] == "deadline" else "later" if end else "none", end or ""))
    lines = []
    for name, verdict, why in rows:
        lines.append(f"{'->' if name == state['decided'] else '  '} {name:<11}  {verdict:<7}  {why}".rstrip())
    if state["verdict"] == "awake":
        lines.append(f"At {state['at']}: it stays on, because of {state['decided']}: {state['why']}.")
    elif state["verdict"] == "idle":
        limit = duration(state["limit"])
        lines.append(
            f"At {state['at']}: idle for {duration(state['idle'])} of {limit}; powered off at {state['stops']}."
        )
    else:
        lines.append(f"At {state['at']}: it is powered off, because {state['why']}.")
    return lines


def arguments():
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="lightsout-autostop",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=argparse.SUPPRESS,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", title="verbs", help=argparse.SUPPRESS)
    verbs.add_parser("check")
    for name in ("explain", "status"):
        verbs.add_parser(name).add_argument("--json", action="store_true", help="one JSON object")
    verbs.add_parser("keep").add_argument("span", metavar="SPAN", help="such as 4h, or off")
    return parser


def main(words=None, machine=None):
    """Exit code of one call."""
    options = arguments().parse_args(words)
    guard = Guard(machine or Machine())
    try:
        if options.verb == "check":
            guard.check()
            return 0
        if options.verb == "keep":
            print(guard.keep(options.span))
            return 0
        state = guard.look(os.getpid()) if options.verb == "explain" else read_json(guard.state_file)
    except (ValueError, OSError) as error:
        hint = " (use sudo)" if isinstance(error, PermissionError) else ""
        print(f"lightsout-autostop: {error}{hint}", file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    if not state:
        print(
            "lightsout-autostop: it has not looked yet; see systemctl status lightsout-autostop.timer", file=sys.stderr
        )
        return 1
    shown = {key: value for key, value in state.items() if key not in ("memory", "watched", "told")}
    print(json.dumps(shown) if options.json else "\n".join(as_text(state)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
