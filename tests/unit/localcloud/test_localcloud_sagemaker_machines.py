"""A notebook instance's container: what it is given, who may open it, and what becomes of it when a script fails."""

from __future__ import annotations

import base64
import importlib.util
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from moto.ec2.models import ec2_backends
from moto.logs.models import logs_backends

from localcloud import sagemaker_image, sagemaker_machines, sagemaker_notebooks
from localcloud.podman import PodmanError
from localcloud.sagemaker import Record, backends
from localcloud.sagemaker_machines import NotebookMachines
from localcloud.settings import ACCOUNT, Settings

ROLE = f"arn:aws:iam::{ACCOUNT}:role/notebook"


class Network:
    """Takes notes."""

    options = ("--network", "none")
    gateway = "10.213.7.1"
    kind = "bridge"

    def __init__(self) -> None:
        self.inside: Any = None
        self.there: dict[str, list[Any]] = {}

    def new_address(self) -> str:
        return "10.213.7.10"

    def address_options(self, address: str, mac: str) -> list[str]:
        return ["--ip", address, "--mac-address", mac]

    def up(self, container: str, pid: int, address: str, rules: list[Any], inside: Any) -> None:
        self.there[container], self.inside = rules, inside

    def down(self, container: str) -> None:
        self.there.pop(container, None)


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def machines(taught, tmp_path, pod, network, monkeypatch) -> NotebookMachines:
    """Machines whose Jupyter answers at once, and whose scripts end well."""
    monkeypatch.setattr(sagemaker_image, "ensure_image", lambda: "image:tag")
    monkeypatch.setattr(NotebookMachines, "_wait", lambda *_: None)
    pod.answers["inspect",] = "42\n"
    pod.answers["exec",] = "0\n"
    made = NotebookMachines(Settings("unit", tmp_path, 5601, "bridge"), network)
    sagemaker_notebooks.apply(made)
    return made


@pytest.fixture
def make(machines, client_of_sagemaker, backstage) -> Any:
    """Makes a notebook instance; its record."""

    def make(**words: Any) -> Record:
        client_of_sagemaker.create_notebook_instance(
            NotebookInstanceName="one", InstanceType="ml.t3.medium", RoleArn=ROLE, **words
        )
        backstage.work()
        (backend,) = backends()
        return backend.notebook_instances["one"]

    return make


def config(client: Any, **scripts: str) -> str:
    """A lifecycle configuration; its name."""
    hooks = {name: [{"Content": base64.b64encode(text.encode()).decode()}] for name, text in scripts.items()}
    client.create_notebook_instance_lifecycle_config(NotebookInstanceLifecycleConfigName="idle", **hooks)
    return "idle"


def test_it_is_named_labelled_and_told_who_it_is(make, machines, pod, tmp_path, network):
    record = make()
    assert record.status == "InService"
    (words,) = pod.called("run")
    name = "localcloud-unit-us-east-1-notebook-one"
    assert {name, "localcloud=unit", f"{name}:/home/ec2-user/SageMaker", "image:tag"} <= set(words)
    assert pod.called("volume", "create") == [("volume", "create", "--label", "localcloud=unit", name)]
    seed = tmp_path / "machines" / name
    told = json.loads((seed / "metadata/resource-metadata.json").read_text())
    assert told == {"ResourceArn": record.arn, "ResourceName": "one"}
    aws = (seed / "sagemaker/aws/config").read_text()
    assert "endpoint_url = http://10.213.7.1:5601\n" in aws
    assert "region = us-east-1\n" in aws
    assert not (seed / "sagemaker/aws/credentials").exists()
    assert [(rule.protocol, rule.first, rule.last) for rule in network.there[name]] == [("tcp", 8888, 8888)]
    assert network.inside is None


def test_without_instance_metadata_the_credentials_of_its_role_come_in_a_file(make, network, tmp_path):
    network.kind = "forward"
    record = make()
    text = (tmp_path / "machines/localcloud-unit-us-east-1-notebook-one/sagemaker/aws/credentials").read_text()
    assert "aws_session_token = " in text
    assert list(sagemaker_machines.metadata(record)["meta-data"]["iam"]["security-credentials"]) == ["notebook"]


