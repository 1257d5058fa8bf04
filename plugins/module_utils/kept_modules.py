# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The first lines of what we send to a target: they keep modules there as files, whose bytecode Python keeps, too.

Core sends each module as a zip, from which Python compiles all that it imports, at each run anew. The controller
(plugin_utils/kept_modules.py) sends this file's source with such a zip; it must run alone, on every Python that
Ansible's own modules support (3.9 and newer), and may import nothing of ours.
"""

import atexit
import base64
import contextlib
import io
import os
import shutil
import stat
import sys
import tempfile
import time
import zipfile

#: Unpacked modules that nobody has used for so many seconds go.
LONGEST_UNUSED = 30 * 86400


def unpacked(packed, key):
    """The modules' folder, or None where none can be kept that is ours alone.

    They are unpacked once, to /var/cache/lightsout for root and to ~/.cache/lightsout for others, and removed when
    nobody has used them for LONGEST_UNUSED.
    """
    home = "/var/cache" if os.geteuid() == 0 else os.path.expanduser("~/.cache")
    shelf = os.path.join(home, "lightsout")
    folder = os.path.join(shelf, key)
    try:
        os.makedirs(shelf, mode=0o700, exist_ok=True)
        found = os.lstat(shelf)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            return None  # somebody else could put code there
        if not os.path.isdir(folder):
            part = tempfile.mkdtemp(dir=shelf)
            zipfile.ZipFile(io.BytesIO(packed)).extractall(part)
            os.rename(part, folder)  # whole or not at all
            sweep(shelf)
        os.utime(folder)
    except OSError:
        return folder if os.path.isdir(folder) else None
    return folder


def sweep(shelf):
    """Remove what nobody has used for long."""
    for name in os.listdir(shelf):
        path = os.path.join(shelf, name)
        with contextlib.suppress(OSError):  # another run may remove it, too
            if time.time() - os.lstat(path).st_mtime > LONGEST_UNUSED:
                shutil.rmtree(path, ignore_errors=True)


def open_library(zip_base64, key):
    """Put the modules where Python imports from; returns their folder, or the zip where they cannot be kept."""
    try:
        os.getcwd()
    except OSError:  # as core does: sudo may have put us where we may not look
        os.chdir("/")
    packed = base64.b64decode(zip_base64)
    sys.dont_write_bytecode = False
    library = unpacked(packed, key)
    if library is None:
        folder = tempfile.mkdtemp(prefix="ansible_lightsout_")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        library = os.path.join(folder, "modules.zip")
        with open(library, "wb") as file:
            file.write(packed)
    # Not from the folder of this script or where somebody stands: what lies there may have a library's name.
    here = os.path.dirname(os.path.realpath(sys.argv[0])) if sys.argv[0] not in ("", "-") else ""
    sys.path[:] = [library] + [path for path in sys.path if path not in ("", ".", here)]
    return library


def run_module(zip_base64, key, profile, fqn, params):
    """Run one module as core's AnsiballZ does; never returns.

    fqn: its import name; params: the JSON that it reads; profile: how it and the controller write JSON to each other.
    """
    library = open_library(zip_base64, key)
    from ansible.module_utils._internal._ansiballz import _loader

    _loader.run_module(json_params=params.encode(), profile=profile, module_fqn=fqn, modlib_path=library, extensions={})
