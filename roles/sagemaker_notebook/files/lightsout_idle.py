#!/usr/bin/python3 -I
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""lightsout-idle - stop this SageMaker notebook instance when nobody and nothing uses it any more

Settings: /etc/lightsout/idle.json. What it decided and why: lightsout-idle.log, beside the notebooks.

SIGNALS, looked at once a minute
    kernels    `busy` wins over any time, so a silent computation counts; else news of use. `starting`, `dead` and the
               like count for ten minutes. Asked with no_track_activity=1: asking is no use.
    terminals  news of use
    programs   what runs at a terminal (waiting shells and pagers do not count); what was left behind, while it computes
    files      one was written below /home/ec2-user/SageMaker (hidden ones do not count)

VERDICT
    One `busy` keeps it awake. After `idle` seconds without any it is stopped through the API. Time in which a signal
    could not be read is not idle, but with the idle time it is at most `hard`: no error keeps it awake for ever. A
    stop that is refused is tried again at each look. `shutdown -h now` would NOT end the bill. Where the API cannot
    be reached from here, a schedule on AWS stops the instance at the end of its lease.

Standard library only, Python 3.7 and newer. The API is called by the AWS CLI or a boto3 that is on the machine.
"""

import contextlib
import json
import os
import pathlib
import re
import ssl
import subprocess
import time
from urllib.request import HTTPSHandler, ProxyHandler, build_opener

BUSY, UNKNOWN, IDLE = "busy", "unknown", "idle"

#: Seconds, but for `url`, where Jupyter answers, and `cpu`, percent of a core.
DEFAULTS = {"idle": 3600, "hard": 14400, "interval": 60, "url": "https://localhost:8443", "cpu": 20}
#: A look adds at most so many intervals: what nobody watched does not count.
LONGEST_STEP = 3
#: Seconds that a kernel may be neither busy nor idle.
BETWEEN_STATES = 600
#: About how many files are looked at.
FILES = 5000
LOG = "lightsout-idle.log"

SHELLS = {"ash", "bash", "csh", "dash", "fish", "ksh", "sh", "tcsh", "zsh"}
SERVERS = {"jupyter-lab", "jupyter-notebook"}
AROUND = {"agetty", "login", "runuser", "screen", "su", "sudo", "tmux", "htop", "less", "man", "tail", "top", "watch"}
#: What a Python with boto3 does to stop the instance.
STOP = """import boto3, sys
boto3.client("sagemaker", region_name=sys.argv[2]).stop_notebook_instance(NotebookInstanceName=sys.argv[1])"""


class Process:
    """What /proc tells of one process."""

    def __init__(self, folder):
        fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
        self.key, self.dead, self.terminal = f"{folder.name}@{fields[19]}", fields[0] in "ZX", int(fields[4]) > 0
        self.seconds = (int(fields[11]) + int(fields[12])) / 100
        self.owner = folder.stat().st_uid
        self.words = (folder / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")[:-1]
        plain = [word.rpartition("/")[2] for word in self.words if word[:1] != "-"]
        #: The program, and the script that an interpreter runs. A shell at a login is called `-bash`.
        self.names = set(plain[: 2 if plain and re.match(r"python|node|perl|ruby", plain[0]) else 1])
        self.names |= {self.words[0][1:]} if self.words and self.words[0][:1] == "-" else set()

    @property
    def waits(self):
        """Whether it is a shell in front of somebody, not one that runs a script or a command."""
        return bool(SHELLS & self.names) and not any(re.match(r"[^-]|-[a-z]*c", word) for word in self.words[1:])


class Instance:
    """Where all that is looked at comes from, and how the instance is stopped. `root`: the file system."""

    now, watched = staticmethod(time.time), staticmethod(time.monotonic)

    def __init__(self, root="/"):
        self.root = pathlib.Path(root)
        self.home = self.root / "home/ec2-user/SageMaker"
        self.settings = dict(DEFAULTS, **json.loads((self.root / "etc/lightsout/idle.json").read_text()))

    def ask(self, what):
        """What Jupyter answers. It listens on this machine, with a certificate that nobody has signed."""
        blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
        address = f"{self.settings['url']}/api/{what}?no_track_activity=1"
        opener = build_opener(ProxyHandler({}), HTTPSHandler(context=blind))
        with contextlib.closing(opener.open(address, timeout=10)) as answer:
            return json.loads(answer.read(1 << 22).decode())

    def processes(self):
        """All that live, without the kernel's."""
        for folder in (self.root / "proc").glob("[0-9]*"):
            try:
                process = Process(folder)
            except (OSError, ValueError, IndexError):
                continue  # gone meanwhile
            if process.words and not process.dead:
                yield process

    def written(self):
        """When a file was last written."""
        last = seen = 0
        for folder, folders, files in os.walk(str(self.home)):
            folders[:] = [name for name in folders if name[0] != "."]
            for name in files:
                if name[0] != "." and name != LOG:
                    last = max(last, pathlib.Path(folder, name).lstat().st_mtime)
            seen += len(files)
            if seen > FILES:
                break
        return last

    def ways(self):
        """The commands that can call the API."""
        about = json.loads((self.root / "opt/ml/metadata/resource-metadata.json").read_text())
        name, region = about["ResourceName"], about["ResourceArn"].split(":")[3]
        for aws in ("/usr/local/bin/aws", "/usr/bin/aws"):
            yield [aws, "sagemaker", "stop-notebook-instance", "--notebook-instance-name", name, "--region", region]
        jupyters = [process.words[0] for process in self.processes() if SERVERS & process.names]
        for python in ["/usr/bin/python3", *jupyters, "/home/ec2-user/anaconda3/bin/python"]:
            yield [python, "-c", STOP, name, region]

    def stop(self):
        """Ask the API to stop this instance. Returns what went wrong, None when it was taken."""
        wrong = []
        for words in self.ways():
            if not os.access(words[0], os.X_OK):
                continue
            file = pathlib.Path(words[0]).stat()

            def become(file=file):
                """A program that users may replace runs as its owner, not as root."""
                os.setgid(file.st_gid)
                os.setuid(file.st_uid)

            try:
                subprocess.run(words, check=True, stdout=-1, stderr=-2, timeout=60, preexec_fn=become)  # pipe, stdout
                return None
            except subprocess.CalledProcessError as error:
                wrong += error.stdout.decode("utf-8", "replace").strip().splitlines()[-1:]
            except (OSError, subprocess.SubprocessError) as error:
                wrong.append(str(error))
        # That a Python has no boto3 is told only where nothing else is.
        wrong.sort(key=lambda line: "No module" in line)
        return wrong[0] if wrong else "there is neither the AWS CLI nor boto3"

    def note(self, text):
        """A line for the journal, and for the log, which outlives a stop."""
        print(text, flush=True)
        # The folder is the user's: no link is followed, no pipe waited for.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        line = time.strftime("%Y-%m-%dT%H:%M:%SZ ", time.gmtime(self.now())) + text + "\n"
        with contextlib.suppress(OSError):  # a full disk changes nothing
            log = os.open(str(self.home / LOG), flags, 0o644)
            if os.fstat(log).st_size > 100000:
                os.ftruncate(log, 0)
            os.write(log, line.encode())
            os.close(log)


