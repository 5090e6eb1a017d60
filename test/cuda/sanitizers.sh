#!/usr/bin/env bash
# All stored vectors through the executable on the emulated device, with the kernels built for AddressSanitizer and
# UndefinedBehaviorSanitizer: accesses outside shared arrays or allocations, misaligned vectors, overflows.
set -euo pipefail
cd "$(dirname "$0")/../.."
for tool in g++ cmake; do
  command -v "$tool" >/dev/null || { echo "skipped: needs $tool"; exit 0; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
node dist/cli/main.js export --vectors --to "$work" --emulated
# Without optimisation: compiling takes longest, most of all with it.
flags="-std=c++20 -O0 -g1 -Wno-psabi -fPIC -shared -ffp-contract=off -fno-omit-frame-pointer
  -fsanitize=address,undefined -fno-sanitize-recover=undefined"
build() {
  # shellcheck disable=SC2086
  g++ $flags -I backends/cuda/emulation -I kernels-cuda -x c++ "kernels-cuda/$1.cu" -o "$2/kernels/emulated/$1.so"
}
export -f build
export flags
basename -s .cu -a kernels-cuda/*.cu | xargs -P "$(nproc)" -I{} bash -c 'build {} '"$work"
# The process has the runtimes before the kernels are opened. Fibers switch stacks, which leak and use-after-return
# checks do not follow.
LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libubsan.so)" \
  ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0:halt_on_error=1 \
  UBSAN_OPTIONS=print_stacktrace=1 \
  "$work/exactmap-cuda" verify "$work" --driver dist/cuda/emulated/libcuda-emulated.so >"$work/out" 2>&1 ||
  { grep -v '^pass ' "$work/out" | head -60; exit 1; }
tail -1 "$work/out"
