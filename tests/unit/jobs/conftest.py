"""A machine for each test of the job runner."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from tests.helpers.job_machine import Machine


@pytest.fixture
def machine(tmp_path: pathlib.Path) -> Iterator[Machine]:
    """A machine without jobs; whatever still runs at the end is ended."""
    made = Machine(tmp_path)
    yield made
    for runner in made.runners:
        if runner.poll() is None:
            runner.terminate()
            runner.wait(timeout=30)
