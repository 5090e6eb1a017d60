"""Llama and GPT-2 families in float64 PyTorch, written from the published formulas, as a second opinion.

    models.py requests.json results.safetensors

requests.json is a list of
  {"kind": "logits", "name", "folder", "storage": "f32" | "f16", "ids": [tokens]}
      -> <name>: logits [tokens, vocab]. f16 rounds matrices, and keys and values as the cache holds them.
  {"kind": "train", "name", "folder", "config": optimizer and schedule, "steps": [[microbatch]]}
      -> <name>/loss, <name>/norm [steps], <name>/gradient/<tensor> (first step, after clipping),
         <name>/parameter/<tensor> (after the last step)
A microbatch has tokens, targets, weights, documents (or null), positions, each a list of `batch` rows.
"""
import json
import math
import os
import sys

import torch

import safetensors_io

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)


def load(folder, storage="f32"):
    """config.json and parameters as float64 leaves; f16 rounds those of rank 2 first."""
    with open(os.path.join(folder, "config.json")) as file:
        config = json.load(file)
    parameters = {}
    for name, array in safetensors_io.read(os.path.join(folder, "model.safetensors")).items():
        value = torch.from_numpy(array.copy())
        if storage == "f16" and value.dim() > 1:
            value = value.to(torch.float16)
        parameters[name] = value.to(torch.float64).requires_grad_(True)
    return config, parameters


def linear(x, p, name):
    bias = p.get(name + ".bias")
    y = x @ p[name + ".weight"].T
    return y if bias is None else y + bias


def attend(q, k, v, allowed):
    """Softmax attention; q [heads, T, D], k and v [kv_heads, T, D], allowed bool [T, T]."""
    group = q.shape[0] // k.shape[0]
    k = torch.repeat_interleave(k, group, dim=0)
    v = torch.repeat_interleave(v, group, dim=0)
    scores = (q @ k.transpose(1, 2)) / math.sqrt(q.shape[-1])
    return torch.softmax(scores.masked_fill(~allowed, -math.inf), dim=-1) @ v


def allowed_pairs(tokens, window, documents):
    """Causal; with a window a query sees itself and the window - 1 keys before; documents don't mix."""
    at = torch.arange(tokens)
    distance = at[:, None] - at[None, :]
    allowed = distance >= 0
    if window:
        allowed &= distance < window
    if documents is not None:
        allowed &= documents[:, None] == documents[None, :]
    return allowed


