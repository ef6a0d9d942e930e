#!/usr/bin/env bash
# Build the virtual environment VENV with PYTHON, at the versions of constraints.txt.
# Debian ships Python without ensurepip; where we may, we install what is missing, else we say what to install.
# Usage: tools/venv.sh PYTHON VENV
set -euo pipefail

python=$1
venv=$2

fail() {
    echo "fibflow: $*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

may_install() {
    command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }
}

can_make_venv() {
    "$python" -c 'import ensurepip, venv' 2>/dev/null
}

install_venv_package() {
    may_install || fail "$python cannot make virtual environments; install Debian's python3-venv (apt-get install python3-venv) or set PYTHON to one that can."
    echo "fibflow: installing python3-venv" >&2
    as_root apt-get -qq update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends python3-venv >/dev/null
    can_make_venv || fail "$python still cannot make virtual environments after python3-venv was installed; set PYTHON to one that can."
}

command -v "$python" >/dev/null || fail "$python was not found; install Python 3.11 or newer, or set PYTHON."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$("$python" --version) is too old; set PYTHON to Python 3.11 or newer."
can_make_venv || install_venv_package

echo "fibflow: building $venv with $("$python" --version)" >&2
"$python" -m venv --clear "$venv"
# The build tools come first and at our versions: build isolation would resolve them anew at every build.
"$venv/bin/pip" install --quiet --constraint constraints.txt hatchling editables
"$venv/bin/pip" install --quiet --constraint constraints.txt --no-build-isolation --editable '.[postgres,operator,dev]'
