"""The local Anaconda, really installed on a machine of the local cloud by a user without rights.

The machine is a container of the same image; the installer's own contract is kept by
``tests/unit/test_anaconda_installer.py``, so here it is about what was installed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcloud import anaconda, images, podman

PREFIX = "/home/visitor/anaconda3"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


class Machine:
    """A container of the machine image in which a user `visitor` types commands."""

    def __init__(self, name: str) -> None:
        self.name = name

    def type(self, command: str, user: str = "visitor") -> str:
        """What a command prints, in bash.

        Raises:
            podman.PodmanError: the command failed; the text is its last complaint.
        """
        home = "/root" if user == "root" else f"/home/{user}"
        return podman.run(
            "exec", "--user", user, "--env", f"HOME={home}", "--workdir", home, self.name, "bash", "-c", command
        )

    def put(self, path: str, text: str) -> None:
        """Write a file as the user."""
        podman.run("exec", "-i", "--user", "visitor", self.name, "sh", "-c", f"cat > {path}", input=text)


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A machine with the local Anaconda installed, with both versions' installers in /installers."""
    name = f"anaconda-test-{os.getpid()}"
    installer = anaconda.ensure_installer()
    newer = anaconda.ensure_installer("2026.2")
    mounts = [f"{installer}:/installers/first.sh:ro", f"{newer}:/installers/newer.sh:ro"]
    if CERTIFICATES.exists():
        mounts.append(f"{CERTIFICATES}:{CERTIFICATES}:ro")
    volumes = (word for mount in mounts for word in ("--volume", mount))
    podman.run(
        *("run", "--detach", "--rm", "--name", name, "--label", "lightsout-test", *volumes),
        *("--tmpfs", "/home:exec,mode=755,size=3g"),  # 20,000 files, several times: memory is twice as quick
        *(images.ensure_machine_image(), "sleep", "900"),
    )
    try:
        podman.run("exec", name, "useradd", "--create-home", "--shell", "/bin/bash", "visitor")
        it = Machine(name)
        it.type(f"bash /installers/first.sh -b -p {PREFIX}")
        yield it
    finally:
        podman.run("rm", "--force", "--time", "0", name)


def test_the_layout_is_the_one_that_roles_and_people_expect(machine):
    for name in ("bin/python", "bin/python3", "bin/conda", "bin/jupyter", "bin/pip", "conda-meta/history"):
        machine.type(f"test -e {PREFIX}/{name}")
    machine.type(f"test -r {PREFIX}/etc/profile.d/conda.sh")
    assert machine.type(f"{PREFIX}/bin/python -c 'import sys; print(sys.prefix)'").strip() == PREFIX
    assert "stand-in" in machine.type(f"{PREFIX}/bin/conda --version")


def test_nothing_points_to_where_it_was_built_or_to_the_machines_own_python(machine):
    found = machine.type(f"grep -lIr {anaconda.BUILT_AT} {PREFIX} --include=* --exclude-dir=__pycache__ || true")
    assert found == ""
    paths = machine.type(f"{PREFIX}/bin/python -c 'import sys, os; print(os.__file__, *sys.path)'")
    assert all(path.startswith(PREFIX) for path in paths.split())


def test_jupyter_serves_its_api_and_runs_a_cell_in_this_python(machine):
    assert machine.type(f"{PREFIX}/bin/jupyter lab --version").strip()
    words = f"{PREFIX}/bin/jupyter server --no-browser --port 8899 --IdentityProvider.token=b"
    podman.run("exec", "--detach", "--user", "visitor", "--env", "HOME=/home/visitor", machine.name, *words.split())
    deadline = time.monotonic() + 60
    while not (answer := podman.run("exec", machine.name, "curl", "-s", "http://127.0.0.1:8899/api", check=False)):
        assert time.monotonic() < deadline, "the Jupyter server did not answer within a minute"
        time.sleep(0.5)
    assert "version" in json.loads(answer)

    code = "import sys, numpy, argon2; print(sys.prefix, numpy.arange(4).sum())"
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "outputs": [], "execution_count": 0, "source": code}
    kernel = {"name": "python3", "display_name": "Python 3"}
    notebook = {"cells": [cell], "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    machine.put("/home/visitor/cell.ipynb", json.dumps(notebook))
    machine.type(f"{PREFIX}/bin/jupyter execute --inplace cell.ipynb")
    done = json.loads(machine.type("cat cell.ipynb"))
    assert "".join(done["cells"][0]["outputs"][0]["text"]) == f"{PREFIX} 6\n"


def test_an_environment_from_a_definition_has_its_packages_and_only_those(machine):
    python = machine.type(f"{PREFIX}/bin/python -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])'").strip()
    machine.put("/home/visitor/more.txt", "iniconfig\n")
    machine.put(
        "/home/visitor/environment.yml",
        f"name: tools\ndependencies: ['python={python}', pip, 'six=1.17', {{pip: ['-r more.txt']}}]\n",
    )
    conda = f"{PREFIX}/bin/conda"
    machine.type(f"{conda} env create -f environment.yml")
    env = f"{PREFIX}/envs/tools"
    assert json.loads(machine.type(f"{conda} env list --json")) == {"envs": [PREFIX, env]}
    assert json.loads(machine.type(f"{conda} info --json"))["root_prefix"] == PREFIX
    packages = {row["name"]: row["version"] for row in json.loads(machine.type(f"{conda} list -n tools --json"))}
    assert packages.keys() == {"pip", "six", "iniconfig"}
    assert packages["six"].startswith("1.17.")

    shown = machine.type(f"{conda} run -n tools --no-capture-output python -c 'import six, sys; print(sys.prefix)'")
    assert shown.strip() == env
    shown = machine.type(f". {PREFIX}/etc/profile.d/conda.sh; conda activate tools; which pip python; conda deactivate")
    assert shown.split() == [f"{env}/bin/pip", f"{env}/bin/python"]
    with pytest.raises(podman.PodmanError, match="CondaValueError: prefix already exists"):
        machine.type(f"{conda} env create -f environment.yml")
    machine.type(f"{conda} env update -f environment.yml --prune")
    with pytest.raises(podman.PodmanError, match="Could not find conda environment: absent"):
        machine.type(f". {PREFIX}/etc/profile.d/conda.sh; conda activate absent")


def test_an_environment_for_another_python_is_refused_and_leaves_nothing(machine):
    machine.put("/home/visitor/old.yml", "name: old\ndependencies: ['python=2.7']\n")
    with pytest.raises(podman.PodmanError, match=r"the environment asks for 'python=2.7'"):
        machine.type(f"{PREFIX}/bin/conda env create -f old.yml")
    machine.type(f"test ! -e {PREFIX}/envs/old")


def test_an_update_repairs_half_an_installation_and_keeps_environments(machine):
    machine.type(f"{PREFIX}/bin/conda create -y -n kept")
    machine.type(f"rm -r {PREFIX}/conda-meta/history {PREFIX}/lib {PREFIX}/bin/python")
    with pytest.raises(podman.PodmanError, match="use the -u option"):
        machine.type(f"bash /installers/newer.sh -b -p {PREFIX}")
    machine.type(f"bash /installers/newer.sh -b -u -p {PREFIX}")
    machine.type(f"test -e {PREFIX}/conda-meta/history")
    assert "2026.2" in machine.type(f"{PREFIX}/bin/conda --version")
    assert machine.type(f"{PREFIX}/bin/conda run -n kept python -c 'print(1)'") == "1\n"
    machine.type(f"{PREFIX}/bin/python -c 'import jupyterlab, notebook, numpy'")
