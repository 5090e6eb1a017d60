#!/usr/bin/env bash
# `build cuda` on a machine without a CUDA toolkit: everything else is built, what is missing is named, and asking for an
# architecture fails with what to do.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin"
for folder in ${PATH//:/ }; do
  for tool in "$folder"/*; do
    name=$(basename "$tool")
    case $name in nvcc | ptxas | \*) continue ;; esac
    [ -x "$tool" ] && [ ! -e "$work/bin/$name" ] && ln -s "$tool" "$work/bin/$name"
  done
done
export PATH=$work/bin
node dist/cli/main.js build cuda --emulated >"$work/out" 2>&1 || { cat "$work/out"; exit 1; }
cat "$work/out"
grep -q 'missing: kernels: nvcc is not installed; install a CUDA 13 toolkit' "$work/out"
grep -q 'emulated device: ' "$work/out"
if node dist/cli/main.js build cuda --arch sm_90a >"$work/out" 2>&1; then
  echo "expected a failure: sm_90a was asked for and there is no nvcc"
  exit 1
fi
node dist/cli/main.js verify rms_norm --backend cuda-emulated
node dist/cli/main.js run --backend cuda-emulated --max-tokens 8 --temperature 0
echo "works without nvcc"
