"""What PyTorch (or numpy, where PyTorch has no such op) says each op gives, in float64.

An oracle takes (attrs, inputs) with inputs as tensors (float64 or int64) and returns the outputs by port. Backward
ops go through torch.autograd on the forward formula wherever their inputs allow it.
"""
import functools
import math

import numpy as np
import torch
import torch.nn.functional as F
from small_floats import E4M3, nearest, quantized

PADDING = 0xFFFFFFFF
MASKED = -3.0e38


def gradient(output, cotangent, of):
    return torch.autograd.grad(output, of, cotangent)[0]


def leaf(tensor):
    return tensor.clone().requires_grad_(True)


# Elementwise


def gelu(x):
    return F.gelu(x, approximate="tanh")


def gated(f):
    def forward(x):
        gate, up = x.chunk(2, dim=-1)
        return f(gate) * up

    return forward


def reduce(attrs, i):
    if attrs["axis"] == "first":
        return reduce_first(attrs["kind"], i["x"])
    x = i["x"] if attrs["axis"] == "last" else i["x"].reshape(-1)
    y = {"sum": torch.sum, "mean": torch.mean, "max": torch.amax}[attrs["kind"]](x, -1)
    return {"y": y.reshape(1) if y.dim() == 0 else y}


def reduce_first(kind, x):
    """The chain of f32 additions is the op's definition; PyTorch's own sum has another order."""
    y = torch.amax(x, 0) if kind == "max" else functools.reduce(torch.add, x.to(torch.float32))
    if kind == "mean":
        y = y * torch.tensor(1 / len(x), dtype=torch.float32)
    y = y.to(torch.float64)
    return {"y": y.reshape(1) if y.dim() == 0 else y}


def broadcast(attrs, i):
    x, shape = i["x"], attrs["shape"]
    if len(x) > 1 and list(x.shape) != shape:
        x = x[..., None]
    return {"y": attrs["factor"] * x.expand(shape)}


