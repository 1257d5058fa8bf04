#!/usr/bin/python3 -I
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""lightsout-sync - keep a job's results where they survive the machine

SYNOPSIS
    lightsout-sync push FOLDER [--verify]   bring results, log and record of the job in FOLDER to its place
    lightsout-sync pull FOLDER              bring the results back from there, for a job that goes on

    The place is `sync` in FOLDER/job.json: `to`, and for S3 `endpoint` and `region` where they are not AWS's own.

    s3://BUCKET/PREFIX      by rclone, with the credentials of the job's environment or else of the machine's role
    HOST:PATH or /PATH      by rsync, over ssh with the login user's own keys

    Below it each job has a folder of its own: NAME/results/, NAME/log, NAME/job.json and NAME/state.json; of a job on
    several machines, those of the second and further ones are in NAME/node-2/ and so on. What is there is never
    deleted: a checkpoint that the job has rotated away stays until you remove it.

EXIT STATUS
    0, or what rclone or rsync says; with --verify 1 if what is there differs from what is here.

Part of Lightsout (role `training`). Standard library only, Python 3.9 and newer.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

#: Seconds that a transfer may be silent before it counts as broken.
SILENCE = 60


class Place:
    """Where a job's files go.

    Args:
        folder: the job's, with job.json, state.json, log and environment.
    """

    def __init__(self, folder):
        self.folder = folder
        self.definition = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        self.sync = self.definition["sync"]
        source = folder / "source" / self.definition.get("directory", ".")
        self.results = source / self.definition.get("results", "results")
        node = self.definition.get("node", 1)
        beside = f"/node-{node}" if node > 1 else ""
        self.to = f"{self.sync['to'].rstrip('/')}/{folder.name}{beside}"

    def push(self, verify):
        """Exit code of bringing everything there; results last, so that a record never speaks of what is not there."""
        code = 0
        if self.results.is_dir():
            code = self.copy(f"{self.results}/", f"{self.to}/results/", sure=verify)
        elif self.results.is_file():
            code = self.copy(str(self.results), f"{self.to}/results/", sure=verify)
        for name in ("log", "job.json", "state.json"):
            if (self.folder / name).exists():
                code = self.copy(str(self.folder / name), f"{self.to}/") or code
        if verify and not code and self.results.is_dir():
            code = self.differs(f"{self.results}/", f"{self.to}/results/")
        return code

    def pull(self):
        """Exit code of bringing the results back; what is here and newer is kept."""
        self.results.mkdir(parents=True, exist_ok=True)
        return self.copy(f"{self.to}/results/", f"{self.results}/", missing_is_fine=True)

    def copy(self, source, target, sure=False, missing_is_fine=False):
        """One transfer; its exit code.

        Args:
            sure: compare contents, not only sizes and times: a file may be written twice in a second.
            missing_is_fine: it is no failure if there is no such source.
        """
        raise NotImplementedError

    def differs(self, source, target):
        """0 if all that is in `source` is in `target`, by checksum."""
        raise NotImplementedError


class Bucket(Place):
    """S3, or what speaks its language."""

    def rclone(self, *words):
        """Run rclone; its exit code."""
        endpoint = self.sync.get("endpoint")
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("RCLONE_")},
            **self.secrets(),
            "RCLONE_S3_PROVIDER": "Other" if endpoint else "AWS",
            "RCLONE_S3_ENV_AUTH": "true",
            "RCLONE_S3_NO_CHECK_BUCKET": "true",
            "RCLONE_S3_REGION": self.sync.get("region") or "us-east-1",
        }
        if endpoint:
            environment["RCLONE_S3_ENDPOINT"] = endpoint
        options = ["--config=", "--quiet", "--retries=3", "--contimeout=20s", f"--timeout={SILENCE}s", "--copy-links"]
        return subprocess.run(["rclone", *words, *options], env=environment, check=False).returncode

    def secrets(self):
        """AWS's variables of the job's environment, where it brings its own."""
        try:
            given = json.loads((self.folder / "environment").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {key: str(value) for key, value in given.items() if key.startswith("AWS_")}

    @staticmethod
    def remote(path):
        """`:s3:bucket/prefix` for `s3://bucket/prefix`."""
        return f":s3:{path[5:]}" if path.startswith("s3://") else path

    def copy(self, source, target, sure=False, missing_is_fine=False):
        # 3: there is no such folder.
        code = self.rclone("copy", "--update", *["--checksum"] * sure, self.remote(source), self.remote(target))
        return 0 if missing_is_fine and code == 3 else code

    def differs(self, source, target):
        return self.rclone("check", "--one-way", self.remote(source), self.remote(target))


class Folder(Place):
    """A path, here or on a host that rsync reaches."""

    OPTIONS = ("--archive", "--copy-unsafe-links", "--update", "--partial", f"--timeout={SILENCE}")

    def rsync(self, *words):
        """Run rsync; (what it printed, what it complained of, its exit code)."""
        ssh = "--rsh=ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new"
        english = {**os.environ, "LC_ALL": "C"}
        done = subprocess.run(["rsync", ssh, *words], check=False, capture_output=True, text=True, env=english)
        return done.stdout, done.stderr, done.returncode

    def copy(self, source, target, sure=False, missing_is_fine=False):
        _, complaint, code = self.rsync(*self.OPTIONS, *["--checksum"] * sure, "--mkpath", source, target)
        if missing_is_fine and code == 23 and "No such file or directory" in complaint:
            return 0
        sys.stderr.write(complaint)
        return code

    def differs(self, source, target):
        different, complaint, code = self.rsync(
            *self.OPTIONS, "--checksum", "--dry-run", "--out-format=%n", source, target
        )
        sys.stderr.write(complaint)
        files = [line for line in different.splitlines() if not line.endswith("/")]
        return code or int(bool(files))


def main():
    """Exit code of one call."""
    parser = argparse.ArgumentParser(
        prog="lightsout-sync", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verb", choices=["push", "pull"])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--verify", action="store_true")
    options = parser.parse_args()
    sync = json.loads((options.folder / "job.json").read_text(encoding="utf-8"))["sync"]
    place = (Bucket if sync["to"].startswith("s3://") else Folder)(options.folder)
    try:
        return place.push(options.verify) if options.verb == "push" else place.pull()
    except FileNotFoundError as error:
        print(f"lightsout-sync: there is no {error.filename} on this machine", file=sys.stderr)
        return 127


if __name__ == "__main__":
    sys.exit(main())
