"""Exports scikit-learn's bundled breast-cancer table to breast_cancer.csv, once; see README.md.

Needs scikit-learn (1.9.1 was used). Nothing else in this folder does.
"""

import csv
import pathlib

from sklearn.datasets import load_breast_cancer

data = load_breast_cancer()
names = [name.replace(" ", "_") for name in data.feature_names]
path = pathlib.Path(__file__).with_name("breast_cancer.csv")
with path.open("w", newline="") as file:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["sample_id", *names, "diagnosis"])
    for number, (row, target) in enumerate(zip(data.data, data.target), start=1):
        # repr gives the shortest text that reads back as the same number.
        writer.writerow([number, *(repr(float(value)) for value in row), data.target_names[target]])
