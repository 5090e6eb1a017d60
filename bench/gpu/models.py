"""Greedy tokens of whole models, and losses of ten training steps, against what WebGPU gave where they were prepared."""
import json
import os
import subprocess


def check_models(run):
    done = {r["model"] for r in run.journal.of("models")}
    for name in run.cases["models"]:
        if name not in done and run.left() > 10:
            record = tokens_of(run, name)
            run.journal.add("models", model=name, **record)
            run.failed |= not record["pass"]
            run.journal.say(f"{name}: {record.get('error') or '{same} of {of} greedy tokens equal WebGPU'.format(**record)}")
    if run.journal.of("training"):
        return
    if not run.node():
        run.journal.say("training: skipped, no Node here, or prepared without --node")
    elif run.left() > 20:
        record = training(run)
        run.journal.add("training", **record)
        run.failed |= not record["pass"]
        run.journal.say(f"training: {record.get('error') or '{steps} losses, off by {off:.1e} at most'.format(**record)}")


def output_of(command, seconds):
    """What a command prints; raises RuntimeError with its last words."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"no end in {seconds:.0f} s") from None
    if done.returncode != 0:
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout


def tokens_of(run, name):
    """Half of the tokens must be equal: sums in another order may choose otherwise where two are nearly as probable."""
    folder = os.path.join(run.folder("models"), name)
    driver = ["--driver", run.options.driver] if run.options.driver else []
    with open(os.path.join(folder, "expected.json"), encoding="utf8") as file:
        want = json.load(file)["tokens"]
    try:
        command = [run.options.run, "run", folder, "--max-tokens", "64", "--json", *driver]
        record = json.loads(output_of(command, min(6 * run.options.limit, run.left())))
    except RuntimeError as error:
        return {"pass": False, "error": str(error)}
    got = record["tokens"]
    same = next((i for i, (a, b) in enumerate(zip(want, got)) if a != b), min(len(want), len(got)))
    return {"pass": same >= len(want) // 2, "same": same, "of": len(want), **record}


def training(run):
    backend = "cuda-emulated" if run.options.driver and "emulated" in run.options.driver else "cuda"
    folder = run.folder("training")
    command = [run.node(), run.folder("exactmap.mjs"), "train", os.path.join(folder, "train.yaml")]
    with open(os.path.join(folder, "expected.jsonl"), encoding="utf8") as file:
        want = losses(file.read())
    try:
        got = losses(output_of([*command, "--backend", backend, "--json"], min(24 * run.options.limit, run.left())))
    except RuntimeError as error:
        return {"pass": False, "error": str(error)}
    off = max(abs(a - b) / abs(a) for a, b in zip(want, got))
    return {"pass": len(got) == len(want) and off < 1e-4, "steps": len(got), "off": off, "losses": got}


def losses(lines):
    records = map(json.loads, filter(None, lines.split("\n")))
    return [r["trainLoss"] for r in records if "trainLoss" in r and "step" in r]
