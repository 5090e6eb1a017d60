"""OpenBLAS by its C interface: answers the questions of bench/suite/contender.ts on stdin and stdout.

Matmuls in f32 only. Weights are kept in the two layouts that need no packing by the caller, w[columns, depth] and
its transpose, and the faster is used.
"""

import ctypes
import json
import os
import sys
import time

ROW_MAJOR, NO_TRANS, TRANS = 101, 111, 112
STREAM_X, STREAM_W = 1, 2


def answer(value):
    print(json.dumps(value), flush=True)


def values_of(np, stream, count):
    """bench/suite/inputs.ts has the formula."""
    h = np.arange(count, dtype=np.uint32) * np.uint32(2654435761) + np.uint32(stream * 974711 % 2**32)
    h = (h ^ (h >> np.uint32(15))) * np.uint32(2246822519)
    h = h ^ (h >> np.uint32(13))
    return ((h >> np.uint32(8)).astype(np.float64) / 2**23 - 1).astype(np.float32)


class Matmul:
    """y[rows, columns] = x[rows, depth] w[columns, depth]^T."""

    def __init__(self, np, blas, work):
        self.blas = blas
        self.rows, self.depth, self.columns = work["rows"], work["depth"], work["columns"]
        self.x = values_of(np, STREAM_X, self.rows * self.depth)
        self.w = values_of(np, STREAM_W, self.columns * self.depth).reshape(self.columns, self.depth)
        self.turned = np.ascontiguousarray(self.w.T)
        self.y = np.zeros(self.rows * self.columns, np.float32)
        times = {}
        for transposed in (False, True) * 3:
            self.transposed = transposed
            times[transposed] = min(times.get(transposed, 1e9), self.run(1))
        self.transposed = times[True] < times[False]
        call = "sgemv" if self.rows == 1 else "sgemm"
        layout = "[depth, columns]" if self.transposed else "[columns, depth]"
        self.notes = f"cblas_{call}, weights as {layout}"

    def call(self):
        w, ld = (self.turned, self.columns) if self.transposed else (self.w, self.depth)
        x, w, y = (a.ctypes.data_as(ctypes.c_void_p) for a in (self.x, w, self.y))
        if self.rows > 1:
            return lambda: self.blas.cblas_sgemm(
                ROW_MAJOR, NO_TRANS, NO_TRANS if self.transposed else TRANS, self.rows, self.columns, self.depth,
                ctypes.c_float(1), x, self.depth, w, ld, ctypes.c_float(0), y, self.columns)  # fmt: skip
        m, n = (self.depth, self.columns) if self.transposed else (self.columns, self.depth)
        return lambda: self.blas.cblas_sgemv(
            ROW_MAJOR, TRANS if self.transposed else NO_TRANS, m, n,
            ctypes.c_float(1), w, ld, x, 1, ctypes.c_float(0), y, 1)  # fmt: skip

    def run(self, times):
        call = self.call()
        start = time.perf_counter()
        for _ in range(times):
            call()
        return (time.perf_counter() - start) * 1000 / times


def load():
    try:
        import numpy as np
    except ImportError:
        return None, "numpy is not installed for /usr/bin/python3; on Debian: apt install python3-numpy"
    try:
        blas = ctypes.CDLL("libopenblas.so.0")
    except OSError:
        return None, "OpenBLAS is not installed; on Debian: apt install libopenblas0-pthread"
    return (np, blas), None


def main():
    loaded, missing = load()
    if missing:
        answer({"missing": missing})
        return
    np, blas = loaded
    threads = len(os.sched_getaffinity(0))
    blas.openblas_set_num_threads(threads)
    blas.openblas_get_config.restype = blas.openblas_get_corename.restype = ctypes.c_char_p
    version = blas.openblas_get_config().decode().split()[1]
    device = f"CPU, {blas.openblas_get_corename().decode()} kernels, {threads} threads"
    answer({"hello": {"name": "openblas", "version": version, "kind": "native", "device": device}})
    current = None
    for line in sys.stdin:
        question = json.loads(line)
        try:
            if question["ask"] == "prepare":
                work = question["work"]
                if work["kind"] != "matmul" or work["weights"] != "f32":
                    answer({"unsupported": "f32 matmuls only"})
                    continue
                current = Matmul(np, blas, work)
                answer({"ready": {"notes": current.notes}})
            elif question["ask"] == "run":
                answer({"ms": current.run(question["times"])})
            elif question["ask"] == "sample":
                answer({"values": [float(current.y[i]) for i in question["indices"]]})
            else:
                current = None
                answer({"released": {}})
        except Exception as error:  # whatever it is, the suite names it
            answer({"error": repr(error)})


main()
