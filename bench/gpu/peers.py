"""The speed cases in PyTorch, alternating with ours: python3 bench/gpu/peers.py --run exactmap-cuda --cases dist/gpu/speed

Each round times ours (the executable, best of its repetitions, device events), then the peer (CUDA events around
repetitions after a warm-up), so that clocks and neighbours change for both alike. Peers are set up as one would in
production: f32 without TF32 (what our f32 contracts ask), and, beside it, half precision throughout, which rounds the
activations to 16 bits; that is faster and less exact, and named so. What PyTorch has no counterpart for is named.
"""
import argparse
import json
import re
import statistics
import subprocess
import sys

ROUNDS = 3


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--run", required=True, help="the executable")
    options.add_argument("--cases", required=True, help="exported folder with the cases to time")
    options.add_argument("--out", help="write the record to this file")
    options.add_argument("--driver", help="driver library for the executable")
    options.add_argument("--only", default="", help="cases that start with this")
    options.add_argument("--times", help="record of the part speed: of several variants its fastest is compared")
    options.add_argument("--device", default="cuda", help="of the peer; cpu to try this script")
    given = options.parse_args()
    try:
        import torch
    except ImportError:
        print("skipped: PyTorch is not installed")
        return 0
    if given.device == "cuda" and not torch.cuda.is_available():
        print("skipped: PyTorch sees no GPU")
        return 0
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    records = []
    for case in list_cases(given.cases, given.only, given.times):
        peers = make_peers(torch, case.split("@")[0], given.device)
        if not peers:
            print(f"{case}: PyTorch has no counterpart of its own")
            continue
        ours, theirs = [], {name: [] for name in peers}
        for _ in range(ROUNDS):
            ours.append(time_ours(given, case))
            for name, work in peers.items():
                theirs[name].append(time_peer(torch, work, given.device))
        mine = statistics.median(ours)
        for name, times in theirs.items():
            peer = statistics.median(times)
            records.append({"case": case, "peer": name, "ms": mine, "peerMs": peer, "ratio": peer / mine})
            print(f"{case}: {mine:.4f} ms, {name} {peer:.4f} ms: {peer / mine:.2f} x", flush=True)
    if given.out:
        with open(given.out, "w", encoding="utf8") as file:
            json.dump({"torch": torch.__version__, "rounds": ROUNDS, "cases": records}, file, indent=2)
    return 0


def list_cases(folder, only, times):
    """Every case once: of those with several variants (`case@variant`) the fastest that was recorded, else the first
    that is of the exact architecture."""
    import pathlib

    root = pathlib.Path(folder) / "cases"
    ids = sorted(f"{path.parent.name}/{path.name.removesuffix('.case')}" for path in root.glob("*/*.case"))
    known = {}
    if times and pathlib.Path(times).exists():
        lines = pathlib.Path(times).read_text(encoding="utf8").splitlines()
        known = {r["case"]: r["ms"] for r in map(json.loads, lines) if "ms" in r}
    best = {}
    for case in (c for c in ids if c.startswith(only)):
        # Recorded ones first, by time; the portable kernel last.
        rank = (case not in known, known.get(case, 0), case.endswith("@portable"))
        name = case.split("@")[0]
        if name not in best or rank < best[name][0]:
            best[name] = (rank, case)
    return [case for _, case in best.values()]


def time_ours(given, case):
    driver = ["--driver", given.driver] if given.driver else []
    command = [given.run, "verify", given.cases, "--only", case, "--json", *driver]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return next(r["ms"] for r in map(json.loads, lines) if r["case"] == case)


def time_peer(torch, work, device):
    """Milliseconds of one run: the best of five batches, each long enough for the clock."""
    for _ in range(3):
        work()
    if device == "cpu":
        import time

        start = time.perf_counter()
        work()
        return (time.perf_counter() - start) * 1000
    times = []
    for _ in range(5):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(10):
            work()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / 10)
    return min(times)


