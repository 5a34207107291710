#!/usr/bin/env bash
# The same work through unmix and through PyTorch on this machine's CPU, alternately, and the ratios of the medians.
#
#   scripts/compare_torch.sh [ROOT_OF_JPEGS BASELINE.py]
#
# Rows: a step of MoCo (ResNet-18 for CIFAR; also without Winograd's algorithm and on one thread), the same with ResNet-50 at 224 pixels, a
# symmetric step of Un-Mix, the forward pass of features, the quickstart's net, and the peaks of memory. PyTorch's side
# (scripts/torch_steps.py) is measured with its own layout and with channels_last; the better of the two counts. Both sides have plain batch
# norm. With a folder of JPEG files and the project's baseline program the loaders are compared, too.
#
# Environment, with defaults: ROUNDS=3 STEPS=10 STEPS50=3 (of ResNet-50) THREADS=(all cores) ROWS="moco r50 unmix features small" (which)
#   WORKERS=2 LOADER_SIZE=224 REPEAT=8    loaders
#   UNMIX=(built here)                    the program to measure
#   PYTHON=python3                        one that can import torch, torchvision and PIL; otherwise a venv is made in VENV
#   VENV=target/torch-venv                (large packages, from pip's configured index)
# A table goes to standard output, every single measurement (JSON lines) to standard error.
set -euo pipefail

if [ $# -ne 0 ] && { [ $# -ne 2 ] || [ ! -d "$1" ] || [ ! -f "$2" ]; }; then
  echo "usage: scripts/compare_torch.sh [ROOT_OF_JPEGS BASELINE.py]" >&2
  exit 2
fi
photos=${1:+$(realpath "$1")} baseline=${2:+$(realpath "$2")}
cd "$(dirname "$0")/.."

rounds=${ROUNDS:-3} steps=${STEPS:-10} steps50=${STEPS50:-3} threads=${THREADS:-$(nproc)} rows=${ROWS:-moco r50 unmix features small}
workers=${WORKERS:-2} loader_size=${LOADER_SIZE:-224} repeat=${REPEAT:-8}
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

# measure SIDE ROW COMMAND...: runs it and keeps its JSON line.
measure() {
  local side=$1 row=$2 line
  shift 2
  line=$("$@" | tail -n 1)
  printf '{"side": "%s", "row": "%s", "result": %s}\n' "$side" "$row" "$line" | tee -a "$results" >&2
}
ours() {
  local row=$1 count=$2
  shift 2
  measure unmix "$row" env RAYON_NUM_THREADS="$count" "$unmix" bench step --device cpu --splits 1 --json "$@"
}
theirs() {
  local row=$1 work=$2
  shift 2
  measure torch "$row" "$python" scripts/torch_steps.py "$work" --threads "$threads" "$@"
  measure torch_last "$row" "$python" scripts/torch_steps.py "$work" --threads "$threads" --channels-last "$@"
}

for ((round = 1; round <= rounds; round++)); do
  echo "round $round of $rounds" >&2
  for row in $rows; do
    case $row in
      moco)
        ours moco "$threads" --steps "$steps"
        ours moco_off "$threads" --steps "$steps" --winograd off
        ours moco_one 1 --steps "$steps"
        theirs moco moco --steps "$steps"
        ;;
      r50)
        ours r50 "$threads" --arch resnet50 --size 224 --batch 16 --steps "$steps50" --warmup 1
        theirs r50 moco --arch resnet50 --size 224 --batch 16 --steps "$steps50" --warmup 1
        ;;
      unmix)
        ours unmix "$threads" --work unmix --steps "$steps"
        theirs unmix unmix --steps "$steps"
        ;;
      features)
        ours features "$threads" --work features --steps "$steps"
        theirs features features --steps "$steps"
        ours features50 "$threads" --work features --arch resnet50 --size 224 --batch 16 --steps "$steps" --warmup 1
        theirs features50 features --arch resnet50 --size 224 --batch 16 --steps "$steps" --warmup 1
        ;;
      small)
        ours small "$threads" --width 0.125 --stem-channels 8 --size 16 --queue 256 --steps $((20 * steps))
        ours small_tensor "$threads" --width 0.125 --stem-channels 8 --size 16 --queue 256 --steps "$steps" --net tensor
        ;;
      *)
        echo "there is no row $row" >&2
        exit 2
        ;;
    esac
  done
  if [ -n "$photos" ]; then
    measure unmix loader "$unmix" bench loader --root "$photos" --workers "$workers" --size "$loader_size" --batch 64 --repeat "$repeat" --json
    measure torch loader "$python" "$baseline" loader --root "$photos" --workers "$workers" --size "$loader_size" --batch 64 --repeat "$repeat"
  fi
