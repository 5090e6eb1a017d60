#!/usr/bin/env bash
# Checks on Linux that a driver is found on every kind of system: with no Vulkan at all, with a good lavapipe, with
# Debian 12's lavapipe that Dawn refuses, with a driver that crashes, and with an empty cache that many processes
# fill at once. Prints a line per case; fails if one fails. Some cases need root (for a mount namespace of its own,
# nothing outside it changes), apt or a C compiler, and are skipped with the reason where that is missing.
set -u
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset EXACTMAP_DRIVER VK_ICD_FILENAMES VK_DRIVER_FILES
export XDG_CACHE_HOME=$work/cache
status=0

report() { # case result
  echo "drivers: $1: $2"
  case $2 in failed*) status=1 ;; esac
}

if [ "$(uname -sm)" != "Linux x86_64" ]; then
  report "all" "skipped: needs Linux on x86_64"
  exit 0
fi

doctor=dist/test/doctor.js
echo "import { Command } from 'commander'
import { doctorCommand } from './src/cli/doctor.ts'
await new Command().addCommand(doctorCommand()).parseAsync()" |
  npx esbuild --bundle --platform=node --format=esm --packages=external --log-level=warning --outfile=$doctor ||
  { report "bundle" "failed"; exit 1; }

# expect <case> <condition on the report r, in JavaScript> <command...>: runs doctor through the command.
expect() {
  local name=$1 condition=$2
  shift 2
  "$@" node $doctor doctor --json >"$work/report.json" 2>"$work/stderr"
  local code=$?
  local verdict
  verdict=$(node -e "
    const r = JSON.parse(require('node:fs').readFileSync('$work/report.json'))
    const tried = Object.fromEntries((r.chosen.choice?.tried ?? []).map((t) => [t.name, t.result]))
    const ok = ($condition) && $code === (r.works ? 0 : 1)
    const { chosen } = r
    console.log(ok ? 'passed' : 'failed', '(' + (chosen.choice?.name ?? chosen.problem) + ', exit code $code)')
  " 2>&1) || verdict="failed: no report (exit code $code) $(tail -n 3 "$work/stderr" | tr '\n' ' ')"
  report "$name" "$verdict"
}

swiftshader="r.works && r.chosen.choice.kind === 'swiftshader' && r.chosen.check.launchMs > 0"
package=node_modules/@sparticuz/chromium
archive=$package/bin/swiftshader.tar.br

# Without Vulkan: an own mount namespace in which the loader is an empty file and no ICD file can be seen.
cat >"$work/without_vulkan" <<'S'
#!/usr/bin/env bash
set -eu
for loader in $(ldconfig -p | sed -n 's/.*libvulkan\.so.* => //p'); do
  mount --bind /dev/null "$(readlink -f "$loader")"
done
for folder in /usr/share/vulkan /usr/local/share/vulkan /etc/vulkan; do
  [ ! -d "$folder" ] || mount -t tmpfs none "$folder"
done
exec "$@"
S
if [ ! -f $archive ]; then
  report "no Vulkan library" "skipped: $archive is not installed"
elif ! unshare -m true 2>/dev/null; then
  report "no Vulkan library" "skipped: needs root for a mount namespace"
else
  expect "no Vulkan library" "$swiftshader && tried.lavapipe === 'absent'" unshare -m bash "$work/without_vulkan"
  expect "no driver at all" "!r.works && r.chosen.problem.includes('npm install @sparticuz/chromium')" \
    unshare -m bash -c 'mount -t tmpfs none "$0"; [ ! -d dist/swiftshader ] || mount -t tmpfs none dist/swiftshader; exec bash "$@"' $package "$work/without_vulkan"
fi

# The system's own lavapipe.
mesa=$(dpkg-query -W -f '${Version}' mesa-vulkan-drivers 2>/dev/null)
if [ "${mesa%%.*}" -ge 23 ] 2>/dev/null; then
  expect "lavapipe of Mesa $mesa" "r.works && ['gpu', 'lavapipe'].includes(r.chosen.choice.kind)"
  EXACTMAP_DRIVER=lavapipe expect "lavapipe when asked for" "r.works && r.chosen.choice.kind === 'lavapipe'"
else
  report "lavapipe" "skipped: the system has no mesa-vulkan-drivers of version 23 or newer (${mesa:-none installed})"
fi

# Debian 12's lavapipe, unpacked beside the system's own.
old=$(apt-cache madison mesa-vulkan-drivers 2>/dev/null | awk '$3 ~ /^22\./ { print $3; exit }')
if [ -z "$old" ]; then
  report "lavapipe of Mesa 22" "skipped: apt knows no mesa-vulkan-drivers 22"
elif ! (cd "$work" && apt-get download -q "mesa-vulkan-drivers=$old" && dpkg-deb -x mesa-vulkan-drivers_*.deb mesa) >/dev/null 2>&1; then
  report "lavapipe of Mesa 22" "skipped: apt could not download mesa-vulkan-drivers $old"
elif ldd "$work"/mesa/usr/lib/*/libvulkan_lvp.so | grep -q 'not found'; then
  report "lavapipe of Mesa 22" "skipped: libraries it needs are missing: $(ldd "$work"/mesa/usr/lib/*/libvulkan_lvp.so | awk '/not found/ { printf "%s ", $1 }')"
else
  library=$(echo "$work"/mesa/usr/lib/*/libvulkan_lvp.so)
  echo "{\"file_format_version\":\"1.0.0\",\"ICD\":{\"library_path\":\"$library\",\"api_version\":\"1.1.230\"}}" >"$work/old.json"
  VK_ICD_FILENAMES=$work/old.json expect "lavapipe of Mesa $old" "$swiftshader && tried.lavapipe === 'refused'"
fi

# A driver that ends the process when it is loaded: doctor survives, says so and finds one that works.
if ! echo '__attribute__((constructor)) static void crash(void) { __builtin_trap(); }' |
  cc -shared -fPIC -x c -o "$work/crash.so" - 2>/dev/null; then
  report "a driver that crashes" "skipped: needs a C compiler"
else
  echo "{\"file_format_version\":\"1.0.0\",\"ICD\":{\"library_path\":\"$work/crash.so\",\"api_version\":\"1.1.0\"}}" >"$work/crash.json"
  VK_ICD_FILENAMES=$work/crash.json expect "a driver that crashes" \
    "!r.works && /SIG(ILL|TRAP)/.test(r.chosen.problem) && r.others.some((o) => o.driver === 'swiftshader' && o.works)"
fi

# Many processes that unpack SwiftShader into one empty cache.
rm -rf "$XDG_CACHE_HOME"
pids=()
for i in 1 2 3 4; do
  node $doctor doctor --probe swiftshader >"$work/probe$i" 2>/dev/null &
  pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid"; done
good=$(cat "$work"/probe? | grep -c '"works":true')
left=$(ls "$XDG_CACHE_HOME/exactmap" 2>/dev/null | wc -l)
if [ ! -f $archive ]; then
  report "4 processes unpack at once" "skipped: $archive is not installed"
elif [ "$good" = 4 ] && [ "$left" = 1 ]; then
  report "4 processes unpack at once" "passed"
else
  report "4 processes unpack at once" "failed ($good of 4 work, $left folders in the cache)"
fi
exit $status
