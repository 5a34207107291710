#!/usr/bin/env bash
# Checks and measures a machine with an NVIDIA GPU: first that the numbers are right, then how fast they come. It needs no Rust
# and no network there, only a copy of the repository and programs built elsewhere with `--features cuda`:
#
#   UNMIX=path/to/unmix scripts/gpu_check.sh [devices] [fixtures] [kernels] [losses] [mixture] [scores] [probe] [bench] [train]   (all by default)
#
# Environment (relative paths start at the repository):
#   UNMIX                  the program
#   UNMIX_FIXTURES_TEST    the test program of tests/fixtures.rs (`cargo test --release --features cuda --no-run` names it)
#   UNMIX_KERNELS_TEST     that of tests/kernels.rs
#   BASELINE               PyTorch baseline script; without it `bench` measures unmix alone
#   DATA                   CIFAR-10: the binary version, or a folder with train/<class>/ and test/<class>/; without it no `train`
#   EPOCHS=5  ROUNDS=3  PYTHON=python3 (with torch for BASELINE)
#   OUT=gpu-check          gpu_check.jsonl and the logs go here
#
# Every result is one JSON object on a line of $OUT/gpu_check.jsonl, with `check` as its first key. Exit status 1 if a check failed.
set -euo pipefail
cd "$(dirname "$0")/.."

unmix=$(realpath "${UNMIX:?set UNMIX to the program, built with --features cuda}")
python=${PYTHON:-python3} epochs=${EPOCHS:-5} rounds=${ROUNDS:-3}
out=${OUT:-gpu-check}
mkdir -p "$out"
out=$(realpath "$out")
jsonl=$out/gpu_check.jsonl
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -m 700 "$work/runtime"
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-$work/runtime}
failed=()

