"""The image that every machine of the local cloud runs: a small Debian or Ubuntu with what a cloud image has.

It is built from the package sources of this computer (``mmdebstrap``), so it is the same distribution and release as
this computer, whatever an AMI calls itself. No image registry is needed.
"""

from __future__ import annotations

import fcntl
import hashlib
import platform
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from localcloud import podman
from localcloud.podman import PodmanError

NAME = "localhost/lightsout-machine"

#: What the official cloud images have and the base system does not.
PACKAGES = """
    apt-utils bzip2 ca-certificates cloud-init curl dbus iproute2 kmod less netbase openssh-server procps python3
    python3-apt sudo systemd systemd-sysv tzdata udev
""".split()  # noqa: SIM905  a list of words reads better as words

#: cloud-init reads its seed from a folder that is mounted into the machine (one for each instance), and leaves alone
#: what a container has from elsewhere: network, locale, disks.
CLOUD_INIT = """\
# Written by localcloud/images.py.
datasource_list: [NoCloud]
network: {config: disabled}
locale: false
manage_etc_hosts: false
disable_root: true
ssh_deletekeys: true
growpart: {mode: "off"}
resize_rootfs: false
cloud_init_modules: [bootcmd, write-files, users-groups, ssh]
cloud_config_modules: [runcmd]
cloud_final_modules: [scripts-user, ssh-authkey-fingerprints, final-message]
"""

#: Units that only wait for hardware, or run apt behind the user's back just when the first playbook needs its lock.
MASKED = """
    apt-daily-upgrade.timer apt-daily.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer
    getty@tty1.service serial-getty@.service systemd-timesyncd.service systemd-udev-trigger.service
    systemd-udevd.service systemd-networkd-wait-online.service
""".split()  # noqa: SIM905


#: Shell lines that finish the root file system, which they find at $1.
HOOKS = [
    # Empty: every machine gets its own at its first boot; so do host keys (ssh_deletekeys).
    ': > "$1/etc/machine-id"; rm -f "$1"/etc/ssh/ssh_host_*',
    # The package lists are empty, as on a cloud image; they must look old, or nobody fetches them.
    'touch --date=@0 "$1/var/lib/apt/lists"',
]

#: How podman runs it.
CHANGES = ['CMD ["/sbin/init"]', "STOPSIGNAL SIGRTMIN+3", "ENV container=podman"]


def ensure_machine_image(release: str | None = None) -> str:
    """The reference of the machine image; builds it when it is not there yet (about half a minute).

    Args:
        release: a release of the same distribution other than this computer's, by code name (``trixie``).

    Raises:
        PodmanError: podman or mmdebstrap is missing or fails; the text says what to do.
    """
    release = release or _codename()
    # Any change of what goes in makes another image.
    recipe = "\n".join([*PACKAGES, CLOUD_INIT, *MASKED, *CHANGES, *HOOKS, platform.machine()])
    reference = f"{NAME}:{release}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    podman.CACHE.mkdir(parents=True, exist_ok=True)
    if not exists(reference):
        with (podman.CACHE / "image.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # who comes second waits, and finds it built
            if not exists(reference):
                _build(reference, release)
    return reference


def built_images(name: str = NAME) -> list[str]:
    """The references of all images with this name that were built here, of every recipe."""
    listed = podman.run("images", "--filter", f"reference={name}", "--format", "{{.Repository}}:{{.Tag}}")
    # Podman also tells an image's other names.
    return sorted({reference for reference in listed.split() if reference.startswith(f"{name}:")})


def exists(reference: str) -> bool:
    """Whether podman has such an image."""
    return bool(podman.run("images", "--quiet", reference).strip())


def _codename() -> str:
    """The release of this computer, which must be a Debian or Ubuntu."""
    release = platform.freedesktop_os_release()
    if {release.get("ID"), *release.get("ID_LIKE", "").split()} & {
        "debian",
        "ubuntu",
    } and "VERSION_CODENAME" in release:
        return release["VERSION_CODENAME"]
    raise PodmanError(
        "The local cloud builds its machines from a Debian's or Ubuntu's packages; "
        f"this computer runs {release.get('PRETTY_NAME')}."
    )


def _build(reference: str, release: str) -> None:
    if shutil.which("mmdebstrap") is None:
        raise PodmanError(
            "mmdebstrap is not installed. Install it: sudo apt-get install mmdebstrap (or `make setup-local`)"
        )
    began = time.monotonic()
    print(f"Building the machine image {reference} from this computer's package sources; once only …", flush=True)
    podman.CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=podman.CACHE) as folder:
        archive = Path(folder) / "root.tar"
        command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}", *_customize(folder)]
        done = subprocess.run([*command, release, str(archive)], capture_output=True, text=True, check=False)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise PodmanError("mmdebstrap could not build the machine image: " + "\n  ".join(lines[-5:]))
        podman.run("import", *(word for change in CHANGES for word in ("--change", change)), str(archive), reference)
    print(f"Built in {time.monotonic() - began:.0f} s.", flush=True)


def _customize(folder: str) -> list[str]:
    """Options of mmdebstrap that put our files in: cloud-init's settings, fewer units, a machine id of its own."""
    settings = Path(folder) / "99_lightsout.cfg"
    settings.write_text(CLOUD_INIT)
    mask = "; ".join(f'ln -sf /dev/null "$1/etc/systemd/system/{unit}"' for unit in MASKED)
    return [
        f"--customize-hook=copy-in {settings} /etc/cloud/cloud.cfg.d",
        f"--customize-hook={mask}",
        *(f"--customize-hook={hook}" for hook in HOOKS),
    ]
