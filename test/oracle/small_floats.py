"""Numbers of 8 and 4 bits and the block formats made of them, from lists of all their values."""
import numpy as np

# By code, without the sign: OFP8's E4M3 up to 448, and MX's E2M1.
E4M3 = np.array([m * 2.0**-9 if e == 0 else (8 + m) * 2.0 ** (e - 10) for e in range(16) for m in range(8)][:127])
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])


def nearest(values, x):
    """The nearest of ascending positive values, the even code of two, with the sign of x; NaN stays."""
    size = np.minimum(np.abs(x), values[-1])
    above = np.clip(np.searchsorted(values, size), 1, len(values) - 1)
    below = above - 1
    up, down = values[above] - size, size - values[below]
    code = np.where(up < down, above, np.where(up > down, below, np.where(above % 2 == 0, above, below)))
    return np.where(np.isnan(x), np.nan, np.copysign(values[code], x))


def signed(values, codes, sign):
    """Values of codes whose highest bit is the sign; those without a value are NaN."""
    known = np.append(values, np.full(max(0, sign - len(values)), np.nan))
    return np.where(codes & sign, -1.0, 1.0) * known[codes & (sign - 1)]


def e4m3_of(codes):
    return signed(E4M3, codes, 128)


def e2m1_of(codes):
    return signed(E2M1, codes, 8)


def e8m0_of(codes):
    return np.where(codes == 255, np.nan, 2.0 ** (codes.astype(np.float64) - 127))


def f32(x):
    with np.errstate(over="ignore"):
        return np.float32(x).astype(np.float64)


def f32_scale(x):
    """As scales of these formats are stored: none that is not finite, none below 2^-100."""
    scale = np.where(np.isfinite(x), f32(x), np.nan)
    return np.where(scale < 2.0**-100, 0.0, scale)


def quantized(x, storage):
    """What a tensor becomes in a block format with float quants; f32 numbers given as float64."""
    size = {"e4m3_128": 128, "mxfp8": 32, "nvfp4": 16}[storage]
    blocks = x.reshape(-1, size)
    largest = np.abs(blocks).max(axis=1, keepdims=True)
    tensor = 1.0
    if storage == "e4m3_128":
        scale = f32_scale(largest / 448)
    elif storage == "mxfp8":
        # frexp gives a mantissa from one half on.
        exponent = np.maximum(np.frexp(np.where(largest > 0, largest, 2.0**-126))[1] - 1 - 8, -126)
        scale = np.where(np.isfinite(largest), 2.0**exponent, np.nan)
    else:
        tensor = f32_scale(np.abs(x).max() / (6 * 448))
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = np.where(tensor > 0, nearest(E4M3, largest / f32(6 * tensor)), np.where(np.isnan(tensor), np.nan, 0))
    stored = f32(scale * tensor)
    usable = (stored != 0) & np.isfinite(stored)
    quants = nearest(E2M1 if storage == "nvfp4" else E4M3, blocks / np.where(usable, stored, 1))
    return (np.where(usable, quants, 0) * (scale * tensor)).reshape(x.shape)


def stored_blocks(data, count, storage):
    """Values of a tensor in a block format: quants of all blocks, scales of all blocks, perhaps the tensor's scale."""
    size = {"e4m3_128": 128, "mxfp8": 32, "nvfp4": 16}[storage]
    blocks, codes = count // size, np.frombuffer(data, np.uint8)
    if storage == "nvfp4":
        quants, scales = codes[: count // 2], codes[count // 2 :][:blocks]
        quants = e2m1_of(np.stack([quants & 15, quants >> 4], axis=-1).reshape(-1))
        scales = e4m3_of(scales) * np.frombuffer(data[-4:], np.float32).astype(np.float64)
    else:
        quants = e4m3_of(codes[:count])
        if storage == "mxfp8":
            scales = e8m0_of(codes[count:][:blocks])
        else:
            scales = np.frombuffer(data, np.float32, blocks, count).astype(np.float64)
    return (quants.reshape(blocks, size) * scales[:, None]).reshape(-1)
