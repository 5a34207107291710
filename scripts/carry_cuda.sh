#!/usr/bin/env bash
# Packs what a machine with an NVIDIA GPU, but without Rust and network, needs for scripts/gpu_check.sh: the program with `--features cuda`, the
# golden numbers, the configs and scripts, and images. A second run takes minutes: cargo builds what changed, and what is unchanged is not
# packed again.
#
#   scripts/carry_cuda.sh [DATA]
#
# DATA is CIFAR-10: an archive (.tar, .tar.xz, .tar.gz; copied as it is) or a folder, in class folders or in the binary version; without it no
# training is checked there. Environment:
#   OUT=target/carry              the folder to carry; on the other machine: `bash FOLDER/run.sh`
#   BASELINE=torch_baseline.py    the PyTorch baseline script, to be carried too
#   LIMIT_MIB=64                  the most that the folder may hold
#   CUDA_TARGET_DIR=target/cuda   where cargo builds; a folder of its own, since features differ from those of other builds
#   UNMIX=(built here)            a program to pack instead of building one
#   UNMIX_LLVM_INSTALLER          a script that installs LLVM 23.1 where its download is not possible (README, section CUDA)
set -euo pipefail

usage() {
  echo "error: $1" >&2
  echo "hint: $2" >&2
  exit 2
}

[ $# -le 1 ] || usage "more than one DATA" "scripts/carry_cuda.sh [DATA]"
data=${1:-${DATA:-}} baseline=${BASELINE:-} unmix=${UNMIX:-} out=${OUT:-}
[ -z "$data" ] || [ -e "$data" ] || usage "there are no images at \`$data\`" "name an archive or a folder of CIFAR-10"
[ -z "$baseline" ] || [ -f "$baseline" ] || usage "there is no baseline \`$baseline\`" "BASELINE names a Python file"
[ -z "$unmix" ] || [ -f "$unmix" ] || usage "there is no program \`$unmix\`" "UNMIX names a program; leave it away to build one"
for name in data baseline unmix out; do
  if [ -n "${!name}" ]; then printf -v "$name" %s "$(realpath -m "${!name}")"; fi
done
cd "$(dirname "$0")/.."
out=${out:-$PWD/target/carry} limit=$((${LIMIT_MIB:-64} << 20))
# Hashes of what was packed lie beside the folder, not in it.
stamps=$out.stamps
mkdir -p "$out" "$stamps"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ -z "$unmix" ]; then
  marker=${XDG_DATA_HOME:-$HOME/.local/share}/tracel/tracel-llvm-23.1.0-4/.tracel-llvm-installed
  if [ ! -e "$marker" ] && [ -f "${UNMIX_LLVM_INSTALLER:-}" ]; then bash "$UNMIX_LLVM_INSTALLER"; fi
  CARGO_TARGET_DIR=${CUDA_TARGET_DIR:-target/cuda} cargo build --release --features cuda
  unmix=$(realpath "${CUDA_TARGET_DIR:-target/cuda}/release/unmix")
fi

# unchanged NAME HASH FILE: whether FILE was packed from what has this hash; otherwise it is about to be.
unchanged() {
  if [ -e "$3" ] && [ "$(cat "$stamps/$1" 2>/dev/null)" = "$2" ]; then
    echo "$1: unchanged"
    return 0
  fi
  rm -f "$stamps/$1"
  echo "$1: packing"
  return 1
}

packed() {
  mv "$work/packed" "$3"
  echo "$2" >"$stamps/$1"
}

hash_of() {
  sha256sum | cut -d ' ' -f 1
}

# The same bytes from the same files, whoever packs them and when.
archive() {
  tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf - "$@"
}

strip -o "$work/unmix" "$unmix"
hash=$(hash_of <"$work/unmix")
if ! unchanged program "$hash" "$out/unmix.xz"; then
  xz -T0 -9e -c "$work/unmix" >"$work/packed"
  packed program "$hash" "$out/unmix.xz"
fi

