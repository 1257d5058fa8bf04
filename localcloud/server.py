"""The running cloud: moto with what it lacks, its machines, and a few pages of our own under /lightsout/."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import os
import signal
import socket
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from localcloud import catalog, podman, price_list, spot
from localcloud.network import Network
from localcloud.settings import ACCESS_KEY, ACCOUNT, REGION, CloudError, Settings, log

#: moto reads these while it is imported; so `serve` sets them, and imports it late.
MOTO_SETTINGS = {
    "MOTO_EC2_LOAD_DEFAULT_AMIS": "false",
    "MOTO_ENABLE_KEYPAIR_VALIDATION": "true",
    "MOTO_ENABLE_AMI_VALIDATION": "true",
    "MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION": "true",
    "MOTO_IAM_LOAD_MANAGED_POLICIES": "true",
}

StartResponse = Callable[..., Any]


class Faults:
    """Misfortunes that a test can order by ``POST /lightsout/faults``.

    Attributes:
        dropped_answers: so many RunInstances will succeed without their answer getting through.
        no_capacity: availability zones that are out of machines.
    """

    def __init__(self) -> None:
        self.dropped_answers = 0
        self.no_capacity: set[str] = set()
        self._lock = threading.Lock()

    def order(self, wish: dict[str, Any]) -> None:
        """Set what is named in ``wish``."""
        with self._lock:
            self.dropped_answers = int(wish.get("dropped_answers", self.dropped_answers))
            self.no_capacity = set(wish.get("no_capacity", self.no_capacity))

    def drop_now(self) -> bool:
        """Whether this answer gets lost."""
        with self._lock:
            if self.dropped_answers > 0:
                self.dropped_answers -= 1
                return True
            return False


class Pages:
    """What is served besides the AWS API, and the AWS API itself."""

    def __init__(self, aws: Callable[..., Iterable[bytes]], network: Network, faults: Faults, files: Path) -> None:
        self._aws = aws
        self._network = network
        self._faults = faults
        self._files = files
        self.machines: Callable[[], list[dict[str, str]]] = list
        self.interrupt: Callable[[str, int], spot.Interruption] | None = None
        self.sagemaker: Callable[[dict[str, Any]], None] = dict

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """WSGI."""
        path = environ["PATH_INFO"]
        if not path.startswith("/lightsout/"):
            return self._api(environ, start_response)
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = json.loads(environ["wsgi.input"].read(length) or b"{}") if length else {}
        page = path.removeprefix("/lightsout/")
        match environ["REQUEST_METHOD"], page.split("/"):
            case "GET", ["checkip"]:
                # The controller and its machines are one computer: they see it at the gateway.
                return _text(start_response, self._network.gateway + "\n")
            case "GET", ["machines"]:
                return _text(start_response, json.dumps(self.machines()))
            case "POST", ["faults"]:
                self._faults.order(body)
                self.sagemaker(body.get("sagemaker", {}))
                return _text(start_response, "ok\n")
            case "POST", ["interrupt"] if self.interrupt:
                try:
                    ordered = self.interrupt(str(body.get("instance")), spot.seconds(body.get("notice", spot.NOTICE)))
                except (spot.Refused, ValueError) as error:
                    return _text(start_response, f"{error}\n", "409 Conflict")
                return _text(start_response, json.dumps({"action": ordered.action, "time": spot.stamp(ordered.at)}))
            case "POST", ["publish"]:
                return _text(start_response, publish(body["parameter"]) + "\n")
            case "GET" | "HEAD", ["files", name] if (self._files / name).is_file() and not name.startswith("."):
                return self._file(environ, start_response, self._files / name)
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"no such page\n"]

    def _api(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if price_list.serves(environ.get("HTTP_X_AMZ_TARGET", "")):
            return self._price_list(environ, start_response)
        answer = self._aws(environ, start_response)
        if environ.get("localcloud.ran_instances") and self._faults.drop_now():
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return answer

    @staticmethod
    def _price_list(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        asked = json.loads(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)) or b"{}")
        status = "200 OK"
        try:
            answer = price_list.answer(environ["HTTP_X_AMZ_TARGET"], asked, ACCOUNT)
        except price_list.Refused as error:
            status, answer = "400 Bad Request", {"__type": error.code, "message": str(error)}
        if answer is None:
            status, answer = "400 Bad Request", {"__type": "UnknownOperationException"}
        body = json.dumps(answer).encode()
        start_response(status, [("Content-Type", "application/x-amz-json-1.1"), ("Content-Length", str(len(body)))])
        return [body]

    @staticmethod
    def _file(environ: dict[str, Any], start_response: StartResponse, path: Path) -> Iterable[bytes]:
        start_response(
            "200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(path.stat().st_size))]
        )
        if environ["REQUEST_METHOD"] == "HEAD":  # Ansible's get_url asks so in check mode
            return []
        file = path.open("rb")
        wrapper = environ.get("wsgi.file_wrapper")
        return wrapper(file) if wrapper else iter(lambda: file.read(1 << 16), b"")


def _text(start_response: StartResponse, text: str, status: str = "200 OK") -> Iterable[bytes]:
    body = text.encode()
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def publish(parameter: str) -> str:
    """Publish a newer image everywhere; its id."""
    from moto.ec2.models import ec2_backends
    from moto.ec2.models.amis import Ami

    new = catalog.publish(parameter)
    (described,) = (image for image in catalog.described() if image["ami_id"] == new)
    for account in list(ec2_backends.values()):
        for backend in list(account.values()):
            backend.amis[new] = Ami(backend, **{k: v for k, v in described.items() if k != "creation_date"})
    catalog.write(Path(os.environ["MOTO_AMIS_PATH"]))
    return new


def extend_moto(faults: Faults, network: Network) -> None:
    """Teach moto what it lacks; each part says which."""
    from localcloud import moto_extensions

    moto_extensions.apply(faults, network.new_address)


def listeners(addresses: Iterable[str], wish: int) -> list[socket.socket]:
    """Sockets that listen on the same port of each address: the one that is wished for, or any that is free on all.

    Raises:
        CloudError: there is none.
    """
    for port in (wish, *[0] * 10):
        made: list[socket.socket] = []
        try:
            for address in dict.fromkeys(addresses):
                made.append(socket.create_server((address, made[0].getsockname()[1] if made else port), backlog=128))
            return made
        except OSError:
            for each in made:
                each.close()
    raise CloudError("no TCP port is free on 127.0.0.1")


def warm_up(port: int) -> None:
    """Ask each service of a launch for something: moto loads it at its first request, which takes a second or two."""
    for service, target, body in (
        ("ec2", "", b"Action=DescribeImages&Version=2016-11-15&Filter.1.Name=name&Filter.1.Value.1=none"),
        ("sts", "", b"Action=GetCallerIdentity&Version=2011-06-15"),
        ("ssm", "AmazonSSM.GetParameters", json.dumps({"Names": ["/none"]}).encode()),
    ):
        scope = f"Credential={ACCESS_KEY}/20260101/{REGION}/{service}/aws4_request"
        headers = {"Authorization": f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=none"}
        if target:
            headers |= {"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.1"}
        ask = urllib.request.Request(f"http://127.0.0.1:{port}/", body, headers)
        with contextlib.suppress(OSError), urllib.request.urlopen(ask, timeout=30) as answer:  # noqa: S310
            answer.read()


def serve(settings: Settings, network: Network, image: str, files: Path, ready: Callable[[Settings], None]) -> None:
    """Run a cloud until a signal ends it.

    Args:
        settings: which cloud, with the port that is wished for.
        network: how its machines are reached.
        image: the container image of its machines.
        files: a folder that is served under /lightsout/files/.
        ready: called when the API answers, with the port that it has.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    if left := podman.remove_containers(settings.name):
        log(f"removed {left} containers that an earlier run left behind")
    amis = settings.state_dir / "amis.json"
    catalog.write(amis)
    os.environ |= {**MOTO_SETTINGS, "MOTO_AMIS_PATH": str(amis)}
    machines = None
    try:
        with ThreadPoolExecutor() as pool:
            opened = pool.submit(network.open)
            schedules, costs = map(importlib.import_module, ("localcloud.schedules", "localcloud.costs"))
            importlib.import_module("localcloud.machines")  # two seconds of moto, while podman makes the network
            opened.result()
        sockets = listeners(["127.0.0.1", network.gateway], settings.port)
        settings = dataclasses.replace(settings, port=sockets[0].getsockname()[1])
        machines = _open(settings, network, image, files, sockets)
        log(f"{settings.name}: {settings.endpoint}, network {settings.network}, machines see {network.gateway}")
        ready(settings)
        schedules.start(settings.endpoint)
        costs.start()
        threading.Thread(target=warm_up, args=(settings.port,), name="warm-up", daemon=True).start()
        machines.watch()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # the end is short, and must be whole
        if machines:
            machines.close()
        podman.remove_containers(settings.name)
        network.close()
        log("stopped")


