"""Reloads a model and measures it again, by itself: `evaluate.py MODEL FEATURES [LABELS] [--all]`.

Without --all it takes the rows that training held back, so it must print the metrics that training reported.
"""

import argparse
import json

import model


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("features")
    parser.add_argument("labels", nargs="?")
    parser.add_argument("--all", action="store_true", help="every row, not only the unseen ones")
    wanted = parser.parse_args()
    rows = model.read_labelled(wanted.features, wanted.labels)
    if not wanted.all:
        rows = model.split(rows)[1]
    print(json.dumps(model.measure(model.read_json(wanted.model), rows)))


main()
