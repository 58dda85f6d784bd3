#!/usr/bin/env bash
# Sets up .venv where needed and runs the tests; arguments go to pytest, e.g. bash script/test.sh tests/test_policy.py -x
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash script/setup.sh
exec .venv/bin/python -m pytest "$@"
