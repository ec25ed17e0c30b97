#!/bin/sh
# Makes a virtual environment with pip in it, or says in one line what the machine lacks.
# Usage: make_venv.sh PYTHON DIRECTORY
python=$1
venv=$2

stop() {
    echo "make: $1" >&2
    exit 2
}

command -v "$python" >/dev/null || stop "there is no $python; run: apt-get install -y python3 python3-venv"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    stop "Python 3.11 or later is needed and $python is $("$python" -V 2>&1); name another with: make PYTHON=python3.12"

if "$python" -c 'import ensurepip' 2>/dev/null; then
    "$python" -m venv "$venv" || stop "$python -m venv $venv failed; run: apt-get install -y python3-venv"
else
    # Debian keeps ensurepip in a package of its own; a pip from 22.3 on can do its work.
    "$python" -m venv --without-pip "$venv" &&
        "$python" -m pip --python "$venv/bin/python" install --disable-pip-version-check --quiet pip 2>/dev/null ||
        stop "$python has no ensurepip, so it cannot put pip into $venv; run: apt-get install -y python3-venv"
fi