def _open(settings: Settings, network: Network, image: str, files: Path, sockets: list[socket.socket]) -> Any:
    """Let moto, with what it lacks, answer on these sockets; returns its machines."""
    os.environ["MOTO_PORT"] = str(settings.port)

    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    from localcloud import sagemaker, sagemaker_notebooks, sagemaker_studio, sagemaker_training
    from localcloud.machines import Machines, ensure_seeds_folder
    from localcloud.sagemaker_jobs import TrainingMachines
    from localcloud.sagemaker_machines import NotebookMachines

    class Quiet(WSGIRequestHandler):
        """Keeps connections open, as AWS does, and leaves the log to machines and errors."""

        protocol_version = "HTTP/1.1"

        def log_request(self, *_: object) -> None:
            """Nothing: an SDK asks hundreds of times."""

    ensure_seeds_folder(settings)
    faults = Faults()
    extend_moto(faults, network)
    machines = Machines(settings, network, image)
    machines.follow_the_api()
    notebooks = NotebookMachines(settings, network)
    sagemaker_notebooks.apply(notebooks)
    sagemaker_training.apply(TrainingMachines(settings, network))
    sagemaker_studio.apply()
    pages = Pages(DomainDispatcherApplication(create_backend_app), network, faults, files)
    pages.machines = lambda: [*machines.rows(), *notebooks.rows()]
    pages.interrupt = lambda name, notice: (
        machines.interrupt(name, notice) if name.startswith("i-") else sagemaker_training.interrupt(name)
    )
    pages.sagemaker = sagemaker.limits.order
    for listener in sockets:
        address, port = listener.getsockname()
        server = make_server(address, port, pages, threaded=True, request_handler=Quiet, fd=listener.detach())
        threading.Thread(target=server.serve_forever, name=f"api-{address}", daemon=True).start()
    return machines
