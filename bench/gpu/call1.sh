#!/bin/bash
# Is what a card computes right? Values first, then the product's whole way, then the first speed.
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

[ "$DEVICE" = cpu ] || nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
"$PYTHON" -c "import torch, transformers as t, peft, inspect; from torch.nn.attention.varlen import varlen_attn as v
print(torch.__version__, torch.backends.cudnn.version(), t.__version__, peft.__version__, inspect.signature(v))
from jangin.models import device as d
print(d.has_cuda(), d.native_precision(), d.available_bytes('cuda') if d.has_cuda() else '')"
echo "decides: one BAD line, and nothing after it counts"
timeout 150 "$PYTHON" bench/gpu/check.py --device "$DEVICE" 2>&1 | tee "$OUT/check.txt"
echo "decides: whether each method loads, trains, stops, resumes, saves and answers"
timeout 170 "$PYTHON" bench/gpu/checkpoint.py --tiny --methods full lora qlora full:adamw_8bit full:adamw_offload \
  --out "$OUT/checkpoint.json" >"$OUT/checkpoint.txt" 2>&1 || tail -5 "$OUT/checkpoint.txt"
bench lora 220 2 --only 'SFT lora 8B, jangin' --steps 8