def test_in_a_subnet_it_has_the_address_of_its_interface(make, network):
    subnet = ec2_backends[ACCOUNT]["us-east-1"].get_default_subnets()["us-east-1a"]
    record = make(SubnetId=subnet.id)
    interface = ec2_backends[ACCOUNT]["us-east-1"].enis[record.values["NetworkInterfaceId"]]
    assert str(network.inside) == f"{interface.private_ip_address}/16"


def test_scripts_run_in_their_order_on_create_once(make, client_of_sagemaker, backstage, pod, monkeypatch):
    ran: list[str] = []
    monkeypatch.setattr(NotebookMachines, "_script", lambda _self, _record, name: ran.append(name))
    make(LifecycleConfigName=config(client_of_sagemaker, OnCreate="1", OnStart="2"))
    for call in (client_of_sagemaker.stop_notebook_instance, client_of_sagemaker.start_notebook_instance):
        call(NotebookInstanceName="one")
        backstage.work()
    assert ran == ["OnCreate", "OnStart", "OnStart"]
    assert len(pod.called("volume", "create")) == 1
    assert pod.called("volume", "rm") == []


@pytest.mark.parametrize(
    ("status", "complaint"),
    [(3, "ended with exit status 3"), (124, "took longer than 5 minutes"), (137, "5 minutes")],
)
def test_a_script_that_fails_takes_its_machine_with_it(
    make, client_of_sagemaker, pod, network, monkeypatch, status, complaint
):
    def execute(_self: Any, _record: Record, script: str) -> str:
        return f"{status}\n" if "timeout" in script else "what it said\n"

    monkeypatch.setattr(NotebookMachines, "_exec", execute)
    record = make(LifecycleConfigName=config(client_of_sagemaker, OnStart="x"))
    assert record.status == "Failed"
    assert complaint in record.values["FailureReason"]
    assert "notebook-instance-lifecycle-config/idle'" in record.values["FailureReason"]
    assert (network.there, record.hidden.get("address")) == ({}, None)
    assert pod.called("rm")[-1][-1] == "localcloud-unit-us-east-1-notebook-one"
    logs = logs_backends[ACCOUNT]["us-east-1"].groups["/aws/sagemaker/NotebookInstances"]
    assert [event.message for event in logs.streams["one/LifecycleConfigOnStart"].events] == ["what it said"]


def test_a_machine_that_cannot_be_made_has_failed(make, pod):
    pod.answers["run",] = PodmanError("podman run: no space left")
    record = make()
    assert (record.status, record.values["FailureReason"]) == ("Failed", "podman run: no space left")


def test_its_files_go_with_the_instance_only(make, client_of_sagemaker, backstage, pod, tmp_path):
    make()
    client_of_sagemaker.stop_notebook_instance(NotebookInstanceName="one")
    backstage.work()
    assert list((tmp_path / "machines").iterdir()) == []
    client_of_sagemaker.delete_notebook_instance(NotebookInstanceName="one")
    backstage.work()
    assert pod.called("volume", "rm") == [("volume", "rm", "--force", "localcloud-unit-us-east-1-notebook-one")]


def test_it_is_listed_with_its_state(make, machines, client_of_sagemaker, backstage):
    make()
    (row,) = machines.rows()
    assert (row["id"], row["state"], row["address"]) == ("one", "InService", "10.213.7.10")
    client_of_sagemaker.stop_notebook_instance(NotebookInstanceName="one")
    backstage.work()
    (row,) = machines.rows()
    assert (row["state"], row["address"], row["container"]) == ("Stopped", "", "")


