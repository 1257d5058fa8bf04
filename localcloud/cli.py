"""The command line: ``python -m localcloud build|start|stop|status|interrupt|logs|clean|podman-env``."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from localcloud import images, podman, sagemaker_image, spot
from localcloud.settings import ROOT, CloudError, Settings, alive, claim, holder, recorded, take_lock

READY_WITHIN = 90.0  # seconds
STOPPED_WITHIN = 60.0  # seconds

Command = Callable[[argparse.Namespace], int | None]


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 when it did what it says."""
    options = _parser().parse_args(arguments)
    try:
        options.state_dir = options.state_dir.resolve()
        return options.run(options) or 0
    except KeyboardInterrupt:
        print("localcloud: interrupted", file=sys.stderr)
        return 130
    except (CloudError, podman.PodmanError) as error:
        print(f"localcloud: {error}", file=sys.stderr)
        return 1


def _port(text: str) -> int:
    """A TCP port; 0 means any free one."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"'{text}' is not a port: give a number from 0 (any free one) to 65535")
    return int(text)


def _notice(text: str) -> int:
    """Seconds of warning before an interruption."""
    try:
        return spot.seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m localcloud",
        description="A stand-in for EC2 on this computer: moto answers the AWS API, podman containers are machines.",
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, help: str, run: Command) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        sub.set_defaults(run=run)
        sub.add_argument(
            "--state-dir",
            type=Path,
            default=ROOT / ".lightsout/cloud",
            help="where the cloud keeps lock, log, env and settings.yml (default: .lightsout/cloud)",
        )
        return sub

    command(
        "build",
        "build what machines need (images, local Anaconda installer); else it is built at the first need",
        build,
    )
    starting = command("start", "start a cloud in the background, and write env and settings.yml", start)
    starting.add_argument("--foreground", action="store_true", help=argparse.SUPPRESS)
    starting.add_argument(
        "--name", default="lightsout", help="its name; two clouds at once need two (default: lightsout)"
    )
    starting.add_argument(
        "--port", type=_port, default=5601, help="port of the API; a free one if taken (default: 5601)"
    )
    starting.add_argument("--network", choices=["bridge", "forward"], help="default: bridge for root, else forward")
    command("stop", "stop the cloud and remove its machines", stop)
    command("status", "show the cloud and its machines", status)
    interrupting = command("interrupt", "interrupt a spot machine, after a notice, as EC2 does", interrupt)
    interrupting.add_argument(
        "instance",
        metavar="INSTANCE_ID",
        help="a running spot instance, or the name of a training job on spot machines",
    )
    interrupting.add_argument(
        "--notice",
        type=_notice,
        default=spot.NOTICE,
        metavar="SECONDS",
        help=f"how long its metadata tells of it before it comes (default: {spot.NOTICE}, as on EC2)",
    )
    logs_parser = command("logs", "show the cloud's log", logs)
    logs_parser.add_argument("-f", "--follow", action="store_true", help="go on as it grows")
    command("podman-env", "print the shell line that podman needs on this computer, if any", podman_env)
    command("clean", "stop the cloud, and remove all that local clouds made here: leftovers, images, installers", clean)
    return parser


def build(_options: argparse.Namespace) -> None:
    """Build, or say that everything is there."""
    _build_for_start()
    print(f"SageMaker image: {sagemaker_image.ensure_image()}")


def _build_for_start() -> None:
    """What a launch needs; SageMaker's own image is built when its first machine starts."""
    from localcloud import anaconda

    print(f"machine image: {images.ensure_machine_image()}")
    print(f"local Anaconda: {_short(anaconda.ensure_installer())}")


