"""Asks a GPU what dist/gpu was prepared for: python3 bench/gpu/run.py [--seconds 540] [part ...]

Parts, in the order in which they are worth most:

  primitives  single instructions, and what each must give: where the manual was misread shows here first
  verify      every stored vector on every kernel it selects, the first of each kernel first
  models      greedy tokens of whole models against those that WebGPU gave; with Node, ten training steps too
  programs    whole decode and training steps, as a graph and as one kernel, alternating with PyTorch and JAX
  speed       kernels at the sizes of 1B and 8B models, every variant, the fastest alternating with PyTorch; goals first
  sanitizers  compute-sanitizer over the cases that failed and one of every kernel
  webgpu      the WGSL kernels through Vulkan on the same GPU (needs Node and the driver's Vulkan)

Everything found is a line of $OUT/journal.jsonl (default dist/gpu-out) before the next thing begins, and $OUT/log.txt says
what a person wants to see. A run that is out of time stops; another one with the same journal goes on from there. A case
that hangs or takes the device with it is ended, recorded with its reason, and costs seconds. Needs Python and the
executable; what else there is (PyTorch, JAX, Node, compute-sanitizer), is used.
"""
import argparse
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import time

from journal import Journal
from models import check_models, output_of
from sanitizers import Sanitizers
from timing import time_kernels, time_programs
from verify_cases import DeviceGone, Kernels, Verifier
from worker import START_SECONDS

PARTS = ("primitives", "verify", "models", "programs", "speed", "sanitizers", "webgpu")
# Where containers have the driver that the loader does not know of.
DRIVERS = ("/usr/local/nvidia/lib64/libcuda.so.1", "/usr/lib/x86_64-linux-gnu/libcuda.so.1")


class Run:
    """What the parts share."""

    def __init__(self, options):
        self.options = options
        self.until = time.monotonic() + options.seconds
        with open(os.path.join(options.prepared, "cases.json"), encoding="utf8") as file:
            self.cases = json.load(file)
        self.journal = Journal(options.out, self.cases["prepared"])
        self.kernels = Kernels(self.cases["modules"])
        self.kernels_of = {one["case"]: one["kernels"] for kind in ("primitives", "vectors", "speed", "programs") for one in self.cases[kind]}
        for record in self.journal.records:
            if record["part"] in ("primitives", "verify", "speed", "programs") and record.get("code") != "skipped":
                self.kernels.learn(self.kernels_of[record["case"]], record)
        self.failed = False

    def left(self):
        return self.until - time.monotonic()

    def folder(self, name):
        return os.path.join(self.options.prepared, name)

    def verifier(self, name, seconds):
        return Verifier(self.options, self.folder(name), self.journal.log, self.kernels, seconds)

    def node(self):
        """A Node that finds its addon: the one of `prepare --node`, or that of a checkout where both were built."""
        own, addon = self.folder("node"), os.path.join(self.options.prepared, "..", "cuda", "exactmap.node")
        found = own if os.path.exists(own) else shutil.which("node")
        return found if os.path.exists(addon) else None


def find_driver(options):
    """The driver library that works, and what it says of the device."""
    found = {}
    for driver in [options.driver] if options.driver else [None, *filter(os.path.exists, DRIVERS)]:
        command = [options.run, "info", "--json", *(["--driver", driver] if driver else [])]
        try:
            return driver, json.loads(output_of(command, START_SECONDS))
        except RuntimeError as error:
            found[driver or "libcuda.so.1"] = error
    raise SystemExit("\n".join(f"{driver}: {why}" for driver, why in found.items()))


def breadth_first(cases):
    """The first case of every kernel before the others, those of one kernel first: who hangs is known then."""
    seen, first, rest = set(), [], []
    for one in sorted(cases, key=lambda one: len(one["kernels"])):
        (rest if seen.issuperset(one["kernels"]) else first).append(one)
        seen.update(one["kernels"])
    return first + rest