def make_peers(torch, case, device):
    """Name to a function without arguments that does the case's work, inputs ready on the device."""
    op, name = case.split("/")
    functional = torch.nn.functional
    sizes = [int(n) for n in re.findall(r"\d+", name)]

    def random(*shape, dtype=torch.float32):
        return torch.randn(*shape, device=device, dtype=dtype)

    if op in ("matmul", "matmul_backward_input", "matmul_backward_weight"):
        rows, columns, depth = sizes[:3]
        x, w, dy = (rows, depth), (columns, depth), (rows, columns)
        peers = {}
        kinds = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
        both, wanted = "_both_" in name, name.split("_", 1)[-1].removeprefix("both_")
        if wanted == "e4m3_128":
            return scaled_products(torch, x, w, device)
        for label, dtype in kinds.items():
            # Weights in 16 bits are compared with 16-bit products too, quantized ones with both; both operands in 16 bits
            # with nothing else.
            if wanted in kinds and label != wanted and (both or label != "f32"):
                continue
            if op == "matmul":
                a, b = random(*x, dtype=dtype), random(*w, dtype=dtype)
                peers[f"cuBLAS {label}"] = lambda a=a, b=b: functional.linear(a, b)
            elif op == "matmul_backward_input":
                a, b = random(*dy, dtype=dtype), random(*w, dtype=dtype)
                peers[f"cuBLAS {label}"] = lambda a=a, b=b: a @ b
            else:
                a, b, c = random(*dy, dtype=dtype), random(*x, dtype=dtype), random(*w, dtype=dtype)
                peers[f"cuBLAS {label}"] = lambda a=a, b=b, c=c: c.addmm_(a.t(), b)
        return peers
    if op in ("attention", "attention_backward") and hasattr(functional, "scaled_dot_product_attention"):
        return attentions(torch, name, op == "attention_backward", random)
    if op == "copy":
        a = random(2**27)
        b = torch.empty_like(a)
        return {"copy": lambda: b.copy_(a)}
    if op == "rms_norm" and hasattr(functional, "rms_norm"):
        a, w = random(sizes[0], sizes[1]), random(sizes[1])
        return {"rms_norm": lambda: functional.rms_norm(a, (sizes[1],), w, 1e-5)}
    if op == "softmax":
        a = random(sizes[0], sizes[1])
        return {"softmax": lambda: functional.softmax(a, -1)}
    if op == "adamw":
        parameter = torch.nn.Parameter(random(2**27))
        parameter.grad = random(2**27)
        fused = {"fused": True} if device == "cuda" else {}
        optimizer = torch.optim.AdamW([parameter], lr=1e-3, weight_decay=0.1, **fused)
        return {"AdamW fused": optimizer.step}
    if op == "square_sums":
        a = random(2**27)
        return {"norm": lambda: torch.linalg.vector_norm(a)}
    return {}


def scaled_products(torch, x, w, device):
    """PyTorch's fp8 product with one scale for each row and column, sums kept in f32 as ours are, or faster and less."""
    kind = torch.float8_e4m3fn
    a = torch.randn(*x, device=device).to(kind)
    b = torch.randn(*w, device=device).to(kind).t()
    rows, columns = torch.ones(x[0], 1, device=device), torch.ones(1, w[0], device=device)

    def product(fast):
        return lambda: torch._scaled_mm(
            a, b, scale_a=rows, scale_b=columns, out_dtype=torch.bfloat16, use_fast_accum=fast
        )

    return {"scaled_mm": product(False), "scaled_mm, fast sums": product(True)}


def attentions(torch, name, backward, random):
    """Causal attention by every kernel that PyTorch has; heads that share keys have them written out."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    sizes = re.match(r"(?:(\d+)x)?(\d+)_causal(?:_h(\d+)_d(\d+))?", name).groups()
    batch, length, heads, dim = (int(n or default) for n, default in zip(sizes, (1, 0, 32, 128)))
    dtype = {"bf16": torch.bfloat16, "f16": torch.float16}.get(name.rsplit("_", 1)[-1], torch.float32)
    # Fused kernels take 16 bits; in f32 PyTorch's is the memory-efficient one.
    kernels = {"flash": SDPBackend.FLASH_ATTENTION, "cuDNN": SDPBackend.CUDNN_ATTENTION}
    if dtype == torch.float32:
        kernels = {"efficient": SDPBackend.EFFICIENT_ATTENTION}
    q, k, v = (random(batch, heads, length, dim, dtype=dtype).requires_grad_(backward) for _ in range(3))
    peers = {}
    for label, kernel in kernels.items():

        def forward(kernel=kernel):
            with sdpa_kernel(kernel):
                return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)

        if not backward:
            peers[label] = forward
            continue
        y = forward()
        dy = torch.randn_like(y)
        peers[label] = lambda y=y, dy=dy: torch.autograd.grad(y, (q, k, v), dy, retain_graph=True)
    return peers


if __name__ == "__main__":
    sys.exit(main())
