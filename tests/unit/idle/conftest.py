"""A notebook instance for the agent: files, a clock that the test moves, a Jupyter that really answers over HTTP."""

from __future__ import annotations

import importlib.util
import json
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).resolve().parents[3] / "roles/sagemaker_notebook/files/lightsout_idle.py"

MINUTE, HOUR = 60.0, 3600.0


def load():
    """The agent as a module."""
    spec = importlib.util.spec_from_file_location("lightsout_idle", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


idle = load()


class Jupyter(ThreadingHTTPServer):
    """Answers for kernels and terminals. `broken`: the status of every answer instead."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, list[dict[str, Any]]] = {"kernels": [], "terminals": []}
        self.asked: list[str] = []
        self.broken: int | None = None
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    """One question."""

    def do_GET(self) -> None:
        server: Jupyter = self.server  # type: ignore[assignment]
        server.asked.append(self.path)
        what = self.path.partition("?")[0].removeprefix("/api/")
        body = json.dumps(server.answers.get(what)).encode()
        self.send_response(server.broken or 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Notebook(idle.Instance):
    """A notebook instance. `stopped`: how often it was told to stop; `refuses`: what the API says instead."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.jupyter = Jupyter()
        self.root, self.passed, self.stopped = root, 0.0, 0
        self.refuses: str | None = None
        url = f"http://127.0.0.1:{self.jupyter.server_port}"
        self.put("etc/lightsout/idle.json", json.dumps({"url": url, **settings}))
        self.put("home/ec2-user/SageMaker/first.ipynb", "{}")
        self.process(1, "/usr/lib/systemd/systemd", owner=0)
        self.process(90, "/sbin/agetty", "-o", "-p -- \\u", "ttyS0", "linux", terminal=True, owner=0)
        jupyter = "/home/ec2-user/anaconda3/envs/JupyterSystemEnv/bin/"
        self.process(100, f"{jupyter}python3.10", f"{jupyter}jupyter-lab", "--no-browser", seconds=400)
        super().__init__(str(root))
        self.guard = idle.Guard(self)

    # -- what it is made of
    def put(self, path: str, text: str) -> Path:
        """A file, written now."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        os.utime(file, (self.now(), self.now()))
        return file

    def process(self, pid: int, *words: str, terminal: bool = False, seconds: float = 0, owner: int = 1000) -> None:
        """A process; the same number again replaces it."""
        numbers = [
            1,
            pid,
            pid,
            34816 if terminal else 0,
            -1,
            0,
            0,
            0,
            0,
            0,
            int(seconds * 100),
            0,
            0,
            0,
            20,
            0,
            1,
            0,
            7,
        ]
        name = words[0].rpartition("/")[2][:15]
        self.put(f"proc/{pid}/stat", f"{pid} ({name}) S {' '.join(map(str, numbers))}\n")
        self.put(f"proc/{pid}/cmdline", "".join(f"{word}\0" for word in words))
        os.chown(self.root / f"proc/{pid}", owner, -1)

    def end(self, pid: int) -> None:
        """The end of a process."""
        for file in (self.root / f"proc/{pid}").iterdir():
            file.unlink()
        (self.root / f"proc/{pid}").rmdir()

    def kernel(self, state: str, name: str = "3f0c9a52-aaaa", used: float | None = None) -> None:
        """Jupyter has this kernel, among others; `used` when it was, now if not given."""
        kernels = self.jupyter.answers["kernels"]
        kernels[:] = [one for one in kernels if one["id"] != name]
        kernels.append({"id": name, "execution_state": state, "last_activity": self.now() if used is None else used})

    # -- what it does
    def stop(self) -> str | None:
        self.stopped += self.refuses is None
        return self.refuses

    def now(self) -> float:  # type: ignore[override]
        return 1795406400.0 + self.passed

    def watched(self) -> float:  # type: ignore[override]
        return self.passed

    def watch(self, seconds: float, each: Callable[[], object] | None = None) -> list[str]:
        """A look each minute for so long, after something that happens; ends early when it is stopped."""
        verdicts, until = [], self.passed + seconds
        while self.passed < until and not self.stopped:
            self.passed += MINUTE
            if each:
                each()
            verdicts.append(self.guard.check())
        return verdicts

    @property
    def log(self) -> list[str]:
        """What it noted, without the times."""
        file = self.home / "lightsout-idle.log"
        return [line.split(" ", 1)[1] for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture
def notebook(tmp_path: Path) -> Iterator[Notebook]:
    """A notebook instance at which nobody has done anything yet."""
    made = Notebook(tmp_path)
    yield made
    made.jupyter.shutdown()
    made.jupyter.server_close()
