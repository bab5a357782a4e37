#!/usr/bin/env bash
# Creates the project's environment in .venv and does nothing where it is there and up to date.
#
#   PYTHON=/path/to/python3.12 cluster/make_env.sh     another interpreter than the first of python3.12, 3.11, python3
#   EXTRAS=dev,gpu cluster/make_env.sh                 other extras of pyproject.toml than dev
#                                                      (both are kept by later calls that do not say them)
#   MEDTRAIN_VENV=/path/to/environment                 one that you made yourself: used as it is and never touched
#
# The stamp is written last and holds a hash of the Python version, pyproject.toml and constraints.txt, and the extras: a
# half-made environment has none, and a change of either file makes a new one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ -n "${MEDTRAIN_VENV:-}" ]; then
    [ -x "$MEDTRAIN_VENV/bin/python" ] && exit 0
    echo "make env: MEDTRAIN_VENV=$MEDTRAIN_VENV is no environment; make it yourself or unset the variable" >&2
    exit 1
fi
VENV="$PWD/.venv"
STAMP="$VENV/.medtrain-stamp"
EXTRAS="${EXTRAS:-$(sed -n 2p "$STAMP" 2>/dev/null || true)}"
EXTRAS="${EXTRAS:-dev}"
IS_RIGHT='import sys; raise SystemExit(not ((3, 11) <= sys.version_info[:2] < (3, 13)))'

fail() {
    echo "make env: $1" >&2
    exit 1
}

find_python() {
    local candidate
    if [ -z "${PYTHON:-}" ] && [ -f "$STAMP" ] && "$VENV/bin/python" -c "$IS_RIGHT" 2>/dev/null; then
        "$VENV/bin/python" -c 'import sys; print(sys._base_executable)'
        return
    fi
    if [ -n "${PYTHON:-}" ]; then
        "$PYTHON" -c "$IS_RIGHT" 2>/dev/null || fail "PYTHON=$PYTHON is no Python 3.11 or 3.12; give another or unset it"
        echo "$PYTHON"
        return
    fi
    for candidate in python3.12 python3.11 python3 python; do
        if "$candidate" -c "$IS_RIGHT" 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "found no Python 3.11 or 3.12; install one, or say where it is: make env PYTHON=/path/to/python3.12"
}

# Everything that installing cannot mend is looked at first, so that nobody waits minutes for a failure.
check_tools() {
    local version
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        fail "$python has no venv module; install it (Debian, Ubuntu: apt-get install python$version-venv)"
    local compiler="${CXX:-c++}" folder
    command -v "$compiler" >/dev/null ||
        fail "no C++ compiler ($compiler) for DeepSpeed's operators; install one (Debian, Ubuntu: apt-get install g++) or set CXX"
    folder=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
    echo '#include <Python.h>' | "$compiler" -x c++ -fsyntax-only -I "$folder" - 2>/dev/null ||
        fail "$compiler cannot compile with Python.h of $python; install its headers (Debian, Ubuntu: apt-get install python$version-dev)"
}

python=$(find_python)
key=$({
    "$python" -c 'import sys, platform; print(sys.version, platform.machine())'
    echo "$EXTRAS"
    cat pyproject.toml constraints.txt
} | "$python" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())')
if [ "$(sed -n 1p "$STAMP" 2>/dev/null || true)" = "$key" ] && "$VENV/bin/python" -c "$IS_RIGHT" 2>/dev/null; then
    exit 0
fi

check_tools
echo "make env: installing into $VENV with $("$python" --version) (several minutes the first time)"
rm -f "$STAMP"
"$python" -m venv --clear "$VENV"
install() {
    "$VENV/bin/python" -m pip install --disable-pip-version-check --quiet -c constraints.txt "$@"
}
case ",$EXTRAS," in
*,gpu,*) # flash-attn is built with the PyTorch that is there, so that comes first
    install -e . "setuptools>=77" wheel
    install --no-build-isolation -e ".[$EXTRAS]"
    ;;
*) install -e ".[$EXTRAS]" ;;
esac
printf '%s\n%s\n' "$key" "$EXTRAS" >"$STAMP.part"
mv "$STAMP.part" "$STAMP"
echo "make env: done"