# CUDA's libdevice is needed at run time; a Python with triton or nvcc wheels has a copy, put where it is looked for.
if [ -z "${CUDA_PATH:-}" ] && ! ls /usr/local/cuda/nvvm/libdevice/libdevice.10.bc /opt/cuda/nvvm/libdevice/libdevice.10.bc \
  /usr/lib/cuda/nvvm/libdevice/libdevice.10.bc /usr/nvvm/libdevice/libdevice.10.bc >/dev/null 2>&1; then
  found=$("$python" -c 'import site, sys
from pathlib import Path
roots = site.getsitepackages() + [site.getusersitepackages()] + [p for p in sys.path if p.endswith("-packages")]
print(next((str(f) for r in roots if Path(r).is_dir() for f in Path(r).rglob("libdevice.10.bc")), ""))')
  if [ -n "$found" ]; then
    mkdir -p "$work/cuda/nvvm/libdevice"
    cp "$found" "$work/cuda/nvvm/libdevice/"
    export CUDA_PATH=$work/cuda
  fi
fi

# record CHECK [KEY=VALUE]...: one line; values that are JSON stay JSON. An object on standard input adds its keys.
record() {
  "$python" -c 'import json, sys
def value(text):
    try:
        return json.loads(text)
    except ValueError:
        return text
line = {"check": sys.argv[1], **{k: value(v) for k, _, v in (a.partition("=") for a in sys.argv[2:])}}
body = sys.stdin.read().strip()
line.update(json.loads(body.splitlines()[-1]) if body else {})
print(json.dumps(line))' "$@" | tee -a "$jsonl"
}

usable() {
  "$unmix" devices --json | "$python" -c 'import json, sys
print("\n".join(d["name"] for d in json.load(sys.stdin)["usable"]))'
}

has() {
  grep -qx "$1" <<<"$names"
}

check_devices() {
  "$unmix" devices && "$unmix" devices --json | record devices && has cuda
}

check_fixtures() {
  [ -n "${UNMIX_FIXTURES_TEST:-}" ] || { echo "UNMIX_FIXTURES_TEST is not set: no golden numbers are checked"; return 0; }
  local devices=cpu status=0 name
  for name in cuda wgpu; do has "$name" && devices+=,$name; done
  UNMIX_FIXTURES=${UNMIX_FIXTURES:-$PWD/tests/fixtures} UNMIX_TEST_DEVICES=$devices \
    "$UNMIX_FIXTURES_TEST" 2>&1 | tee "$out/fixtures.log" || status=$?
  record fixtures devices="$devices" status="$status" \
    result="$(grep '^test result:' "$out/fixtures.log" | tail -n 1)" </dev/null
  return "$status"
}

# Random plans, edges and bytes on every kernel path of every device, against plain loops.
check_kernels() {
  [ -n "${UNMIX_KERNELS_TEST:-}" ] || { echo "UNMIX_KERNELS_TEST is not set: kernel paths are not checked"; return 0; }
  local devices=cpu status=0 name
  for name in cuda wgpu; do has "$name" && devices+=,$name; done
  UNMIX_TEST_DEVICES=$devices "$UNMIX_KERNELS_TEST" 2>&1 | tee "$out/kernels.log" || status=$?
  record kernels devices="$devices" status="$status" result="$(grep '^test result:' "$out/kernels.log" | tail -n 1)" </dev/null
  return "$status"
}

# Mixtures and ingest per path against a device copy, and PyTorch's expressions for the same. The bar is 1.1 of a copy.
check_mixture() {
  local round name shape status=0
  for ((round = 1; round <= rounds; round++)); do
    for name in cuda wgpu; do
      has "$name" || continue
      "$unmix" bench mixture --device "$name" --seconds 2 --json >"$work/line" || { status=1; continue; }
      record mixture side=unmix <"$work/line"
    done
    [ -n "${BASELINE:-}" ] || continue
    for shape in "256 224" "512 32"; do
      read -r batch size <<<"$shape"
      "$python" "$BASELINE" mix --device cuda --batch "$batch" --size "$size" --steps 50 >"$work/line" || { status=1; continue; }
      record mixture side=torch <"$work/line"
    done
  done
  return "$status"
}

# Scores of InsDis and CMC per path against the gather of all rows, for the bank of ImageNet-100.
check_scores() {
  local name status=0
  for name in cuda wgpu; do
    has "$name" || continue
    "$unmix" bench scores --device "$name" --images 126689 --json >"$work/line" || { status=1; continue; }
    record scores <"$work/line"
  done
  return "$status"
}

# A linear probe of 50,000 rows of width 512 and 100 classes, one rate and four side by side.
check_probe() {
  local name rates status=0
  for name in cpu cuda wgpu; do
    has "$name" || continue
    for rates in 30 1,3,10,30; do
      "$unmix" bench probe --device "$name" --lr "$rates" --json >"$work/line" || { status=1; continue; }
      record probe device="$name" <"$work/line"
    done
  done
  return "$status"
}

# The first five losses of one config (that of tests/devices.rs) on each device, against the CPU's. Allowed: 1e-3 relative, which is also about what TF32
# (10 bits of mantissa) may cost where CUDA's tuner picks it.
check_losses() {
  local mixture name status=0
  for mixture in im unmix; do
    for name in cpu cuda wgpu; do
      has "$name" || continue
      "$unmix" pretrain --config configs/smoke.json --device "$name" --out "$work/losses-$mixture-$name" --quiet \
        --set mixture.name="$mixture" --set optim.lr=0.002 --set schedule.steps=5 --set log.every_steps=1 --set log.preview=0 \
        --set eval.enabled=false || { status=1; continue; }
      "$python" - "$work/losses-$mixture-$name" "$work/losses-$mixture-cpu" >"$work/line" <<'PYTHON' || status=1
import json, sys

def losses(run):
    return [e["loss"] for e in map(json.loads, open(run + "/metrics.jsonl")) if e["event"] == "step"]

got, cpu = losses(sys.argv[1]), losses(sys.argv[2])
worst = max(abs(g - c) / abs(c) for g, c in zip(got, cpu, strict=True))
print(json.dumps({"losses": got, "max_relative_difference": worst, "allowed": 1e-3, "ok": worst <= 1e-3}))
sys.exit(worst > 1e-3)
PYTHON
      record losses device="$name" mixture="$mixture" <"$work/line"
    done
  done
  return "$status"
}

# bench SIDE DEVICE ARCH BATCH SIZE QUEUE, f32. PyTorch's own defaults hold there, TF32 in convolutions among them.
bench() {
  local side=$1 device=$2 arch=$3 batch=$4 size=$5 queue=$6
  local shape=(--device "$device" --arch "$arch" --batch "$batch" --size "$size" --queue "$queue" --steps 20 --warmup 5)
  if [ "$side" = unmix ]; then
    "$unmix" bench step "${shape[@]}" --json
  else
    "$python" "$BASELINE" step "${shape[@]}"
  fi >"$work/line" || return 1
  record bench side="$side" <"$work/line"
}

check_bench() {
  local round shape status=0
  for shape in "resnet18-cifar 512 32 4096" "resnet50 128 224 16384"; do
    read -r arch batch size queue <<<"$shape"
    for ((round = 1; round <= rounds; round++)); do
      bench unmix cuda "$arch" "$batch" "$size" "$queue" || status=1
      [ -z "${BASELINE:-}" ] || bench torch cuda "$arch" "$batch" "$size" "$queue" || status=1
    done
    if has wgpu; then bench unmix wgpu "$arch" "$batch" "$size" "$queue" || status=1; fi
  done
  return "$status"
}

# evaluate RUN CONFIG: the speed of its features, probes of two layers, flatness; then what its report looks like, beside the logs.
evaluate() {
  local run=$1 config=$2 status=0
  "$unmix" bench features --run "$run" --json >"$work/line" && record features config="$config" <"$work/line" || status=1
  "$unmix" eval linear --run "$run" --fast --protocol moco --layer 5,6 --lr 0.3,3,30 --epochs 20 --json 2>/dev/null >"$work/line" &&
    record linear config="$config" <"$work/line" || status=1
  "$unmix" eval flatness --run "$run" --json >"$work/line" && record flatness config="$config" <"$work/line" || status=1
  "$unmix" report "$run" --out "$out/$(basename "$run").html" || status=1
  return "$status"
}

check_train() {
  [ -n "${DATA:-}" ] || { echo "DATA is not set: nothing is trained"; return 0; }
  local name source status=0
  source=$("$python" -c 'import json, os, sys
root = os.path.realpath(sys.argv[1])
print(json.dumps({"name": "folder" if os.path.isdir(root + "/train") else "cifar10", "root": root}))' "$DATA")
  # Every system of the paper at full width, for some epochs.
  local config
  for config in cifar10-moco-none-asym cifar10-{moco,insdis,cmc}-{none,im}; do
    for name in cuda wgpu; do
      has "$name" || continue
      "$unmix" pretrain --config "configs/$config.json" --device "$name" --out "$work/train-$config-$name" \
        --set data.source="$source" --set schedule.epochs="$epochs" 2>"$out/train-$config-$name.log" || { status=1; continue; }
      "$python" -c 'import json, sys; print(json.dumps(json.load(open(sys.argv[1]))))' "$work/train-$config-$name/summary.json" |
        record train config="$config"
      evaluate "$work/train-$config-$name" "$config" || status=1
    done
  done
  return "$status"
}

names=$(usable)
record machine gpu="$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null || echo unknown)" \
  date="$(date -u +%F)" version="$("$unmix" --version)" </dev/null
for part in "${@:-devices fixtures kernels losses mixture scores probe bench train}"; do
  # Unquoted: the default is several words.
  for check in $part; do
    case $check in
      devices | fixtures | kernels | losses | mixture | scores | probe | bench | train) ;;
      *) echo "there is no check \`$check\`: devices, fixtures, kernels, losses, mixture, scores, probe, bench, train" >&2; exit 2 ;;
    esac
    printf '\n== %s\n' "$check"
    "check_$check" || failed+=("$check")
  done
done
echo
if [ ${#failed[@]} -gt 0 ]; then
  echo "FAILED: ${failed[*]}; results in $jsonl"
  exit 1
fi
echo "all checks passed; results in $jsonl"
