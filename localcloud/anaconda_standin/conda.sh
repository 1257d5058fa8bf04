# Sourced by shells: `conda activate` and `conda deactivate` of the local Anaconda. POSIX sh.
export CONDA_EXE="@PREFIX@/bin/conda"

conda() {
  case "${1-}" in
    activate)
      _conda_prefix=$("$CONDA_EXE" _prefix "${2-base}") || return 1
      [ -z "${CONDA_PREFIX-}" ] || conda deactivate
      export _CONDA_OLD_PATH="$PATH" CONDA_PREFIX="$_conda_prefix" CONDA_DEFAULT_ENV="${2-base}"
      export PATH="$_conda_prefix/bin:$PATH"
      unset _conda_prefix
      ;;
    deactivate)
      [ -z "${_CONDA_OLD_PATH-}" ] || export PATH="$_CONDA_OLD_PATH"
      unset CONDA_PREFIX CONDA_DEFAULT_ENV _CONDA_OLD_PATH
      ;;
    *) "$CONDA_EXE" "$@" ;;
  esac
}
