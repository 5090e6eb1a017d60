#!/usr/bin/env bash
# What a newcomer does: clone, `npm ci && npm start`; and the packed package installed in an empty folder.
# `npm test`, the README's other command, is what CI runs on its own fresh checkout.
# fresh_clone.sh [folder]: where there is nvcc, the package takes its cubins from the folder, which were built from the same
# commit, but for a few that it builds again: the same texts must give the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
cubins=${1:+$(realpath "$1")}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_CACHE_HOME=$work/cache npm_config_audit=false npm_config_fund=false npm_config_loglevel=error

git clone -q "$root" "$work/clone"
cd "$work/clone"
npm ci
npm start -- --max-tokens 20 >"$work/start.txt" 2>"$work/start.err"
cat "$work/start.txt" "$work/start.err"
grep -q 'tokens/s' "$work/start.err"
grep -q 'weights .* bytes' "$work/start.err"

if [ -n "$cubins" ] && command -v nvcc >/dev/null; then
  mkdir -p dist/cuda/kernels
  cp -r "$cubins"/sm_* dist/cuda/kernels
  for module in cast matmul_vector norm attention_wgmma.sm_90a matmul_tcgen05.sm_103a; do
    rm dist/cuda/kernels/*/$module.*
  done
fi
npm pack --silent --pack-destination "$work" >/dev/null
if [ -n "$cubins" ] && command -v nvcc >/dev/null; then
  for arch in sm_90a sm_103a; do diff -r "dist/cuda/kernels/$arch" "$cubins/$arch"; done
fi
mkdir "$work/elsewhere"
cd "$work/elsewhere"
npm init -y >/dev/null
npm install "$work"/exactmap-*.tgz
npx exactmap run --max-tokens 5 --json >"$work/run.json"
node -e 'const r = JSON.parse(require("fs").readFileSync(process.argv[1])); if (r.tokens !== 5) throw new Error(`expected 5 tokens, got ${r.tokens}`)' "$work/run.json"
npx exactmap verify rms_norm
npx exactmap inspect node_modules/exactmap/assets/shakespeare --target webgpu-swiftshader >/dev/null
if command -v g++ >/dev/null && command -v cmake >/dev/null; then
  npx exactmap doctor --json >"$work/doctor.json"
  node -e 'const r = JSON.parse(require("fs").readFileSync(process.argv[1])); if (!r.cuda.addon) throw new Error("the package has no CUDA addon")' "$work/doctor.json"
  npx exactmap verify rms_norm --backend cuda-emulated
else
  echo "skipped: the packed CUDA runtime, needs g++ and cmake"
fi
EXACTMAP_DRIVER=swiftshader npx exactmap run --max-tokens 5 --json >"$work/run.json"
node -e 'const r = JSON.parse(require("fs").readFileSync(process.argv[1])); if (!r.driver.startsWith("swiftshader")) throw new Error(r.driver)' "$work/run.json"
cat >use.mts <<'T'
import { type Device, loadModel, type Model, open } from 'exactmap'
import { openBrowserWebGpu } from 'exactmap/browser'
export const device: Device = await open('auto')
export const model: Model = await loadModel('folder', { device, context: 64 })
export const page: Promise<Device> = openBrowserWebGpu({ kernels: new URL('kernels.json', 'http://localhost/') })
// @ts-expect-error a folder's name is no number: fails if the types are not found at all
await loadModel(5, { device })
T
for kind in '--module nodenext' '--module esnext --moduleResolution bundler'; do
  # shellcheck disable=SC2086
  "$work/clone/node_modules/.bin/tsc" --noEmit --strict --target es2022 $kind --skipLibCheck false use.mts
done
node --input-type=module -e 'import { open } from "exactmap"; const d = await open(); if (d.info.backend !== "webgpu") throw new Error(d.info.backend); console.log(d.info.driver); process.exit(0)'
echo "fresh clone and packed package work"
