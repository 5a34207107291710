#!/usr/bin/env bash
# The same work through unmix and through PyTorch on this machine's CPU, alternately, and the ratios of the medians.
#
#   scripts/compare_torch.sh BASELINE.py [ROOT_OF_JPEGS]
#
# BASELINE.py is the project's PyTorch baseline (torch_baseline.py; subcommands `step` and `loader`, one JSON line each).
# With a folder of JPEG files the loaders are compared too: decode and two crops, and the full MoCo v2 recipe.
#
# Environment, with defaults: ROUNDS=3 ARCH=resnet18-cifar BATCH=64 SIZE=32 QUEUE=4096 STEPS=10 THREADS=(all cores)
#   SPLITS=8                              groups of our batch norm, as runs have them; the baseline has plain batch norm (1)
#   WORKERS=2 LOADER_SIZE=224 REPEAT=8    loaders
#   UNMIX=(built here)                    the program to measure
#   PYTHON=python3                        one that can import torch, torchvision and PIL; otherwise a venv is made in VENV
#   VENV=target/torch-venv                (large packages, from pip's configured index)
# A table goes to standard output, every single measurement (JSON lines) to standard error.
set -euo pipefail

if [ $# -lt 1 ] || [ $# -gt 2 ] || [ ! -f "$1" ]; then
  echo "usage: scripts/compare_torch.sh BASELINE.py [ROOT_OF_JPEGS]" >&2
  exit 2
fi
baseline=$(realpath "$1")
photos=${2:+$(realpath "$2")}
cd "$(dirname "$0")/.."

rounds=${ROUNDS:-3} arch=${ARCH:-resnet18-cifar} batch=${BATCH:-64} size=${SIZE:-32} queue=${QUEUE:-4096} steps=${STEPS:-10}
workers=${WORKERS:-2} loader_size=${LOADER_SIZE:-224} repeat=${REPEAT:-8} threads=${THREADS:-$(nproc)} splits=${SPLITS:-8}
python=${PYTHON:-python3} venv=${VENV:-target/torch-venv}

if ! "$python" -c 'import torch, torchvision, PIL' 2>/dev/null; then
  if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import torch, torchvision, PIL' 2>/dev/null; then
    echo "making $venv with torch, torchvision and pillow" >&2
    "$python" -m venv "$venv"
    "$venv/bin/pip" install --quiet torch torchvision pillow >&2
  fi
  python=$venv/bin/python
fi

unmix=${UNMIX:-}
if [ -z "$unmix" ]; then
  cargo build --release >&2
  unmix=${CARGO_TARGET_DIR:-target}/release/unmix
fi

results=$(mktemp)
trap 'rm -f "$results"' EXIT

# measure SIDE WHAT COMMAND...: runs it and keeps its JSON line.
measure() {
  local side=$1 what=$2 line
  shift 2
  line=$("$@" | tail -n 1)
  printf '{"side": "%s", "what": "%s", "result": %s}\n' "$side" "$what" "$line" | tee -a "$results" >&2
}

for ((round = 1; round <= rounds; round++)); do
  echo "round $round of $rounds" >&2
  measure unmix step env RAYON_NUM_THREADS="$threads" "$unmix" bench step --device cpu --arch "$arch" --batch "$batch" \
    --size "$size" --queue "$queue" --splits "$splits" --steps "$steps" --json
  measure torch step "$python" "$baseline" step --device cpu --arch "$arch" --batch "$batch" \
    --size "$size" --queue "$queue" --steps "$steps" --threads "$threads"
  if [ -n "$photos" ]; then
    measure unmix loader "$unmix" bench loader --root "$photos" --workers "$workers" --size "$loader_size" \
      --batch 64 --repeat "$repeat" --json
    measure torch loader "$python" "$baseline" loader --root "$photos" --workers "$workers" --size "$loader_size" \
      --batch 64 --repeat "$repeat"
  fi
done

"$python" - "$results" "$arch, batch $batch, $size px, queue $queue, $threads threads; batch norm in $splits groups, PyTorch in 1" "$loader_size px, $workers workers" <<'PYTHON'
import json, statistics, sys

lines = [json.loads(line) for line in open(sys.argv[1])]
rows = [("step", "images_per_s", f"MoCo step, f32 ({sys.argv[2]})"),
        ("loader", "decode_and_two_crops_images_per_s", f"decode and two crops ({sys.argv[3]})"),
        ("loader", "full_recipe_images_per_s", f"MoCo v2 recipe ({sys.argv[3]})")]

def values(side, what, key):
    return [line["result"][key] for line in lines if (line["side"], line["what"]) == (side, what)]

def cell(found):
    return f"{statistics.median(found):.1f} ({min(found):.1f}-{max(found):.1f})"

print("| images per second, median (range) | unmix | PyTorch | unmix / PyTorch |")
print("|---|---|---|---|")
for what, key, name in rows:
    ours, theirs = values("unmix", what, key), values("torch", what, key)
    if ours and theirs:
        print(f"| {name} | {cell(ours)} | {cell(theirs)} | {statistics.median(ours) / statistics.median(theirs):.2f} |")
versions = {line["result"].get("torch") or line["result"].get("version") for line in lines}
print(f"\n{len(values('unmix', 'step', 'images_per_s'))} rounds, alternating; versions: {', '.join(sorted(versions))}")
PYTHON
