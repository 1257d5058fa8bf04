#!/bin/sh
# The local Anaconda: NOT Anaconda, Miniconda or Miniforge, but a stand-in of Lightsout's local cloud that is installed
# in the same way. It holds a Python with JupyterLab and NumPy from PyPI wheels, and a small imitation of `conda`.
# Everything below the line __PAYLOAD__ is a tar archive.
set -eu

VERSION=@VERSION@
PREFIX=$HOME/localanaconda3
PAYLOAD_BYTES=@PAYLOAD_BYTES@
BUILT_AT=@BUILT_AT@

BATCH=0
FORCE=0
UPDATE=0

usage() {
  cat <<EOF
usage: $0 [options]

Installs the local Anaconda $VERSION, a stand-in for Anaconda's installers.

-b           run install in batch mode (without manual intervention)
-f           no error if install prefix already exists
-h           print this help message and exit
-p PREFIX    install prefix, defaults to $PREFIX
-s           skip running pre/post-link/install scripts (there are none)
-m           disable the creation of menu items / shortcuts (there are none)
-c           run conda init (batch mode only; there is nothing to do)
-u           update an existing installation
-t           run package tests after installation (imports what is installed)
EOF
}

fail() { printf 'ERROR: %s\n' "$*" >&2; exit 1; }

TEST=0
while getopts "bifhkp:smcut" option; do
  case $option in
    b) BATCH=1 ;;
    i | k | s | m | c) ;;
    f) FORCE=1 ;;
    h) usage; exit 2 ;;
    p) PREFIX=$OPTARG ;;
    u) UPDATE=1 ;;
    t) TEST=1 ;;
    *) printf 'ERROR: did not recognize option, please try -h\n' >&2; exit 1 ;;
  esac
done

case $0 in *.sh) ;; *) fail "the installer's file must end in .sh, as the real one's must: $0" ;; esac

line=$(awk '/^__PAYLOAD__$/ { print NR + 1; exit }' "$0")
bytes=$(tail -n +"$line" "$0" | wc -c)
[ "$bytes" -eq "$PAYLOAD_BYTES" ] || fail "size of $0 should be $PAYLOAD_BYTES bytes after its header, but is $bytes: the download is incomplete"

if [ "$BATCH" = 0 ]; then
  printf 'This installs the local Anaconda %s to %s.\nPress ENTER to confirm the location, or CTRL-C to abort: ' "$VERSION" "$PREFIX"
  read -r _ || fail "nobody answered; to install without questions, add -b"
fi

case $PREFIX in /*) ;; *) PREFIX=$PWD/$PREFIX ;; esac
# The first line of a script cannot name an interpreter whose path has spaces in it.
case $PREFIX in *[!A-Za-z0-9._/+@=,~-]*) fail "Cannot install into directories with spaces or special characters: '$PREFIX'" ;; esac

if [ "$FORCE" = 0 ] && [ "$UPDATE" = 0 ] && [ -e "$PREFIX" ]; then
  fail "File or directory already exists: '$PREFIX'
If you want to update an existing installation, use the -u option."
fi
mkdir -p "$PREFIX" || fail "Could not create directory: '$PREFIX'"
PREFIX=$(cd "$PREFIX" && pwd)
echo "PREFIX=$PREFIX"
echo "Unpacking payload ..."

# The mark of a finished installation goes first and comes last, so that a half one can be told.
rm -f "$PREFIX/conda-meta/history"
tail -n +"$line" "$0" | tar -xzf - -C "$PREFIX" || fail "Could not unpack into '$PREFIX'"

# What was built elsewhere learns where it is now, as conda replaces prefixes.
grep -lIrF -- "$BUILT_AT" "$PREFIX/bin" "$PREFIX/pyvenv.cfg" "$PREFIX/share/jupyter/kernels" "$PREFIX/etc" 2>/dev/null |
  while IFS= read -r file; do
    [ -L "$file" ] || sed -i "s|$BUILT_AT|$PREFIX|g; s|@LOCAL_VERSION@|$VERSION|g" "$file"
  done
cat > "$PREFIX/README" <<EOF
This is the local Anaconda $VERSION, a stand-in of Lightsout's local cloud. It is not Anaconda, Miniconda or Miniforge.
Python, JupyterLab and NumPy are real; bin/conda is a small imitation (see bin/conda --help).
EOF
"$PREFIX/bin/python" -c 'import ssl, sqlite3' || fail "the Python in '$PREFIX' does not run on this machine"
mkdir -p "$PREFIX/conda-meta" "$PREFIX/envs"
printf '==> %s <==\n# cmd: %s\n# local Anaconda %s\n' "$(date -u '+%Y-%m-%d %H:%M:%S')" "$0" "$VERSION" > "$PREFIX/conda-meta/history"
if [ "$TEST" = 1 ]; then
  "$PREFIX/bin/python" -c 'import jupyterlab, ipykernel, numpy'
fi
echo "installation finished."
exit 0
__PAYLOAD__
