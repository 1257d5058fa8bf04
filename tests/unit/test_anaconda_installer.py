"""The local Anaconda's installer keeps the contract of Anaconda's own, and its `conda` reads conda's package specs.

The installer is the real one; what it unpacks here is a prefix of three files, so that each promise takes a moment.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import pytest

from localcloud import anaconda

NAME = "LocalAnaconda3-1.0-Linux-x86_64.sh"


@pytest.fixture(scope="module")
def installer(tmp_path_factory) -> Path:
    """An installer of a tiny prefix: a Python that is the one that runs, and a file that knows where it was built."""
    folder = tmp_path_factory.mktemp("installer")
    prefix = folder / "prefix"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin/python").symlink_to(sys.executable)
    (prefix / "bin/conda").write_text(f"#!{anaconda.BUILT_AT}/bin/python\nprint('conda @LOCAL_VERSION@')\n")
    (prefix / "bin/conda").chmod(0o755)
    (prefix / "pyvenv.cfg").write_text(f"home = {anaconda.BUILT_AT}/base/bin\n")
    with tarfile.open(folder / "payload.tar.gz", "w:gz") as archive:
        archive.add(prefix, arcname=".")
    anaconda.assemble(folder / "payload.tar.gz", "1.0", folder / NAME)
    return folder / NAME


def install(installer: Path, *words: str, input: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run an installer with POSIX sh."""
    return subprocess.run(
        ["sh", str(installer), *words],
        input=input,
        env={**os.environ, **environment},
        cwd=installer.parent,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def finished(prefix: Path) -> bool:
    """The mark that Anaconda's own installers leave, too."""
    return (prefix / "conda-meta/history").exists()


@pytest.mark.parametrize("flags", [["-b"], ["-b", "-m", "-s", "-c"], ["-bmt"]])
def test_batch_mode_installs_without_a_question(installer, tmp_path, flags):
    prefix = tmp_path / "anaconda3"
    # -t imports what is installed: here it is this test's own Python, which has no JupyterLab.
    done = install(installer, *flags, "-p", str(prefix))
    assert done.returncode == (0 if "-bmt" not in flags else 1), done.stderr
    assert finished(prefix)
    assert ("JupyterLab" in done.stderr or "jupyterlab" in done.stderr) == ("-bmt" in flags)


def test_files_know_where_they_are_and_which_version_they_have(installer, tmp_path):
    prefix = tmp_path / "somewhere/else"
    assert install(installer, "-b", "-p", str(prefix)).returncode == 0
    assert (prefix / "pyvenv.cfg").read_text() == f"home = {prefix}/base/bin\n"
    assert (prefix / "bin/conda").read_text() == f"#!{prefix}/bin/python\nprint('conda 1.0')\n"
    assert subprocess.check_output([prefix / "bin/conda"], text=True) == "conda 1.0\n"


def test_it_says_that_it_is_a_stand_in(installer, tmp_path):
    told = install(installer, "-h")
    assert told.returncode == 2  # as the real ones
    assert "stand-in" in told.stdout
    assert all(f"\n-{flag} " in told.stdout for flag in "bfhpsmcut")
    install(installer, "-b", "-p", str(tmp_path / "a"))
    assert "stand-in" in (tmp_path / "a/README").read_text()


def test_an_existing_prefix_is_refused(installer, tmp_path):
    (tmp_path / "kept").write_text("mine")
    done = install(installer, "-b", "-p", str(tmp_path))
    assert done.returncode == 1
    assert f"ERROR: File or directory already exists: '{tmp_path}'" in done.stderr
    assert "use the -u option" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize("flag", ["-f", "-u"])
def test_an_existing_prefix_is_taken_with_f_or_u_and_what_is_not_ours_stays(installer, tmp_path, flag):
    (tmp_path / "envs/mine").mkdir(parents=True)
    done = install(installer, "-b", flag, "-p", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert finished(tmp_path)
    assert (tmp_path / "envs/mine").is_dir()


def test_an_interrupted_update_is_not_taken_for_a_finished_one(installer, tmp_path):
    prefix = tmp_path / "a"
    assert install(installer, "-b", "-p", str(prefix)).returncode == 0
    broken = tmp_path / "Broken.sh"
    body = installer.read_bytes()
    broken.write_bytes(body[:-100] + bytes(100))  # the right size, but not an archive to its end
    done = install(broken, "-b", "-u", "-p", str(prefix))
    assert done.returncode == 1
    assert "Could not unpack" in done.stderr
    assert not finished(prefix)
    assert install(installer, "-b", "-u", "-p", str(prefix)).returncode == 0
    assert finished(prefix)


def test_half_a_download_is_refused_before_anything_is_written(installer, tmp_path):
    half = tmp_path / "Half.sh"
    half.write_bytes(installer.read_bytes()[:-10])
    done = install(half, "-b", "-p", str(tmp_path / "a"))
    assert done.returncode == 1
    assert "download is incomplete" in done.stderr
    assert not (tmp_path / "a").exists()


def test_the_file_must_be_called_sh(installer, tmp_path):
    renamed = tmp_path / "installer"
    renamed.write_bytes(installer.read_bytes())
    done = install(renamed, "-b", "-p", str(tmp_path / "a"))
    assert done.returncode == 1
    assert "must end in .sh" in done.stderr


@pytest.mark.parametrize("name", ["with space", "a&b", "a|b"])
def test_a_prefix_that_scripts_could_not_name_is_refused(installer, tmp_path, name):
    done = install(installer, "-b", "-p", str(tmp_path / name))
    assert done.returncode == 1
    assert "spaces or special characters" in done.stderr
    assert not (tmp_path / name).exists()


def test_without_b_it_asks_and_an_answer_is_needed(installer, tmp_path):
    prefix = tmp_path / "a"
    silent = install(installer, "-p", str(prefix))
    assert silent.returncode == 1
    assert "add -b" in silent.stderr
    assert not prefix.exists()
    assert install(installer, "-p", str(prefix), input="\n").returncode == 0
    assert finished(prefix)


def test_home_is_the_default_place_and_an_unknown_flag_is_refused(installer, tmp_path):
    assert install(installer, "-b", HOME=str(tmp_path)).returncode == 0
    assert finished(tmp_path / "localanaconda3")
    assert install(installer, "-b", "-z", HOME=str(tmp_path)).returncode == 1


@pytest.fixture(scope="module")
def conda() -> ModuleType:
    """The imitation of conda, imported instead of run."""
    spec = importlib.util.spec_from_file_location("conda_standin", anaconda.PARTS / "conda.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("numpy", "numpy"),
        ("numpy=2", "numpy==2.*"),
        ("numpy=2.1", "numpy==2.1.*"),
        ("numpy=2.1.*", "numpy==2.1.*"),
        ("numpy 2.1.*", "numpy==2.1.*"),
        ("numpy==2.1.3", "numpy==2.1.3"),
        ("numpy=2.1.3=py311h_0", "numpy==2.1.3.*"),
        ("numpy 2.1.3 py311h_0", "numpy==2.1.3"),
        ("numpy=*", "numpy"),
        ("numpy>=1.26", "numpy>=1.26"),
        ("numpy >= 1.26, < 3", "numpy<3,>=1.26"),
        ("conda-forge::NumPy=2.1", "numpy==2.1.*"),
        ("pytorch=2.13", "torch==2.13.*"),
    ],
)
def test_conda_specs_become_pip_specs(conda, asked, expected):
    assert conda.requirements([asked]) == [expected]


def test_pip_lists_are_passed_on_and_python_itself_is_not(conda):
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    wanted = conda.requirements([f"python={here}", "python>=3", "pip", {"pip": ["six==1.17.0", "-r more.txt"]}])
    assert wanted == ["pip", "six==1.17.0", "-r", "more.txt"]


@pytest.mark.parametrize("asked", ["python=2.7", "python <3", "python==3.0.1"])
def test_another_python_is_refused_in_one_line(conda, asked):
    with pytest.raises(SystemExit) as refusal:
        conda.requirements([asked])
    assert str(refusal.value).startswith("conda (local stand-in): there is Python 3.")
    assert asked in str(refusal.value)


@pytest.mark.parametrize("asked", ["numpy[version='>1']", "numpy=1.2|1.3", "=1", "numpy=>", "/tmp/x.conda"])
def test_a_spec_that_cannot_be_read_is_refused_by_its_text(conda, asked):
    with pytest.raises(SystemExit, match="cannot read the"):
        conda.requirements([asked])


@pytest.mark.parametrize(
    ("text", "reason"),
    [("name: [", "is not YAML"), ("- numpy", "list of dependencies"), ("dependencies: numpy", "list of dependencies")],
)
def test_a_bad_definition_is_refused_in_one_line(conda, tmp_path, text, reason):
    file = tmp_path / "environment.yml"
    file.write_text(text)
    with pytest.raises(SystemExit, match=reason) as refusal:
        conda.definition(file)
    assert "\n" not in str(refusal.value)
    with pytest.raises(SystemExit, match="cannot read"):
        conda.definition(tmp_path / "absent.yml")


def test_the_checksum_is_kept_beside_the_installer_until_that_changes(tmp_path):
    file = tmp_path / "A.sh"
    file.write_bytes(b"one")
    first = anaconda.checksum(file)
    assert first == hashlib.sha256(b"one").hexdigest()
    kept = tmp_path / "A.sh.sha256"
    assert kept.read_text() == f"{first}  A.sh\n"
    file.write_bytes(b"two")
    os.utime(file, ns=(0, kept.stat().st_mtime_ns + 1))
    assert anaconda.checksum(file) == hashlib.sha256(b"two").hexdigest()