def start(options: argparse.Namespace) -> int:
    """Start in the background; returns when the API answers."""
    if options.foreground:
        return _foreground(options)
    state: Path = options.state_dir
    Settings(options.name, state, options.port, "")  # says what is wrong with them before anything is made
    if holder(state / "lock"):
        return _runs_already(state)
    _build_for_start()
    words = [sys.executable, "-m", "localcloud", "start", "--foreground", "--state-dir", str(state)]
    words += ["--name", options.name, "--port", str(options.port)]
    words += ["--network", options.network] if options.network else []
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
            if holder(state / "lock"):
                return _runs_already(state)
            break
        time.sleep(0.05)
    else:
        process.terminate()
    lines = (state / "log").read_text().strip().splitlines()
    reason = lines[-1].removeprefix("localcloud: ") if lines else "no reason given"
    raise CloudError(f"it did not start: {reason} (log: {_short(state / 'log')})")


def _runs_already(state: Path) -> int:
    """Another `start` was first; wait until its cloud is ready, too."""
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline and (pid := holder(state / "lock")):
        if recorded(state).get("pid") == pid:
            print(f"The local cloud runs already: {_endpoint(state)}")
            return 0
        time.sleep(0.05)
    raise CloudError(f"another cloud was starting in {_short(state)}, and did not get ready; see its log there")


def _foreground(options: argparse.Namespace) -> int:
    """The cloud itself, as `start` runs it in the background."""
    from localcloud import anaconda, server
    from localcloud.network import choose

    held = _lock(options.state_dir / "lock")
    if held is None:
        raise CloudError(f"state-dir: another cloud runs in {_short(options.state_dir)}")
    name = claim(options.name)
    if name is None:
        raise CloudError(f"name: a cloud called '{options.name}' runs already, from another folder: choose --name")
    (options.state_dir / "cloud.json").unlink(missing_ok=True)
    network = choose(options.name, options.network)
    installer = anaconda.ensure_installer()
    image = images.ensure_machine_image()

    def ready(settings: Settings) -> None:
        base = f"http://{network.gateway}:{settings.port}/lightsout"
        settings.write_files(
            {
                "lightsout_checkip_url": f"{settings.endpoint}/lightsout/checkip",
                "cost_guard_monthly_limit": "50",
                "cost_guard_email": "you@example.org",
                "lightsout_price_cache": str(options.state_dir / "prices.json"),
                "training_sync_endpoint": f"http://{network.gateway}:{settings.port}",
                "sagemaker_training_tls_only": False,
                "anaconda_installer_url": f"{base}/files/{installer.name}",
                "anaconda_installer_checksum": f"sha256:{anaconda.checksum(installer)}",
            }
        )
        settings.remember(os.getpid())

    server.serve(
        Settings(options.name, options.state_dir, options.port, network.kind), network, image, installer.parent, ready
    )
    return 0


def _lock(path: Path) -> IO[str] | None:
    """The lock; whoever only looks whether it is free holds it for a moment."""
    deadline = time.monotonic() + 1
    while (lock := take_lock(path)) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return lock


def stop(options: argparse.Namespace) -> None:
    """Stop the cloud; also what a crash left behind."""
    state: Path = options.state_dir
    record, pid = recorded(state), holder(state / "lock")
    if pid:
        _end(pid, state / "lock")
        print("The local cloud is stopped.")
    elif record:
        print("The local cloud had died; what it left behind is removed.")
    else:
        print("No local cloud runs here.")
    if record:
        _remove_remains(str(record["name"]))
    for file in ("cloud.json", "env", "settings.yml", "amis.json", "prices.json"):
        (state / file).unlink(missing_ok=True)


def _end(pid: int, lock: Path) -> None:
    """Ask a cloud to end, and make it end where it does not."""
    deadline = time.monotonic() + STOPPED_WITHIN
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    while holder(lock) == pid or alive(pid):
        if time.monotonic() > deadline:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _remove_remains(name: str) -> bool:
    """Containers and network of a cloud that is dead; False where it lives."""
    name_is_free = claim(name)
    if name_is_free is None:
        return False
    podman.remove_containers(name)
    if podman.rootful():
        podman.run("network", "rm", "--force", f"localcloud-{name}", check=False)
    name_is_free.close()
    return True


