#!/usr/bin/env python3
"""What the independent `rwkv` package computes for random models of odd shapes.

The weights are a function of names, shapes and a seed, which tests/core/rwkv/parity_test.cc has too: only the
package's outputs are files. The committed ones come from

    python3 -m venv venv && . venv/bin/activate
    pip install --no-deps torch==2.11.0 nvidia-cufile nvidia-cusparselt-cu13 nvidia-nvshmem-cu13 rwkv==0.8.32
    pip install numpy filelock typing_extensions sympy mpmath networkx jinja2 fsspec tokenizers
    python3 tests/parity/make_golden.py tests/data/golden

and a comparison of other shapes, drawn from a seed, is (after deploy/build.sh core_rwkv_test)

    python3 tests/parity/make_golden.py --random 12 --seed 7 /tmp/parity
    DREAMSTATE_PARITY_GOLDEN=/tmp/parity build/release/bin/tests/core_rwkv_test --gtest_filter='Parity.*'
"""
import argparse
import hashlib
import json
import os
import random
import struct
import sys
import tempfile

os.environ.update(RWKV_V7_ON="1", RWKV_JIT_ON="0", RWKV_CUDA_ON="0")
import numpy as np
import torch

N = 64  # head size of every published model
STATE_STEP = 7  # every 7th element of a state is kept: all rows and columns are met

# layers, width, vocab, ffn width, ranks of decay, iclr, value, gate: no two ranks alike, F not 4 D.
COMMITTED = {
    "parity_one_layer": (1, 64, 40, 200, 8, 24, 16, 41),
    "parity_two_layers": (2, 192, 67, 448, 33, 17, 9, 50),
    "parity_wide": (2, 320, 50, 1283, 5, 96, 64, 7),
    "parity_deep": (5, 128, 129, 96, 64, 31, 130, 40),
}
FIELDS = ("layers", "width", "vocab", "ffn_width", "rank_decay", "rank_iclr", "rank_value", "rank_gate")


