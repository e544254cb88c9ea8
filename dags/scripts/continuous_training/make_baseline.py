"""Trains the shipped model on data/reference.csv and writes data/baseline/; run once, its result is committed.

Usage: make_baseline.py [FOLDER]. Run it in the folder `dags`.
"""

import pathlib
import sys

import model

folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "data/baseline")
seen, unseen = model.split(model.read_rows("data/reference.csv"))
trained = model.train(seen, rounds=400, learning_rate=0.5, penalty=0.02)
trained["metrics"] = {**model.measure(trained, unseen), "rows_trained_on": len(seen)}
model.write_json(folder / "model.json", trained)
model.write_json(folder / "baseline.json",
                 {"valid_from": "2026-10-31T00:00:00Z", "path": "../reference.csv", "model": "model.json"})
print(trained["metrics"])
