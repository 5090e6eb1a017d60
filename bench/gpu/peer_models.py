"""A whole decode or training step in PyTorch or JAX, for run.py: prepares it, says so in a line of JSON, and then answers
each line of its input with the milliseconds of a step.

The shapes are those of model_cases.ts. Each peer is set up as its own experts would: PyTorch compiled with CUDA graphs
(mode max-autotune), static caches, weights in bf16, the loss and gradients under autocast with fused AdamW; JAX under jit
with donated caches and states. Events are around ten steps, so that the host's part hides behind the device's where it
can. 4-bit weights: PyTorch's own int4 product, in groups of 32. Every peer has a process of its own: one that fails or
takes all the memory ends nobody else.
"""
import argparse
import json
import os
import sys
import time

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

MODULES = {"PyTorch": "torch", "JAX": "jax"}
CONTEXT = 1024
LLAMAS = {
    "llama_1b": dict(width=2048, ffn=8192, layers=16, heads=32, kv=8, vocab=128256, tied=True),
    "llama_8b": dict(width=4096, ffn=14336, layers=32, heads=32, kv=8, vocab=128256, tied=False),
}
GPT2 = dict(width=768, layers=12, heads=12, vocab=50304)
# For trying the script without a GPU.
TINY = dict(width=64, ffn=128, layers=2, heads=4, kv=2, vocab=256)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--list", action="store_true", help="print the cases, their peers and the memory these take")
    options.add_argument("--case", help="kind/name")
    options.add_argument("--peer", help="PyTorch or JAX")
    options.add_argument("--device", default="cuda", help="cpu: tiny shapes, to try this script")
    given = options.parse_args()
    if given.list:
        print(json.dumps({case: gigabytes for case, (gigabytes, _) in CASES.items()}))
        return 0
    _, peers = CASES[given.case]
    if given.peer not in peers:
        print(json.dumps({"missing": f"{given.peer} has no counterpart"}), flush=True)
        return 0
    try:
        work, timer = peers[given.peer](given.device)
    except Exception as error:
        print(json.dumps({"missing": f"{type(error).__name__}: {error}"[:300]}), flush=True)
        return 0
    version = sys.modules[MODULES[given.peer]].__version__
    print(json.dumps({"ready": True, "version": version}), flush=True)
    for _ in sys.stdin:
        print(json.dumps({"ms": timer(work)}), flush=True)
    return 0


def decoders(model, batch):
    return {
        "PyTorch": lambda device: torch_decode(model, batch, device),
        "JAX": lambda device: jax_decode(model, batch, device),
    }


def shape_of(model, device):
    return LLAMAS[model] if device == "cuda" else TINY | {"tied": LLAMAS[model]["tied"]}


# --- PyTorch


def torch_timer(device, steps=10, batches=5):
    """Milliseconds of one call: the best of some batches."""
    import torch

    def timer(work):
        for _ in range(3):
            work()
        times = []
        for _ in range(batches if device == "cuda" else 1):
            if device == "cuda":
                start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
                start.record()
                for _ in range(steps):
                    work()
                end.record()
                torch.cuda.synchronize()
                times.append(start.elapsed_time(end) / steps)
            else:
                begin = time.perf_counter()
                work()
                times.append((time.perf_counter() - begin) * 1000)
        return min(times)

    return timer


def compiled(torch, function, device, mode):
    return torch.compile(function, mode=mode, fullgraph=True) if device == "cuda" else function


def begin_step(torch, device):
    """From here on a captured graph may write over what the last step gave."""
    if device == "cuda":
        torch.compiler.cudagraph_mark_step_begin()


