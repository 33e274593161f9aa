#!/bin/bash
# A profile of two steps, compiled layers, full tuning, and the same without fused modules.
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

bench profile 120 1 --only 'profile lora 8B'
echo "decides: what fused modules are worth, beside call 1"
JANGIN_KERNELS=off bench unfused 120 2 --only 'SFT lora 8B, jangin' --steps 4
bench compile 210 1 --only 'compile lora 8B'
bench full 130 2 --only 'SFT full 1B, jangin'
