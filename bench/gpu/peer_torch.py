"""Decode and training steps in PyTorch, set up as peer_models.py says."""
import time

from peer_shapes import CONTEXT, GPT2, shape_of


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