def status(options: argparse.Namespace) -> int:
    """A table of machines; 3 when no cloud runs."""
    state: Path = options.state_dir
    if not _ready(state):
        return 3
    endpoint = _endpoint(state)
    machines: list[dict[str, Any]] = json.loads(_ask(endpoint, "machines"))
    print(f"{endpoint}  ({len(machines)} machine{'s' * (len(machines) != 1)})")
    columns = ["id", "name", "type", "state", "address", "container"]
    rows = [columns, *([row[column] for column in columns] for row in machines)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
    for row in rows if machines else []:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _ready(state: Path) -> bool:
    """Whether a cloud answers, or should; otherwise says why not."""
    if not holder(state / "lock"):
        print("No local cloud runs here. Start one: python -m localcloud start")
        return False
    if not recorded(state):
        print(f"The local cloud is starting; its log is {_short(state / 'log')}")
        return False
    return True


def _ask(endpoint: str, page: str, body: dict[str, Any] | None = None) -> bytes:
    """What the running cloud answers on a page of its own.

    Raises:
        urllib.error.HTTPError: it understood, and refuses.
        CloudError: it does not answer.
    """
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(f"{endpoint}/lightsout/{page}", data, timeout=10) as answer:  # noqa: S310
            return answer.read()
    except urllib.error.HTTPError:
        raise
    except OSError as error:
        raise CloudError(
            f"it runs, but does not answer at {endpoint}: {error}. See: python -m localcloud logs"
        ) from error


def interrupt(options: argparse.Namespace) -> int:
    """Give notice to a spot machine; 2 when it cannot be interrupted, 3 when no cloud runs."""
    state: Path = options.state_dir
    if not _ready(state):
        return 3
    order = {"instance": options.instance, "notice": options.notice}
    try:
        ordered = json.loads(_ask(_endpoint(state), "interrupt", order))
    except urllib.error.HTTPError as error:
        print(f"localcloud: {error.read().decode().strip()}", file=sys.stderr)
        return 2
    print(f"{options.instance} has its notice: {ordered['action']} at {ordered['time']}, in {options.notice} s.")
    return 0


def logs(options: argparse.Namespace) -> int:
    """The log so far, or as it grows."""
    file = options.state_dir / "log"
    if not file.exists():
        raise CloudError(f"there is no log at {_short(file)}: no cloud was started there")
    return subprocess.run(["tail", "-n", "+1", *["-F"] * options.follow, str(file)], check=False).returncode


def podman_env(_options: argparse.Namespace) -> None:
    """For `eval`: lets podman and Molecule's playbooks run containers the way the local cloud does."""
    for key, value in podman.environment().items():
        print(f"export {key}={value}")


def clean(options: argparse.Namespace) -> None:
    """Nothing of ours stays on this computer, but for clouds that run and the image that they need."""
    stop(options)
    alive = sorted(name for name in podman.clouds() if not _remove_remains(name))
    for reference in [*images.built_images(sagemaker_image.NAME), *images.built_images()]:
        try:
            podman.run("rmi", reference)
            print(f"Removed the image {reference}.")
        except podman.PodmanError:
            print(f"Kept the image {reference}: containers use it.")
    for file in podman.CACHE.glob("*"):
        if file.is_dir():
            shutil.rmtree(file)
        elif not file.name.endswith(".lock"):
            file.unlink()
    if alive:
        print(f"Left alone, because they run: {', '.join(alive)}. Stop each with its --state-dir first.")


def _endpoint(state: Path) -> str:
    return f"http://127.0.0.1:{recorded(state).get('port', '?')}"


def _short(path: Path) -> str:
    """As a user in the repository would type it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def _clean_env() -> dict[str, str]:
    """The cloud must not take its own endpoint, or somebody's keys, for its own."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "MOTO_"))}
