#!@PREFIX@/bin/python
"""conda of the local Anaconda: a local stand-in, not conda. It imitates the few commands that Lightsout's roles call.

Environments are virtual environments of this installation's Python; packages come from PyPI by pip, mostly under the
name that conda has for them. What it does not know it refuses, and says so.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from packaging.specifiers import InvalidSpecifier, SpecifierSet

VERSION = "@LOCAL_VERSION@"
ROOT = Path("@PREFIX@")

#: Packages that PyPI has under another name than conda's channels.
PYPI_NAMES = {
    "matplotlib-base": "matplotlib",
    "msgpack-python": "msgpack",
    "opencv": "opencv-python",
    "py-opencv": "opencv-python",
    "pytables": "tables",
    "pytorch": "torch",
    "pytorch-cpu": "torch",
}


def refuse(sentence):
    """End with exit status 1 and one line."""
    sys.exit(f"conda (local stand-in): {sentence}")


def prefix_of(name=None, prefix=None):
    """The folder of an environment."""
    if prefix:
        return Path(prefix).resolve()
    return ROOT if name in (None, "base") else ROOT / "envs" / name


def exists(prefix):
    """Whether an environment is there, as conda itself tells."""
    return (prefix / "conda-meta/history").exists()


def existing(prefix):
    """The folder again; refuses when no environment is there."""
    if not exists(prefix):
        sys.exit(f"EnvironmentLocationNotFound: Not a conda environment: {prefix}")
    return prefix


def environments():
    """Every environment's folder, the root first."""
    envs = ROOT / "envs"
    return [ROOT, *(path for path in (sorted(envs.iterdir()) if envs.is_dir() else []) if exists(path))]


def ensure(prefix):
    """An environment with this Python; kept when it is there."""
    if not exists(prefix):
        subprocess.run([ROOT / "bin/python", "-m", "venv", "--without-pip", prefix], check=True)
        (prefix / "conda-meta").mkdir(exist_ok=True)
        (prefix / "conda-meta/history").write_text(f"# local Anaconda {VERSION}\n")


def pip(prefix, *words, folder=None):
    """Run this Anaconda's pip on an environment; its exit status becomes ours when it fails."""
    command = [ROOT / "bin/python", "-m", "pip", "--disable-pip-version-check", "--python", prefix / "bin/python"]
    done = subprocess.run([*command, *words], cwd=folder, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def pip_spec(spec):
    """One package spec of conda as name and PEP 440 specifier: ``numpy=2.1`` is ``("numpy", "==2.1.*")``."""
    plain = re.sub(r"\s*([=<>!~,]+)\s*", r"\1", spec.rpartition("::")[2].strip())
    match = re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?: +|(?=[=<>!~])|$)(.*)", plain)
    if match is None or re.search(r"[\[\]|()]", plain):
        refuse(f"cannot read the package spec '{spec}'; write it as name, name=1.2 or name>=1.2")
    name, wanted = match.group(1).lower(), match.group(2).split(" ")[0]
    pieces = []
    for piece in filter(None, wanted.split(",")):
        sign, version = re.fullmatch(r"([=<>!~]*)(.*)", piece).groups()
        version = version.split("=")[0]  # without the build string
        if sign == "=" and version != "*":
            version = version.removesuffix("*").removesuffix(".") + ".*"
        if version != "*":
            pieces.append(f"{'==' if sign in ('', '=') else sign}{version}")
    try:
        specifier = SpecifierSet(",".join(pieces))
    except InvalidSpecifier:
        refuse(f"cannot read the version in the package spec '{spec}'")
    return PYPI_NAMES.get(name, name), specifier


def requirements(dependencies):
    """conda's package specs as words for ``pip install``; Python's own version must be the one that is here."""
    wanted = []
    for entry in dependencies:
        if isinstance(entry, dict):
            for line in entry.get("pip") or []:
                wanted += shlex.split(line) if line.startswith("-") else [line]
            continue
        name, specifier = pip_spec(str(entry))
        if name == "python":
            here = ".".join(str(part) for part in sys.version_info[:3])
            if not specifier.contains(here):
                refuse(f"there is Python {here} only, but the environment asks for '{entry}'")
        else:
            wanted.append(f"{name}{specifier}")
    return wanted


def definition(file):
    """What an environment.yml says."""
    try:
        content = yaml.safe_load(Path(file).read_text())
    except OSError as error:
        refuse(f"cannot read '{file}': {error.strerror}")
    except yaml.YAMLError as error:
        refuse(f"'{file}' is not YAML: {' '.join(str(error).split())}")
    if not isinstance(content, dict) or not isinstance(content.get("dependencies", []), list):
        refuse(f"'{file}' must have a name and a list of dependencies")
    return content


