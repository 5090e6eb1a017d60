"""Reads stored test vectors: safetensors whose metadata names op, case, attributes and storage formats."""
import json
import struct

import numpy as np
from small_floats import e4m3_of, stored_blocks


def nibbles(data):
    """4-bit values, the low half of a byte first."""
    return np.stack([data & 15, data >> 4], axis=-1).reshape(-1)


def decode(data, shape, storage):
    """Bytes of a tensor as a numpy array: float64, or int64 for the integer formats."""
    count = int(np.prod(shape))
    if storage in ("u32", "i32"):
        values = np.frombuffer(data, np.uint32 if storage == "u32" else np.int32, count).astype(np.int64)
    elif storage in ("f32", "f16"):
        values = np.frombuffer(data, np.float32 if storage == "f32" else np.float16, count).astype(np.float64)
    elif storage == "bf16":
        values = (np.frombuffer(data, np.uint16, count).astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    elif storage in ("q8_0", "q4_0"):
        # Blocks of 32: the quants of all blocks, then one f16 scale per block.
        blocks, quant_bytes = count // 32, 32 if storage == "q8_0" else 16
        quants = np.frombuffer(data, np.uint8, blocks * quant_bytes)
        quants = quants.view(np.int8) if storage == "q8_0" else nibbles(quants).astype(np.int8) - 8
        scales = np.frombuffer(data, np.float16, blocks, blocks * quant_bytes).astype(np.float64)
        # A scale that overflowed f16 is infinite, and infinity times a quant of 0 is NaN on every side.
        with np.errstate(invalid="ignore"):
            values = (quants.reshape(blocks, 32) * scales[:, None]).reshape(-1)
    elif storage == "e4m3":
        values = e4m3_of(np.frombuffer(data, np.uint8, count))
    elif storage in ("e4m3_128", "mxfp8", "nvfp4"):
        values = stored_blocks(data, count, storage)
    else:
        raise ValueError(f"unknown storage format {storage}")
    return values.reshape(shape)


class Vector:
    """attrs, inputs and outputs (name to array), formats and raw bytes ("in.x", "out.y")."""

    def __init__(self, path):
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
            data = file.read()
        metadata = header.pop("__metadata__")
        types = json.loads(metadata["types"])
        self.op, self.case, self.attrs = metadata["op"], metadata["case"], json.loads(metadata["attrs"])
        self.raw = {name: data[slice(*about["data_offsets"])] for name, about in header.items()}
        self.formats = {name: types[name]["format"] for name in header}
        arrays = {name: decode(self.raw[name], types[name]["shape"], self.formats[name]) for name in header}
        self.inputs = {name[3:]: array for name, array in arrays.items() if name.startswith("in.")}
        self.outputs = {name[4:]: array for name, array in arrays.items() if name.startswith("out.")}
        for port, other in json.loads(metadata["same"]).items():
            self.inputs[port] = self.inputs[other]
