"""Builds the local Anaconda: a self-extracting installer that is installed as Anaconda's own are, and holds a real JupyterLab.

It is a stand-in, for places that no conda channel can be reached from; its parts and its words are in
``anaconda_standin/``. It is built inside the machine image, from that image's Python and PyPI wheels (locked, hashed),
so it runs on the machines of the local cloud, and is not meant for any other.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from pathlib import Path

from localcloud import images, podman
from localcloud.podman import PodmanError

PARTS = Path(__file__).resolve().parent / "anaconda_standin"
VERSION = "2026.1"

#: Long enough to be unmistakable: the installer replaces it in text files.
BUILT_AT = "/opt/localanaconda-built-here"

#: Runs in a container of the machine image. A copy of its Python becomes the base of a virtual environment at BUILT_AT;
#: then both are one folder that can be put anywhere.
BUILD = f"""
set -eu
prefix={BUILT_AT}
version=$(python3 -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
mkdir -p $prefix/base/bin $prefix/base/lib
cp "$(readlink -f /usr/bin/$version)" $prefix/base/bin/$version
cp -r /usr/lib/$version $prefix/base/lib/
$prefix/base/bin/$version -m venv --without-pip $prefix
rm $prefix/bin/python*
ln -s ../base/bin/$version $prefix/bin/$version
ln -s $version $prefix/bin/python3
ln -s python3 $prefix/bin/python
sed -i '/^command/d; /^executable/d' $prefix/pyvenv.cfg
/uv pip install --quiet --no-cache --python $prefix/bin/python --require-hashes -r /parts/requirements.txt
find $prefix/base -name __pycache__ -prune -exec rm -rf {{}} +
find $prefix/lib $prefix/base -name tests -prune -exec rm -rf {{}} +
# Compiled here, as real installers are, so that the first start on a machine is a quick one.
$prefix/bin/python -m compileall -q -j 2 $prefix/lib $prefix/base/lib >/dev/null || true
mkdir -p $prefix/etc/profile.d
sed "s|@PREFIX@|$prefix|" /parts/conda.sh > $prefix/etc/profile.d/conda.sh
sed "s|@PREFIX@|$prefix|; s|@VERSION@|$1|" /parts/conda.py > $prefix/bin/conda
chmod 755 $prefix/bin/conda
printf 'This is the local Anaconda %s, a stand-in of the local cloud of Lightsout. It is not Anaconda.\\n' "$1" > $prefix/README
tar -C $prefix -cf - . | gzip -3 > /out/payload.tar.gz
"""


def ensure_installer(version: str = VERSION) -> Path:
    """The installer's path; builds it when it is not there yet (about a minute).

    Args:
        version: what it calls itself; two versions let an upgrade be tried.

    Raises:
        PodmanError: it cannot be built; the text says why.
    """
    image = images.ensure_machine_image()
    digest = hashlib.sha256(f"{image} {version}".encode() + Path(__file__).read_bytes())
    for part in sorted(PARTS.iterdir()):
        digest.update(part.read_bytes())
    installer = podman.CACHE / "files" / f"LocalAnaconda3-{version}-{digest.hexdigest()[:12]}-Linux-x86_64.sh"
    if not installer.exists():
        _build(installer, image, version)
    return installer


def _build(installer: Path, image: str, version: str) -> None:
    uv = shutil.which("uv")
    if uv is None:
        raise PodmanError("uv is not installed: run `make setup-local`")
    began = time.monotonic()
    print(f"Building the local Anaconda {version}; once only …", flush=True)
    installer.parent.mkdir(parents=True, exist_ok=True)
    certificates = Path("/etc/ssl/certs/ca-certificates.crt")
    trust = ["--volume", f"{certificates}:{certificates}:ro", "--env", f"SSL_CERT_FILE={certificates}"]
    with tempfile.TemporaryDirectory(dir=podman.CACHE) as out:
        mounts = [f"{out}:/out", f"{PARTS}:/parts:ro", f"{Path(uv).resolve()}:/uv:ro"]
        podman.run(
            "run",
            "--rm",
            "--interactive",
            *(word for mount in mounts for word in ("--volume", mount)),
            *(trust if certificates.exists() else []),
            image,
            *("sh", "-s", version),
            input=BUILD,
        )
        payload = Path(out) / "payload.tar.gz"
        header = (PARTS / "installer.sh").read_text()
        header = header.replace("@VERSION@", version).replace("@BUILT_AT@", BUILT_AT)
        header = header.replace("@PAYLOAD_BYTES@", str(payload.stat().st_size))
        whole = Path(out) / installer.name
        with whole.open("wb") as file, payload.open("rb") as source:
            file.write(header.encode())
            shutil.copyfileobj(source, file)
        whole.rename(installer)
    for old in installer.parent.glob(f"LocalAnaconda3-{version}-*.sh"):
        if old != installer:
            old.unlink()
    size = installer.stat().st_size / 1e6
    print(f"Built in {time.monotonic() - began:.0f} s, {size:.0f} MB.", flush=True)
