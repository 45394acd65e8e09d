# Makes sure that a Python environment with everything hriusr needs is there. Sourced by quickstart.sh and test.sh.
#
# Uses the virtual environment (or conda environment) that is active, else .venv in the project's folder, which it makes
# from the newest of python3.12, python3.11, python3.10 that it finds. What is installed already is left alone.
#
#   source scripts/_environment.sh
#   ensure_environment ""        # or "test" for pytest, ruff and the packages that tests compare with
#
# Afterwards $PYTHON is the interpreter to use, and $ROOT the project's folder.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
PIP_OPTIONS=(--quiet --no-input --disable-pip-version-check)
# BasicSR 1.4.2 imports pkg_resources, which newer setuptools no longer has
BUILD_PACKAGES=("setuptools>=68,<81" wheel cython "numpy>=1.26")

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Whether a command is a Python that BasicSR can be built for (its setup.py fails on 3.13) and that can make environments.
is_supported_python() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1
}

find_python() {
    local candidate
    for candidate in python3.12 python3.11 python3.10 python3 python "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[0-2]*/bin/python; do
        # a pyenv shim may be there without the version behind it: ask it, don't just look for it
        if is_supported_python "$candidate"; then
            printf '%s' "$candidate"
            return
        fi
    done
    fail "no Python 3.10, 3.11 or 3.12 with venv found (python3 is: $(python3 --version 2>&1 || true)). BasicSR cannot be" \
        "built on 3.13 or later. Install one, for example: apt-get install python3.11 python3.11-venv, or" \
        "pyenv install 3.12, or conda create -n hriusr python=3.12 and activate it."
}

has_supported_version() {
    "$PYTHON" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))'
}

# Makes sure that there is pip in an environment ($1): uv makes them without.
ensure_pip() {
    "$PYTHON" -c 'import pip' >/dev/null 2>&1 && return
    say "no pip in $1: adding it"
    "$PYTHON" -m ensurepip --default-pip >/dev/null 2>&1 && "$PYTHON" -c 'import pip' >/dev/null 2>&1 ||
        fail "$1 has no pip, and $PYTHON -m ensurepip does not add it; install it there (uv pip install pip) and run again"
}

choose_environment() {
    local active="${VIRTUAL_ENV:-${CONDA_PREFIX:-}}"
    if [[ -n $active && -x $active/bin/python ]]; then
        PYTHON="$active/bin/python"
        has_supported_version ||
            fail "the active environment $active has $("$PYTHON" --version); hriusr needs Python 3.10 to 3.12:" \
                "deactivate it, and this script makes .venv with a Python that fits"
        ensure_pip "$active"
        return
    fi
    PYTHON="$ROOT/.venv/bin/python"
    if [[ ! -e $ROOT/.venv ]]; then
        local base
        base="$(find_python)"
        say "making $ROOT/.venv with $("$base" --version)"
        "$base" -m venv "$ROOT/.venv" || fail "$base -m venv .venv failed; on Debian and Ubuntu: apt-get install python3-venv"
    fi
    # yours, maybe: it is not removed here
    has_supported_version 2>/dev/null ||
        fail "$ROOT/.venv has no Python 3.10 to 3.12 that runs: move it away and run again, or activate another environment"
    ensure_pip "$ROOT/.venv"
}

pip_install() {
    "$PYTHON" -m pip install "${PIP_OPTIONS[@]}" "$@" || fail "pip install $* failed; its message stands above"
}

# Prints what is missing or too old, one requirement a line; nothing when hriusr[extra] of this folder is whole.
missing_requirements() {
    # -I: not from the current folder, whose hriusr.egg-info says nothing of how it was installed
    "$PYTHON" -I - "$ROOT" "$1" <<'PYTHON_CODE'
import importlib.metadata as metadata, pathlib, sys
from pip._vendor.packaging.requirements import Requirement

root, extra = pathlib.Path(sys.argv[1]), sys.argv[2]

def is_there(requirement):
    try:
        return requirement.specifier.contains(metadata.version(requirement.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False

lines = [line.split("#")[0].strip() for line in (root / "requirements.txt").read_text().splitlines()]
wanted = [Requirement(line) for line in lines if line]
try:
    for text in metadata.requires("hriusr") or []:
        requirement = Requirement(text)
        if requirement.marker is not None and requirement.marker.evaluate({"extra": extra}):
            wanted.append(requirement)
    direct_url = metadata.distribution("hriusr").read_text("direct_url.json") or ""
    if root.as_uri() not in direct_url:
        print("hriusr (of another folder)")
except metadata.PackageNotFoundError:
    print("hriusr")
for requirement in wanted:
    if not is_there(requirement):
        print(requirement)
PYTHON_CODE
}

ensure_environment() {
    local extra="$1" missing
    choose_environment
    missing="$(missing_requirements "$extra")" || fail "$PYTHON cannot list its packages; its message stands above"
    [[ -z $missing ]] && return
    if grep -qE '^torch' <<<"$missing"; then
        say "installing PyTorch (about 5.5 GB on disk; takes a minute or more)"
        pip_install torch torchvision
    fi
    if grep -q '^basicsr' <<<"$missing"; then
        say "building BasicSR 1.4.2 against it"
        pip_install "${BUILD_PACKAGES[@]}"
        # with isolation its build would fetch torch a second time
        pip_install --no-build-isolation basicsr==1.4.2
    fi
    say "installing hriusr${extra:+ and what its tests need}"
    pip_install "${BUILD_PACKAGES[@]}"
    pip_install --no-build-isolation -e "$ROOT${extra:+[$extra]}"
    missing="$(missing_requirements "$extra")"
    [[ -z $missing ]] || fail "still missing after the installation: ${missing//$'\n'/, }"
}
