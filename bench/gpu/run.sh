#!/usr/bin/env bash
# What a GPU is asked, in parts of at most four minutes where nothing else is said, each with a record of its own in $OUT
# (default dist/gpu/out):
#
#   npm run gpu                    every part, in order; prepares dist/gpu first where that is missing
#   npm run gpu -- prepare         writes dist/gpu: what the parts need, no Node among it
#   npm run gpu -- verify models   some parts
#
#   verify      every stored vector on every kernel it selects: the executable, no Node
#   models      greedy tokens of whole models against those that WebGPU gave when dist/gpu was prepared; with Node, ten
#               training steps too
#   speed       kernels at the sizes of 1B and 8B models, every variant of each: time, GB/s, TFLOP/s
#   peers       the same sizes in PyTorch (cuBLAS, its attention), alternating with ours in one run
#   programs    whole decode and training steps: time of every segment, device memory beside what was planned
#   peer_models the same in PyTorch (compiled, CUDA graphs) and JAX (jit), alternating; up to nine minutes
#   sanitizers  compute-sanitizer over the stored vectors
#   webgpu      the WGSL kernels through Vulkan on the same GPU (needs Node and the driver's Vulkan)
#
# Afterwards `npm run gpu -- record <folder>` (where the sources are) writes kernels-cuda/verified.json,
# backends/cuda/tuning (which kernel is the fastest for which shape) and bench/results. Where nothing has been measured,
# `npm run gpu -- predict` fills backends/cuda/tuning with what the rules predict. To try the parts without a GPU: prepare --emulated, then EXACTMAP_GPU_DRIVER=<emulated driver library>
# and EXACTMAP_GPU_BACKEND=cuda-emulated.
set -uo pipefail
cd "$(dirname "$0")/../.."
out=${OUT:-dist/gpu/out}
run=dist/cuda/exactmap-cuda
driver=()
[ -n "${EXACTMAP_GPU_DRIVER:-}" ] && driver=(--driver "$EXACTMAP_GPU_DRIVER")
status=0

bundle() { npx esbuild "bench/gpu/$1.ts" --bundle --platform=node --format=esm --packages=external --log-level=warning --outfile="dist/bench/$1.js"; }

part() { # name, then the command; its output goes to a log and, shortened, to the terminal
  local name=$1 start=$SECONDS
  shift
  echo "== $name"
  local limit=240
  [ "$name" = peer_models ] && limit=540
  timeout "$limit" "$@" >"$out/$name.log" 2>&1
  local code=$?
  tail -12 "$out/$name.log"
  [ $code -eq 0 ] || { echo "$name: exit code $code, see $out/$name.log"; status=1; }
  echo "-- $name took $((SECONDS - start)) s"
}

verify() { "$run" verify dist/gpu/vectors --json "${driver[@]}" >"$out/verify.jsonl"; }

models() {
  local bad=0 model
  for model in dist/gpu/models/*/; do
    name=$(basename "$model")
    "$run" run "$model" --max-tokens 64 --json "${driver[@]}" >"$out/model-$name.json" || { bad=1; continue; }
    python3 - "$model/expected.json" "$out/model-$name.json" "$name" <<'P' || bad=1
import json, sys
want, got = (json.load(open(path))["tokens"] for path in sys.argv[1:3])
same = next((i for i, (a, b) in enumerate(zip(want, got)) if a != b), min(len(want), len(got)))
print(f"{sys.argv[3]}: {same} of {len(want)} greedy tokens equal WebGPU's")
sys.exit(0 if same >= len(want) // 2 else 1)
P
  done
  if command -v node >/dev/null; then
    training || bad=1
  else
    echo "skipped: ten training steps, no Node here"
  fi
  return $bad
}

training() {
  rm -rf dist/gpu/training/run
  node dist/gpu/exactmap.mjs train dist/gpu/training/train.yaml --backend "${EXACTMAP_GPU_BACKEND:-cuda}" --json >"$out/training.jsonl" || return 1
  python3 - dist/gpu/training/expected.jsonl "$out/training.jsonl" <<'P'
import json, sys
def losses(path):
    return [r["trainLoss"] for r in map(json.loads, open(path)) if "trainLoss" in r and "step" in r]
want, got = (losses(path) for path in sys.argv[1:3])
off = max(abs(a - b) / abs(a) for a, b in zip(want, got))
print(f"training: {len(got)} losses from {got[0]:.4f} to {got[-1]:.4f}, off WebGPU's by {off:.1e} of themselves at most")
sys.exit(0 if len(got) == len(want) and off < 1e-4 else 1)
P
}

speed() { "$run" verify dist/gpu/speed "${driver[@]}" && "$run" verify dist/gpu/speed --json "${driver[@]}" >"$out/speed.jsonl"; }

peers() { python3 bench/gpu/peers.py --run "$run" --cases dist/gpu/speed --times "$out/speed.jsonl" --out "$out/peers.json" "${driver[@]}"; }

programs() { "$run" verify dist/gpu/programs "${driver[@]}" && "$run" verify dist/gpu/programs --json "${driver[@]}" >"$out/programs.jsonl"; }

peer_models() { python3 bench/gpu/peer_models.py --run "$run" --cases dist/gpu/programs --out "$out/peer_models.json" "${driver[@]}"; }

sanitizers() {
  command -v compute-sanitizer >/dev/null || { echo "skipped: compute-sanitizer is not installed"; return 0; }
  local tool bad=0
  for tool in memcheck racecheck synccheck initcheck; do
    # Each tool gets as far as its share of the part's time allows, and says how many cases that was.
    timeout 55 compute-sanitizer --tool "$tool" --error-exitcode 9 "$run" verify dist/gpu/vectors "${driver[@]}" \
      >"$out/sanitizer-$tool.log" 2>&1
    local code=$?
    echo "$tool: exit code $code ($(grep -c '^pass ' "$out/sanitizer-$tool.log") cases passed; 124 is out of time)"
    tail -2 "$out/sanitizer-$tool.log"
    [ $code -eq 0 ] || [ $code -eq 124 ] || bad=1
  done
  return $bad
}

webgpu() {
  command -v node >/dev/null || { echo "skipped: no Node here"; return 0; }
  node dist/gpu/exactmap.mjs verify --driver gpu --json >"$out/webgpu.json" ||
    { echo "no WebGPU on this GPU, or cases failed: see webgpu.json"; node dist/gpu/exactmap.mjs doctor; return 1; }
}

record() { bundle record && node dist/bench/record.js "$1"; }

if [ "${1:-}" = predict ]; then bundle predict && node dist/bench/predict.js; exit; fi
if [ "${1:-}" = record ]; then record "${2:-$out}"; exit; fi
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(verify models speed peers programs peer_models sanitizers webgpu)
if [ "${parts[0]}" = prepare ]; then
  bundle prepare && node dist/bench/prepare.js "${@:2}"
  exit
fi
[ -d dist/gpu/vectors ] || { bundle prepare && node dist/bench/prepare.js; } || exit 1
mkdir -p "$out"
"$run" info --json "${driver[@]}" | tee "$out/info.json" || exit 1
for name in "${parts[@]}"; do
  declare -F "$name" >/dev/null || { echo "no part is named '$name'; see the head of $0"; exit 2; }
done
export -f verify models training speed peers programs peer_models sanitizers webgpu
export out run
# Arrays can't be exported: the parts run in this shell, in a subshell with a time limit around the programs.
for name in "${parts[@]}"; do part "$name" bash -c "driver=(${driver[*]@Q}); $name"; done
exit $status