def rounds_to_output(of):
    """An op whose output is input `of` in another storage format: numpy's and PyTorch's casts, a quantizer in full."""

    def oracle(attrs, i, formats):
        ((port, storage),) = ((name[4:], f) for name, f in formats.items() if name.startswith("out."))
        x = i[of].to(torch.float32)
        if attrs.get("transpose"):
            x = x.reshape(-1, x.shape[-1]).T.contiguous()
        if storage in ("q8_0", "q4_0"):
            blocks = x.reshape(-1, 32).to(torch.float64)
            # The first of the largest magnitude.
            largest = blocks.gather(1, torch.from_numpy(np.argmax(blocks.abs().numpy(), axis=1))[:, None])
            scale = (largest.abs() / 127 if storage == "q8_0" else largest / -8).to(torch.float32).to(torch.float16)
            scale = scale.to(torch.float64)
            low, high = (-127, 127) if storage == "q8_0" else (-8, 7)
            quants = torch.where(scale == 0, 0, torch.round(blocks / torch.where(scale == 0, 1, scale)))
            y = (quants.clamp(low, high) * scale).reshape(x.shape)
        elif storage == "e4m3":
            y = torch.from_numpy(nearest(E4M3, x.to(torch.float64).numpy()))
        elif storage in ("e4m3_128", "mxfp8", "nvfp4"):
            y = torch.from_numpy(quantized(x.to(torch.float64).numpy(), storage))
        else:
            y = x.to({"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[storage])
        return {port: y.to(torch.float64)}

    return oracle


def transpose(attrs, i):
    return {"y": i["x"].permute(attrs["permutation"])}


def unary(f):
    return lambda attrs, i: {"y": f(i["x"])}


def unary_backward(f):
    def oracle(attrs, i):
        x = leaf(i["x"])
        return {"dx": gradient(f(x), i["dy"], x)}

    return oracle


# Products and tables

ACTIVATIONS = {"none": lambda v: v, "gelu_tanh": gelu, "silu": F.silu}


def matmul(attrs, i):
    y = ACTIVATIONS[attrs["activation"]](F.linear(i["x"], i["w"], i.get("bias")))
    return {"y": y + i["residual"] if "residual" in i else y}


def matmul_gated(attrs, i):
    return {"y": gated(ACTIVATIONS[attrs["activation"]])(F.linear(i["x"], i["w"], i.get("bias")))}


def rows_of_experts(offsets, rows):
    """Experts in order; each takes the rows up to its end that none before it has."""
    ends = torch.cummax(offsets.clamp(max=rows), 0).values.tolist()
    return [slice(first, end) for first, end in zip(ends, ends[1:])]


def grouped(x, offsets, w):
    y = torch.zeros(len(x), w.shape[1])
    for matrix, rows in zip(w, rows_of_experts(offsets, len(x))):
        y[rows] = x[rows] @ matrix.T
    return y


def matmul_grouped(attrs, i):
    return {"y": grouped(i["x"], i["offsets"], i["w"])}


def matmul_grouped_backward_input(attrs, i):
    x = torch.zeros(len(i["dy"]), i["w"].shape[2], requires_grad=True)
    return {"dx": gradient(grouped(x, i["offsets"], i["w"]), i["dy"], x)}


def matmul_grouped_backward_weight(attrs, i):
    w = torch.zeros_like(i["accumulator"], requires_grad=True)
    return {"dw": i["accumulator"] + gradient(grouped(i["x"], i["offsets"], w), i["dy"], w)}


def matmul_backward_input(attrs, i):
    x = torch.zeros(*i["dy"].shape[:-1], i["w"].shape[1], requires_grad=True)
    return {"dx": gradient(F.linear(x, i["w"]), i["dy"], x)}


def matmul_backward_weight(attrs, i):
    w = torch.zeros_like(i["accumulator"], requires_grad=True)
    dy, x = (i["dy"].T, i["x"].T) if attrs.get("transposed") else (i["dy"], i["x"])
    return {"dw": i["accumulator"] + gradient(F.linear(x, w), dy, w)}


def bias_backward(attrs, i):
    bias = torch.zeros_like(i["accumulator"], requires_grad=True)
    return {"dbias": i["accumulator"] + gradient(bias.expand(i["dy"].shape), i["dy"], bias)}


def lookup(i, table):
    """Rows by id less the first; what the table does not have reads a row of zeros, put behind it."""
    rows = i["ids"] - i.get("first", 0)
    past = table.shape[0]
    zeros = torch.zeros(1, table.shape[1])
    return F.embedding(torch.where((rows >= 0) & (rows < past), rows, past), torch.cat([table, zeros]))


def embedding(attrs, i):
    return {"y": lookup(i, i["table"])}


def embedding_backward(attrs, i):
    table = torch.zeros_like(i["accumulator"], requires_grad=True)
    return {"dtable": i["accumulator"] + gradient(lookup(i, table), i["dy"], table)}


# Norms


def rms(x, weight, eps):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def layer(x, weight, bias, eps):
    return F.layer_norm(x, x.shape[-1:], weight, bias, eps)


def rms_norm(attrs, i):
    return {"y": rms(i["x"], i["weight"], attrs["eps"])}


def layer_norm(attrs, i):
    return {"y": layer(i["x"], i["weight"], i.get("bias"), attrs["eps"])}


def norm_backward_input(attrs, i, norm, mean):
    x = leaf(i["x"])
    dx = gradient(norm(x, i["weight"]), i["dy"], x) + i.get("residual", 0)
    centered = i["x"] - mean
    inverse = torch.rsqrt(centered.pow(2).mean(-1, keepdim=True) + attrs["eps"])
    more = {"dx_rounded": dx} if "rounded" in attrs else {}
    if "statistics" in attrs:
        more["statistics"] = torch.cat([mean.reshape(-1, 1), inverse.reshape(-1, 1)], 1)
    return {"dx": dx, **more}


def norm_backward_weight(i, norm):
    """Sums of dy times the normalised x: by the row's own statistics, or by those given."""
    weight = torch.ones_like(i["accumulator"], requires_grad=True)
    if "statistics" in i:
        mean, inverse = i["statistics"].reshape(*i["x"].shape[:-1], 2, 1).unbind(-2)
        y = (i["x"] - mean) * inverse * weight
    else:
        y = norm(i["x"], weight)
    more = bias_backward({}, {"accumulator": i["bias_accumulator"], "dy": i["dy"]}) if "bias_accumulator" in i else {}
    return {"dweight": i["accumulator"] + gradient(y, i["dy"], weight), **more}


def rms_norm_backward_input(attrs, i):
    mean = torch.zeros(*i["x"].shape[:-1], 1)
    return norm_backward_input(attrs, i, lambda x, weight: rms(x, weight, attrs["eps"]), mean)


def rms_norm_backward_weight(attrs, i):
    return norm_backward_weight(i, lambda x, weight: rms(x, weight, attrs["eps"]))


def layer_norm_backward_input(attrs, i):
    mean = i["x"].mean(-1, keepdim=True)
    return norm_backward_input(attrs, i, lambda x, weight: layer(x, weight, None, attrs["eps"]), mean)


def layer_norm_backward_weight(attrs, i):
    return norm_backward_weight(i, lambda x, weight: layer(x, weight, None, attrs["eps"]))


# Rope and attention


def rope(attrs, i):
    """Pairs as complex numbers, multiplied by cos + i sin."""
    table, dim = i["table"], attrs["head_dim"]
    half = table.shape[1] // 2
    turn = torch.complex(table[:, :half], table[:, half:])[i["positions"]][:, None, :]
    if attrs["inverse"]:
        turn = turn.conj()
    y = i["x"].clone().reshape(i["x"].shape[0], -1, dim)
    part = y[:, : attrs["rotated_heads"], : 2 * half]
    if attrs["layout"] == "half":
        made = torch.complex(part[..., :half], part[..., half:]) * turn
        part[...] = torch.cat([made.real, made.imag], dim=-1)
    else:
        made = torch.view_as_complex(part.reshape(*part.shape[:2], half, 2).contiguous()) * turn
        part[...] = torch.view_as_real(made).reshape(part.shape)
    return {"y": y.reshape(i["x"].shape)}


def split_heads(attrs, qkv):
    """q, k, v as [heads, rows, dim], keys and values repeated for their group."""
    heads, kv, dim = attrs["heads"], attrs["kv_heads"], attrs["head_dim"]
    q, k, v = qkv.reshape(qkv.shape[0], heads + 2 * kv, dim).transpose(0, 1).split([heads, kv, kv])
    return q, k.repeat_interleave(heads // kv, 0), v.repeat_interleave(heads // kv, 0)


def dense_mask(attrs, rows, documents):
    t = torch.arange(rows)[:, None]
    u = torch.arange(rows)[None, :]
    mask = t // attrs["sequence"] == u // attrs["sequence"]
    if attrs["causal"]:
        mask = mask & (u <= t)
    if attrs["window"] > 0:
        mask = mask & (u > t - attrs["window"])
    if documents is not None:
        mask = mask & (documents[:, None] == documents[None, :]) & (documents != PADDING)[:, None]
    return mask


def scores_of(attrs, q, k):
    s = attrs["scale"] * (q @ k.transpose(-1, -2))
    return attrs["softcap"] * torch.tanh(s / attrs["softcap"]) if attrs["softcap"] > 0 else s


def join_heads(y):
    return y.transpose(0, 1).reshape(y.shape[1], -1)


def attention(attrs, i):
    # Padding that nobody attends may hold NaN.
    q, k, v = split_heads(attrs, i["qkv"].nan_to_num())
    s = scores_of(attrs, q, k).masked_fill(~dense_mask(attrs, q.shape[1], i.get("documents")), -math.inf)
    y = torch.softmax(s, -1).nan_to_num() @ v
    lse = torch.logsumexp(s, -1)
    return {"y": join_heads(y), "lse": lse.masked_fill(lse == -math.inf, MASKED).T}


def attention_backward(attrs, i):
    """y and lse are inputs of their own, so autograd takes the scalar whose gradient the op is defined to be."""
    qkv = leaf(i["qkv"])
    q, k, v = split_heads(attrs, qkv)
    rows, heads = q.shape[1], attrs["heads"]
    dy = i["dy"].reshape(rows, heads, -1).transpose(0, 1)
    y = i["y"].reshape(rows, heads, -1).transpose(0, 1)
    mask = dense_mask(attrs, rows, i.get("documents"))
    p = torch.exp((scores_of(attrs, q, k) - i["lse"].T[:, :, None]).masked_fill(~mask, -math.inf))
    total = (p * (dy @ v.transpose(-1, -2) - (dy * y).sum(-1, keepdim=True))).sum()
    return {"dqkv": gradient(total, torch.ones_like(total), qkv)}


def attention_paged(attrs, i):
    q, _, _ = split_heads(attrs, i["qkv"])
    tokens, group = i["k_pool"].shape[2], attrs["heads"] // attrs["kv_heads"]
    out = torch.zeros(q.shape[1], attrs["heads"], attrs["head_dim"])
    for t, (b, last) in enumerate(zip(i["sequence"].tolist(), i["position"].tolist())):
        if b == PADDING:
            continue
        seen = torch.arange(max(0, last + 1 - attrs["window"]) if attrs["window"] > 0 else 0, last + 1)
        page = i["page_table"][b][seen // tokens]
        k, v = (i[p][page, :, seen % tokens].transpose(0, 1).repeat_interleave(group, 0) for p in ("k_pool", "v_pool"))
        out[t] = (torch.softmax(scores_of(attrs, q[:, t : t + 1], k), -1) @ v)[:, 0]
    return {"y": out.reshape(q.shape[1], -1)}


def kv_write(attrs, i, formats):
    heads, kv, dim = attrs["heads"], attrs["kv_heads"], attrs["head_dim"]
    qkv = i["qkv"]
    if formats["in.k_pool"] == "f16":
        qkv = qkv.to(torch.float16).to(torch.float64)
    if formats["in.k_pool"] == "e4m3":
        qkv = torch.from_numpy(nearest(E4M3, qkv.numpy()))
    _, k, v = qkv.reshape(qkv.shape[0], heads + 2 * kv, dim).split([heads, kv, kv], 1)
    pools = {"k_pool": i["k_pool"].clone(), "v_pool": i["v_pool"].clone()}
    tokens = i["k_pool"].shape[2]
    for t, (b, p) in enumerate(zip(i["sequence"].tolist(), i["position"].tolist())):
        if b == PADDING:
            continue
        page = i["page_table"][b, p // tokens]
        pools["k_pool"][page, :, p % tokens] = k[t]
        pools["v_pool"][page, :, p % tokens] = v[t]
    return {port + "_out": pool for port, pool in pools.items()}


def rope_kv_write(attrs, i):
    """Not rounded to the pools' format: the budget has that."""
    rotation = {
        "head_dim": attrs["head_dim"], "layout": attrs["layout"],
        "rotated_heads": attrs["heads"] + attrs["kv_heads"], "inverse": False,
    }
    y = rope(rotation, {"x": i["qkv"], "positions": i["position"], "table": i["table"]})["y"]
    return {"qkv_out": y, **kv_write(attrs, {**i, "qkv": y}, {"in.k_pool": "f32"})}


# Loss


def softmax_backward(attrs, i):
    """The Jacobian diag(y) - y y^T of each row: the stored y is not normalised, so softmax can't be run again."""
    y = i["y"].reshape(-1, i["y"].shape[-1])
    jacobian = torch.diag_embed(y) - y[:, :, None] * y[:, None, :]
    return {"dx": (jacobian @ i["dy"].reshape(y.shape)[:, :, None]).reshape(i["y"].shape)}


def cross_entropy(attrs, i):
    counted = i["weights"] != 0
    targets = torch.where(counted, i["targets"], torch.tensor(-100))
    loss = i["weights"] * F.cross_entropy(i["logits"], targets, reduction="none", ignore_index=-100)
    return {"loss": loss, "lse": torch.logsumexp(i["logits"], -1)}


def cross_entropy_backward(attrs, i):
    """lse is an input of its own: autograd of exp(logit - lse) summed, less the logit of the target."""
    logits = leaf(i["logits"])
    total = loss_with_lse(logits, attrs, i)
    return {"dlogits": gradient(total, torch.ones_like(total), logits)}


def loss_with_lse(logits, attrs, i):
    targets = i["targets"] - attrs.get("first", 0)
    return (i["dloss"] * i["weights"] * (torch.exp(logits - i["lse"][:, None]).sum(-1) - own(logits, targets))).sum()


def linear_cross_entropy(attrs, i):
    return cross_entropy(attrs, {**i, "logits": i["x"] @ i["w"].T})


def linear_cross_entropy_backward_input(attrs, i):
    x = leaf(i["x"])
    total = loss_with_lse(x @ i["w"].T, {}, i)
    return {"dx": gradient(total, torch.ones_like(total), x)}


def linear_cross_entropy_backward_weight(attrs, i):
    w = leaf(i["w"])
    total = loss_with_lse(i["x"] @ w.T, {}, i)
    return {"dw": i["accumulator"] + gradient(total, torch.ones_like(total), w)}


def own(logits, targets):
    """The logit of each row's target; 0 of one that is not a column."""
    here = (targets >= 0) & (targets < logits.shape[1])
    chosen = logits.gather(1, torch.where(here, targets, torch.tensor(0))[:, None])[:, 0]
    return torch.where(here, chosen, torch.tensor(0.0))


def cross_entropy_shard(attrs, i):
    targets = i["targets"] - attrs.get("first", 0)
    return {"parts": torch.stack([torch.logsumexp(i["logits"], -1), own(i["logits"], targets)])}


def cross_entropy_join(attrs, i):
    lse = torch.logsumexp(i["parts"][:, 0], 0)
    return {"lse": lse, "loss": i["weights"] * (lse - i["parts"][:, 1].sum(0))}


# Sampling


def philox(counter, key):
    """Philox4x32-10 in Python's whole numbers."""
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & PADDING, (a >> 32) ^ c[3] ^ k[1], a & PADDING]
        k = [(k[0] + 0x9E3779B9) & PADDING, (k[1] + 0xBB67AE85) & PADDING]
    return c


def random_bits(attrs, i):
    low, high, step, stream = i["key"].tolist()
    blocks = [philox((step, stream, b, 0), (low, high)) for b in range((attrs["count"] + 3) // 4)]
    return {"bits": torch.tensor(blocks).reshape(-1)[: attrs["count"]]}


def sample_row(logits, option, key, seen):
    temperature, top_k, top_p, min_p, penalty = option[:5].tolist()
    scores = logits.clone()
    if penalty not in (0, 1) and len(seen) > 0:
        ids = torch.unique(seen)
        scores[ids] = torch.where(scores[ids] > 0, scores[ids] / penalty, scores[ids] * penalty)
    if temperature == 0:
        return int(np.argmax(scores.numpy()))
    scores = scores / temperature
    if 0 < top_k < len(scores):
        scores[scores < torch.topk(scores, int(top_k)).values[-1]] = -math.inf
    if top_p < 1:
        ordered = torch.sort(torch.softmax(scores, -1), descending=True).values
        needed = int((torch.cumsum(ordered, 0) < top_p).sum())
        scores[torch.softmax(scores, -1) < ordered[needed]] = -math.inf
    p = torch.softmax(scores, -1)
    p = torch.where(p >= min_p * p.max(), p, torch.zeros(()))
    low, high, step, stream = key.tolist()
    draw = (philox((step, stream, 0, 0), (low, high))[0] >> 8) / 2**24
    cumulative = torch.cumsum(p / p.sum(), 0)
    return int(torch.searchsorted(cumulative, torch.tensor([draw]), right=True))


def sample(attrs, i):
    rows = [
        sample_row(i["logits"][b], i["options"][b], i["key"][b], i["history"][b, : i["length"][b]])
        for b in range(i["logits"].shape[0])
    ]
    return {"token": torch.tensor(rows)}


def argmax(attrs, i):
    return {"y": torch.from_numpy(np.argmax(i["x"].numpy(), axis=1))}


def inside(tokens, sequence, position):
    return (sequence < tokens.shape[0]) & (position < tokens.shape[1])


def tokens_write(attrs, i):
    out = i["tokens"].clone()
    keep = inside(out, i["sequence"], i["position"])
    out[i["sequence"][keep], i["position"][keep]] = i["ids"][keep]
    return {"tokens_out": out}


def tokens_read(attrs, i):
    keep = inside(i["tokens"], i["sequence"], i["position"])
    ids = torch.zeros_like(i["sequence"])
    ids[keep] = i["tokens"][i["sequence"][keep], i["position"][keep]]
    return {"ids": ids}


# Optimizer


def adamw(attrs, i):
    n = len(i["param"])
    boundary = min(attrs.get("boundary", n), n)
    gradient = clipped(i["gradient"], i["norm"], i["limit"].item()) if "norm" in i else i["gradient"]
    parts = [
        adamw_range(hyper, *[x[first:end] for x in (i["param"], i["moment1"], i["moment2"], gradient)])
        for hyper, first, end in zip(i["hyper"].reshape(-1, 8).tolist(), (0, boundary), (boundary, n))
    ]
    return {port: torch.cat(part) for port, part in zip(("param_out", "moment1_out", "moment2_out"), zip(*parts))}


def adamw_range(hyper, values, moment1, moment2, gradient):
    rate, beta1, beta2, eps, decay, correction1, _, _ = hyper
    step = round(math.log(1 - correction1) / math.log(beta1)) if correction1 < 1 else 100000
    param = torch.nn.Parameter(values.clone())
    param.grad = gradient.clone()
    optimizer = torch.optim.AdamW([param], lr=rate, betas=(beta1, beta2), eps=eps, weight_decay=decay)
    moments = {"exp_avg": moment1.clone(), "exp_avg_sq": moment2.clone()}
    optimizer.state[param] = {"step": torch.tensor(step - 1.0), **moments}
    optimizer.step()
    return param.detach(), moments["exp_avg"], moments["exp_avg_sq"]


def clipped(gradient, norm, limit):
    """clip_grad_norm_ takes the norm itself: a further element brings that of the gradient up to the given one."""
    if limit <= 0:
        return gradient
    rest = torch.sqrt(torch.clamp(norm**2 - gradient.pow(2).sum(), min=0))
    param = torch.nn.Parameter(torch.zeros(len(gradient) + 1))
    param.grad = torch.cat([gradient, rest])
    torch.nn.utils.clip_grad_norm_([param], limit)
    return param.grad[:-1]


def square_sums(attrs, i):
    return {"sums": torch.stack([i["x"][start : start + count].square().sum() for start, count in i["tiles"].tolist()])}


def norm_of_sums(attrs, i):
    """As clip_grad_norm_ joins the norms of several tensors."""
    return {"norm": torch.linalg.vector_norm(i["sums"].sqrt()).reshape(1)}


ORACLES = {
    "add": lambda attrs, i: {"y": i["a"] + i["b"]},
    "mul": lambda attrs, i: {"y": i["a"] * i["b"]},
    "accumulate": lambda attrs, i: {"y": i["accumulator"] + i["x"]},
    "fill": lambda attrs, i: {"y": torch.full_like(i["x"], attrs["value"])},
    "cast": rounds_to_output("x"),
    "quantize": rounds_to_output("x"),
    "store": rounds_to_output("x"),
    "gelu_tanh": unary(gelu),
    "gelu_tanh_backward": unary_backward(gelu),
    "silu": unary(F.silu),
    "silu_backward": unary_backward(F.silu),
    "swiglu": unary(gated(F.silu)),
    "swiglu_backward": unary_backward(gated(F.silu)),
    "geglu": unary(gated(gelu)),
    "geglu_backward": unary_backward(gated(gelu)),
    "softmax": unary(lambda x: torch.softmax(x, -1)),
    **{
        f.__name__: f
        for f in (
            reduce, broadcast, transpose,
            matmul, matmul_gated, matmul_backward_input, matmul_backward_weight,
            matmul_grouped, matmul_grouped_backward_input, matmul_grouped_backward_weight,
            bias_backward, embedding, embedding_backward,
            rms_norm, rms_norm_backward_input, rms_norm_backward_weight,
            layer_norm, layer_norm_backward_input, layer_norm_backward_weight,
            rope, attention, attention_backward, attention_paged, kv_write, rope_kv_write,
            softmax_backward, cross_entropy, cross_entropy_backward, cross_entropy_shard,
            cross_entropy_join,
            linear_cross_entropy, linear_cross_entropy_backward_input, linear_cross_entropy_backward_weight,
            random_bits, sample, argmax, tokens_write, tokens_read, adamw,
            square_sums, norm_of_sums,
        )
    },
}

# Ops that round to a storage format: their oracles are told the formats and must give the very same values.
ROUNDS = {"kv_write", "cast", "quantize", "store"}

NO_ORACLE = {
    "copy": "the same bytes; any oracle would be the copy itself",
}
