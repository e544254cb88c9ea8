"""Trains a model on the day's batch, measures it on rows that it has not seen, and makes the batch the baseline.

Usage: retrain.py --min-accuracy 0.9 --rounds 400. A model below the least accuracy is not promoted: the task fails
and the old baseline stays. Everything is written under $TIDEMILL_DATA_DIR; the baseline comes last and at once, so
a run that is killed leaves either the old state or the new one.
"""

import argparse
import os
import pathlib
import shutil

import model


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--min-accuracy", type=float, default=0.9)
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--learning-rate", type=float, default=0.5)
    parser.add_argument("--penalty", type=float, default=0.02)
    return parser.parse_args()


def main():
    wanted = arguments()
    day, logical_date = os.environ["TIDEMILL_DS"], os.environ["TIDEMILL_LOGICAL_DATE"]
    kept = pathlib.Path(os.environ["TIDEMILL_DATA_DIR"])
    batch = pathlib.Path(f"data/live/date={day}")
    seen, unseen = model.split(model.read_labelled(batch, f"data/labels/date={day}"))
    print(f"training on {len(seen)} rows of {day}, {len(unseen)} are held back", flush=True)
    trained = model.train(seen, wanted.rounds, wanted.learning_rate, wanted.penalty)
    metrics = {**model.measure(trained, unseen), "rows_trained_on": len(seen)}
    old = model.read_json(model.inputs()["pick_baseline"]["model"])
    before = model.measure(old, unseen)
    for name, measured in (("the new model", metrics), ("the one in service", before)):
        print(f"{name}: accuracy {measured['accuracy']:.3f}, AUC {measured['auc']:.3f}, log loss {measured['log_loss']:.3f}")
    if metrics["accuracy"] < wanted.min_accuracy:
        raise SystemExit(f"accuracy {metrics['accuracy']:.3f} is below {wanted.min_accuracy}: not promoted")
    # The fence only grows, so no other try of this task writes to this folder.
    folder = kept / "models" / f"{day}-{os.environ.get('TIDEMILL_FENCE', '0')}"
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    trained["trained_for"], trained["metrics"] = day, metrics
    model.write_json(folder / "model.json", trained)
    model.write_json(folder / "metrics.json", metrics)
    shutil.copytree(batch, folder / "baseline")
    baseline = kept / "baselines" / f"{day}.json"
    pointer = {"valid_from": logical_date, "path": f"../models/{folder.name}/baseline",
               "model": f"../models/{folder.name}/model.json"}
    model.write_json(baseline, pointer)
    print(f"the baseline for later days is {baseline}")
    model.output({
        "model": str(folder / "model.json"),
        "baseline": str(folder / "baseline"),
        "accuracy": metrics["accuracy"],
        "auc": metrics["auc"],
        "log_loss": metrics["log_loss"],
        "accuracy_before": before["accuracy"],
        "rows_trained_on": metrics["rows_trained_on"],
        "rows_unseen": metrics["rows"],
    })


main()
