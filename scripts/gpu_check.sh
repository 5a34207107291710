#!/usr/bin/env bash
# Checks and measures a machine with an NVIDIA GPU, in the order of what it decides and within a time: is it right, how fast is a step beside
# PyTorch, what does the host cost, what does a training look like. It needs no Rust and no network there, only a copy of the repository (or
# what scripts/carry_cuda.sh packed) and the program, built elsewhere with `--features cuda`:
#
#   UNMIX=path/to/unmix scripts/gpu_check.sh [correct] [bench] [host] [train] [family] [mixture] [scores] [probe]   (all by default but `family`, in this order)
#
# Environment (relative paths start at the repository):
#   UNMIX                    the program
#   DEVICE=cuda              another device rehearses the script: DEVICE=cpu needs no GPU
#   FIXTURES=tests/fixtures  the golden numbers
#   BASELINE                 the PyTorch baseline script; what it is to be compared with fails without it
#   DATA                     CIFAR-10: the binary version, or a folder with train/<class>/ and test/<class>/; `train` fails without it
#   PYTHON=python3           with torch for BASELINE
#   OUT=gpu-check            gpu_check.jsonl and the logs go here
#   TIME=720                 seconds for everything; of them at most CORRECT_S=180, BENCH_S=300, HOST_S=120, TRAIN_S=600
#   SHAPES                   "ARCH BATCH SIZE QUEUE;..." of `bench`, by default "resnet18-cifar 512 32 4096;resnet50 128 224 16384"
#   STEPS=20 WARMUP=5        of each measurement of a step
#   FAMILY=byol FAMILY_S=300  of `family`: the method of configs/cifar10-METHOD-{none,unmix}.json, and the seconds of both together
#   CONFIG=configs/cifar10-moco-im-asym.json  EPOCHS=(as many as fit)  SET="KEY=VALUE ..."   of `train`
#
# Every result is one JSON object on a line of $OUT/gpu_check.jsonl, with `check` first and a `status`: ok, failed, timeout, "no time",
# "not there". Anything but ok in correct, bench, host or train makes the exit status 1: a check that did not run has not passed. mixture, scores
# and probe come last and need not fit; what of them had no time is named.
set -euo pipefail
cd "$(dirname "$0")/.."

unmix=$(realpath "${UNMIX:?set UNMIX to the program, built with --features cuda}")
device=${DEVICE:-cuda} python=${PYTHON:-python3} baseline=${BASELINE:+$(realpath "$BASELINE")}
fixtures=${FIXTURES:-tests/fixtures} steps=${STEPS:-20} warmup=${WARMUP:-5}
shapes=${SHAPES:-"resnet18-cifar 512 32 4096;resnet50 128 224 16384"}
deadline=$((SECONDS + ${TIME:-720}))
out=${OUT:-gpu-check}
mkdir -p "$out"
out=$(realpath "$out")
jsonl=$out/gpu_check.jsonl log=$out/gpu_check.log
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -m 700 "$work/runtime"
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-$work/runtime}
failed=() unfinished=()
case $device in cuda*) torch_device=cuda ;; *) torch_device=cpu ;; esac
status=ok took=0

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

# record CHECK [KEY=VALUE]...: one line with $status and $took; values that are JSON stay JSON. The object that the last command printed
# ($work/line) adds its keys, and what failed the end of its log.
record() {
  "$python" - "$work/line" "$work/err" "$status" "$took" "$@" <<'PYTHON' | tee -a "$jsonl"
import json, sys

def value(text):
    try:
        return json.loads(text)
    except ValueError:
        return text

line, err, status, took, check, *pairs = sys.argv[1:]
record = {"check": check, "status": status, "wall_s": float(took), **{k: value(v) for k, _, v in (p.partition("=") for p in pairs)}}
body = open(line, errors="replace").read().strip()
if body:
    found = value(body.splitlines()[-1])
    record.update({k: v for k, v in found.items() if k not in record} if isinstance(found, dict) else {})
if status in ("failed", "timeout"):
    record["log"] = open(err, errors="replace").read()[-600:]
print(json.dumps(record))
PYTHON
  case $status in
    ok) ;;
    # The name of what it was, without its measurements: `bench side=torch mode=f32 splits=1: failed`.
    *) problems+=("$*: $status") ;;
  esac
}

