"""A whole decode or training step in PyTorch or JAX, for run.py: prepares it, says so in a line of JSON, and then answers
each line of its input with the milliseconds of a step.

Each peer is set up as its own experts would: PyTorch compiled with CUDA graphs
(mode max-autotune), static caches, weights in bf16, the loss and gradients under autocast with fused AdamW; JAX under jit
with donated caches and states. Events are around ten steps, so that the host's part hides behind the device's where it
can. 4-bit weights: PyTorch's own int4 product, in groups of 32. Every peer has a process of its own: one that fails or
takes all the memory ends nobody else.
"""
import argparse
import json
import os
import sys

from peer_jax import jax_decode, jax_train
from peer_torch import torch_decode, torch_train

# Read when JAX is imported, which the peer does that needs it.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
MODULES = {"PyTorch": "torch", "JAX": "jax"}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--list", action="store_true", help="print the cases, and the gigabytes that a peer takes")
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