class Guard:
    """Looks, remembers, stops."""

    def __init__(self, instance):
        self.instance, self.settings = instance, instance.settings
        self.marks, self.since = {}, {}
        self.idle = self.blind = 0
        self.last, self.told, self.wrong = instance.watched(), None, None

    def news(self, name, marks):
        """The first whose mark is new or another than at the last look."""
        before, self.marks[name] = self.marks.get(name, marks), marks
        return next((key for key, mark in marks.items() if before.get(key) != mark), None)

    # -- signals: each returns a verdict and why
    def kernels(self):
        kernels, now, since = self.instance.ask("kernels"), self.instance.watched(), {}
        used = self.news("kernels", {kernel["id"]: kernel["last_activity"] for kernel in kernels})
        why = used and f"kernel {used[:8]} was used"
        for kernel in kernels:
            key = kernel["id"], kernel["execution_state"]
            since[key] = self.since.get(key, now)
            if key[1] == "busy" or (key[1] != "idle" and now - since[key] < BETWEEN_STATES):
                why = f"kernel {key[0][:8]} is {key[1]}"
        self.since = since
        return (BUSY, why) if why else (IDLE, f"{len(kernels)} kernels, none computes")

    def terminals(self):
        used = self.news("terminals", {one["name"]: one["last_activity"] for one in self.instance.ask("terminals")})
        return (BUSY, f"terminal {used} was used") if used else (IDLE, "no terminal was used")

    def programs(self):
        before, now = self.marks.get("programs"), {}
        for process in self.instance.processes():
            if process.waits or (AROUND | SERVERS) & process.names:
                continue
            if process.terminal:
                return BUSY, f"at a terminal runs: {' '.join(process.words)[:60]}"
            if process.owner >= 500:  # not the system's
                now[process.key] = process.seconds
        self.marks["programs"] = now
        # Without an earlier look nobody knows when it was used.
        used = sum(seconds - (before or now).get(key, 0) for key, seconds in now.items())
        percent = 100 * used / max(1, self.instance.watched() - self.last)
        return (BUSY if percent >= self.settings["cpu"] else IDLE), f"{percent:.0f} % of a core used"

    def files(self):
        new = self.news("files", {"file": self.instance.written()})
        return (BUSY, "a file was written") if new else (IDLE, "no file was written")

    def check(self):
        """One look; returns its verdict: `busy`, `unknown`, `idle` or `stop`."""
        whys = {}
        for signal in (self.kernels, self.terminals, self.programs, self.files):
            try:
                verdict, why = signal()
            except Exception as error:  # whatever it is: work may be going on
                verdict, why = UNKNOWN, f"{signal.__name__} cannot be read: {error}"
            whys.setdefault(verdict, why)
        verdict = next(one for one in (BUSY, UNKNOWN, IDLE) if one in whys)
        now = self.instance.watched()
        step, self.last = min(now - self.last, LONGEST_STEP * self.settings["interval"]), now
        if verdict == BUSY:
            self.idle = self.blind = 0
        elif verdict == IDLE:
            self.idle += step
        else:
            self.blind += step
        whys[IDLE] = "nothing happens"
        if self.idle >= self.settings["idle"] or self.idle + self.blind >= self.settings["hard"]:
            minutes = f"{(self.idle + self.blind) / 60:.0f} min, {self.blind / 60:.0f} of them unknown"
            self.say("stop", f"stopping it after {minutes}: {whys[verdict]}")
            wrong = self.instance.stop()
            if wrong and wrong != self.wrong:
                self.instance.note(f"could not stop it, trying again at each look: {wrong}")
            self.wrong = wrong
            return "stop"
        self.say(verdict, f"{verdict}: {whys[verdict]}")
        return verdict

    def say(self, verdict, text):
        """Note a change of mind."""
        if verdict != self.told:
            self.instance.note(text)
        self.told = verdict


def main():
    """Look until the instance is stopped."""
    guard = Guard(Instance())
    while True:
        guard.check()
        time.sleep(guard.settings["interval"])


if __name__ == "__main__":
    main()
