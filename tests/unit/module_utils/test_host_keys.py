"""A host key is what cloud-init printed last, and nothing that only looks like one."""

from __future__ import annotations

import pytest
from ansible_collections.lightsout.aws.plugins.module_utils import host_keys

ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIyL5FqHBRtxJWgyXXbCVfmOuyDKUFCVA+1lqnHJWMbh"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHdu0N3nKGpJ1BYbzEwCVVwlq9dcGmXWYhOuZSpGjSQa"
ECDSA = (
    "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBGkGtcAp9GO5z2mS7ypcIRewXb6KJ8nvsOuNkW0VF"
    "FY/F6rCsELLA0cOMToKDtBcUPWQ4p65xfV76zUzfTq8Rsw="
)


def console(*keys: str, prefix: str = "") -> str:
    """A piece of a console's output."""
    lines = ["-----BEGIN SSH HOST KEY KEYS-----", *(f"{key} root@ip-172-31-0-4" for key in keys)]
    return "".join(f"{prefix}{line}\r\n" for line in [*lines, "-----END SSH HOST KEY KEYS-----", "login:"])


@pytest.mark.parametrize("prefix", ["", "[   12.345678] cloud-init[811]: ", "<14>Nov 28 02:36:18 ec2: "])
def test_the_best_of_those_that_are_printed(prefix: str) -> None:
    assert host_keys.from_console(console(ECDSA, ED25519, prefix=prefix)) == ED25519
    assert host_keys.from_console(console(ECDSA, prefix=prefix)) == ECDSA


def test_the_last_ones_count() -> None:
    assert host_keys.from_console(console(OTHER) + "Linux version 6.8\r\n" + console(ED25519)) == ED25519


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-----BEGIN SSH HOST KEY FINGERPRINTS-----\n256 SHA256:a (ED25519)\n-----END SSH HOST KEY FINGERPRINTS-----\n",
        console(),
        console(ED25519)[:60],  # it is still being printed
        console(ED25519[:-9]),  # cut off
        console(ECDSA.replace("nistp256 ", "nistp384 ")),  # says one thing and is another
        f"authorized key: {ED25519}\n",
    ],
)
def test_what_is_no_host_key(text: str) -> None:
    assert host_keys.from_console(text) is None


def test_what_a_known_hosts_file_knows() -> None:
    text = f"# a comment\n\ni-1,10.0.0.1 {OTHER} note\ni-2 {ED25519}\ni-1 {ECDSA}\n|1|hashed= {ED25519}\n"
    assert host_keys.known(text, "i-1") == [OTHER, ECDSA]
    assert host_keys.known(text, "i-3") == []
