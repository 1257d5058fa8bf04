# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The part of lightsout.aws.batch that runs on the target: one process, one import, one fork for each call.

It lies beside the modules in the zip that the controller sends, and gets a list of calls. It must run on every Python
that Ansible's own modules support (3.9 and newer), and may import nothing of ours.

A *call* is a dictionary: ``module`` (its import name), ``args`` (the JSON that the module reads), ``may_fail`` (the
list goes on when it fails) and ``first`` (of calls that only look: the others wait for it). A copy has besides
``file`` and ``file_args`` (the call that only mends owner and mode) and ``copy``: ``content`` (base64), ``checksum``
(SHA-1, hex), ``dest``, ``basename`` (None for bare content), ``suffix``, ``force``, ``follow``, ``check``, ``diff``.
Copies do what Ansible's own copy action does from the controller, in the same order: compare, then write or mend.
"""

import base64
import contextlib
import hashlib
import importlib
import json
import os
import shutil
import sys
import tempfile
import zlib

#: Files longer than this, in bytes, are not shown in a diff: Ansible's own default (max_file_size_for_diff).
LONGEST_DIFF = 104448

#: What answers say of the moment, not of the machine.
FLEETING = {"start", "end", "delta", "atime", "mtime", "ctime", "version", "SUDO_COMMAND", "XDG_SESSION_ID"}


def sha1(path):
    """The SHA-1 of a file as hex, or None when there is none that can be read."""
    digest = hashlib.sha1(usedforsecurity=False)
    try:
        with open(path, "rb") as file:
            for block in iter(lambda: file.read(1 << 16), b""):
                digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()


def shown(data, path):
    """One side of a diff, as Ansible's copy action words it: text, or why there is none."""
    if len(data) > LONGEST_DIFF:
        return {"larger": LONGEST_DIFF}
    if b"\x00" in data:
        return {"binary": 1}
    return {"text": data.decode("utf-8", "surrogateescape"), "header": path}


def difference(dest, content):
    """What a copy would change in ``dest``: the dictionary that Ansible's callbacks print as a diff."""
    result = {}
    try:
        with open(dest, "rb") as file:
            before = shown(file.read(), dest)
    except OSError:
        before = {"text": ""}
    after = shown(content, dest)
    for side, name, found in (("before", "dst", before), ("after", "src", after)):
        if "text" in found:
            result[side] = found["text"]
            if "header" in found:
                result[side + "_header"] = found["header"]
        else:
            key = "larger" if "larger" in found else "binary"
            result[name + "_" + key] = found[key]
    return result


