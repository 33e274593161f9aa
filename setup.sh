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

# Tesseract's larger models of Korean and English (Apache-2.0), which read a scan independently of
# Debian's. npm takes them from the registry that it is set up for.
fetch_ocr_models() {
    local folder=$venv/share/tessdata_best work language digest
    work=$(mktemp -d)
    while read -r language digest; do
        [ ! -s "$folder/$language.traineddata" ] || continue
        if ! (cd "$work" && npm pack --silent "@tesseract.js-data/$language@1.0.0" >/dev/null 2>&1 &&
            tar -xzOf "tesseract.js-data-$language-1.0.0.tgz" "package/4.0.0_best_int/$language.traineddata.gz" |
            gunzip >"$language.traineddata" && echo "$digest  $language.traineddata" | sha256sum --check --quiet); then
            echo "error: could not fetch Tesseract's model of '$language' with npm. docs/guides/poor-results.md says where else it is" >&2
            rm -rf "$work"
            return 2
        fi
        mkdir -p "$folder"
        mv "$work/$language.traineddata" "$folder/"
    done <<'MODELS'
kor ec1749377d49ac38fb3d3cd05dd5e2a53359d329f359762bc638a81132109992
eng 5dc5d8d640a212c9d6184921ba103b186f50e0fed9ee716c53e6b312b400d747
MODELS
    fetch_latin_recognizer "$work"
    rm -rf "$work"
}

# PP-OCR's recogniser of Latin letters and digits (Apache-2.0), which PyPI's rapidocr holds, and what computes it.
fetch_latin_recognizer() {
    local folder=$venv/share/ppocr model=PP-OCRv6_rec_small.onnx
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".[ocr]"
    [ ! -s "$folder/$model" ] || return 0
    if ! ("$venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$1" "rapidocr==3.9.2" &&
        cd "$1" && "$python" -m zipfile -e rapidocr-3.9.2-*.whl wheel &&
        echo "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884  wheel/rapidocr/models/$model" | sha256sum --check --quiet); then
        echo "error: could not fetch PP-OCR's recogniser with pip. docs/guides/poor-results.md says where else it is" >&2
        rm -rf "$1"
        return 2
    fi
    mkdir -p "$folder"
    mv "$1/wheel/rapidocr/models/$model" "$folder/"
}

if [ "${1:-}" = ocr-models ]; then
    fetch_ocr_models
    exit
fi

# Other goals of the Makefile call this first and go on by themselves.
say_next() {
    [ "${NEXT:-yes}" = no ] || echo "done. Next: make demo, or a project of your own: $venv/bin/jangin new my-project"
}

# The stamp holds a digest of these files: a file with a newer date and the same content installs nothing.
stamp=$venv/.installed
wanted=$extras-$("$python" -c 'import hashlib, sys; print(hashlib.sha256(b"".join(open(p, "rb").read() for p in sys.argv[1:])).hexdigest())' pyproject.toml setup.sh)
if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    touch "$stamp"
    say_next
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

# What pip is told by its files or by PIP_..., as a list with commas; uv reads neither.
pip_setting() {
    sed -n "s/^[^=]*[.]$1='\(.*\)'$/\1/p" <<<"$pip_settings" | tail -n 1 | sed 's/\\n/ /g; s/^ *//; s/  */,/g'
}

# Prints the path of uv, which resolves and unpacks in a fifth of pip's time: that of the machine, or
# one installed into the environment.
find_uv() {
    if uv --version >/dev/null 2>&1; then
        command -v uv
        return
    fi
    local install=(install --quiet --quiet --disable-pip-version-check --no-compile "uv>=0.5")
    # The pip of the machine can do it too, which spares installing one first.
    if [ -x "$venv/bin/uv" ] || "$python" -m pip --python "$venv/bin/python" "${install[@]}" 2>/dev/null ||
        { install_pip && "$venv/bin/python" -m pip "${install[@]}"; }; then
        echo "$venv/bin/uv"
    else
        return 1
    fi
}

install_pip() {
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 && return
    if ! "$venv/bin/python" -m ensurepip >/dev/null 2>&1; then
        echo "error: could not install pip into $venv. On Debian or Ubuntu: sudo apt-get install python3-venv" >&2
        return 1
    fi
}

install_python_packages() {
    # torch is pinned: as a dependency it would be the newest build for GPUs. Nothing is compiled:
    # most of its modules are never imported, and Python compiles the others on use.
    local uv packages=("torch==2.13.0" --editable ".[$extras]")
    if uv=$(find_uv); then
        local index pip_settings
        pip_settings=$("$python" -m pip config list 2>/dev/null || true)
        export UV_FIND_LINKS="${UV_FIND_LINKS:-$(pip_setting find-links)}"
        index=$(pip_setting index-url)
        [ -z "$index" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$index}"
        index=$(pip_setting extra-index-url)
        if [ -n "$index" ]; then  # the newest version of all of them, as pip takes it
            export UV_INDEX="${UV_INDEX:-${index//,/ }}" UV_INDEX_STRATEGY="${UV_INDEX_STRATEGY:-unsafe-best-match}"
        fi
        "$uv" pip install --quiet --python "$venv/bin/python" pip "uv>=0.5" "${packages[@]}"
    else
        install_pip
        "$venv/bin/python" -m pip install --quiet --quiet --disable-pip-version-check --no-compile "${packages[@]}"
    fi
}

install_debian_packages &
debian=$!

if [ ! -x "$venv/bin/python" ]; then
    if ! "$python" -m venv --without-pip "$venv"; then
        echo "error: could not create the virtual environment. On Debian or Ubuntu: sudo apt-get install python3-venv" >&2
        exit 2
    fi
fi
echo "installing Python packages into $venv (once; a minute or two)"
install_python_packages
wait "$debian"
echo "$wanted" >"$stamp"
say_next