def tensors(shape):
    """Names and shapes as the official trainer writes them."""
    layers, d, vocab, f, rw, ra, rv, rg = shape
    yield "emb.weight", (vocab, d)
    for i in range(layers):
        b = f"blocks.{i}."
        for ln in (["ln0"] if i == 0 else []) + ["ln1", "ln2"]:
            yield b + ln + ".weight", (d,)
            yield b + ln + ".bias", (d,)
        a = b + "att."
        for x in "rwkvag":
            yield a + "x_" + x, (1, 1, d)
        for letter, rank in (("w", rw), ("a", ra), ("v", rv), ("g", rg)):
            if letter == "v" and i == 0:
                continue
            if letter != "g":
                yield a + letter + "0", (1, 1, d)
            yield a + letter + "1", (d, rank)
            yield a + letter + "2", (rank, d)
        yield a + "k_k", (1, 1, d)
        yield a + "k_a", (1, 1, d)
        yield a + "r_k", (d // N, N)
        for w in ("receptance", "key", "value", "output"):
            yield a + w + ".weight", (d, d)
        yield a + "ln_x.weight", (d,)
        yield a + "ln_x.bias", (d,)
        yield b + "ffn.x_k", (1, 1, d)
        yield b + "ffn.key.weight", (f, d)
        yield b + "ffn.value.weight", (d, f)
    yield "ln_out.weight", (d,)
    yield "ln_out.bias", (d,)
    yield "head.weight", (vocab, d)


def uniform(name, seed, count):
    """In [-1, 1): SplitMix64 of seed, name (FNV-1a) and index."""
    base = 0xCBF29CE484222325
    for byte in name.encode():
        base = ((base ^ byte) * 0x100000001B3) % 2**64
    x = np.arange(count, dtype=np.uint64) + np.uint64((base + seed) % 2**64)
    x = (x + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return (x >> np.uint64(40)).astype(np.float64) / 2**23 - 1


def center_and_scale(name, shape):
    """Of the uniform numbers: what keeps a random model lively and its activations of order one."""
    last = name.split(".")[-1]
    if last == "bias":
        return 0, 0.125
    if last == "weight" and len(shape) == 1:
        return 1, 0.25
    if last.startswith("x_"):
        return 0.5, 0.5
    fixed = {"w0": (-1, 4), "a0": (0, 1), "v0": (0, 1), "k_k": (0.75, 0.25), "k_a": (1, 0.25), "r_k": (0, 0.5)}
    if last in fixed:
        return fixed[last]
    if name == "emb.weight":
        return 0, 1
    inputs = shape[1] if last == "weight" else shape[0]  # Linear is [out, in], low-rank [in, out]
    return 0, 1.5 / np.sqrt(np.float64(inputs))


def to_bf16_bits(values):
    bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def weights(shape, seed):
    for name, size in tensors(shape):
        center, scale = center_and_scale(name, size)
        yield name, size, to_bf16_bits(center + scale * uniform(name, seed, int(np.prod(size))))


def fingerprint(shape, seed):
    """tensors::Fingerprint of the model's normal form."""
    digest = hashlib.sha256()
    number = lambda value: digest.update(struct.pack("<Q", value))
    text = lambda value: (number(len(value)), digest.update(value.encode()))
    everything = sorted(weights(shape, seed), key=lambda entry: entry[0].encode())
    number(len(everything))
    for name, size, bits in everything:
        size = size[2:] if len(size) == 3 else size
        text(name)
        text("bf16")
        number(len(size))
        for n in size:
            number(n)
        number(bits.nbytes)
        digest.update(bits.tobytes())
    return digest.hexdigest()


def official(shape, seed, tokens):
    """Logits after each token, one call a token, and the final state in the canonical layout."""
    from rwkv.model import RWKV

    z = {n: torch.from_numpy(b.view(np.int16).copy()).view(torch.bfloat16).view(s) for n, s, b in weights(shape, seed)}
    for part in ("v0", "v1", "v2"):  # as released files have it; nothing reads them
        like = part.replace("v", "a")
        z["blocks.0.att." + part] = z["blocks.0.att." + like].clone()
    with tempfile.TemporaryDirectory() as directory:
        torch.save(z, os.path.join(directory, "model.pth"))
        model = RWKV(model=os.path.join(directory, "model"), strategy="cpu fp32")
        rows, state = [], None
        for token in tokens:
            out, state = model.forward([token], state)
            rows.append(out.float().numpy().copy())
    layers = shape[0]
    shift = np.stack([np.stack([state[3 * i].numpy(), state[3 * i + 2].numpy()]) for i in range(layers)])
    wkv = np.stack([state[3 * i + 1].numpy() for i in range(layers)])
    return np.stack(rows), np.concatenate([shift.ravel(), wkv.ravel()])


def write(directory, name, shape, seed):
    draw = random.Random(seed)
    tokens = [draw.randrange(shape[2]) for _ in range(24)]
    logits, state = official(shape, seed, tokens)
    index = {
        "note": "made by tests/parity/make_golden.py with rwkv 0.8.32, torch " + torch.__version__ + ", cpu fp32",
        "seed": seed, "tokens": tokens, **dict(zip(FIELDS, shape)),
        "fingerprint": fingerprint(shape, seed), "state_step": STATE_STEP, "logits_std": float(logits.std()), "tensors": [],
    }
    data = b""
    for tensor, values in (("logits", logits), ("state", state[::STATE_STEP])):
        raw = np.ascontiguousarray(values, dtype="<f4")
        index["tensors"].append({"name": tensor, "dtype": "f32", "shape": list(raw.shape), "offset": len(data), "nbytes": raw.nbytes})
        data += raw.tobytes()
    with open(os.path.join(directory, name + ".bin"), "wb") as file:
        file.write(data)
    with open(os.path.join(directory, name + ".json"), "w") as file:
        json.dump(index, file, indent=1)
        file.write("\n")
    print(f"{name}: {dict(zip(FIELDS, shape))}, {len(data)} bytes, logits std {logits.std():.2f}, state up to {np.abs(state).max():.2f}")


def random_shape(draw):
    ranks = draw.sample(range(2, 200), 4)
    return (draw.randint(1, 6), N * draw.randint(1, 12), draw.randint(3, 700), draw.randint(2, 2000), *ranks)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", help="where parity_*.json and .bin go; made when missing")
    parser.add_argument("--random", type=int, default=0, help="this many shapes drawn from the seed, not the committed ones")
    parser.add_argument("--shape", help="one model: " + ",".join(FIELDS) + " (0.1B: 12,768,65536,3072,64,64,32,128)")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    os.makedirs(arguments.directory, exist_ok=True)
    draw = random.Random(arguments.seed)
    shapes = {f"parity_random_{i}": random_shape(draw) for i in range(arguments.random)} or COMMITTED
    if arguments.shape:
        shapes = {"parity_shape": tuple(int(n) for n in arguments.shape.split(","))}
    for i, (name, shape) in enumerate(shapes.items()):
        write(arguments.directory, name, shape, arguments.seed + i)


if __name__ == "__main__":
    sys.exit(main())
