#!/usr/bin/env bash
# Makes or brings up to date the project's own Python environment; `make install` calls it.
#
#     scripts/make_environment.sh .venv requirements.txt
#     PYTHON=/usr/bin/python3.12 INSTALLER=pip scripts/make_environment.sh /tmp/env requirements-dev.txt
#
# Reads:  a requirements file.   Writes: the environment, and nothing else; `make` writes the stamp when this succeeds.
# PYTHON     the interpreter to build on; by default the first of python3, python3.13 ... python3.10 that will do
# INSTALLER  uv, pip, or auto (the default): uv where it is installed, else pip
set -euo pipefail

venv=${1:?usage: make_environment.sh VENV REQUIREMENTS}
requirements=${2:?usage: make_environment.sh VENV REQUIREMENTS}
installer=${INSTALLER:-auto}
quiet=--quiet
if [[ -t 1 ]]; then quiet=""; fi # a person wants to see that the download goes on, a log does not
tested="Python 3.10 to 3.14"
# What PYTHON must answer: a version that the pins know. 3.9 and older lack packages, newer ones lack wheels.
is_tested='import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))'

main() {
    choose_installer
    if ! works "$venv/bin/python"; then
        make_venv
    fi
    echo "Installing $requirements into $venv with $installer. The first time this downloads PyTorch and may take minutes."
    install_requirements
}

choose_installer() {
    case $installer in
        auto) if command -v uv >/dev/null; then installer=uv; else installer=pip; fi ;;
        uv) command -v uv >/dev/null || fail "INSTALLER=uv, but there is no uv on the PATH." \
            "Install it (https://docs.astral.sh/uv/), or: make install INSTALLER=pip" ;;
        pip) ;;
        *) fail "INSTALLER=$installer is none of auto, uv, pip." "make install INSTALLER=pip" ;;
    esac
}

# Whether this interpreter starts, is of a tested version, and is inside an environment that can install.
works() {
    [[ -x $1 ]] && "$1" -c "$is_tested" 2>/dev/null && { [[ $installer == uv ]] || "$1" -m pip --version >/dev/null 2>&1; }
}

make_venv() {
    find_python
    # What is there is a broken or outdated environment and is made anew, but a folder of anything else is not ours.
    if [[ -e $venv && ! -f $venv/pyvenv.cfg && -n $(ls -A "$venv" 2>/dev/null) ]]; then
        fail "$venv is there and is not a Python environment." "Move it away, or name another: make install VENV=..."
    fi
    echo "Making $venv on $("$python" -c 'import sys; print(sys.executable, sys.version.split()[0])')."
    if [[ $installer == uv ]]; then
        uv venv --quiet --clear --seed --python "$python" "$venv"
    else
        "$python" -m venv --clear "$venv"
    fi
}

find_python() {
    local candidate seen=""
    if [[ -n ${PYTHON:-} ]]; then
        can_build "$PYTHON" || fail "PYTHON=$PYTHON will not do: $problem." "Name another one: make install PYTHON=python3.12"
        python=$PYTHON
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11 python3.10; do
        if can_build "$candidate"; then
            python=$candidate
            return
        fi
        seen+="
  $candidate: $problem"
    done
    fail "No Python here will do; $tested is needed:$seen" \
        "Install one, e.g. 'apt install python3 python3-venv' or 'uv python install 3.12', then: make install PYTHON=..."
}

# Whether an environment can be built on this interpreter; if not, `problem` says why.
can_build() {
    local version
    if ! command -v "$1" >/dev/null; then
        problem="not found"
    elif ! version=$("$1" -c 'import sys; print(sys.version.split()[0])' 2>/dev/null); then
        problem="does not start" # such as the shim of a version manager that has no such version selected
    elif ! "$1" -c "$is_tested"; then
        problem="is Python $version, and $tested is needed"
    elif [[ $installer == pip ]] && ! "$1" -c 'import venv, ensurepip' 2>/dev/null; then
        problem="is Python $version without venv (on Debian and Ubuntu: apt install python3-venv)"
    else
        return 0
    fi
    return 1
}

install_requirements() {
    if [[ $installer == pip ]]; then
        "$venv/bin/python" -m pip install ${quiet:+"$quiet"} --disable-pip-version-check -r "$requirements"
        return
    fi
    # uv does not read pip's settings; pip separates several places by blanks, uv by commas.
    if [[ -n ${PIP_FIND_LINKS:-} ]]; then
        export UV_FIND_LINKS=${UV_FIND_LINKS:-${PIP_FIND_LINKS// /,}}
    fi
    if [[ -n ${PIP_INDEX_URL:-} ]]; then
        export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$PIP_INDEX_URL}
    fi
    uv pip install ${quiet:+"$quiet"} --python "$venv/bin/python" -r "$requirements" ||
        fail "uv could not install $requirements." "See above. Where pip has settings of its own: make install INSTALLER=pip"
}

fail() {
    printf 'error: %s\n  Do this:  %s\n' "$1" "$2" >&2
    exit 4
}

main