class Runner:
    """Runs calls from a library of modules: a folder or a zip, which is on ``sys.path`` already.

    An *answer* is a dictionary: ``stdout``, ``stderr`` and ``rc`` of a module, which the controller reads with
    Ansible's own parser; or ``result``, where no module ran; and ``add``, what a copy adds to its module's result.
    """

    def __init__(self, library, profile, folder):
        self.library = library
        self.profile = profile
        self.folder = folder
        # The one import that everything shares. Forked children have it at once.
        from ansible.module_utils import basic  # noqa: F401
        from ansible.module_utils._internal._ansiballz import _loader

        self._loader = _loader

    def warm_up(self, calls):
        """Import what the modules import, once for all forks. The modules themselves run as scripts, in each fork."""
        for fqn in {call[key] for call in calls for key in ("module", "file") if key in call}:
            with contextlib.suppress(Exception):  # its fork will say why
                importlib.import_module(fqn)
            sys.modules.pop(fqn, None)

    def ask(self, calls):
        """The answers of calls that only look, to the first that fails: they run side by side."""
        answers = {}
        for first in (True, False):
            started = {n: self.start(c["module"], c["args"]) for n, c in enumerate(calls) if c["first"] == first}
            answers.update((n, self.end(*child)) for n, child in started.items())
        return until_failure(calls, [answers[n] for n in range(len(calls))])

    def do(self, calls):
        """The answers of calls, one after another, to the first that fails."""
        return until_failure(calls, map(self.run, calls))

    def do_at_once(self, chains):
        """What ``do`` says of each of several lists of calls, which run side by side."""
        if len(chains) < 2:
            return [self.do(calls) for calls in chains]
        started = []
        for calls in chains:
            file = tempfile.TemporaryFile(dir=self.folder)
            child = os.fork()
            if child == 0:
                try:
                    file.write(json.dumps(self.do(calls)).encode())
                    file.flush()
                finally:
                    os._exit(0)
            started.append((child, file))
        done = []
        for child, file in started:
            status = os.waitpid(child, 0)[1]
            file.seek(0)
            lost = {"rc": status or 1, "stdout": "", "stderr": "the process that made these calls was lost"}
            done.append(json.loads(file.read() or json.dumps([lost])))
            file.close()
        return done

    def run(self, call):
        """One call's answer."""
        return self.copy(call) if "copy" in call else self.module(call["module"], call["args"])

    def copy(self, call):
        """Bring content to a file, as Ansible's copy action does."""
        want = call["copy"]
        content = base64.b64decode(want["content"])
        dest = os.path.expanduser(want["dest"])
        target = os.path.join(dest, want["basename"]) if dest.endswith("/") else dest
        if os.path.isdir(target):
            if want["basename"] is None:
                return {"result": {"failed": True, "msg": "can not use content with a dir as dest", "diff": []}}
            target = os.path.join(target, want["basename"])
        if os.path.lexists(target) and not want["force"]:
            return {"result": {"changed": False, "dest": dest}}

        blind = os.path.islink(target) and not want["follow"]
        if not blind and sha1(target) == want["checksum"]:
            place = os.path.realpath(dest) if want["follow"] else dest
            answer = self.module(call["file"], with_options(call["file_args"], dest=place))
            return {**answer, "add": {"checksum": want["checksum"], "dest": place, "diff": []}}

        diff = [difference(target, content)] if want["diff"] else []
        if want["check"]:
            return {"result": {"changed": True, "diff": diff}}
        handle, source = tempfile.mkstemp(dir=self.folder, prefix=".source", suffix=want["suffix"])
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        answer = self.module(call["module"], with_options(call["args"], src=source, dest=dest))
        return {**answer, "add": {"checksum": want["checksum"], "diff": diff}}

    def module(self, fqn, args):
        """What a module answers."""
        return self.end(*self.start(fqn, args))

    def start(self, fqn, args):
        """Fork, and let Ansible's own loader run the module; its temporary files go where ours are."""
        args = with_options(args, _ansible_tmpdir=self.folder)
        files = [tempfile.TemporaryFile(dir=self.folder) for _ in range(2)]
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            self.in_child(fqn, args, files)
        return child, files

    def end(self, child, files):
        """Wait for a module, and read what it printed."""
        status = os.waitpid(child, 0)[1]
        answer = {"rc": os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)}
        for name, file in zip(("stdout", "stderr"), files):
            file.seek(0)
            answer[name] = file.read().decode("utf-8", "surrogateescape")
            file.close()
        return answer

    def in_child(self, fqn, args, files):
        """Never returns. Exit handlers run, as modules use them to remove their temporary files."""
        import atexit

        code = 1
        try:
            # From here on print() and subprocesses write into the files.
            for number, file in enumerate(files, 1):
                os.dup2(file.fileno(), number)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            self._loader.run_module(
                json_params=args.encode(),
                profile=self.profile,
                module_fqn=fqn,
                modlib_path=self.library,
                extensions={},
            )
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def with_options(args, **options):
    """The JSON of a call with options that only the target knows."""
    whole = json.loads(args)
    whole["ANSIBLE_MODULE_ARGS"].update(options)
    return json.dumps(whole)


def until_failure(calls, answers):
    """Answers, to the first that says that the list must stop there."""
    kept = []
    for call, answer in zip(calls, answers):
        kept.append(answer)
        if failed(answer) and not call.get("may_fail"):
            break
    return kept


def failed(answer):
    """Whether the list must stop here."""
    return answer.get("rc", 0) != 0 or says(answer, "failed")


def says(answer, word):
    """Whether a call answered ``failed`` or ``changed``."""
    try:
        return (answer["result"] if "result" in answer else json.loads(answer["stdout"])).get(word, False)
    except ValueError:
        return False  # noise around the result: the controller knows how to read that


def essence(value):
    """An answer without what differs from one look to the next though nothing has changed, such as times."""
    if isinstance(value, dict):
        return {k: essence(v) for k, v in value.items() if k not in FLEETING and not k.startswith("SSH_")}
    return [essence(v) for v in value] if isinstance(value, list) else value


def digest_of(answers):
    """The same for the same answers."""
    told = []
    for answer in answers:
        try:
            told.append(essence(json.loads(answer["stdout"])))
        except (KeyError, ValueError):
            told.append(answer)
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def main(library, profile, looks, digest, work, afterwards):
    """Ask ``looks``; do ``work`` if the answers' digest is the given one, or if there was nothing to ask.

    ``work`` is a list of lists of calls: these run side by side, the calls of each one after another. Each list ends
    with the first call that fails. Prints one JSON object with the answers, their digest, and the results of the work
    (None if it was not done). If it changed something, the answers are those to ``afterwards``. All is packed, so that
    ``-vvv`` does not show it.
    """
    folder = tempfile.mkdtemp(prefix="ansible_batch_")
    try:
        runner = Runner(library, profile, folder)
        runner.warm_up(looks + [call for calls in work for call in calls] + afterwards)
        answers = runner.ask(looks)
        found = digest_of(answers) if looks else digest
        done = runner.do_at_once(work) if found == digest else None
        if afterwards and any(says(answer, "changed") for calls in done or [] for answer in calls):
            answers = runner.ask(afterwards)
            found = digest_of(answers)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    said = json.dumps([answers, found, done])
    print(json.dumps({"answers": base64.b64encode(zlib.compress(said.encode())).decode()}))
