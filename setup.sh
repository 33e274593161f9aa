#!/usr/bin/env bash
# Creates the virtual environment and installs what jangin needs; called by `make setup`.
set -euo pipefail

python=${PYTHON:-python3}
venv=${VENV:-.venv}

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "error: jangin needs Python 3.11 or newer, and '$python' is not that. Install it, or name one: make PYTHON=python3.12 ..." >&2
    exit 2
fi

# TRL is the reference for losses and masks; only CI needs it, where no such test may be skipped.
extras=documents,train,evaluate,serve,dev,docs
[ "${CI:-}" = true ] && extras=$extras,parity

# The stamp holds a digest of these files: a file with a newer date and the same content installs nothing.
stamp=$venv/.installed
wanted=$extras-$("$python" -c 'import hashlib, sys; print(hashlib.sha256(b"".join(open(p, "rb").read() for p in sys.argv[1:])).hexdigest())' pyproject.toml setup.sh)
if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    touch "$stamp"
    exit 0
fi

install_debian_packages() {
    local missing=()
    command -v tesseract >/dev/null || missing+=(tesseract-ocr)
    tesseract --list-langs 2>/dev/null | grep -qx kor || missing+=(tesseract-ocr-kor)
    fc-list 2>/dev/null | grep -qi nanum || [ -d /usr/share/fonts/truetype/nanum ] || missing+=(fonts-nanum)
    # The tests of the server start a PostgreSQL of their own; Debian's package would also start one at
    # every boot, which a user's machine does not need.
    if [ "${CI:-}" = true ] && ! command -v initdb >/dev/null && ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then
        missing+=(postgresql)
    fi
    # The pages are tested in a browser.
    if [ "${CI:-}" = true ] && ! command -v chromium >/dev/null; then
        missing+=(chromium fonts-noto-cjk)
    fi
    [ ${#missing[@]} -eq 0 ] && return
    local root=()
    [ "$(id -u)" -eq 0 ] || root=(sudo -n)
    if command -v apt-get >/dev/null && { [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null; }; then
        echo "installing ${missing[*]}"
        "${root[@]}" apt-get update -qq || true
        if DEBIAN_FRONTEND=noninteractive "${root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null; then
            return
        fi
    fi
    echo "note: could not install ${missing[*]}, which scanned pages and some tests need. On Debian or Ubuntu: sudo apt-get install ${missing[*]}" >&2
}

install_python_packages() {
    local pip=("$venv/bin/python" -m pip install --quiet --quiet --disable-pip-version-check)
    # torch first, pinned and by pip: as a dependency of another package it would be the newest build
    # for GPUs. --no-compile: most of its modules are never imported, and Python compiles the rest on use.
    "${pip[@]}" --no-compile "torch==2.13.0"
    # uv resolves and unpacks in a fifth of pip's time.
    if "${pip[@]}" "uv>=0.5" 2>/dev/null; then
        "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --editable ".[$extras]"
    else
        "${pip[@]}" --editable ".[$extras]"
    fi
}

install_debian_packages

if [ ! -x "$venv/bin/python" ]; then
    if ! "$python" -m venv "$venv"; then
        echo "error: could not create the virtual environment. On Debian or Ubuntu: sudo apt-get install python3-venv" >&2
        exit 2
    fi
fi
echo "installing Python packages into $venv (once; a minute or two)"
install_python_packages
echo "$wanted" >"$stamp"
