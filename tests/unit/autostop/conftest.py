"""A machine that the agent looks at, made of files and of clocks that the test moves."""

from __future__ import annotations

import importlib.util
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).resolve().parents[3] / "roles/autostop/files/lightsout_autostop.py"


def load():
    """The agent as a module."""
    spec = importlib.util.spec_from_file_location("lightsout_autostop", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


autostop = load()

#: Where the clocks begin, 2026-11-23T04:00:00Z: the kernel ran for a day before process 1 began, as in a container.
BOOT, WALL = 86400.0, 1795406400.0
HZ = 100
MINUTE, HOUR = 60.0, 3600.0


class Computer(autostop.Machine):
    """A machine whose files are in a temporary folder. `told`: what terminals were told. `off`: it was powered off."""

    def __init__(self, root: Path) -> None:
        self.passed, self.asleep, self.jumped, self.used = 0.0, 0.0, 0.0, 0.0
        self.told: list[str] = []
        self.off = False
        self.answers: dict[str, Any] = {}
        self.nvidia: tuple[int | None, str] = (None, "")
        root.mkdir(exist_ok=True)
        super().__init__(root)
        self.put("etc/passwd", "root:x:0:0:root:/root:/bin/bash\nubuntu:x:1000:1000::/home/ubuntu:/bin/bash\n")
        self.process(1, "/sbin/init", group="/init.scope")
        self.process(80, "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups", group="/system.slice/ssh.service")
        self.settle()

    # -- what it is made of
    def put(self, path: str, text: str) -> Path:
        """A file."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def process(
        self,
        pid: int,
        *words: str,
        parent: int = 1,
        terminal: int | None = None,
        group: str = "/user.slice/user-1000.slice/session-3.scope",
        ticks: int = 0,
        comm: str = "",
        state: str = "S",
        started: float | None = None,
    ) -> int:
        """A process; the same number again replaces it. `started`: seconds after the machine, now if not given."""
        age = BOOT + (0 if pid == 1 else self.passed + self.asleep if started is None else started)
        tty = 0 if terminal is None else 136 << 8 | terminal
        comm = (comm or words[0].split(":")[0].rpartition("/")[2].lstrip("-"))[:15]
        numbers = [parent, pid, pid, tty, -1, 0, 0, 0, 0, 0, ticks, 0, 0, 0, 20, 0, 1, 0, int(age * HZ), 0]
        self.put(f"proc/{pid}/stat", f"{pid} ({comm}) {state} {' '.join(map(str, numbers))}\n")
        self.put(f"proc/{pid}/cmdline", "".join(f"{word}\0" for word in words))
        self.put(f"proc/{pid}/cgroup", f"0::{group}\n")
        return pid

    def end(self, pid: int) -> None:
        """The end of a process."""
        for file in (self.root / f"proc/{pid}").iterdir():
            file.unlink()
        (self.root / f"proc/{pid}").rmdir()

    def login(self, terminal: int = 0, pid: int = 500) -> int:
        """Somebody with a shell at pts/`terminal`; returns the shell's number."""
        self.process(pid, "sshd: ubuntu [priv]", parent=80)
        self.process(pid + 1, f"sshd: ubuntu@pts/{terminal}", parent=pid)
        self.process(pid + 2, "-bash", parent=pid + 1, terminal=terminal)
        self.type(terminal)
        return pid + 2

    def type(self, terminal: int = 0) -> None:
        """A key is pressed."""
        file = self.put(f"dev/pts/{terminal}", "")
        os.utime(file, (self.now(), self.now()))

    def connect(self, pid: int = 600) -> int:
        """A connection without a terminal; returns the number of sshd's half that serves it."""
        self.process(pid, "sshd: ubuntu [priv]", parent=80)
        return self.process(pid + 1, "sshd: ubuntu@notty", parent=pid)

    def jupyter(self, *kernels: dict[str, Any], pid: int = 700, terminal: int | None = None) -> None:
        """A Jupyter server with these kernels."""
        group = "/system.slice/jupyter.service" if terminal is None else "/user.slice/user-1000.slice/session-3.scope"
        words = ("/opt/anaconda3/bin/python", "/opt/anaconda3/bin/jupyter-lab")
        self.process(pid, *words, group=group, comm="jupyter-lab", terminal=terminal)
        os.chown(self.root / f"proc/{pid}", os.getuid(), -1)
        uid = (self.root / f"proc/{pid}").stat().st_uid
        home = {0: "root"}.get(uid, "home/ubuntu")
        self.put("etc/passwd", f"me:x:{uid}:{uid}::/{home}:/bin/bash\n")
        self.put(f"{home}/.local/share/jupyter/runtime/jpserver-{pid}.json", json.dumps({"pid": pid}))
        self.answers[f"{pid}"] = list(kernels)

    # -- what it does
    def ask(self, server: dict[str, Any], path: str) -> Any:  # type: ignore[override]
        """What Jupyter answers; an exception is raised."""
        assert path.endswith("?no_track_activity=1"), "asking would look like activity"
        answer = self.answers[str(server["pid"])]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def run(self, *words: str) -> tuple[int | None, str]:  # type: ignore[override]
        """Only nvidia-smi is run."""
        assert words[0] == "nvidia-smi"
        return self.nvidia

    def tell(self, text: str) -> None:
        self.told.append(text)

    def power_off(self) -> bool:
        self.off = True
        return True

    # -- time
    def now(self) -> float:  # type: ignore[override]
        return WALL + self.passed + self.asleep + self.jumped

    def watched(self) -> float:  # type: ignore[override]
        return BOOT + self.passed

    def boottime(self) -> float:  # type: ignore[override]
        return BOOT + self.passed + self.asleep

    def compute(self, seconds: float) -> None:
        """CPU time is used."""
        self.used += seconds
        self.settle()

    def settle(self) -> None:
        self.put("sys/fs/cgroup/cpu.stat", f"usage_usec {int(self.used * 1e6)}\nuser_usec 0\n")

    def check(self) -> str:
        """One look of the timer's."""
        return autostop.Guard(self).check()

    def watch(self, seconds: float, each: Callable[[], None] | None = None) -> list[str]:
        """Look each minute for so long, and do something before each; what each look did, until the machine is off."""
        done = []
        until = self.passed + seconds
        while self.passed < until and not self.off:
            self.passed += MINUTE
            if each:
                each()
            done.append(self.check())
        return done

    def status(self) -> dict[str, Any]:
        """What the last look said."""
        return json.loads((self.root / "run/lightsout/autostop.json").read_text())

    def reading(self, name: str) -> tuple[str, str]:
        """What one signal says now: verdict, and why."""
        state = autostop.Guard(self).look()
        return next((each["verdict"], each["why"]) for each in state["signals"] if each["name"] == name)


@pytest.fixture
def computer(tmp_path: Path) -> Iterator[Computer]:
    """A machine that has just started, with an ssh server and nobody there; in memory, for speed."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
        yield Computer(Path(folder) / "root")


@pytest.fixture
def settled(computer: Computer) -> Computer:
    """The same a quarter of an hour later: nothing is new any more."""
    computer.watch(15 * MINUTE)
    assert computer.status()["verdict"] == "idle"
    return computer
