"""NVIDIA's driver is installed where there is a card, by the distribution's own packages, and never claimed to work.

No machine of ours has a card: a test says that there is one. What follows is real, but for the last step, the answer of
the card, which must then be missed.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.project import Project

pytestmark = [pytest.mark.cloud, pytest.mark.long, pytest.mark.timeout(1800)]

#: What looking at the machine would have found.
CARD = {
    "__training_cards": {
        "seen": {"Cards": {"stdout": "/sys/bus/pci/devices/0000:00:1e.0/vendor"}, "Driver": {"stdout": ""}}
    }
}


@pytest.fixture(scope="module")
def project(cloud, tmp_path_factory) -> Iterator[Project]:
    """A project with one machine."""
    made = Project(cloud, "card", tmp_path_factory.mktemp("card"))
    made.run("provision")
    yield made
    made.run("teardown", teardown_confirm=False)


def train(project: Project, **settings):
    """A job for a GPU, on a machine that is to get the driver before."""
    return project.run(
        "train",
        training_job="gpu",
        training_command="true",
        training_python="/usr/bin/python3",
        training_gpu=True,
        training_driver=True,
        **settings,
    )


def test_a_machine_without_a_card_is_refused_in_one_line(project: Project) -> None:
    run = train(project, expect=2)
    assert (
        "training_driver: lightsout-card-machine-1 has no NVIDIA card. Choose an instance type with one" in run.output
    )
    assert project.ssh("ls jobs/gpu 2>&1 || true").strip().endswith("No such file or directory")


@pytest.mark.long
def test_the_distributions_driver_is_installed_and_a_card_that_does_not_answer_is_told(project: Project) -> None:
    run = train(project, expect=2, **CARD)
    assert "The NVIDIA driver is installed on lightsout-card-machine-1, but it does not answer yet" in run.output
    states = project.ssh(
        "dpkg-query --show --showformat='${Package} ${db:Status-Status}\\n' nvidia-smi libcuda1 nvidia-kernel-dkms"
    )
    assert states.split("\n")[:3] == ["libcuda1 installed", "nvidia-kernel-dkms installed", "nvidia-smi installed"]
    assert "NVIDIA-SMI" in project.ssh("nvidia-smi 2>&1 || true")