done

"$python" - "$results" "$threads" "$loader_size px, $workers workers" <<'PYTHON'
import json, statistics, sys

lines = [json.loads(line) for line in open(sys.argv[1])]
threads, loader = sys.argv[2], sys.argv[3]

def values(side, row, key):
    return [line["result"][key] for line in lines if (line["side"], line["row"]) == (side, row)]

def cell(found, form="{:.1f}"):
    shown = [form.format(value) for value in (statistics.median(found), min(found), max(found))]
    return f"{shown[0]} ({shown[1]}-{shown[2]})"

def better(row):
    found = [values(side, row, "images_per_s") for side in ("torch", "torch_last")]
    found = [all for all in found if all]
    return max(found, key=statistics.median) if found else []

net = "ResNet-18 for CIFAR, batch 64, 32 px"
table = [("moco", "moco", f"MoCo step, {net}"), ("moco_off", "moco", "the same without Winograd's algorithm"),
         ("r50", "r50", "MoCo step, ResNet-50, batch 16, 224 px"), ("unmix", "unmix", f"symmetric Un-Mix step, {net}"),
         ("features", "features", f"features, {net}"), ("features50", "features50", "features, ResNet-50, batch 16, 224 px")]
print(f"| images per second, f32, {threads} threads, median (range) | unmix | PyTorch, the better of its layouts | unmix / PyTorch |")
print("|---|---|---|---|")
for row, other, name in table:
    ours, theirs = values("unmix", row, "images_per_s"), better(other)
    if ours and theirs:
        print(f"| {name} | {cell(ours)} | {cell(theirs)} | {statistics.median(ours) / statistics.median(theirs):.2f} |")
for key, name in (("decode_and_two_crops_images_per_s", "decode and two crops"), ("full_recipe_images_per_s", "MoCo v2 recipe")):
    ours, theirs = values("unmix", "loader", key), values("torch", "loader", key)
    if ours and theirs:
        print(f"| {name} ({loader}) | {cell(ours)} | {cell(theirs)} | {statistics.median(ours) / statistics.median(theirs):.2f} |")
small, before = values("unmix", "small", "images_per_s"), values("unmix", "small_tensor", "images_per_s")
if small:
    print(f"| the quickstart's net (an eighth of the width, 16 px), beside Burn's operations | {cell(small, '{:.0f}')} | {cell(before, '{:.0f}')} (Burn) | {statistics.median(small) / statistics.median(before):.2f} |")
one, all = values("unmix", "moco_one", "images_per_s"), values("unmix", "moco", "images_per_s")
if one:
    print(f"\n{threads} threads against one, MoCo step: {statistics.median(all) / statistics.median(one):.2f}x ({cell(one)} images/s on one)")
print("\n| peak memory, MiB | unmix | PyTorch, the lesser |\n|---|---|---|")
for row, _, name in table:
    ours = values("unmix", row, "peak_mib")
    theirs = values("torch", row, "peak_mib") + values("torch_last", row, "peak_mib")
    if ours and theirs:
        print(f"| {name} | {statistics.median(ours):.0f} | {min(theirs):.0f} |")
versions = {line["result"].get("torch") or line["result"].get("version") for line in lines}
print(f"\n{max(len(values('unmix', row, 'images_per_s')) for row, *_ in table)} rounds, alternating; versions: {', '.join(sorted(versions))}")
PYTHON
