"""Builds the local Anaconda: a self-extracting installer, run as Anaconda's own are, that holds a real JupyterLab.

It is a stand-in, for places that no conda channel can be reached from; its parts and its words are in
``anaconda_standin/``. It is built inside the machine image, from that image's Python and PyPI wheels (locked, hashed),
so it runs on the machines of the local cloud, and is not meant for any other.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from localcloud import images, podman
from localcloud.podman import PodmanError

PARTS = Path(__file__).resolve().parent / "anaconda_standin"
INSTALLER = PARTS / "installer.sh"
CONTENTS = [PARTS / name for name in ("conda.py", "conda.sh", "requirements.txt")]
VERSION = "2026.1"
KEPT = 24 * 3600.0  # seconds

#: Long enough to be unmistakable: the installer replaces it in text files.
BUILT_AT = "/opt/localanaconda-built-here"

#: Runs in a container of the machine image. A copy of its Python becomes the base of a virtual environment at BUILT_AT;
#: then both are one folder that can be put anywhere. The installer fills in the version: one payload serves all.
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
$prefix/bin/python -m compileall -q -j 2 $prefix/lib $prefix/base/lib
mkdir -p $prefix/etc/profile.d
sed "s|@PREFIX@|$prefix|" /parts/conda.sh > $prefix/etc/profile.d/conda.sh
sed "s|@PREFIX@|$prefix|" /parts/conda.py > $prefix/bin/conda
chmod 755 $prefix/bin/conda
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
    payload = podman.CACHE / f"anaconda-{_digest(image, BUILD, *CONTENTS)}.tar.gz"
    name = _digest(payload.name, version, INSTALLER)
    installer = podman.CACHE / "files" / f"LocalAnaconda3-{version}-{name}-Linux-x86_64.sh"
    if not installer.exists():
        podman.CACHE.mkdir(parents=True, exist_ok=True)
        with (podman.CACHE / "anaconda.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # who comes second waits, and finds it built
            if not payload.exists():
                _build(payload, image)
        assemble(payload, version, installer)
        _forget_old(podman.CACHE.glob("anaconda-*.tar.gz"), payload)
        _forget_old(installer.parent.glob("LocalAnaconda3-*.sh"), installer)
    return installer


def assemble(payload: Path, version: str, installer: Path) -> None:
    """Write an installer: the script, and the archive behind it.

    Args:
        payload: a gzipped tar archive of the prefix.
        version: what the installer calls itself.
        installer: the file to write, in one move.
    """
    header = INSTALLER.read_text().replace("@VERSION@", version).replace("@BUILT_AT@", BUILT_AT)
    header = header.replace("@PAYLOAD_BYTES@", str(payload.stat().st_size))
    installer.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=installer.parent, delete=False) as file, payload.open("rb") as source:
        file.write(header.encode())
        shutil.copyfileobj(source, file)
    Path(file.name).chmod(0o644)
    Path(file.name).rename(installer)


def checksum(installer: Path) -> str:
    """The SHA-256 of an installer, kept beside it: to read 100 MB takes a while."""
    kept = installer.with_suffix(".sh.sha256")
    if not kept.exists() or kept.stat().st_mtime_ns < installer.stat().st_mtime_ns:
        with installer.open("rb") as file:
            kept.write_text(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {installer.name}\n")
    return kept.read_text().split()[0]


def _digest(*parts: str | Path) -> str:
    """Twelve characters that change with any of the words or files."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part.read_bytes())
        digest.update(b"\0")
    return digest.hexdigest()[:12]


def _forget_old(files: Iterable[Path], current: Path) -> None:
    """Remove what is more than a day old: a cloud that runs may still serve a younger one."""
    for file in files:
        if file != current and time.time() - file.stat().st_mtime > KEPT:
            file.unlink(missing_ok=True)


def trust() -> list[str]:
    """Words for `podman run` that let a build trust whom this computer trusts: there may be a proxy in between."""
    certificates = Path("/etc/ssl/certs/ca-certificates.crt")
    words = ["--volume", f"{certificates}:{certificates}:ro", "--env", f"SSL_CERT_FILE={certificates}"]
    return words if certificates.exists() else []


def _build(payload: Path, image: str) -> None:
    uv = shutil.which("uv")
    if uv is None:
        raise PodmanError("uv is not installed: run `make setup-local`")
    began = time.monotonic()
    print("Building the local Anaconda; once only …", flush=True)
    with tempfile.TemporaryDirectory(dir=podman.CACHE) as out:
        mounts = [f"{out}:/out", f"{PARTS}:/parts:ro", f"{Path(uv).resolve()}:/uv:ro"]
        podman.run(
            "run",
            "--rm",
            "--interactive",
            *(word for mount in mounts for word in ("--volume", mount)),
            *trust(),
            image,
            *("sh", "-s"),
            input=BUILD,
        )
        (Path(out) / "payload.tar.gz").rename(payload)
    size = payload.stat().st_size / 1e6
    print(f"Built in {time.monotonic() - began:.0f} s, {size:.0f} MB.", flush=True)
