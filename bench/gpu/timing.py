"""Kernels and whole steps timed, in rounds that alternate with their peers, so that clocks and neighbours change for both."""
import json
import os
import statistics
import subprocess
import sys
import time

from sanitizers import Sanitizers
from worker import Ended, Silent, Worker

ROUNDS = 3
HERE = os.path.dirname(os.path.abspath(__file__))
# For one timed case of ours, a kernel or a whole step: an 8B model's weights are written in seconds.
KERNEL_SECONDS = 20
CASE_SECONDS = 60
PEER_SECONDS = 90
# Peers of whole steps compile first.
PREPARE_SECONDS = 240
# What our largest step takes of the device, in gigabytes, beside its peers.
OURS_GIGABYTES = 28
# Failures of a peer process before the part goes on without.
MOST_FAILURES = 5
MODEL_PEERS = ("PyTorch", "JAX")


def by_base(cases):
    """Cases by their name without the variant, in order."""
    groups = {}
    for one in cases:
        groups.setdefault(one["case"].split("@")[0], []).append(one)
    return groups


def time_variants(run, part, verifier, group):
    """Times every variant that this journal has not; the fastest that passes, or None."""
    known = {r["case"]: r for r in run.journal.of(part) if r.get("code") != "skipped"}
    for one in group:
        if one["case"] in known:
            continue
        record = run.journal.add(part, **verifier.run(one["case"], one["kernels"]))
        known[one["case"]] = record
        if record["pass"]:
            run.journal.say(f"{one['case']}: {rates(record)}")
        else:
            run.failed = True
            run.journal.say(f"FAIL {one['case']}: {record.get('error', 'it is wrong')}")
    passed = [one for one in group if known[one["case"]]["pass"]]
    return min(passed, key=lambda one: known[one["case"]]["ms"], default=None)


def rates(record):
    ms = record["ms"]
    return f"{ms:.4f} ms, {record['bytes'] / ms / 1e6:.0f} GB/s, {record['flops'] / ms / 1e9:.1f} TFLOP/s"


def add_comparison(run, part, base, case, peer, ours, theirs):
    mine, other = statistics.median(ours), statistics.median(theirs)
    run.journal.add(part, base=base, case=case, peer=peer, ms=mine, peerMs=other, ratio=other / mine, rounds=len(ours))
    run.journal.say(f"{case}: {mine:.4f} ms, {peer} {other:.4f} ms: {other / mine:.2f} x")


def time_kernels(run):
    verifier = run.verifier("speed", KERNEL_SECONDS)
    peer = Worker([sys.executable, os.path.join(HERE, "peers.py"), "--device", run.options.device], run.journal.log)
    compared = {r["base"] for r in run.journal.of("peers")}
    failures = 0
    for base, group in by_base(run.cases["speed"]).items():
        if run.left() < KERNEL_SECONDS:
            run.journal.say("speed: out of time")
            break
        best = time_variants(run, "speed", verifier, group)
        if not best or base in compared or failures >= MOST_FAILURES:
            continue
        try:
            compare_kernel(run, verifier, peer, base, best)
        except (Silent, Ended) as error:
            failures += 1
            run.journal.add("peers", base=base, missing={"PyTorch": str(error)})
            run.journal.say(f"{base}: PyTorch: {error}")
    verifier.end()
    peer.end()


def compare_kernel(run, verifier, peer, base, best):
    ours, theirs = [], {}
    for _ in range(ROUNDS):
        record = verifier.run(best["case"], best["kernels"])
        if not record["pass"]:
            return
        answer = peer.ask(base, PEER_SECONDS)
        if not answer["times"]:
            # Nothing to alternate with; the record says why where there is a reason.
            run.journal.add("peers", base=base, missing=answer["missing"])
            return
        ours.append(record["ms"])
        for name, ms in answer["times"].items():
            theirs.setdefault(name, []).append(ms)
    for name, times in theirs.items():
        add_comparison(run, "peers", base, best["case"], f"PyTorch {answer['version']} {name}", ours, times)
    if answer["missing"]:
        run.journal.add("peers", base=base, missing=answer["missing"])


def time_programs(run):
    verifier = run.verifier("programs", CASE_SECONDS)
    best = {}
    for base, group in by_base(run.cases["programs"]).items():
        if run.left() < CASE_SECONDS / 2:
            run.journal.say("programs: out of time")
            break
        best[base] = time_variants(run, "programs", verifier, group)
    # Our memory is the peers' while they prepare.
    verifier.end()
    compared = {(r["base"], r["peer"].split(" ")[0]) for r in run.journal.of("peer_models")}
    listed = subprocess.run([sys.executable, os.path.join(HERE, "peer_models.py"), "--list"], capture_output=True, text=True)
    gigabytes = json.loads(listed.stdout)
    todo = [
        (gigabytes[base], base, peer)
        for base in best
        if best[base] and base in gigabytes
        for peer in MODEL_PEERS
        if (base, peer) not in compared
    ]
    for batch in batches(todo, run.journal.of("run")[-1]["devices"][0]["memory"] / 2**30 - OURS_GIGABYTES):
        # Less would end in the middle of compiling.
        if run.left() < PREPARE_SECONDS / 2:
            run.journal.say("programs: out of time for more peers")
            break
        compare_programs(run, verifier, batch, best)
    verifier.end()


def batches(todo, room):
    """Peers that fit into the device's memory together; one alone always does."""
    batch, taken = [], 0
    for gigabytes, base, peer in todo:
        if batch and taken + gigabytes > room:
            yield batch
            batch, taken = [], 0
        batch.append((base, peer))
        taken += gigabytes
    if batch:
        yield batch


def compare_programs(run, verifier, batch, best):
    """Lets a batch of peers compile at the same time, does what is not timed meanwhile, then times one after the other."""
    script = os.path.join(HERE, "peer_models.py")
    threads = {"TORCHINDUCTOR_COMPILE_THREADS": str(max(2, (os.cpu_count() or 2) // len(batch)))}
    workers = {}
    for base, peer in batch:
        command = [sys.executable, script, "--case", base, "--peer", peer, "--device", run.options.device]
        workers[base, peer] = Worker(command, run.journal.log, threads)
        workers[base, peer].start()
    run.journal.say(f"preparing {', '.join(f'{peer} {base}' for base, peer in batch)}")
    meanwhile = Sanitizers(run)
    until = time.monotonic() + min(PREPARE_SECONDS, run.left() - CASE_SECONDS / 2)
    while time.monotonic() < until and not all(worker.has_answer() for worker in workers.values()):
        if not meanwhile.next():
            time.sleep(0.5)
    meanwhile.end()
    for (base, peer), worker in workers.items():
        ours, theirs = [], []
        try:
            if not worker.has_answer():
                raise Silent(f"not prepared in {PREPARE_SECONDS} s")
            ready = worker.answer(1)
            if "missing" in ready:
                raise Ended(ready["missing"])
            for _ in range(ROUNDS):
                record = verifier.run(best[base]["case"], best[base]["kernels"])
                if not record["pass"]:
                    break
                ours.append(record["ms"])
                theirs.append(worker.ask("time", PEER_SECONDS)["ms"])
            if theirs:
                name = f"{peer} {ready['version']}"
                add_comparison(run, "peer_models", base, best[base]["case"], name, ours, theirs)
        except (Silent, Ended) as error:
            run.journal.add("peer_models", base=base, peer=peer, missing=str(error))
            run.journal.say(f"{base}: {peer} did not run: {error}")
        worker.end()
