"""Measures the model in service on the day's labels. A day whose columns do not fit it is skipped (exit code 99)."""

import os
import pathlib
import sys

import model

SKIP = 99


def main():
    day = os.environ["TIDEMILL_DS"]
    baseline = model.inputs()["pick_baseline"]
    in_service = model.read_json(baseline["model"])
    batch, labels = (pathlib.Path(f"data/{kind}/date={day}") for kind in ("live", "labels"))
    if not batch.exists() or not labels.exists():
        print(f"the data or the labels of {day} have not arrived")
        return SKIP
    rows = model.read_labelled(batch, labels)
    absent = [name for name in in_service["features"] if name not in rows[0]]
    if absent:
        print(f"the model needs columns that this day lacks: {', '.join(absent)}")
        return SKIP
    metrics = model.measure(in_service, rows)
    print(f"accuracy {metrics['accuracy']:.3f}, AUC {metrics['auc']:.3f} on {metrics['rows']} rows of {day}")
    model.output(metrics)
    return 0


sys.exit(main())