# What the check reads of the repository. The runner lies outside, because it unpacks the rest.
archive configs scripts tests/fixtures >"$work/rest.tar"
if [ -n "$baseline" ]; then tar --mtime=@0 --owner=0 --group=0 -C "$(dirname "$baseline")" -rf "$work/rest.tar" "$(basename "$baseline")"; fi
hash=$(hash_of <"$work/rest.tar")
if ! unchanged rest "$hash" "$out/rest.tar.xz"; then
  xz -T0 -9e -c "$work/rest.tar" >"$work/packed"
  packed rest "$hash" "$out/rest.tar.xz"
fi

find "$out" -maxdepth 1 -name 'data.tar*' >"$work/before"
if [ -z "$data" ]; then
  xargs -r rm -f <"$work/before"
elif [ -d "$data" ]; then
  hash=$(cd "$data" && find . -type f -printf '%P %s %T@\n' | sort | hash_of)
  if ! unchanged data "$hash" "$out/data.tar.xz"; then
    xargs -r rm -f <"$work/before"
    (cd "$data" && archive .) | xz -T0 -6 -c >"$work/packed"
    packed data "$hash" "$out/data.tar.xz"
  fi
else
  case $data in
    *.tar | *.tar.xz | *.tar.gz) target=$out/data.tar${data##*.tar} ;;
    *) usage "\`$data\` is no archive that is known here" "a folder, .tar, .tar.xz or .tar.gz" ;;
  esac
  hash=$(hash_of <"$data")
  if ! unchanged data "$hash" "$target"; then
    xargs -r rm -f <"$work/before"
    cp "$data" "$work/packed"
    packed data "$hash" "$target"
  fi
fi

cat >"$out/run.sh" <<'RUN'
#!/usr/bin/env bash
# Unpacks what lies beside this file and runs scripts/gpu_check.sh on it; arguments and the environment go through (its head lists them).
# It needs bash, tar, Python 3 and the driver; torch for the comparison. Results: ${OUT:-gpu-check} in the current folder.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=${WORK:-$(mktemp -d)}
mkdir -p "$work"
unpack() {
  case $1 in
    *.xz) if command -v xz >/dev/null; then xz -dc "$1"; else
      "${PYTHON:-python3}" -c 'import lzma, shutil, sys; shutil.copyfileobj(lzma.open(sys.argv[1]), sys.stdout.buffer)' "$1"
    fi ;;
    *.gz) gzip -dc "$1" ;;
    *) cat "$1" ;;
  esac
}
unpack "$here/unmix.xz" >"$work/unmix"
chmod +x "$work/unmix"
unpack "$here/rest.tar.xz" | tar -xf - -C "$work"
if ldd "$work/unmix" 2>/dev/null | grep 'not found'; then
  echo "error: the libraries above are missing; Debian: apt-get install zlib1g libzstd1 libstdc++6" >&2
  exit 2
fi
for archive in "$here"/data.tar*; do
  [ -e "$archive" ] || continue
  mkdir -p "$work/data"
  unpack "$archive" | tar -xf - -C "$work/data"
  # The folder that holds train/ or the binary batches, wherever it lies in the archive.
  found=$(find "$work/data" \( -type d -name train -o -name 'data_batch_1.bin*' \) -print -quit)
  DATA=${DATA:-$(dirname "${found:?no CIFAR-10 in $archive}")}
  export DATA
done
baseline=$(find "$work" -maxdepth 1 -name '*.py' -print -quit)
if [ -n "$baseline" ]; then export BASELINE=${BASELINE:-$baseline}; fi
mkdir -p "${OUT:-gpu-check}"
OUT=$(realpath "${OUT:-gpu-check}") UNMIX=$work/unmix exec "$work/scripts/gpu_check.sh" "$@"
RUN
chmod +x "$out/run.sh"

total=$(find "$out" -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum + 0 }')
(cd "$out" && find . -type f -printf '%12s %P\n' | sort -k2)
printf '%12d bytes in all, of at most %d (%s MiB)\n' "$total" "$limit" "$((limit >> 20))"
if ((total > limit)); then
  echo "error: the folder $out holds $total bytes, $((total - limit)) above the limit of $((limit >> 20)) MiB" >&2
  echo "hint: carry fewer images (DATA), or none; LIMIT_MIB sets the limit" >&2
  exit 1
fi
echo "carry $out; there: bash $(basename "$out")/run.sh"
