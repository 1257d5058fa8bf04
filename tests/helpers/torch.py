"""PyTorch's CPU build for the machines of tests: Debian 12's own Python, one archive for all of them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from localcloud import podman

#: The version for which package indexes of test machines have a CPU build; others bring gigabytes of CUDA.
VERSION = "2.13.0"
ARCHIVE = podman.CACHE / f"torch-{VERSION}.tar"


def archive() -> Path:
    """An archive of an environment with PyTorch; made once. Skips where there is no CPU build of it to be had."""
    if ARCHIVE.exists():
        return ARCHIVE
    python = shutil.which("python3.11", path="/usr/bin") or pytest.skip("Debian 12's Python 3.11 is not here")
    folder = podman.CACHE / "torch"
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([python, "-m", "venv", folder], check=True)
    # What gloo needs and nothing for GPUs: a build that is not for the CPU fails at the import below.
    wanted = [f"torch=={VERSION}", "filelock", "typing-extensions", "sympy", "networkx", "jinja2", "fsspec"]
    wanted += ["mpmath", "markupsafe", "setuptools"]
    install = [folder / "bin/pip", "install", "--quiet", "--no-deps", *wanted]
    import_it = [folder / "bin/python", "-W", "ignore", "-c", "import torch; print(torch.__version__)"]
    for command in (install, import_it):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no CPU build of torch {VERSION} for Python 3.11 here: {done.stderr.strip()[-200:]}")
    beside = ARCHIVE.with_suffix(".part")
    subprocess.run(["tar", "--create", f"--file={beside}", f"--directory={folder}", "."], check=True)
    beside.rename(ARCHIVE)
    shutil.rmtree(folder)
    return ARCHIVE


def install(container: str, folder: str = "/opt/torch") -> None:
    """Unpack it on a machine."""
    podman.run("exec", container, "mkdir", "-p", folder)
    with archive().open("rb") as stream:
        unpack = ["podman", "exec", "--interactive", container, "tar", "--extract", f"--directory={folder}"]
        subprocess.run(unpack, stdin=stream, check=True, env=podman.environment())
