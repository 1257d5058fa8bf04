"""The command line: ``python -m localcloud build|start|stop|status|logs|podman-env``."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from localcloud import images, podman
from localcloud.settings import ROOT, CloudError, Settings, name_lock, recorded, take_lock

READY_WITHIN = 90.0  # seconds


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 when it did what it says."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except (CloudError, podman.PodmanError) as error:
        print(f"localcloud: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m localcloud",
        description="A stand-in for EC2 on this computer: moto answers the AWS API, podman containers are the machines.",
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, help: str, run) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        sub.set_defaults(run=run)
        sub.add_argument(
            "--state-dir",
            type=Path,
            default=ROOT / ".lightsout/cloud",
            help="where the cloud keeps lock, log, env and settings.yml (default: .lightsout/cloud)",
        )
        return sub

    command("build", "build what the machines need (image, local Anaconda installer); `start` does it, too", build)
    starting = command("start", "start a cloud in the background, and write env and settings.yml", start)
    starting.add_argument("--foreground", action="store_true", help=argparse.SUPPRESS)
    for sub in (starting,):
        sub.add_argument(
            "--name", default="lightsout", help="its name; two clouds at once need two (default: lightsout)"
        )
        sub.add_argument("--port", type=int, default=5601, help="port of the API; a free one if taken (default: 5601)")
        sub.add_argument("--network", choices=["bridge", "forward"], help="default: bridge for root, else forward")
    command("stop", "stop the cloud and remove its machines", stop)
    command("status", "show the cloud and its machines", status)
    logs_parser = command("logs", "show the cloud's log", logs)
    logs_parser.add_argument("-f", "--follow", action="store_true", help="go on as it grows")
    command("podman-env", "print the shell line that podman needs on this computer, if any", podman_env)
    command("clean", "stop the cloud, and remove images and installers that were built here", clean)
    return parser


def build(_options: argparse.Namespace) -> None:
    """Build, or say that everything is there."""
    from localcloud import anaconda

    print(f"machine image: {images.ensure_machine_image()}")
    print(f"local Anaconda: {anaconda.ensure_installer()}")


def start(options: argparse.Namespace) -> int:
    """Start in the background; returns when the API answers."""
    if options.foreground:
        return _foreground(options)
    state = options.state_dir
    lock = take_lock(state / "lock")
    if lock is None:
        print(f"The local cloud already runs: {_endpoint(state)}")
        return 0
    lock.close()
    build(options)
    words = [sys.executable, "-m", "localcloud", "start", "--foreground", "--state-dir", str(state)]
    words += ["--name", options.name, "--port", str(_free_port(options.port))]
    words += ["--network", options.network] if options.network else []
    (state / "cloud.json").unlink(missing_ok=True)
    with (state / "log").open("a") as log:
        process = subprocess.Popen(
            words, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=_clean_env()
        )
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline:
        if recorded(state).get("pid") == process.pid:
            print(f"The local cloud is ready: {_endpoint(state)}")
            print(f'Use it:  eval "$(cat {_short(state)}/env)"; ansible-playbook … -e @{_short(state)}/settings.yml')
            return 0
        if process.poll() is not None:
            break
        time.sleep(0.1)
    else:
        process.terminate()
    lines = (state / "log").read_text().strip().splitlines()
    raise CloudError(f"it did not start: {lines[-1] if lines else 'no reason given'} (log: {state / 'log'})")


def _foreground(options: argparse.Namespace) -> int:
    """The cloud itself, as `start` runs it in the background."""
    from localcloud import anaconda, server
    from localcloud.network import choose

    name = take_lock(name_lock(options.name))
    if name is None:
        raise CloudError(f"name: a cloud called '{options.name}' already runs from another folder; choose --name")
    held = take_lock(options.state_dir / "lock")
    if held is None:
        raise CloudError(f"state-dir: another cloud runs in {options.state_dir}")
    kind = "bridge" if type(choose(options.name, options.network)).__name__ == "Bridge" else "forward"
    settings = Settings(options.name, options.state_dir.resolve(), options.port, kind)
    installer = anaconda.ensure_installer()

    def ready(network) -> None:
        checksum = hashlib.sha256(installer.read_bytes()).hexdigest()
        base = f"http://{network.gateway}:{settings.port}/lightsout"
        settings.write_files(
            {
                "lightsout_checkip_url": f"{settings.endpoint}/lightsout/checkip",
                "anaconda_installer_url": f"{base}/files/{installer.name}",
                "anaconda_installer_checksum": f"sha256:{checksum}",
            }
        )
        settings.remember(os.getpid())

    server.serve(settings, images.ensure_machine_image(), installer.parent, ready)
    return 0


def stop(options: argparse.Namespace) -> None:
    """Stop; what a crashed cloud left behind goes, too."""
    from localcloud.network import Bridge

    record = recorded(options.state_dir)
    pid = int(record.get("pid", 0))
    lock = take_lock(options.state_dir / "lock")
    if lock is None and pid:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 60
        while (lock := take_lock(options.state_dir / "lock")) is None:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
        print("The local cloud is stopped.")
    elif not record:
        print("No local cloud runs here.")
    if lock is not None:
        lock.close()
    if record:
        name = str(record["name"])
        left = podman.run("ps", "--all", "--quiet", "--filter", f"label=localcloud={name}").split()
        if left:
            podman.run("rm", "--force", "--time", "0", *left)
        if record["network"] == "bridge":
            Bridge(name).close()
    for file in ("cloud.json", "env", "settings.yml"):
        (options.state_dir / file).unlink(missing_ok=True)


def status(options: argparse.Namespace) -> int:
    """A table of machines; 3 when no cloud runs."""
    lock = take_lock(options.state_dir / "lock")
    if lock is not None or not recorded(options.state_dir):
        print("No local cloud runs here. Start one: python -m localcloud start")
        return 3
    endpoint = _endpoint(options.state_dir)
    with urllib.request.urlopen(f"{endpoint}/lightsout/machines", timeout=10) as answer:  # noqa: S310
        machines = json.load(answer)
    print(f"{endpoint}  ({len(machines)} machines)")
    columns = ["id", "name", "type", "state", "address", "container"]
    rows = [columns, *([row[column] for column in columns] for row in machines)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
    for row in rows if machines else []:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def logs(options: argparse.Namespace) -> int:
    """The log so far, or as it grows."""
    file = options.state_dir / "log"
    if not file.exists():
        raise CloudError(f"there is no log at {file}")
    return subprocess.run(["tail", "-n", "+1", *["-F"] * options.follow, str(file)], check=False).returncode


def podman_env(_options: argparse.Namespace) -> None:
    """For `eval`: lets podman and Molecule's playbooks run containers the way the local cloud does."""
    for key, value in podman.environment().items():
        print(f"export {key}={value}")


def clean(options: argparse.Namespace) -> None:
    """Nothing of ours stays on this computer."""
    stop(options)
    images.remove_machine_images()


def _endpoint(state: Path) -> str:
    return f"http://127.0.0.1:{recorded(state).get('port', '?')}"


def _short(path: Path) -> str:
    """As a user in the repository would type it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def _free_port(wish: int) -> int:
    """The port that was wished for, or any free one."""
    for port in (wish, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return probe.getsockname()[1]
    raise CloudError("no TCP port is free on 127.0.0.1")


def _clean_env() -> dict[str, str]:
    """The cloud must not take its own endpoint, or somebody's keys, for its own."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "MOTO_"))}