left() {
  local all=$((deadline - SECONDS)) part=$((part_ends - SECONDS))
  echo $((all < part ? all : part))
}

# timed LIMIT COMMAND...: at most LIMIT seconds and what is left of the part; sets $status and $took. Its output is in $work/line.
timed() {
  local limit=$1 rest code=0 began=$SECONDS
  shift
  rest=$(left)
  limit=$((limit < rest ? limit : rest))
  : >"$work/line" && : >"$work/err"
  took=0
  if ((limit < 3)); then
    status="no time"
    return 1
  fi
  timeout --signal="${SIGNAL:-TERM}" --kill-after=10 "$limit" "$@" >"$work/line" 2>"$work/err" || code=$?
  took=$((SECONDS - began))
  { printf '== %s\n' "$*" && cat "$work/err"; } >>"$log"
  case $code in
    0) status=ok ;;
    124) status=timeout ;;
    137) if ((took >= limit)); then status=timeout; else status=failed; fi ;;
    *) status=failed ;;
  esac
  [ "$status" = ok ]
}

# absent CHECK KEY=VALUE...: a line for what cannot be run here.
absent() {
  status="not there" took=0
  : >"$work/line" && : >"$work/err"
  record "$@"
}

has() {
  grep -qx "$1" <<<"$names"
}

# --- correct: every suite of `unmix devices --check`, and none of them may be left out.
correct_on() {
  timed "${CORRECT_S:-180}" "$unmix" devices --check --json --device "$1" --fixtures "$fixtures" || true
  cp "$work/line" "$out/check-$1.json"
  cp "$work/err" "$out/check-$1.log"
  # A line of the record instead of the whole report; a suite that did not run fails here.
  "$python" - "$out/check-$1.json" "$out/check-$1.log" >"$work/short" <<'PYTHON'
import json, sys

text = open(sys.argv[1]).read().strip()
if not text:
    progress = open(sys.argv[2], errors="replace").read().splitlines()
    done = [line for line in progress if " in " in line]
    print(json.dumps({"suites_done": len(done), "suites_failed": [l for l in done if "FAILED" in l], "last": progress[-1:]}))
else:
    whole = json.loads(text)
    suites = [s for d in whole["devices"] for s in d["suites"]]
    print(json.dumps({
        "passed": whole["passed"] and whole["not_run"] == 0 and whole["ran"] > 0, "ran": whole["ran"],
        "failed": [[s["name"], s["failures"][:1]] for s in suites if s["ran"] and not s["passed"]],
        "not_run": [[s["name"], s["reason"]] for s in suites if not s["ran"]],
        **{k: d[k] for d in whole["devices"] for k in ("description", "compiler", "driver", "error") if k in d}}))
PYTHON
  mv "$work/short" "$work/line"
  if [ "$status" = ok ] && ! grep -q '"passed": true' "$work/line"; then status=failed; fi
  record correct device="$1"
}

part_correct() {
  if has "${device%%:*}"; then correct_on "$device"; else absent correct device="$device"; fi
  # The same card through Vulkan takes other kernels (WGSL).
  if [ "$device" = cuda ] && has wgpu; then correct_on wgpu; fi
}

# --- bench: one MoCo step, ours as shipped (SplitBN) and with plain batch norm, beside PyTorch, which has plain batch norm; and what our blocks
# are worth: with convolutions of our own, and composed of Burn's operations.
ours() {
  local splits=$1 precision=$2 shape=("${@:3}")
  timed 60 "$unmix" bench step --device "$device" "${shape[@]}" --splits "$splits" --precision "$precision" --json || true
  if [ "$status" = failed ] && grep -q "no precision" "$work/err"; then
    status="not there"
  fi
  record bench side=unmix mode="$precision" splits="$splits"
}

# theirs MODE FLAGS -- SHAPE...
theirs() {
  local mode=$1 flags=() flag
  shift
  while [ "$1" != -- ]; do flags+=("$1") && shift; done
  shift
  for flag in "${flags[@]}"; do
    if ! grep -q -- "\"$flag\"" "$baseline"; then
      absent bench side=torch mode="$mode" splits=1 why="the baseline has no $flag"
      return
    fi
  done
  timed 75 "$python" "$baseline" step --device "$torch_device" "$@" "${flags[@]}" || true
  record bench side=torch mode="$mode" splits=1
}

