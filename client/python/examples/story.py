#!/usr/bin/env python3
"""The story of states in a few lines: story.py [ADDRESS [MODEL]]"""
import datetime
import sys

import dreamstate

TEXT = "Alice was beginning to get very tired of sitting by her sister on the bank."

# Which model; needed only when the server has several.
MODEL = sys.argv[2] if len(sys.argv) > 2 else ""

with dreamstate.Client(sys.argv[1] if len(sys.argv) > 1 else "localhost:50051") as client:
    for model in client.models():
        print(f"{model.name} serves {model.serving_version or 'nothing yet'}")

    # Read a text once; its state is kept on the server.
    (harvested,) = client.harvest(
        {"alice": TEXT}, model=MODEL, labels=["example"], time_to_live=datetime.timedelta(days=1)
    )
    state = harvested.state
    print(f"{state.name} has read {state.token_count} tokens")

    # Continue from it, as often as you like, without reading the text again.
    decoding = client.decode(source=state, model=MODEL, branches=3, max_tokens=40, top_k=8, seed=1)
    for branch, text in enumerate(decoding.texts()):
        print(f"branch {branch}: {text!r}")

    # How well is a text foreseen from it, and from nothing?
    for source in (state, None):
        score = client.score(" She had peeped into the book.", source=source, model=MODEL)
        print(f"{score.bits_per_byte:.4f} bits per byte from {source.name if source else 'nothing'}")

    client.delete_state(state)
