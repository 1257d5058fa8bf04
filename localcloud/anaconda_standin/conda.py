#!@PREFIX@/bin/python
"""conda of the local Anaconda: an honest imitation of the few commands that Lightsout's roles call. Not conda.

Environments are virtual environments, packages come from PyPI by pip under the same name. What it does not know, it
refuses with exit status 1 and says so.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

VERSION = "@VERSION@"
ROOT = Path("@PREFIX@")


def prefix_of(name=None, prefix=None):
    """The folder of an environment."""
    if prefix:
        return Path(prefix).resolve()
    return ROOT if name in (None, "base") else ROOT / "envs" / name


def environments():
    """Every environment's folder, the root first."""
    envs = ROOT / "envs"
    return [ROOT, *(p for p in sorted(envs.iterdir()) if (p / "conda-meta/history").exists())]


def ensure(prefix):
    """An environment with this Python; kept when it is there."""
    if not (prefix / "conda-meta/history").exists():
        subprocess.run([ROOT / "bin/python", "-m", "venv", "--without-pip", prefix], check=True)
        (prefix / "conda-meta").mkdir(exist_ok=True)
        (prefix / "conda-meta/history").write_text(f"# local Anaconda {VERSION}\n")


def pip(prefix, *words):
    """Run this Anaconda's pip on an environment."""
    subprocess.run([ROOT / "bin/python", "-m", "pip", "--python", prefix / "bin/python", *words], check=True)


def requirements(dependencies):
    """conda's package specs as pip's; Python's own version must be the one that is here."""
    wanted = []
    for entry in dependencies:
        if isinstance(entry, dict):
            wanted += entry.get("pip", [])
            continue
        spec = entry.rpartition("::")[2].replace(" ", "")
        name, _, version = spec.partition("=")
        if name == "python":
            here = ".".join(str(part) for part in sys.version_info[:3])
            version = version.lstrip("=")
            if version and not f"{here}.".startswith(version.rstrip(".*") + "."):
                sys.exit(f"conda: this stand-in has Python {here} only; the environment asks for {spec}")
        elif name != "pip":
            version = version.lstrip("=")
            plain = spec if any(sign in name for sign in "<>!~") else name
            wanted.append(f"{plain}=={version}{'' if version.count('.') > 1 else '.*'}" if version else plain)
    return wanted


def env_update(options):
    """`conda env create` and `conda env update`."""
    spec = yaml.safe_load(Path(options.file).read_text()) or {}
    name = options.name or spec.get("name")
    if not (name or options.prefix):
        sys.exit("conda: the environment has no name: give -n NAME or -p PREFIX")
    prefix = prefix_of(name, options.prefix)
    wanted = requirements(spec.get("dependencies") or [])
    if options.command == "create" and (prefix / "conda-meta/history").exists() and not options.yes:
        sys.exit(f"CondaValueError: prefix already exists: {prefix}")
    ensure(prefix)
    if wanted:
        pip(prefix, "install", "--disable-pip-version-check", "--quiet", *wanted)


def main():
    """Parse and run."""
    parser = argparse.ArgumentParser(prog="conda", description=__doc__.splitlines()[0])
    parser.add_argument("-V", "--version", action="version", version=f"conda {VERSION} (local stand-in, not conda)")
    commands = parser.add_subparsers(dest="verb", required=True)

    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("-n", "--name")
    where.add_argument("-p", "--prefix")
    where.add_argument("--json", action="store_true")
    where.add_argument("-y", "--yes", action="store_true")
    where.add_argument("-q", "--quiet", action="store_true")

    commands.add_parser("info", parents=[where])
    commands.add_parser("list", parents=[where])
    create = commands.add_parser("create", parents=[where])
    create.add_argument("packages", nargs="*")
    install = commands.add_parser("install", parents=[where])
    install.add_argument("packages", nargs="+")
    run = commands.add_parser("run", parents=[where])
    run.add_argument("words", nargs=argparse.REMAINDER)
    commands.add_parser("init")
    hidden = commands.add_parser("_prefix")
    hidden.add_argument("name")
    env = commands.add_parser("env").add_subparsers(dest="command", required=True)
    for name in ("create", "update"):
        sub = env.add_parser(name, parents=[where])
        sub.add_argument("-f", "--file", default="environment.yml")
        sub.add_argument("--prune", action="store_true")
    env.add_parser("list", parents=[where])
    env.add_parser("remove", parents=[where])
    options = parser.parse_args()

    if options.verb == "_prefix":
        prefix = prefix_of(options.name) if "/" not in options.name else Path(options.name)
        if not (prefix / "bin/python").exists():
            sys.exit(f"EnvironmentNameNotFound: Could not find conda environment: {options.name}")
        print(prefix)
    elif options.verb == "env" and options.command in ("create", "update"):
        env_update(options)
    elif options.verb == "env" and options.command == "remove":
        prefix = prefix_of(options.name, options.prefix)
        if prefix == ROOT:
            sys.exit("conda: the root environment cannot be removed")
        subprocess.run(["rm", "-rf", prefix], check=True)
    elif options.verb == "env":
        found = [str(path) for path in environments()]
        print(json.dumps({"envs": found}) if options.json else "\n".join(found))
    elif options.verb == "info":
        facts = {"conda_version": VERSION, "root_prefix": str(ROOT), "envs": [str(path) for path in environments()]}
        print(json.dumps(facts, indent=2))
    elif options.verb == "list":
        pip(prefix_of(options.name, options.prefix), "list", *(["--format=json"] if options.json else []))
    elif options.verb in ("create", "install"):
        prefix = prefix_of(options.name, options.prefix)
        ensure(prefix)
        if wanted := requirements(options.packages):
            pip(prefix, "install", "--disable-pip-version-check", "--quiet", *wanted)
    elif options.verb == "run":
        prefix = prefix_of(options.name, options.prefix)
        path = f"{prefix}/bin:{os.environ.get('PATH', '')}"
        os.execvpe(options.words[0], options.words, {**os.environ, "PATH": path, "CONDA_PREFIX": str(prefix)})


if __name__ == "__main__":
    main()
