#!/usr/bin/env bash
# Sets up .venv in the project's root: the pinned requirements.txt, then the project itself (editable), so that the
# `dmlr` command works there too. Quick when nothing changed: a stamp in .venv remembers what was installed.
# Run by run.sh, test.sh and .ci/run; or alone: bash script/setup.sh
# PYTHON=/path/to/python3 chooses the interpreter that creates .venv (3.11 or newer).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    echo "setup: error: $*" >&2
    exit 1
}

# A name on PATH proves nothing (version managers put shims there): an interpreter counts only when it runs.
recent_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.11 python3.12 python3.13 python3.14; do
        if recent_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

# The folder is part of the stamp because an editable install points at it: a moved project is installed again.
stamp() {
    { pwd; .venv/bin/python --version; cat requirements.txt pyproject.toml script/setup.sh; } | sha256sum | cut -d' ' -f1
}

ready() {
    [[ -f .venv/.setup-stamp ]] && recent_enough .venv/bin/python && [[ "$(<.venv/.setup-stamp)" == "$(stamp)" ]]
}

if ready; then
    exit 0
fi

if ! { recent_enough .venv/bin/python && .venv/bin/python -m pip --version; } >/dev/null 2>&1; then
    python=$(find_python) || fail "Python 3.11 or newer is needed and none was found; install one or set PYTHON=/path/to/python3"
    echo "setup: creating .venv with $("$python" --version)" >&2
    "$python" -m venv --clear .venv >&2 ||
        fail "$python cannot create a virtual environment; on Debian: apt-get install python3-venv"
fi

echo "setup: installing requirements.txt (the first time: minutes, several GB)" >&2
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt >&2 ||
    fail "pip could not install requirements.txt; its message is above"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e . >&2 ||
    fail "pip could not install the project itself; its message is above"
stamp >.venv/.setup-stamp
echo "setup: .venv is ready" >&2