def inverse_frequencies(config, dim):
    """RoFormer's theta_i = base^(-2i/d); llama3's stretching as its authors' reference code writes it."""
    scaling = config.get("rope_scaling")
    base = config.get("rope_theta", 10000.0)
    out = []
    for i in range(dim // 2):
        frequency = 1.0 / base ** (2 * i / dim)
        if scaling and scaling["rope_type"] == "llama3":
            factor = scaling["factor"]
            low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
            original = scaling["original_max_position_embeddings"]
            wavelength = 2 * math.pi / frequency
            if wavelength > original / low:
                frequency = frequency / factor
            elif wavelength >= original / high:
                smooth = (original / wavelength - low) / (high - low)
                frequency = (1 - smooth) * frequency / factor + smooth * frequency
        elif scaling:
            raise ValueError("rope scaling " + scaling["rope_type"])
        out.append(frequency)
    return torch.tensor(out)


def rotate(x, positions, frequencies):
    """x [heads, T, D]: element i turns with element i + D/2."""
    angle = positions[:, None].to(torch.float64) * frequencies[None, :]
    cos, sin = torch.cos(angle), torch.sin(angle)
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def cached(x, storage):
    return x.to(torch.float16).to(torch.float64) if storage == "f16" else x


def llama(config, p, ids, positions, documents, storage="f32"):
    width, heads = config["hidden_size"], config["num_attention_heads"]
    kv_heads = config["num_key_value_heads"]
    dim = config.get("head_dim") or width // heads
    eps = config["rms_norm_eps"]
    allowed = allowed_pairs(len(ids), config.get("sliding_window"), documents)
    frequencies = inverse_frequencies(config, dim)

    def norm(x, name):
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * p[name + ".weight"]

    def split(x, count):
        return x.reshape(len(ids), count, dim).transpose(0, 1)

    x = p["model.embed_tokens.weight"][ids]
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        h = norm(x, at + ".input_layernorm")
        q = rotate(split(linear(h, p, at + ".self_attn.q_proj"), heads), positions, frequencies)
        k = rotate(split(linear(h, p, at + ".self_attn.k_proj"), kv_heads), positions, frequencies)
        v = split(linear(h, p, at + ".self_attn.v_proj"), kv_heads)
        y = attend(q, cached(k, storage), cached(v, storage), allowed).transpose(0, 1).reshape(len(ids), heads * dim)
        x = x + linear(y, p, at + ".self_attn.o_proj")
        h = norm(x, at + ".post_attention_layernorm")
        gate = linear(h, p, at + ".mlp.gate_proj")
        up = linear(h, p, at + ".mlp.up_proj")
        x = x + linear(gate * torch.sigmoid(gate) * up, p, at + ".mlp.down_proj")
    head = "model.embed_tokens" if config.get("tie_word_embeddings") else "lm_head"
    return linear(norm(x, "model.norm"), p, head)


def gpt2(config, p, ids, positions, documents, storage="f32"):
    width, heads, eps = config["n_embd"], config["n_head"], config["layer_norm_epsilon"]
    allowed = allowed_pairs(len(ids), None, documents)

    def norm(x, name):
        centred = x - x.mean(-1, keepdim=True)
        scale = torch.sqrt((centred * centred).mean(-1, keepdim=True) + eps)
        return centred / scale * p[name + ".weight"] + p[name + ".bias"]

    def conv1d(x, name):
        return x @ p[name + ".weight"] + p[name + ".bias"]

    def split(x):
        return x.reshape(len(ids), heads, width // heads).transpose(0, 1)

    x = p["transformer.wte.weight"][ids] + p["transformer.wpe.weight"][positions]
    for layer in range(config["n_layer"]):
        at = f"transformer.h.{layer}"
        q, k, v = conv1d(norm(x, at + ".ln_1"), at + ".attn.c_attn").split(width, dim=-1)
        k, v = cached(split(k), storage), cached(split(v), storage)
        y = attend(split(q), k, v, allowed).transpose(0, 1).reshape(len(ids), width)
        x = x + conv1d(y, at + ".attn.c_proj")
        up = conv1d(norm(x, at + ".ln_2"), at + ".mlp.c_fc")
        active = 0.5 * up * (1 + torch.tanh(math.sqrt(2 / math.pi) * (up + 0.044715 * up**3)))
        x = x + conv1d(active, at + ".mlp.c_proj")
    return norm(x, "transformer.ln_f") @ p["transformer.wte.weight"].T


FAMILIES = {
    "LlamaForCausalLM": llama,
    "MistralForCausalLM": llama,
    "Qwen2ForCausalLM": llama,
    "GPT2LMHeadModel": gpt2,
}


def logits(request, results):
    config, parameters = load(request["folder"], request["storage"])
    model = FAMILIES[config["architectures"][0]]
    ids = torch.tensor(request["ids"])
    with torch.no_grad():
        y = model(config, parameters, ids, torch.arange(len(ids)), None, request["storage"])
    results[request["name"]] = y.numpy()


def learning_rate(step, config):
    """Linear warm-up to the highest rate, then half a cosine down to `final` of it (Loshchilov and Hutter, SGDR)."""
    high, warmup = config["learning_rate"], config["warmup"]
    if step < warmup:
        return high * (step + 1) / warmup
    low = high * config["final"]
    progress = min(1.0, (step - warmup) / max(1, config["steps"] - warmup))
    return low + (high - low) * (1 + math.cos(math.pi * progress)) / 2


def step_loss(model, config, parameters, microbatches):
    """Mean over all counted tokens of the step."""
    counted = sum(sum(map(sum, b["weights"])) for b in microbatches)
    total = 0.0
    for b in microbatches:
        for row, ids in enumerate(b["tokens"]):
            documents = None if b["documents"] is None else torch.tensor(b["documents"][row])
            positions = torch.tensor(b["positions"][row])
            y = model(config, parameters, torch.tensor(ids), positions, documents)
            targets = torch.tensor(b["targets"][row])
            losses = torch.nn.functional.cross_entropy(y, targets, reduction="none")
            total = total + (losses * torch.tensor(b["weights"][row])).sum()
    return total / counted


def train(request, results):
    name, settings = request["name"], request["config"]
    config, parameters = load(request["folder"])
    model = FAMILIES[config["architectures"][0]]
    groups = [
        {"params": [p for p in parameters.values() if p.dim() > 1], "weight_decay": settings["weight_decay"]},
        {"params": [p for p in parameters.values() if p.dim() < 2], "weight_decay": 0.0},
    ]
    betas = (settings["beta1"], settings["beta2"])
    optimizer = torch.optim.AdamW(groups, lr=settings["learning_rate"], betas=betas, eps=settings["eps"])
    losses, norms = [], []
    for step, microbatches in enumerate(request["steps"]):
        optimizer.zero_grad()
        loss = step_loss(model, config, parameters, microbatches)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(list(parameters.values()), settings["clip"])
        if step == 0:
            for key, p in parameters.items():
                results[f"{name}/gradient/{key}"] = p.grad.numpy().copy()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, settings)
        optimizer.step()
        losses.append(loss.item())
        norms.append(norm.item())
    results[f"{name}/loss"] = torch.tensor(losses).numpy()
    results[f"{name}/norm"] = torch.tensor(norms).numpy()
    for key, p in parameters.items():
        results[f"{name}/parameter/{key}"] = p.detach().numpy()


def main():
    with open(sys.argv[1]) as file:
        requests = json.load(file)
    results = {}
    for request in requests:
        {"logits": logits, "train": train}[request["kind"]](request, results)
    safetensors_io.write(sys.argv[2], results)


main()
