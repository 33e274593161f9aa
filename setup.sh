#!/usr/bin/env bash
# Makes the virtual environment and installs what jangin needs; called by `make setup`.
set -euo pipefail

python=${PYTHON:-python3}
venv=${VENV:-.venv}

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "error: jangin needs Python 3.11 or newer, and '$python' is not that. Install it, or name one: make PYTHON=python3.12 ..." >&2
    exit 2
fi

# TRL is what the losses and masks are compared with; only CI needs it, where no test is skipped.
extras=documents,train,evaluate,dev
[ "${CI:-}" = true ] && extras=$extras,parity

# What was installed is known by its content: a file that only looks newer installs nothing.
stamp=$venv/.installed
wanted=$extras-$("$python" -c 'import hashlib, sys; print(hashlib.sha256(b"".join(open(p, "rb").read() for p in sys.argv[1:])).hexdigest())' pyproject.toml setup.sh)
if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    touch "$stamp"
    exit 0
fi

install_packages() {
    local missing=()
    command -v tesseract >/dev/null || missing+=(tesseract-ocr)
    tesseract --list-langs 2>/dev/null | grep -qx kor || missing+=(tesseract-ocr-kor)
    fc-list 2>/dev/null | grep -qi nanum || [ -d /usr/share/fonts/truetype/nanum ] || missing+=(fonts-nanum)
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
    echo "note: ${missing[*]} could not be installed here; scanned pages need them. On Debian or Ubuntu: sudo apt-get install ${missing[*]}" >&2
}

install_packages

if [ ! -x "$venv/bin/python" ]; then
    if ! "$python" -m venv "$venv"; then
        echo "error: the virtual environment could not be made. On Debian or Ubuntu: sudo apt-get install python3-venv" >&2
        exit 2
    fi
fi
echo "installing Python packages into $venv (once; a minute or two)"
# torch first and pinned: asked for by another package, pip would take the newest build for GPUs.
"$venv/bin/python" -m pip install --quiet --quiet --disable-pip-version-check "torch==2.13.0"
"$venv/bin/python" -m pip install --quiet --quiet --disable-pip-version-check --editable ".[$extras]"
echo "$wanted" >"$stamp"
