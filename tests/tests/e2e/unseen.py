"""What the test of unseen batches makes and expects, with numpy and scipy.

usage: unseen.py make DAGS DATE SEED moved|quiet   writes a batch with its labels; prints the moved columns
       unseen.py expect DAGS DATE                  prints the drifted set as scipy sees it
"""

import csv
import json
import pathlib
import sys

import numpy as np
from scipy import stats

LEFT_OUT = ("row_id", "sample_id", "diagnosis")


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def make(dags, date, seed, kind):
    rng = np.random.default_rng(int(seed))
    rows = read(dags / "data/reference.csv")
    names = [name for name in rows[0] if name not in LEFT_OUT]
    # All rows once, in another order, and a hundred of them again: quiet data that differ from the reference.
    picked = [rows[i] for i in list(rng.permutation(len(rows))) + list(rng.integers(0, len(rows), 100))]
    table = np.array([[float(row[name]) for name in names] for row in picked])
    table += rng.normal(0, 1, table.shape) * table.std(axis=0) * 0.02
    moved = []
    if kind == "moved":
        moved = sorted(rng.choice(len(names), size=int(rng.integers(9, 16)), replace=False).tolist())
        for column in moved:
            table[:, column] += table[:, column].std() * rng.uniform(1.2, 2.5)
    live, labels = dags / f"data/live/date={date}", dags / f"data/labels/date={date}"
    for folder in (live, labels):
        folder.mkdir(parents=True, exist_ok=True)
    with open(live / "part-0000.csv", "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["row_id", "sample_id", *names])
        for i, row in enumerate(table):
            out.writerow([f"{date}-{i}", picked[i]["sample_id"], *map(repr, map(float, row))])
    with open(labels / "labels.csv", "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["row_id", "diagnosis"])
        out.writerows([f"{date}-{i}", row["diagnosis"]] for i, row in enumerate(picked))
    print(json.dumps([names[column] for column in moved]))


def psi_atoms(reference, current):
    quantiles = np.percentile(reference, np.linspace(0, 100, 11))
    before = np.unique(quantiles[1:-1])
    values, counts = np.unique(quantiles, return_counts=True)
    atoms = values[counts > 1]
    before, after = np.unique(np.concatenate([before, atoms])), atoms
    index = lambda x: np.searchsorted(before, x, side="right") + np.searchsorted(after, x, side="left")
    bins = len(before) + len(after) + 1
    e, a = (np.clip(np.bincount(index(x), minlength=bins) / len(x), 1e-4, None) for x in (reference, current))
    return float(np.sum((a - e) * np.log(a / e)))


def expect(dags, date):
    reference, current = read(dags / "data/reference.csv"), read(dags / f"data/live/date={date}/part-0000.csv")
    names = [name for name in reference[0] if name not in LEFT_OUT]
    column = lambda rows, name: np.array([float(row[name]) for row in rows])
    sides = {name: (column(reference, name), column(current, name)) for name in names}
    p_values = [stats.ks_2samp(*sides[name]).pvalue for name in names]
    corrected = stats.false_discovery_control(p_values, method="bh")
    drifted = [n for n, p in zip(names, corrected) if p <= 0.01 and psi_atoms(*sides[n]) > 0.2]
    print(json.dumps(drifted))


if sys.argv[1] == "make":
    make(pathlib.Path(sys.argv[2]), *sys.argv[3:6])
else:
    expect(pathlib.Path(sys.argv[2]), sys.argv[3])
