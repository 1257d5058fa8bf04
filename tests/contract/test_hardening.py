"""The units of services and jobs are as tight as the READMEs say: so systemd says of the rendered files (0 is best)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import jinja2
import pytest

ROOT = Path(__file__).resolve().parents[2]

VALUES = {
    "ansible_managed": "test",
    "jupyter_user": "ubuntu",
    "jupyter_prefix": "/opt/anaconda3",
    "jupyter_port": 8888,
    "__jupyter_home": "/home/ubuntu",
    "__jupyter_notebooks": "/home/ubuntu/notebooks",
    "__jupyter_folder": "/etc/lightsout/jupyter",
    "__jupyter_config": "/etc/lightsout/jupyter/jupyter_server_config.json",
    "__jupyter_own_address": "127.0.0.1",
    "__training_user": "ubuntu",
    "__training_home": "/home/ubuntu",
    "__training_runner": "/usr/local/bin/lightsout-job",
    "__autostop_program": "/usr/local/bin/lightsout-autostop",
    "__autostop_moment": "2030-01-01 00:00:00",
    "__autostop_epoch": 1893456000,
}

#: Template, and the worst that its strict profile may be, in tenths.
MOST = {
    "jupyter/templates/jupyter.service.j2": 20,
    "training/templates/lightsout-job@.service.j2": 25,
    "autostop/templates/lightsout-autostop.service.j2": 25,
    "autostop/templates/lightsout-deadline.service.j2": 25,
}

#: What each must not say, as it breaks what people come for (PyTorch's compiler, the GPU, thread pools).
NEVER = ("MemoryDenyWriteExecute=true", "PrivateDevices=true", "ProcSubset=pid", "~@resources", "~@privileged")


def rendered(template: str, **values: str) -> str:
    """A unit file as its role writes it. A value that the template asks for and nobody gave is an error."""
    path = ROOT / "roles" / template
    loader = jinja2.FileSystemLoader(path.parent)
    environment = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, trim_blocks=True)  # noqa: S701
    hardening = {"jupyter_hardening": "standard", "training_hardening": "standard"}
    return environment.get_template(path.name).render({**VALUES, **hardening, **values})


def exposure_is_at_most(tenths: int, unit: str, folder: Path, name: str) -> bool:
    """What ``systemd-analyze security`` says of it."""
    file = folder / name.removesuffix(".j2").rpartition("/")[2]
    file.write_text(unit)
    words = ["systemd-analyze", "security", "--no-pager", "--offline=true", f"--threshold={tenths}", str(file)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "exposure level for" in done.stdout, done.stderr
    return done.returncode == 0


needs_systemd = pytest.mark.skipif(
    not shutil.which("systemd-analyze"),
    reason="systemd-analyze is not on this computer; Molecule asks the machine's own",
)


def test_every_service_of_a_role_is_judged() -> None:
    found = {str(path.relative_to(ROOT / "roles")) for path in (ROOT / "roles").glob("*/templates/*.service.j2")}
    assert found == set(MOST)


@needs_systemd
@pytest.mark.parametrize("template", MOST)
def test_a_unit_is_tight_and_opening_it_is_noticed(template, tmp_path) -> None:
    unit = rendered(template)
    assert exposure_is_at_most(MOST[template], unit, tmp_path, template)
    for line in ("NoNewPrivileges=true", "RestrictNamespaces=true"):
        assert line in unit
    loose = "\n".join(line for line in unit.splitlines() if not line.startswith(("SystemCallFilter", "Protect")))
    assert not exposure_is_at_most(MOST[template], loose, tmp_path, template)


@pytest.mark.parametrize("template", MOST)
def test_nothing_is_forbidden_that_gpus_and_compilers_need(template) -> None:
    lines = [line for line in rendered(template).splitlines() if not line.startswith("#")]
    assert not [line for line in lines if any(word in line for word in NEVER)]


@pytest.mark.parametrize(
    ("template", "variable"),
    [(t, f"{t.partition('/')[0]}_hardening") for t in MOST if t.startswith(("jupyter", "training"))],
)
def test_the_profile_for_administrators_leaves_sudo_whole(template, variable) -> None:
    """On systemd 252 any one directive that needs seccomp silently breaks sudo in a unit with User=."""
    unit = rendered(template, **{variable: "sudo"})
    breaks = (
        "NoNewPrivileges",
        "CapabilityBoundingSet",
        "SystemCall",
        "Restrict",
        "Protect",
        "Lock",
        "MemoryDeny",
        "Private",
    )
    assert not [line for line in unit.splitlines() if line.startswith(breaks)]
    assert "UMask=0077" in unit