part_bench() {
  local shape arch batch size queue all=()
  IFS=';' read -ra all <<<"$shapes"
  for shape in "${all[@]}"; do
    read -r arch batch size queue <<<"$shape"
    local dims=(--arch "$arch" --batch "$batch" --size "$size" --queue "$queue" --steps "$steps" --warmup "$warmup")
    ours 8 f32 "${dims[@]}"
    if [ -z "$baseline" ]; then
      absent bench side=torch arch="$arch" why="BASELINE is not set"
    else
      theirs f32 -- "${dims[@]}"
      theirs amp-channels-last --amp --channels-last -- "${dims[@]}"
      theirs amp-channels-last-compiled --amp --channels-last --compile -- "${dims[@]}"
    fi
    ours 1 f32 "${dims[@]}"
    case $device in
      cpu) ;;
      *)
        ours 1 f32 "${dims[@]}" --convolution own
        ours 1 f32 "${dims[@]}" --net tensor
        ;;
    esac
    # Informative: a precision that this version lacks is said, and is no failure of this machine.
    local before=("${problems[@]}")
    ours 8 bf16 "${dims[@]}"
    if [ "$status" = "not there" ]; then problems=("${before[@]}"); fi
  done
}

# --- host: a step so small that the device has nothing to do but wait for the host, and what it launches.
part_host() {
  local kind
  for kind in moco unmix; do
    timed 60 "$unmix" bench step --device "$device" --arch resnet18-cifar --work "$kind" --batch 8 --size 32 --queue 64 --splits 8 \
      --steps "$steps" --warmup "$warmup" --json || true
    if [ "$status" = ok ] && [ "$device" != cpu ] && ! grep -q '"launches":[1-9]' "$work/line"; then status=failed; fi
    record host what="a step of 8 images: median_s bounds the host's time per step from above; launches"
  done
}

