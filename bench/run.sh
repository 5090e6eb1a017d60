#!/usr/bin/env bash
# `npm run bench -- …`: builds the suite and runs it; bench/suite/run.ts has the options.
set -euo pipefail
cd "$(dirname "$0")/.."
npx esbuild run=bench/suite/run.ts worker=bench/suite/worker.ts --bundle --platform=node --format=esm --packages=external \
  --log-level=warning --outdir=dist/bench
exec node dist/bench/run.js "$@"