# -- the door ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def door(monkeypatch, tmp_path) -> Iterator[ModuleType]:
    """The module that is put into the image, with Jupyter's part of it replaced."""
    identity = SimpleNamespace(IdentityProvider=object, User=lambda name: name)
    for name, module in (
        ("jupyter_server", SimpleNamespace()),
        ("jupyter_server.auth", SimpleNamespace()),
        ("jupyter_server.auth.identity", identity),
        ("tornado", SimpleNamespace(web=SimpleNamespace(RequestHandler=object, HTTPError=Refused))),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location("door", sagemaker_image.PARTS / "door.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    loaded.KEY = tmp_path / "key"
    loaded.KEY.write_bytes(b"secret")
    yield loaded


class Refused(Exception):
    """What Tornado answers with."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status)


class Visit:
    """A request, and what becomes of it."""

    def __init__(self, token: str = "", cookie: str = "", view: str = "", protocol: str = "http") -> None:
        self.request = SimpleNamespace(protocol=protocol)
        self.arguments = {"authToken": token, "view": view}
        self.cookie, self.given, self.sent_to = cookie, "", ""

    def get_query_argument(self, name: str, default: str) -> str:
        return self.arguments[name] or default

    def get_cookie(self, _name: str, default: str) -> str:
        return self.cookie or default

    def set_cookie(self, _name: str, value: str, **_words: Any) -> None:
        self.given = value

    def redirect(self, place: str) -> None:
        self.sent_to = place


def test_a_link_begins_a_session_that_ends(door, make, machines, monkeypatch, tmp_path):
    record = make()
    door.KEY.write_bytes(record.hidden["key"])
    parts = urlsplit(machines.url(record, 1800))
    assert (parts.netloc, parts.path) == ("10.213.7.10:8888", "/")
    (token,) = parse_qs(parts.query)["authToken"]
    visit = Visit(token, view="lab")
    assert door.Door().get_user(visit) == "ec2-user"
    assert visit.sent_to == "/lab"
    assert door.Door().get_user(Visit(cookie=visit.given)) == "ec2-user"
    now = time.time()
    monkeypatch.setattr(door.time, "time", lambda: now + 301)
    with pytest.raises(Refused):
        door.Door().get_user(Visit(token))
    assert door.Door().get_user(Visit(cookie=visit.given)) == "ec2-user"
    monkeypatch.setattr(door.time, "time", lambda: now + 1801)
    with pytest.raises(Refused):
        door.Door().get_user(Visit(cookie=visit.given))


def test_nobody_else_comes_in(door):
    forged = base64.urlsafe_b64encode(json.dumps({"until": time.time() + 99, "session": 99}).encode()).decode()
    for token in ("", "x", ".", f"{forged}.", f"{forged}.{'0' * 64}"):
        with pytest.raises(Refused):
            door.Door().get_user(Visit(token))
        with pytest.raises(Refused):
            door.Door().get_user(Visit(cookie=token))
    door.KEY.write_bytes(b"other")
    other = door.sealed({"until": time.time() + 99})
    door.KEY.write_bytes(b"secret")
    with pytest.raises(Refused):
        door.Door().get_user(Visit(cookie=other))


def test_programs_on_the_machine_need_no_word(door):
    assert door.Door().get_user(Visit(protocol="https")) == "ec2-user"
    assert door.Door().is_token_authenticated(Visit(protocol="https"))
    assert not door.Door().is_token_authenticated(Visit())


# -- the image --------------------------------------------------------------------------------------------------------
@pytest.fixture
def parts(monkeypatch, pod, tmp_path) -> Path:
    """What goes into the image is there, the image is not."""
    monkeypatch.setattr(sagemaker_image.images, "ensure_machine_image", lambda: "localhost/machine:1")
    monkeypatch.setattr(sagemaker_image.anaconda, "ensure_installer", lambda: tmp_path / "LocalAnaconda.sh")
    monkeypatch.setattr(sagemaker_image.podman, "CACHE", tmp_path)
    return tmp_path


def test_the_image_is_built_once_and_anew_when_its_recipe_changes(parts, pod, monkeypatch):
    first = sagemaker_image.ensure_image()
    assert pod.called("commit")[0][-1] == first
    assert pod.called("run")[0][-3:] == ("localhost/machine:1", "sh", "-s")
    pod.answers["images", "--quiet"] = "0123456789ab\n"
    assert sagemaker_image.ensure_image() == first
    monkeypatch.setattr(sagemaker_image, "BUILD", "true")
    assert sagemaker_image.ensure_image() != first
    assert len(pod.called("commit")) == 1


def test_a_failed_build_leaves_no_container(parts, pod):
    pod.answers["run",] = PodmanError("podman run: no network")
    with pytest.raises(PodmanError, match="no network"):
        sagemaker_image.ensure_image()
    assert [words[0] for words in pod.calls][-2:] == ["run", "rm"]
    assert pod.called("commit") == []
