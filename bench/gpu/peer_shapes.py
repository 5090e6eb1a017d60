"""Shapes of the models that peers decode and train, those of model_cases.ts."""
CONTEXT = 1024
LLAMAS = {
    "llama_1b": dict(width=2048, ffn=8192, layers=16, heads=32, kv=8, vocab=128256, tied=True),
    "llama_8b": dict(width=4096, ffn=14336, layers=32, heads=32, kv=8, vocab=128256, tied=False),
}
GPT2 = dict(width=768, layers=12, heads=12, vocab=50304)
# For trying the script without a GPU.
TINY = dict(width=64, ffn=128, layers=2, heads=4, kv=2, vocab=256)


def shape_of(model, device):
    return LLAMAS[model] if device == "cuda" else TINY | {"tied": LLAMAS[model]["tied"]}
