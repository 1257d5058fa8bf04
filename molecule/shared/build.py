"""Builds what a scenario's machine needs, or finds it: ``build.py RELEASE [VERSION …]``.

Prints one JSON object: ``image``, ``folder`` (of the installers) and ``installers`` (``url`` on the machine and
``checksum`` of each version of the local Anaconda). RELEASE is ``own`` for this computer's release, ``other`` for its
distribution's other one that the roles know.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from localcloud import anaconda, images

OTHER = {"bookworm": "trixie", "trixie": "bookworm", "jammy": "noble", "noble": "jammy"}

release, *versions = sys.argv[1:]
other = OTHER.get(platform.freedesktop_os_release().get("VERSION_CODENAME", ""))
with contextlib.redirect_stdout(sys.stderr):  # they tell how it goes
    image = images.ensure_machine_image(other if release == "other" else None)
    files = {version: anaconda.ensure_installer(version) for version in versions}
installers = {
    version: {
        "url": f"file:///srv/installers/{file.name}",
        "checksum": f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}",
    }
    for version, file in files.items()
}
folder = str(next(iter(files.values())).parent) if files else ""
print(json.dumps({"image": image, "folder": folder, "installers": installers}))