def verify(run, part, folder):
    journal, cases = run.journal, run.cases[folder]
    done = {r["case"] for r in journal.of(part) if r.get("code") != "skipped"}
    todo = [one for one in breadth_first(cases) if one["case"] not in done]
    verifier = run.verifier(folder, run.options.limit)
    skipped = 0
    for one in todo:
        if run.left() < 2 * run.options.limit:
            journal.say(f"{part}: out of time")
            break
        record = journal.add(part, **verifier.run(one["case"], one["kernels"]))
        skipped += record.get("code") == "skipped"
        if not record["pass"] and record.get("code") != "skipped":
            journal.say(f"FAIL {reason(record)}")
    verifier.end()
    verdicts = {r["case"]: r for r in journal.of(part)}
    passed = sum(r["pass"] for r in verdicts.values())
    run.failed |= passed < len(cases)
    journal.say(f"{part}: {passed} of {len(cases)} cases pass, {skipped} skipped for their kernels")
    for kernel, (case, code) in run.kernels.suspects.items():
        journal.say(f"suspect {kernel}: {code} in {case}")


def reason(record):
    if "error" in record:
        place = f" [kernel {record['kernel']}]" if record.get("kernel") else ""
        return f"{record['case']}: {record['code']}: {record['error']}{place}"
    return (
        f"{record['case']}: {record['output']}[{record['index']}] expected {record['expected']}, got {record['got']}, "
        f"budget {record['budget']}; {record['wrong']} of {record['elements']} are wrong"
    )


def webgpu(run):
    journal, node = run.journal, run.node()
    if journal.of("webgpu"):
        return
    if not node:
        return journal.say("webgpu: skipped, no Node here, or prepared without --node")
    command = [node, run.folder("exactmap.mjs"), "verify", "--driver", "gpu", "--json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=min(180, max(run.left(), 1)))
        verdicts = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        run.failed = True
        return journal.say("webgpu: out of time")
    except json.JSONDecodeError:
        run.failed = True
        return journal.say(f"webgpu: exit code {done.returncode}: {done.stderr.strip()[-300:]}")
    journal.add("webgpu", verdicts=verdicts)
    journal.say(f"webgpu: exit code {done.returncode}")


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("parts", nargs="*", metavar="part", help="default: all")
    options.add_argument("--seconds", type=float, default=540, help="stop in time for a limit of this many (default 540)")
    options.add_argument("--limit", type=float, default=5, help="seconds for one stored vector (default 5)")
    options.add_argument("--device", default="cuda", help="of the peers; cpu to try them at tiny sizes")
    options.add_argument("--prepared", default="dist/gpu", help="what prepare wrote (default dist/gpu)")
    options.add_argument("--out", default=os.environ.get("OUT", "dist/gpu-out"), help="default $OUT, or dist/gpu-out")
    given = options.parse_args()
    for part in given.parts:
        if part not in PARTS:
            options.error(f"no part is named '{part}'; there are {', '.join(PARTS)}")
    given.driver = os.environ.get("EXACTMAP_GPU_DRIVER")
    given.run = os.path.join(given.prepared, "exactmap-cuda")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    run = Run(given)
    given.driver, info = find_driver(given)
    others = {r["devices"][0]["name"] for r in run.journal.of("run")} - {info["devices"][0]["name"]}
    if others:
        raise SystemExit(f"{given.out} has what {', '.join(others)} said; take another OUT for {info['devices'][0]['name']}")
    run.journal.add("run", prepared=run.cases["prepared"], time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **info)
    run.journal.say(f"{info['devices'][0]['name']}, {options.prog}: {' '.join(given.parts or PARTS)}")
    own = {
        "primitives": lambda run: verify(run, "primitives", "primitives"),
        "verify": lambda run: verify(run, "verify", "vectors"),
        "models": check_models,
        "programs": time_programs,
        "speed": time_kernels,
        "sanitizers": lambda run: Sanitizers(run).finish(),
        "webgpu": webgpu,
    }
    for part in given.parts or PARTS:
        began = time.monotonic()
        try:
            own[part](run)
        except DeviceGone as gone:
            run.failed = True
            run.journal.say(f"{part}: the device is gone: {gone}")
        seconds = time.monotonic() - began
        run.journal.add("seconds", of=part, seconds=round(seconds, 1))
        run.journal.say(f"{part} took {seconds:.0f} s; {run.left():.0f} s are left")
    return 1 if run.failed else 0


if __name__ == "__main__":
    sys.exit(main())