def torch_decode(model, batch, device, int4=False):
    import torch

    functional = torch.nn.functional
    s = shape_of(model, device)
    dim = s["width"] // s["heads"]
    dtype = torch.bfloat16
    generator = torch.Generator(device=device).manual_seed(1)

    def static(tensor):
        """CUDA graphs then take it where it lies, also when it is written."""
        if device == "cuda":
            torch._dynamo.mark_static_address(tensor)
        return tensor

    def random(*shape):
        values = torch.randn(*shape, device=device, dtype=torch.float32, generator=generator)
        return static(values.to(dtype).mul_(0.02))

    def weight(rows, columns):
        if not int4:
            matrix = random(rows, columns)
            return lambda x: functional.linear(x, matrix)
        # Two quants to a byte, the even column in the high half; scale and zero of every 32.
        quants = torch.randint(0, 256, (rows, columns // 2), device=device, dtype=torch.uint8, generator=generator)
        packed = static(torch.ops.aten._convert_weight_to_int4pack(quants, 8))
        scales = static(torch.full((columns // 32, rows, 2), 0.01, device=device, dtype=dtype))
        return lambda x: torch.ops.aten._weight_int4pack_mm(x, packed, 32, scales)

    qkv_rows = (s["heads"] + 2 * s["kv"]) * dim
    layers = [
        {
            "qkv": weight(qkv_rows, s["width"]),
            "out": weight(s["width"], s["width"]),
            "gate_up": weight(2 * s["ffn"], s["width"]),
            "down": weight(s["width"], s["ffn"]),
            "k": random(batch, s["kv"], CONTEXT, dim),
            "v": random(batch, s["kv"], CONTEXT, dim),
        }
        for _ in range(s["layers"])
    ]
    norm_weight = torch.ones(s["width"], device=device, dtype=dtype)
    table = random(s["vocab"], s["width"])
    head = table if s["tied"] else random(s["vocab"], s["width"])
    head_product = weight(s["vocab"], s["width"]) if int4 else lambda x: functional.linear(x, head)
    angles = torch.arange(dim // 2, device=device, dtype=torch.float32)
    cos, sin = torch.cos(angles).to(dtype), torch.sin(angles).to(dtype)
    position = torch.full((1,), CONTEXT - 2, device=device, dtype=torch.long)

    def rms_norm(x):
        return x * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + 1e-5).to(dtype) * norm_weight

    def rotate(x):
        a, b = x.chunk(2, -1)
        return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)

    def attend(q, k, v):
        # Only the last place of the context is masked: what a step at the last but one sees.
        mask = torch.arange(CONTEXT, device=device) <= position
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)

    def step(ids):
        x = functional.embedding(ids, table)
        for layer in layers:
            qkv = layer["qkv"](rms_norm(x)).view(batch, -1, dim)
            q, k, v = qkv.split((s["heads"], s["kv"], s["kv"]), 1)
            layer["k"].index_copy_(2, position, rotate(k).unsqueeze(2))
            layer["v"].index_copy_(2, position, v.unsqueeze(2))
            y = attend(rotate(q).unsqueeze(2), layer["k"], layer["v"])
            x = x + layer["out"](y.reshape(batch, -1))
            gate, up = layer["gate_up"](rms_norm(x)).chunk(2, -1)
            x = x + layer["down"](functional.silu(gate) * up)
        return head_product(rms_norm(x)).argmax(-1)

    ids = torch.zeros(batch, device=device, dtype=torch.long)
    if device == "cpu":
        # Old PyTorch has no attention of its own and no grouped queries.
        def attend(q, k, v):  # noqa: F811
            share = s["heads"] // s["kv"]
            k, v = (t.repeat_interleave(share, 1) for t in (k, v))
            return torch.softmax(q @ k.transpose(-1, -2) / dim**0.5, -1) @ v

    run = compiled(torch, step, device, "max-autotune")

    @torch.no_grad()
    def work():
        begin_step(torch, device)
        return run(ids)

    work()
    return work, torch_timer(device)


def torch_train(batch, sequence, device):
    import torch

    functional = torch.nn.functional
    s = GPT2 if device == "cuda" else dict(width=64, layers=2, heads=4, vocab=256)
    batch, sequence = (batch, sequence) if device == "cuda" else (2, 32)

    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            width = s["width"]
            self.norms = torch.nn.ModuleList(torch.nn.LayerNorm(width) for _ in range(2))
            self.qkv = torch.nn.Linear(width, 3 * width)
            self.out = torch.nn.Linear(width, width)
            self.up = torch.nn.Linear(width, 4 * width)
            self.down = torch.nn.Linear(4 * width, width)

        def forward(self, x):
            rows, length, width = x.shape
            q, k, v = self.qkv(self.norms[0](x)).view(rows, length, 3, s["heads"], -1).permute(2, 0, 3, 1, 4)
            if hasattr(functional, "scaled_dot_product_attention"):
                y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            else:
                y = torch.softmax(q @ k.transpose(-1, -2), -1) @ v
            x = x + self.out(y.transpose(1, 2).reshape(rows, length, width))
            return x + self.down(functional.gelu(self.up(self.norms[1](x)), approximate="tanh"))

    class Gpt2(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens = torch.nn.Embedding(s["vocab"], s["width"])
            self.places = torch.nn.Embedding(sequence, s["width"])
            self.blocks = torch.nn.Sequential(*(Block() for _ in range(s["layers"])))
            self.norm = torch.nn.LayerNorm(s["width"])

        def forward(self, ids, targets):
            x = self.tokens(ids) + self.places.weight
            logits = functional.linear(self.norm(self.blocks(x)), self.tokens.weight)
            return functional.cross_entropy(logits.view(-1, s["vocab"]), targets.view(-1))

    torch.manual_seed(1)
    net = Gpt2().to(device)
    fused = {"fused": True} if device == "cuda" else {}
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, weight_decay=0.1, **fused)
    loss_of = compiled(torch, lambda ids, targets: net(ids, targets), device, "max-autotune")
    ids = torch.randint(0, s["vocab"], (batch, sequence), device=device)

    def work():
        begin_step(torch, device)
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = loss_of(ids, ids.roll(-1, 1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    work()
    return work, torch_timer(device, steps=3, batches=3)


# --- JAX


def jax_timer(steps=10, batches=5):
    def timer(work):
        work(3)
        times = []
        for _ in range(batches):
            begin = time.perf_counter()
            work(steps)
            times.append((time.perf_counter() - begin) * 1000 / steps)
        return min(times)

    return timer


def jax_decode(model, batch, device):
    import jax
    from jax import numpy as jnp

    s = shape_of(model, device)
    dim = s["width"] // s["heads"]
    share = s["heads"] // s["kv"]
    dtype = jnp.bfloat16
    keys = iter(jax.random.split(jax.random.PRNGKey(1), 8 * s["layers"] + 4))

    def random(*shape):
        return jax.random.normal(next(keys), shape, dtype) * 0.02

    layers = [
        {
            "qkv": random(s["width"], (s["heads"] + 2 * s["kv"]) * dim),
            "out": random(s["width"], s["width"]),
            "gate_up": random(s["width"], 2 * s["ffn"]),
            "down": random(s["ffn"], s["width"]),
        }
        for _ in range(s["layers"])
    ]
    caches = [tuple(random(batch, s["kv"], CONTEXT, dim) for _ in range(2)) for _ in range(s["layers"])]
    table = random(s["vocab"], s["width"])
    weights = {"layers": layers, "table": table, "head": table if s["tied"] else random(s["vocab"], s["width"])}
    angles = jnp.arange(dim // 2, dtype=jnp.float32)
    cos, sin = jnp.cos(angles).astype(dtype), jnp.sin(angles).astype(dtype)
    position = CONTEXT - 2

    def rms_norm(x):
        return x * jax.lax.rsqrt(jnp.mean(jnp.square(x.astype(jnp.float32)), -1, keepdims=True) + 1e-5).astype(dtype)

    def rotate(x):
        a, b = jnp.split(x, 2, -1)
        return jnp.concatenate((a * cos - b * sin, b * cos + a * sin), -1)

    def step(weights, caches, ids, position):
        x = weights["table"][ids]
        new = []
        for w, (k_cache, v_cache) in zip(weights["layers"], caches):
            qkv = (rms_norm(x) @ w["qkv"]).reshape(batch, -1, dim)
            q, k, v = jnp.split(qkv, (s["heads"], s["heads"] + s["kv"]), 1)
            k_cache = jax.lax.dynamic_update_slice_in_dim(k_cache, rotate(k)[:, :, None], position, 2)
            v_cache = jax.lax.dynamic_update_slice_in_dim(v_cache, v[:, :, None], position, 2)
            new.append((k_cache, v_cache))
            q = rotate(q).reshape(batch, s["kv"], share, dim)
            scores = jnp.einsum("bgsd,bgtd->bgst", q, k_cache, preferred_element_type=jnp.float32) / dim**0.5
            scores = jnp.where(jnp.arange(CONTEXT) <= position, scores, -jnp.inf)
            y = jnp.einsum("bgst,bgtd->bgsd", jax.nn.softmax(scores, -1).astype(dtype), v_cache)
            x = x + y.reshape(batch, -1) @ w["out"]
            gate, up = jnp.split(rms_norm(x) @ w["gate_up"], 2, -1)
            x = x + (jax.nn.silu(gate) * up) @ w["down"]
        return new, jnp.argmax(rms_norm(x) @ weights["head"].T, -1)

    run = jax.jit(step, donate_argnums=1)
    state = {"caches": caches, "ids": jnp.zeros(batch, jnp.int32)}

    def work(steps):
        for _ in range(steps):
            state["caches"], state["ids"] = run(weights, state["caches"], state["ids"], position)
        state["ids"].block_until_ready()

    work(1)
    return work, jax_timer()


def jax_train(batch, sequence, device):
    import jax
    import optax
    from jax import numpy as jnp

    s = GPT2 if device == "cuda" else dict(width=64, layers=2, heads=4, vocab=256)
    batch, sequence = (batch, sequence) if device == "cuda" else (2, 32)
    width, dim = s["width"], s["width"] // s["heads"]
    keys = iter(jax.random.split(jax.random.PRNGKey(1), 8 * s["layers"] + 4))

    def random(*shape):
        return jax.random.normal(next(keys), shape, jnp.float32) * 0.02

    def dense(inputs, outputs):
        return {"w": random(inputs, outputs), "b": jnp.zeros(outputs)}

    def norm_weights():
        return {"w": jnp.ones(width), "b": jnp.zeros(width)}

    parameters = {
        "tokens": random(s["vocab"], width),
        "places": random(sequence, width),
        "norm": norm_weights(),
        "blocks": [
            {
                "norms": [norm_weights(), norm_weights()],
                "qkv": dense(width, 3 * width),
                "out": dense(width, width),
                "up": dense(width, 4 * width),
                "down": dense(4 * width, width),
            }
            for _ in range(s["layers"])
        ],
    }

    def linear(p, x):
        return x @ p["w"].astype(jnp.bfloat16) + p["b"].astype(jnp.bfloat16)

    def layer_norm(p, x):
        x = x.astype(jnp.float32)
        x = x - x.mean(-1, keepdims=True)
        x = x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-5)
        return (x * p["w"] + p["b"]).astype(jnp.bfloat16)

    # XLA's own attention where there is no cuDNN.
    kernel = "cudnn" if device == "cuda" else "xla"

    def loss_of(parameters, ids, targets):
        x = (parameters["tokens"][ids] + parameters["places"]).astype(jnp.bfloat16)
        for block in parameters["blocks"]:
            qkv = linear(block["qkv"], layer_norm(block["norms"][0], x))
            q, k, v = (t.reshape(batch, sequence, s["heads"], dim) for t in jnp.split(qkv, 3, -1))
            y = jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation=kernel)
            x = x + linear(block["out"], y.reshape(batch, sequence, width))
            x = x + linear(block["down"], jax.nn.gelu(linear(block["up"], layer_norm(block["norms"][1], x))))
        logits = layer_norm(parameters["norm"], x) @ parameters["tokens"].T.astype(jnp.bfloat16)
        return optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), targets).mean()

    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-4, weight_decay=0.1))

    def step(parameters, moments, ids, targets):
        loss, gradients = jax.value_and_grad(loss_of)(parameters, ids, targets)
        updates, moments = optimizer.update(gradients, moments, parameters)
        return optax.apply_updates(parameters, updates), moments, loss

    run = jax.jit(step, donate_argnums=(0, 1))
    ids = jax.random.randint(next(keys), (batch, sequence), 0, s["vocab"])
    state = {"parameters": parameters, "moments": optimizer.init(parameters)}

    def work(steps):
        for _ in range(steps):
            state["parameters"], state["moments"], loss = run(
                state["parameters"], state["moments"], ids, jnp.roll(ids, -1, 1)
            )
        loss.block_until_ready()

    work(1)
    return work, jax_timer(steps=3, batches=3)


# Gigabytes that a peer takes at most, and how each is made.
CASES = {
    "decode/llama_1b_bf16_1": (4, decoders("llama_1b", 1)),
    "decode/llama_8b_bf16_1": (20, decoders("llama_8b", 1)),
    "decode/llama_8b_bf16_64": (30, decoders("llama_8b", 64)),
    "decode/llama_8b_q4_0_1": (8, {"PyTorch": lambda device: torch_decode("llama_8b", 1, device, int4=True)}),
    "train/gpt2_32x1024": (
        30,
        {
            "PyTorch": lambda device: torch_train(32, 1024, device),
            "JAX": lambda device: jax_train(32, 1024, device),
        },
    ),
}


if __name__ == "__main__":
    sys.exit(main())