def env_update(options):
    """`conda env create` and `conda env update`."""
    spec = definition(options.file)
    name = options.name or spec.get("name")
    if not (name or options.prefix):
        refuse("the environment has no name: give -n NAME or -p PREFIX")
    prefix = prefix_of(name, options.prefix)
    wanted = requirements(spec.get("dependencies") or [])
    if options.command == "create" and exists(prefix) and not options.yes:
        sys.exit(f"CondaValueError: prefix already exists: {prefix}")
    ensure(prefix)
    if wanted:
        # Paths in the definition count from its own folder.
        pip(prefix, "install", "--quiet", *wanted, folder=Path(options.file).resolve().parent)


def remove(prefix):
    """Remove one environment, never the installation itself."""
    if prefix == ROOT:
        refuse("the base environment cannot be removed")
    shutil.rmtree(existing(prefix))


def parser():
    """The command line."""
    top = argparse.ArgumentParser(prog="conda", description=" ".join(__doc__.split()))
    top.add_argument("-V", "--version", action="version", version=f"conda {VERSION} (local stand-in, not conda)")
    commands = top.add_subparsers(dest="verb", required=True)

    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("-n", "--name", help="environment by name")
    where.add_argument("-p", "--prefix", help="environment by folder")
    where.add_argument("--json", action="store_true", help="answer in JSON")
    where.add_argument("-y", "--yes", action="store_true", help="ask nothing (it never does)")
    where.add_argument("-q", "--quiet", action="store_true", help="accepted; it is quiet anyway")

    commands.add_parser("info", parents=[where])
    commands.add_parser("list", parents=[where])
    for verb in ("create", "install"):
        commands.add_parser(verb, parents=[where]).add_argument("packages", nargs="+" if verb == "install" else "*")
    running = commands.add_parser("run", parents=[where])
    running.add_argument("--no-capture-output", "--live-stream", action="store_true", help="accepted, never captures")
    running.add_argument("words", nargs=argparse.REMAINDER)
    commands.add_parser("init", help="does nothing: source etc/profile.d/conda.sh").add_argument("shells", nargs="*")
    commands.add_parser("_prefix").add_argument("environment")
    env = commands.add_parser("env").add_subparsers(dest="command", required=True)
    for command in ("create", "update"):
        sub = env.add_parser(command, parents=[where])
        sub.add_argument("-f", "--file", default="environment.yml")
        sub.add_argument("--prune", action="store_true", help="accepted; nothing is removed")
    env.add_parser("list", parents=[where])
    env.add_parser("remove", parents=[where])
    return top


def main():
    """Parse and run."""
    options = parser().parse_args()
    verb = f"env {options.command}" if options.verb == "env" else options.verb
    prefix = prefix_of(getattr(options, "name", None), getattr(options, "prefix", None))
    if verb == "_prefix":
        prefix = Path(options.environment) if "/" in options.environment else prefix_of(options.environment)
        if not exists(prefix):
            sys.exit(f"EnvironmentNameNotFound: Could not find conda environment: {options.environment}")
        print(prefix)
    elif verb in ("env create", "env update"):
        env_update(options)
    elif verb == "env remove":
        remove(prefix)
    elif verb == "env list":
        found = [str(path) for path in environments()]
        print(json.dumps({"envs": found}) if options.json else "\n".join(found))
    elif verb == "info":
        envs = [str(path) for path in environments()]
        facts = {"conda_version": VERSION, "root_prefix": str(ROOT), "envs": envs, "local_stand_in": True}
        lines = (f"{key}: {value}" for key, value in facts.items())
        print(json.dumps(facts, indent=2) if options.json else "\n".join(lines))
    elif verb == "list":
        pip(existing(prefix), "list", *(["--format=json"] if options.json else []))
    elif verb in ("create", "install"):
        wanted = requirements(options.packages)
        ensure(prefix) if verb == "create" else existing(prefix)
        if wanted:
            pip(prefix, "install", "--quiet", *wanted)
    elif verb == "run":
        if not options.words:
            refuse("conda run needs a command")
        path = f"{existing(prefix)}/bin:{os.environ.get('PATH', '')}"
        environment = {**os.environ, "PATH": path, "CONDA_PREFIX": str(prefix)}
        os.execvpe(options.words[0], options.words, environment)  # noqa: S606  a shell would read the words anew


if __name__ == "__main__":
    main()
