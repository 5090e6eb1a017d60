"""The speed cases in PyTorch, for run.py: a case's name on standard input, milliseconds of its peers as a line of JSON.

run.py alternates between ours and this process, so that clocks and neighbours change for both alike. Peers are set up as
one would in production: f32 without TF32 (what our f32 contracts ask), and, beside it, half precision throughout, which
rounds the activations to 16 bits; that is faster and less exact, and named so. A call shorter than a millisecond is timed
as one of several in a CUDA graph, as ours are. A peer that fails is named with its reason, and the others go on.
"""
import argparse
import json
import re
import sys
import time

# A run shorter than this is timed as one of several in a graph.
LONG_MS = 1.0
MOST_RUNS = 64


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--device", default="cuda", help="cpu to try this script")
    device = options.parse_args().device
    try:
        import torch
    except ImportError:
        print("PyTorch is not installed", file=sys.stderr)
        return 1
    if device == "cuda" and not torch.cuda.is_available():
        print("PyTorch sees no GPU", file=sys.stderr)
        return 1
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    current, peers = None, {}
    for line in sys.stdin:
        case = line.strip()
        if case != current:
            # What the last case took is free again before the next one's inputs are made.
            peers = {}
            if device == "cuda":
                torch.cuda.empty_cache()
            current, peers = case, timers(torch, case, device)
        answer = {"case": case, "version": torch.__version__, "times": {}, "missing": {}}
        for name, timer in peers.items():
            try:
                answer["times"][name] = timer()
            except Exception as error:
                answer["missing"][name] = f"{type(error).__name__}: {error}"[:300]
        print(json.dumps(answer), flush=True)
    return 0


def timers(torch, case, device):
    """Name to a function that times the peer; one that can't be made raises when it is asked."""
    try:
        made = make_peers(torch, case, device)
    except Exception as error:
        made = {"PyTorch": raising(error)}
    return {name: Timer(torch, work, device) for name, work in made.items()}


def raising(error):
    def work():
        raise error

    return work


class Timer:
    """Milliseconds of one run of `work`: the best of five batches, each long enough for the clock."""

    def __init__(self, torch, work, device):
        self.torch, self.work, self.device = torch, work, device
        self.graph, self.runs = None, 0

    def __call__(self):
        if self.device == "cpu":
            start = time.perf_counter()
            self.work()
            return (time.perf_counter() - start) * 1000
        if self.runs == 0:
            self.prepare()
        replay = self.graph.replay if self.graph else self.repeated
        return min(self.once(replay) for _ in range(5)) / self.runs

    def prepare(self):
        """Warms up, and makes a graph of a short run where PyTorch can capture it."""
        torch = self.torch
        for _ in range(3):
            self.work()
        ms = self.once(self.work)
        self.runs = max(1, min(MOST_RUNS, int(LONG_MS / max(ms, 1e-3))))
        if self.runs == 1:
            return
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.repeated()
            self.graph = graph
        except Exception:
            # Work that asks the host; its launches then hide behind each other as far as they can.
            torch.cuda.synchronize()

    def repeated(self):
        for _ in range(self.runs):
            self.work()

    def once(self, work):
        torch = self.torch
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end)


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
        formats = name.split("_", 1)[-1]
        # x in 16 bits: w too, or in blocks.
        both, wanted = formats.startswith(("both_", "bf16_")), formats.removeprefix("both_").removeprefix("bf16_")
        if both and wanted == "e4m3_128":
            return scaled_products(torch, x, w, device)
        for label, dtype in kinds.items():
            # Weights in 16 bits are compared with 16-bit products too, quantized ones with both; both operands in 16 bits
            # with nothing else, both quantized with bf16.
            if wanted in kinds and label != wanted and (both or label != "f32"):
                continue
            if wanted not in kinds and both and label != "bf16":
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
    if op == "attention_paged" and name.startswith("decode_"):
        return decoding(torch, name, random)
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

    found = re.match(r"(?:(\d+)x)?(\d+)_causal(?:_h(\d+)_d(\d+))?(?:_(?:f32|f16|bf16))?$", name)
    if not found:
        # Windows and documents: PyTorch's fused kernels know neither.
        return {}
    batch, length, heads, dim = (int(n or default) for n, default in zip(found.groups(), (1, 0, 32, 128)))
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
        try:
            y = forward()
        except Exception as error:
            peers[label] = raising(error)
            continue
        dy = torch.randn_like(y)
        peers[label] = lambda y=y, dy=dy: torch.autograd.grad(y, (q, k, v), dy, retain_graph=True)
    return peers


def decoding(torch, name, random):
    """One query for each sequence over a cache in one piece; pages and e4m3 it has none."""
    batch, context, kind = re.match(r"decode_(\d+)x(\d+)_(\w+)", name).groups()
    if kind != "f16":
        return {}
    from torch.nn.attention import SDPBackend, sdpa_kernel

    batch, context = int(batch), int(context)
    q = random(batch, 32, 1, 128, dtype=torch.float16)
    k, v = (random(batch, 8, context, 128, dtype=torch.float16) for _ in range(2))

    def attend(kernel):
        def work():
            with sdpa_kernel(kernel):
                return torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)

        return work

    return {"flash": attend(SDPBackend.FLASH_ATTENTION), "cuDNN": attend(SDPBackend.CUDNN_ATTENTION)}


if __name__ == "__main__":
    sys.exit(main())
