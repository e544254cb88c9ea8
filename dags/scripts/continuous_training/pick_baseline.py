"""Outputs the baseline that this run compares with: the newest one that was valid before its logical date.

Baselines of later dates, and the one that this date itself may have made before, do not count. So a date that runs
again after its predecessors takes the same branch again.
"""

import datetime
import os
import pathlib

import model

SHIPPED = pathlib.Path("data/baseline/baseline.json")


def instant(text):
    when = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return when if when.tzinfo else when.replace(tzinfo=datetime.timezone.utc)


def main():
    logical_date = instant(os.environ["TIDEMILL_LOGICAL_DATE"])
    kept = pathlib.Path(os.environ["TIDEMILL_DATA_DIR"]) / "baselines"
    candidates = []
    for path in [SHIPPED, *sorted(kept.glob("*.json"))]:
        baseline = model.read_json(path)
        valid_from = instant(baseline["valid_from"])
        if valid_from < logical_date:
            # Paths of a baseline start at the folder of its own file.
            folder = path.resolve().parent
            found = {key: str((folder / baseline[key]).resolve()) for key in ("path", "model")}
            candidates.append((valid_from, {**found, "valid_from": baseline["valid_from"]}))
        print(f"{path}: valid from {baseline['valid_from']}")
    if not candidates:
        raise SystemExit(f"no baseline was valid before {logical_date.isoformat()}")
    chosen = max(candidates, key=lambda candidate: candidate[0])[1]
    print(f"comparing with {chosen['path']}, valid from {chosen['valid_from']}")
    model.output(chosen)


main()
