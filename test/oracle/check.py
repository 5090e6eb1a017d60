"""Holds the stored test vectors against CPU PyTorch in float64.

    python3 test/oracle/check.py [op ...]

The vectors' expected outputs come from this project's own references; one author misreads a formula everywhere, so
they are computed here a second time by somebody else's code. Exits 1 when a value differs or an op has neither an
oracle nor a reason to have none, 3 when PyTorch is not installed.
"""
import sys
from pathlib import Path

try:
    import numpy as np
    import torch
except ImportError as missing:
    print(f"{missing}. Install PyTorch for {sys.executable}: apt-get install python3-torch python3-numpy (Debian)")
    sys.exit(3)

sys.path.insert(0, str(Path(__file__).parent))
import collectives  # noqa: E402
from ops import NO_ORACLE, ROUNDS  # noqa: E402
from ops import ORACLES as OPS  # noqa: E402
from vectors import Vector  # noqa: E402

ORACLES = {**OPS, **collectives.ORACLES}
# Folders of vectors that hold several ops.
FOLDERS = {"collectives": collectives.ORACLES}
VECTORS = Path(__file__).parent.parent / "vectors"

# Half the spacing of numbers around 1, and half the smallest subnormal, of what outputs are stored as.
ROUNDING = {"f32": (2.0**-24, 2.0**-150), "f16": (2.0**-11, 2.0**-25), "bf16": (2.0**-8, 2.0**-134), "e4m3": (2.0**-4, 2.0**-10)}
# What two float64 computations of one formula may differ by, relative to the output's largest value.
FLOAT64 = 1e-11
# AdamW's bias corrections are stored in f32; PyTorch computes them from the step number in float64.
CORRECTIONS = 2.0**-23


def budget(vector, port):
    """Largest difference allowed for each element of an output, and the scale it belongs to."""
    expected = vector.outputs[port]
    storage = vector.formats[f"out.{port}"]
    finite = np.abs(np.where(np.isfinite(expected), expected, 0))
    scale = finite.max()
    if storage not in ROUNDING or vector.op in ROUNDS:
        return np.zeros_like(finite), scale
    relative, smallest = ROUNDING[storage]
    allowed = finite * relative * 1.001 + smallest + FLOAT64 * scale
    if vector.op == "adamw" and port == "param_out":
        allowed = allowed + CORRECTIONS * np.abs(expected - vector.inputs["param"])
    return allowed, scale


def check(vector):
    """Largest error as a share of its budget, and relative to the scale; a message if a value is wrong."""
    inputs = {port: torch.from_numpy(array.copy()) for port, array in vector.inputs.items()}
    extra = (vector.formats,) if vector.op in ROUNDS else ()
    results = ORACLES[vector.op](vector.attrs, inputs, *extra)
    if set(results) != set(vector.outputs):
        return 0, 0, f"outputs {sorted(vector.outputs)}, the oracle gives {sorted(results)}"
    share = relative = 0.0
    for port, expected in vector.outputs.items():
        got = results[port].detach().numpy()
        if got.shape != expected.shape:
            return 0, 0, f"{port} has shape {expected.shape}, the oracle's {got.shape}"
        allowed, scale = budget(vector, port)
        same = (got == expected) | (np.isnan(got) & np.isnan(expected))
        with np.errstate(invalid="ignore"):
            error = np.where(same, 0, np.abs(got - expected))
        wrong = ~(error <= allowed)
        if wrong.any():
            at = tuple(int(i) for i in np.argwhere(wrong)[0])
            return 0, 0, f"{port}{list(at)} is {expected[at]!r}, the oracle says {got[at]!r}, allowed {allowed[at]:.3g}"
        if error.any():
            share = max(share, (error / np.where(allowed > 0, allowed, 1)).max())
            relative = max(relative, error.max() / scale if scale > 0 else 0)
    return share, relative, None


def main(named):
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    failures = []
    stored = sorted(folder.name for folder in VECTORS.iterdir() if folder.is_dir())
    for name in named:
        if name not in stored:
            failures.append(f"{name}: no vectors are stored under {VECTORS}")
    print(f"PyTorch {torch.__version__}; budget: the rounding of the stored format, + {FLOAT64} of the largest value")
    print(f"{'op':28} {'cases':>5} {'worst / largest value':>22} {'worst / budget':>15}")
    for op in stored:
        if (named and op not in named) or op in NO_ORACLE:
            continue
        if op not in ORACLES and op not in FOLDERS:
            failures.append(f"{op}: add an oracle to test/oracle/ops.py, or the reason why there is none")
            continue
        paths = sorted((VECTORS / op).glob("*.safetensors"))
        shares, relatives = [0.0], [0.0]
        for path in paths:
            share, relative, message = check(Vector(path))
            shares.append(share)
            relatives.append(relative)
            if message:
                failures.append(f"{op}/{path.stem}: {message}")
        print(f"{op:28} {len(paths):5} {max(relatives):22.2e} {max(shares):15.2f}")
    for op, reason in NO_ORACLE.items():
        if op in stored and (not named or op in named):
            print(f"{op:28} no oracle: {reason}")
    for failure in failures:
        print(f"WRONG {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
