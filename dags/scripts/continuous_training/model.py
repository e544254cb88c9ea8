"""A logistic regression that trains, predicts and is measured with the standard library alone."""

import csv
import json
import math
import os
import pathlib

POSITIVE = "malignant"
NOT_FEATURES = ("row_id", "sample_id", "diagnosis")


# ---- files ----------------------------------------------------------------------------------------------------


def read_rows(path):
    """Reads a CSV file, or the parts of a folder in order."""
    path = pathlib.Path(path)
    parts = sorted(path.rglob("*.csv")) if path.is_dir() else [path]
    rows = []
    for part in parts:
        with part.open(newline="", encoding="utf-8") as file:
            rows.extend(csv.DictReader(file))
    if not rows:
        raise SystemExit(f"{path} holds no rows")
    return rows


def read_labelled(features_path, labels_path=None):
    """Reads rows and gives each its diagnosis, unless they carry it already."""
    rows = read_rows(features_path)
    if "diagnosis" not in rows[0]:
        if labels_path is None or not pathlib.Path(labels_path).exists():
            raise SystemExit(f"the labels of {features_path} have not arrived")
        labels = {row["row_id"]: row["diagnosis"] for row in read_rows(labels_path)}
        for row in rows:
            row["diagnosis"] = labels[row["row_id"]]
    return rows


def write_json(path, value):
    """Writes a file so that a reader sees all of it or nothing."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def read_json(path):
    return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))


def output(values):
    """Hands values to the tasks below this one."""
    with open(os.environ["TIDEMILL_OUTPUT"], "a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")


def inputs():
    """Returns what the tasks above this one handed over: {task: {key: value}}."""
    return read_json(os.environ["TIDEMILL_INPUTS"])


# ---- the model ------------------------------------------------------------------------------------------------


def split(rows):
    """Splits rows into those to train on and those to measure on.

    By `sample_id`, not by row: a batch may draw the same sample twice, and a copy of a training row is not unseen.
    """
    train = [row for row in rows if int(row["sample_id"]) % 3 != 0]
    unseen = [row for row in rows if int(row["sample_id"]) % 3 == 0]
    return train, unseen


def number(text):
    """Returns the number of a cell, or None where it is missing."""
    text = text.strip()
    return None if text in ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None") else float(text)


def train(rows, rounds, learning_rate, penalty):
    """Gradient descent on the standardised features; a missing value counts as the mean.

    The penalty keeps the weights small: the classes can be separated and many features say nearly the same.
    """
    names = [name for name in rows[0] if name not in NOT_FEATURES]
    means, deviations = {}, {}
    for name in names:
        values = [v for v in (number(row[name]) for row in rows) if v is not None]
        mean = math.fsum(values) / len(values)
        means[name] = mean
        deviations[name] = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values)) or 1.0
    model = {"features": names, "means": means, "deviations": deviations, "bias": 0.0}
    model["weights"] = {name: 0.0 for name in names}
    table = [standardised(model, row) for row in rows]
    targets = [1.0 if row["diagnosis"] == POSITIVE else 0.0 for row in rows]
    weights, bias = [0.0] * len(names), 0.0
    for _ in range(rounds):
        errors = [sigmoid(bias + dot(weights, x)) - y for x, y in zip(table, targets)]
        bias -= learning_rate * math.fsum(errors) / len(rows)
        for place, column in enumerate(zip(*table)):
            slope = dot(errors, column) / len(rows) + penalty * weights[place]
            weights[place] -= learning_rate * slope
    model["weights"], model["bias"] = dict(zip(names, weights)), bias
    return model


def dot(left, right):
    return sum(map(float.__mul__, left, right))


def sigmoid(z):
    return 1.0 / (1.0 + math.exp(-z)) if z >= 0 else 1.0 - 1.0 / (1.0 + math.exp(z))


def standardised(model, row):
    values = []
    for name in model["features"]:
        value = number(row[name])
        values.append(0.0 if value is None else (value - model["means"][name]) / model["deviations"][name])
    return values


def predict(model, row):
    """Returns the probability that a row is malignant."""
    weights = [model["weights"][name] for name in model["features"]]
    return sigmoid(model["bias"] + dot(weights, standardised(model, row)))


def measure(model, rows):
    """Returns accuracy, the area under the ROC curve and the log loss on labelled rows."""
    scored = [(predict(model, row), row["diagnosis"] == POSITIVE) for row in rows]
    right = sum((p >= 0.5) == is_positive for p, is_positive in scored)
    loss = math.fsum(-math.log(max(p if is_positive else 1.0 - p, 1e-15)) for p, is_positive in scored)
    return {
        "rows": len(scored),
        "accuracy": right / len(scored),
        "auc": area_under_curve(scored),
        "log_loss": loss / len(scored),
    }


def area_under_curve(scored):
    """The share of pairs of a positive and a negative row in the right order; a tie counts as half."""
    ranked = sorted(scored)
    rank_sum, start = 0.0, 0
    while start < len(ranked):
        end = start
        while end < len(ranked) and ranked[end][0] == ranked[start][0]:
            end += 1
        rank_sum += (start + 1 + end) / 2 * sum(is_positive for _, is_positive in ranked[start:end])
        start = end
    positives = sum(is_positive for _, is_positive in scored)
    negatives = len(scored) - positives
    if not positives or not negatives:
        return None
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)
