"""A certificate's names are compared in the words of openssl itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible_collections.lightsout.aws.plugins.filter.openssl_names import openssl_names

NAMES = ["lab.example", "localhost", "127.0.0.1", "fd00::1", "2001:db8:0:0:8:800:200C:417A", "::1"]


@pytest.fixture
def printed(tmp_path: Path) -> list[str]:
    """What openssl prints of a certificate for NAMES."""
    given = ",".join(f"{'IP' if ':' in name or name[0].isdigit() else 'DNS'}:{name}" for name in NAMES)
    make = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -keyout k.pem -out c.pem -subj /CN=a"
    )
    subprocess.run([*make.split(), "-addext", f"subjectAltName={given}"], cwd=tmp_path, check=True, capture_output=True)
    show = "openssl x509 -in c.pem -noout -ext subjectAltName"
    shown = subprocess.run(show.split(), cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    return shown.splitlines()[1].strip().split(", ")


def test_names_are_those_that_openssl_prints(printed) -> None:
    assert openssl_names(NAMES) == sorted(printed)