# train SECONDS OUT SCHEDULE: a training by $config, SCHEDULE being a setting that says how long.
train() {
  local source more=() setting
  source=$("$python" -c 'import json, os, sys
root = os.path.realpath(sys.argv[1])
print(json.dumps({"name": "folder" if os.path.isdir(root + "/train") else "cifar10", "root": root}))' "$DATA")
  for setting in ${SET:-}; do more+=(--set "$setting"); done
  timed "$1" "$unmix" pretrain --config "$config" --device "$device" --out "$2" --set data.source="$source" --set "$3" \
    --set eval.monitor.every_epochs=null "${more[@]}" || true
}

# --- train: one training with what is left; as many epochs as fit by the speed of its first one.
part_train() {
  local config=${CONFIG:-configs/cifar10-moco-im-asym.json} run=$work/run rest epochs
  if [ -z "${DATA:-}" ]; then
    absent train why="DATA is not set"
    return
  fi
  epochs=${EPOCHS:-}
  if [ -z "$epochs" ]; then
    SIGNAL=INT train $((TRAIN_S_ALL / 3)) "$work/first" schedule.epochs=1
    summary "$work/first"
    record train what="one epoch, to see how many fit" config="$config"
    [ "$status" = ok ] || return 0
    rest=$(left)
    # A fifth is kept for both evaluations and for what is slower than the first epoch.
    epochs=$("$python" -c 'import json, sys
print(max(1, int(0.8 * float(sys.argv[2]) / max(json.load(open(sys.argv[1]))["wall_s"], 0.1))))' "$work/first/summary.json" "$rest")
  fi
  SIGNAL=INT train "$TRAIN_S_ALL" "$run" schedule.epochs="$epochs"
  summary "$run"
  record train what="the training" config="$config" epochs_planned="$epochs"
  if [ -e "$run/metrics.jsonl" ]; then cp "$run/metrics.jsonl" "$out/train-metrics.jsonl"; fi
}

# The published schedules are of hundreds of epochs: warm-up and milestones of a short run are left out.
cosine() {
  echo "schedule={\"epochs\": $1, \"per_step\": true}"
}

# --- family: another method without a mixture and with Un-Mix, as many epochs of each as fit into half of the time with Un-Mix, which takes longer.
part_family() {
  local method=${FAMILY:-byol} config epochs mixture half=$((${FAMILY_S:-300} / 2))
  if [ -z "${DATA:-}" ]; then
    absent family why="DATA is not set"
    return
  fi
  config=configs/cifar10-$method-unmix.json
  epochs=${EPOCHS:-}
  if [ -z "$epochs" ]; then
    SIGNAL=INT train $((half / 2)) "$work/family-first" "$(cosine 1)"
    summary "$work/family-first"
    record family what="one epoch, to see how many fit" config="$config"
    [ "$status" = ok ] || return 0
    epochs=$("$python" -c 'import json, sys
took = max(json.load(open(sys.argv[1]))["wall_s"], 0.1)
print(max(1, int(0.8 * (float(sys.argv[2]) - took / 2) / took)))' "$work/family-first/summary.json" "$half")
  fi
  for mixture in none unmix; do
    config=configs/cifar10-$method-$mixture.json
    SIGNAL=INT train "$half" "$work/family-$mixture" "$(cosine "$epochs")"
    summary "$work/family-$mixture"
    record family what="the training" config="$config" epochs_planned="$epochs"
  done
}

# The summary of a run in place of its last printed line.
summary() {
  if [ -e "$1/summary.json" ]; then
    "$python" -c 'import json, sys; print(json.dumps(json.load(open(sys.argv[1]))))' "$1/summary.json" >"$work/line"
  elif [ "$status" = ok ]; then
    status=failed
  fi
}

# --- what is left of the time: single kernels.
part_mixture() {
  timed 60 "$unmix" bench mixture --device "$device" --seconds 1 --json || true
  record mixture side=unmix
  [ -n "$baseline" ] || return 0
  timed 60 "$python" "$baseline" mix --device "$torch_device" --batch 256 --size 224 --steps 50 || true
  record mixture side=torch
}

part_scores() {
  timed 60 "$unmix" bench scores --device "$device" --images "${BANK_IMAGES:-126689}" --json || true
  record scores side=unmix
}

part_probe() {
  timed 60 "$unmix" bench probe --device "$device" --lr 1,3,10,30 --json || true
  record probe side=unmix
}

# check PART SECONDS: runs a part within its own time and what is left of all.
check() {
  problems=()
  part_ends=$((SECONDS + $2))
  printf '\n== %s (at most %s s, %s s left of all)\n' "$1" "$2" "$((deadline - SECONDS))"
  "part_$1"
  [ ${#problems[@]} = 0 ] && return
  case $1 in
    mixture | scores | probe) unfinished+=("${problems[@]}") ;;
    *) failed+=("${problems[@]}") ;;
  esac
}

TRAIN_S_ALL=${TRAIN_S:-600}
problems=() part_ends=$deadline
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(correct bench host train mixture scores probe)
for part in "${parts[@]}"; do
  case $part in
    correct | bench | host | train | family | mixture | scores | probe) ;;
    *) echo "there is no part \`$part\`: correct, bench, host, train, family, mixture, scores, probe" >&2 && exit 2 ;;
  esac
done

timed 60 "$unmix" devices --json || true
names=$("$python" -c 'import json, sys
print("\n".join(d["name"] for d in json.load(open(sys.argv[1]))["usable"]))' "$work/line" 2>/dev/null || true)
record machine gpu="$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null || echo none)" \
  date="$(date -u +%F)" program="$("$unmix" --version)" asked_for="$device"
failed+=("${problems[@]}")
for part in "${parts[@]}"; do
  case $part in
    correct) check correct "${CORRECT_S:-180}" ;;
    bench) check bench "${BENCH_S:-300}" ;;
    host) check host "${HOST_S:-120}" ;;
    train) check train "$TRAIN_S_ALL" ;;
    family) check family "${FAMILY_S:-300}" ;;
    *) check "$part" 120 ;;
  esac
done

echo
if [ ${#unfinished[@]} -gt 0 ]; then
  printf 'not finished, and not needed: %s\n' "${unfinished[@]}"
fi
if [ ${#failed[@]} -gt 0 ]; then
  printf 'FAILED: %s\n' "${failed[@]}"
  echo "results in $jsonl"
  exit 1
fi
echo "passed: ${parts[*]}; results in $jsonl"
