#!/usr/bin/env bash
# Trains for a long time with small epochs, frequent checkpoints and measurements, and watches the process: its resident memory and its open files
# must be as at the beginning when it ends.
#
#   scripts/soak.sh [SECONDS]          3600 by default
#   DEVICE=cpu                         the device
#   OUT=target/soak                    the run's folder (removed first) and, beside it, SECONDS,RSS_KIB,FILES in OUT.csv
#   UNMIX=target/release/unmix         the program
#
# The first sixth of the samples is compared with the last. Memory may be 2 % above: allocators round.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-3600} device=${DEVICE:-cpu} out=${OUT:-target/soak} unmix=${UNMIX:-target/release/unmix}
[ -x "$unmix" ] || { echo "error: there is no program \`$unmix\`" >&2; echo "hint: cargo build --release, or UNMIX=FILE" >&2; exit 2; }
every=$((seconds >= 1200 ? 10 : 1))
rm -rf "$out" "$out.csv"
mkdir -p "$(dirname "$out")"
"$unmix" pretrain --quiet --config configs/smoke.json --device "$device" --out "$out" --set data.limit=128 --set data.batch=32 --set method.memory.size=64 \
  --set schedule='{"epochs":100000000,"kind":"constant"}' --set optim.lr=0.0001 --set checkpoint.every_steps=2 --set eval.monitor='{"every_epochs":1,"images":32}' \
  --set eval.knn.k=5 >"$out.log" 2>&1 &
pid=$!
trap 'kill -KILL $pid 2>/dev/null || true' EXIT
end=$((SECONDS + seconds)) start=$SECONDS
while [ "$SECONDS" -lt "$end" ]; do
  sleep "$every"
  rss=$(awk '/^VmRSS/ { print $2 }' "/proc/$pid/status" 2>/dev/null) || { echo "error: the run ended early:" >&2; tail -5 "$out.log" >&2; exit 1; }
  echo "$((SECONDS - start)),$rss,$(ls "/proc/$pid/fd" | wc -l)" >>"$out.csv"
done
kill -TERM "$pid"
wait "$pid" && status=0 || status=$?
trap - EXIT
[ "$status" = 143 ] || { echo "error: the run ended with status $status instead of 143" >&2; tail -5 "$out.log" >&2; exit 1; }
epochs=$(grep -c '"event":"epoch"' "$out/metrics.jsonl") saved=$(grep -c '"event":"checkpoint"' "$out/metrics.jsonl")
awk -F, -v epochs="$epochs" -v saved="$saved" '
  { rss[NR] = $2; files[NR] = $3; if ($2 > most) most = $2 }
  END {
    part = int(NR / 6); if (part < 1) { print "error: too few samples"; exit 1 }
    # The first samples see the program grow to its size.
    for (i = 1; i <= part; i++) { if (rss[i] > first) first = rss[i]; if (files[i] > opened) opened = files[i] }
    for (i = NR - part + 1; i <= NR; i++) { last += rss[i] / part; if (files[i] > left) left = files[i] }
    printf "%d epochs, %d checkpoints: resident %.1f MiB at the beginning, %.1f at the end (most %.1f); open files %d, then %d\n", epochs, saved, first / 1024, last / 1024, most / 1024, opened, left
    if (last > 1.02 * first || left > opened) { print "error: it grows"; exit 1 }
  }' "$out.csv"
