"""Decode and training steps in JAX, set up as peer_models.py says."""
import time

from peer_shapes import CONTEXT, GPT2, shape_of


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
