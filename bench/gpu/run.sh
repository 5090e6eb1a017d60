#!/usr/bin/env bash
# npm run gpu: what a GPU is asked, and what becomes of its answers (docs/cuda.md, "On hardware").
#
#   npm run gpu                     every part, in order; prepares dist/gpu first where that is missing
#   npm run gpu -- verify models    some parts; bench/gpu/run.py says which there are, and takes options
#   npm run gpu -- prepare          writes dist/gpu and packs it as dist/gpu.tar.xz
#   npm run gpu -- record <folder>  where the sources are: kernels-cuda/verified.json, backends/cuda/tuning, bench/results
#   npm run gpu -- wrong <folder>   where the wrong elements of a failed case lie
#   npm run gpu -- predict          fills backends/cuda/tuning with what the rules predict, where nothing was measured
#
# On the machine with the GPU nothing but this folder and dist/gpu.tar.xz is needed, no Node and no packages:
# `bash bench/gpu/run.sh verify`. To try all of it without a GPU: `npm run gpu -- prepare --emulated`, then
# EXACTMAP_GPU_DRIVER=dist/cuda/emulated/libcuda-emulated.so npm run gpu -- --limit 120 --device cpu
set -euo pipefail
cd "$(dirname "$0")/../.."
export PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1

script() {
  npx esbuild "bench/gpu/$1.ts" --bundle --platform=node --format=esm --packages=external --log-level=warning --outfile="dist/bench/$1.js"
  node "dist/bench/$1.js" "${@:2}"
}

pack=dist/gpu.tar.xz
# Which pack dist/gpu is of.
sum=dist/gpu/pack.cksum
prepare() {
  script prepare "$@"
  cksum <$pack >$sum
}
unpack() {
  rm -rf dist/gpu
  tar -C dist -xf $pack
  # Node's programs look for images where they are built.
  [ -e dist/cuda/kernels ] || { mkdir -p dist/cuda && ln -s ../gpu/kernels dist/cuda/kernels; }
  cksum <$pack >$sum
}

case "${1:-}" in
  prepare) "$@" ;;
  record | wrong | predict) script "$@" ;;
  *)
    if [ ! -f $pack ]; then
      prepare
    elif ! cksum <$pack | cmp -s - $sum; then
      unpack
    fi
    exec python3 bench/gpu/run.py "$@"
    ;;
esac
