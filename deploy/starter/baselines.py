#!/usr/bin/env python3
"""What xz, zstd and an n-gram model need for the text that the starter was measured on.

    deploy/starter/baselines.py [CORPUS] [EVALUATION.md] > BASELINES.md

The test bytes are those of `dreamstate-trainer evaluate backbone`: the first 8,192 bytes of a document, at most 65,536 of a
domain. xz -9e and zstd -19 --long get the training text of the domain before them (of all domains, where the domain was never
trained on): size(training + test) - size(training). They compress a domain's test texts as one, so a text may refer to those
before it; the model reads every document from the empty state. The n-gram model counts up to six bytes (five of context) of the
training text of all domains, smoothed by Witten and Bell's interpolation. Needs numpy, xz and zstd; takes ten minutes.
"""
import json
import pathlib
import re
import subprocess
import sys

import numpy

DOCUMENT_BYTES, LABEL_BYTES, ORDER = 8192, 65536, 5


class Split:
    def __init__(self, corpus, name):
        self.tokens = numpy.fromfile(corpus / f"{name}.bin", dtype="<u2")
        self.documents = [json.loads(line) for line in open(corpus / f"{name}.documents.jsonl", encoding="utf-8")]

    def text(self, document):
        return self.tokens[document["begin"]:document["begin"] + document["tokens"]].astype(numpy.uint8)


def excerpts(split):
    """{label: the excerpts that are measured}"""
    chosen = {}
    for document in split.documents:
        pieces = chosen.setdefault(document["label"], [])
        limit = min(DOCUMENT_BYTES, LABEL_BYTES - sum(map(len, pieces)))
        piece = split.text(document)[:limit]
        if len(piece):
            pieces.append(piece)
    return chosen


def compressed_bytes(command, data):
    return len(subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout)


def grams(tokens, order):
    """Every byte with the `order` bytes before it, as one number."""
    keys = tokens[order:].astype(numpy.uint64)
    for back in range(1, order + 1):
        keys |= tokens[order - back:len(tokens) - back].astype(numpy.uint64) << numpy.uint64(8 * back)
    return keys


def lookup(known, values, wanted):
    at = numpy.minimum(numpy.searchsorted(known, wanted), len(known) - 1)
    return numpy.where(known[at] == wanted, values[at], 0)


def ngram_bits(train, texts):
    """Bits that the bytes of every text cost."""
    padded = [numpy.concatenate([numpy.zeros(ORDER, numpy.uint8), text]) for text in texts]
    chances = [numpy.full(len(text), 1 / 256) for text in texts]
    for order in range(ORDER + 1):
        known, counts = numpy.unique(grams(train, order), return_counts=True)
        contexts, first = numpy.unique(known >> numpy.uint64(8), return_index=True)
        totals = numpy.add.reduceat(counts, first)
        kinds = numpy.diff(numpy.append(first, len(known)))
        for i, text in enumerate(padded):
            wanted = grams(text, order)[ORDER - order:]
            seen = lookup(known, counts, wanted)
            total = lookup(contexts, totals, wanted >> numpy.uint64(8))
            kind = lookup(contexts, kinds, wanted >> numpy.uint64(8))
            smoothed = (seen + kind * chances[i]) / numpy.maximum(total + kind, 1)
            chances[i] = numpy.where(total > 0, smoothed, chances[i])
    return [float(-numpy.log2(chance).sum()) for chance in chances]


def main():
    folder = pathlib.Path(__file__).parent
    corpus = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "build/corpus/starter")
    evaluation = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else folder / "training/EVALUATION.md")
    starter = {}
    for line in evaluation.read_text(encoding="utf-8").splitlines():
        row = re.fullmatch(r"\| (\w+) \| (shifted)? *\| \d+ \| (\d+) \| ([\d.]+) \|.*", line)
        if row:
            starter[row[1]] = (row[2] is not None, int(row[3]), float(row[4]))
    train, test = Split(corpus, "train"), Split(corpus, "test")
    chosen = excerpts(test)
    labels = sorted(starter)
    for label in labels:
        assert sum(map(len, chosen[label])) == starter[label][1], f"{label}: not the bytes that were measured"
    flat = [(label, piece) for label in labels for piece in chosen[label]]
    bits = dict.fromkeys(labels, 0.0)
    for (label, _), cost in zip(flat, ngram_bits(train.tokens, [piece for _, piece in flat])):
        bits[label] += cost
    commands = {"xz": ["xz", "-9e", "-T1", "--stdout"], "zstd": ["zstd", "-19", "--long=27", "--stdout", "-q"]}
    everything = b"".join(train.text(document).tobytes() for document in train.documents)
    bare = {name: None for name in commands}
    rows = []
    for label in labels:
        shifted, size, ours = starter[label]
        own = b"".join(train.text(document).tobytes() for document in train.documents if document["label"] == label)
        text = b"".join(piece.tobytes() for piece in chosen[label])
        row = {"label": label, "shifted": shifted, "starter": ours, "n-gram": bits[label] / size}
        for name, command in commands.items():
            if own:
                before = compressed_bytes(command, own)
            else:
                bare[name] = bare[name] or compressed_bytes(command, everything)
                before = bare[name]
            row[name] = 8 * (compressed_bytes(command, (own or everything) + text) - before) / size
        rows.append(row)
        print(row, file=sys.stderr)
    names = ["starter", "xz", "zstd", "n-gram"]
    print("Bits per byte of the test documents, see deploy/starter/baselines.py\n")
    print("| domain |  | starter | xz -9e | zstd -19 --long | n-gram, order 5 |")
    print("|---|---|---:|---:|---:|---:|")
    for row in rows:
        print(f"| {row['label']} | {'shifted' if row['shifted'] else ''} | " + " | ".join(f"{row[name]:.3f}" for name in names) + " |")
    for shifted, title in ((False, "trained"), (True, "shifted")):
        group = [row for row in rows if row["shifted"] == shifted]
        means = " | ".join(f"{sum(row[name] for row in group) / len(group):.3f}" for name in names)
        print(f"| mean of {len(group)} {title} |  | {means} |")
    for name in names[1:]:
        behind = [row["label"] for row in rows if row["starter"] >= row[name]]
        print(f"\nThe starter is ahead of {name} on {len(rows) - len(behind)} of {len(rows)} domains"
              + (f"; not on {', '.join(behind)}." if behind else "."))


if __name__ == "__main__":
    main()
