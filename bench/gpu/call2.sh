#!/bin/bash
# Generation with and without cuDNN, then LoRA of TRL with Liger's kernels, and QLoRA.
# Ends within 600 s. Results: $OUT, by default gpu-results.
cd "$(dirname "$0")/../.." || exit 1
export PYTHONPATH=$PWD/.site:$PWD/src:$PWD/bench/gpu PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
export OUT=${OUT:-$PWD/gpu-results} XDG_CACHE_HOME=${XDG_CACHE_HOME:-/tmp/jangin-cache} PYTHON=${PYTHON:-python3}
DEVICE=${DEVICE:-cuda} MORE=${MORE:-}
mkdir -p "$OUT"
bench() { # name, seconds, cases, words
  name=$1 seconds=$2 cases=$3; shift 3
  timeout "$seconds" "$PYTHON" bench/gpu --device "$DEVICE" $MORE --limit $(((seconds - 30) / cases)) --out "$OUT/$name.json" "$@" 2>&1 | tee "$OUT/$name.txt"
}

bench generation 300 2 --only 'generation 8B, 64 rows, jangin' --steps 2
bench lora_trl 150 2 --only 'SFT lora 8B, trl' --steps 4
bench qlora 140 2 --only 'SFT qlora 8B, jangin' --steps 4
