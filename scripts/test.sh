#!/usr/bin/env bash
# Checks the style (ruff) and runs the tests, two at a time; arguments go to pytest instead: bash scripts/test.sh tests/options -x
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/_environment.sh"
ensure_environment test
cd "$ROOT"

say "ruff"
"$PYTHON" -m ruff check .
say "pytest"
[[ $# -gt 0 ]] || set -- -n 2
"$PYTHON" -m pytest -q "$@"
