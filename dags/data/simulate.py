"""Makes the reference and the fourteen daily batches from breast_cancer.csv; see README.md.

Usage: simulate.py [FOLDER]. Writes below FOLDER, by default beside this file. Standard library only, and
deterministic: the same seed gives the same bytes, which a test checks.
"""

import csv
import datetime
import math
import pathlib
import random
import statistics
import sys

SEED = 20261101
FIRST_DAY = datetime.date(2026, 11, 1)
DAYS = 14
REFERENCE_ROWS = 300
BATCH_ROWS = 300
JITTER = 0.02
# The scanner is recalibrated on this day and stays so: lengths grow by 15 %, areas by their square.
RECALIBRATED_ON = 5
LENGTH = 1.15
MISSING_ON, MISSING_COLUMN, MISSING_SHARE = 9, "mean_texture", 0.40
VANISHED_ON, VANISHED_COLUMN = 10, "worst_concavity"
WRONG_LABELS_ON, WRONG_LABELS_SHARE = 12, 0.35

HERE = pathlib.Path(__file__).parent


def read_table():
    with (HERE / "breast_cancer.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return rows, [name for name in rows[0] if name not in ("sample_id", "diagnosis")]


def shuffled(rows, rng):
    """Fisher-Yates with `random()` alone, whose values are the same in every version of Python."""
    rows = list(rows)
    for i in range(len(rows) - 1, 0, -1):
        j = int(rng.random() * (i + 1))
        rows[i], rows[j] = rows[j], rows[i]
    return rows


def normal(rng):
    """Box and Muller's transform of two uniform numbers."""
    return math.sqrt(-2.0 * math.log(1.0 - rng.random())) * math.cos(2.0 * math.pi * rng.random())


def write(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def scale(name, day):
    if day < RECALIBRATED_ON:
        return 1.0
    if "radius" in name or "perimeter" in name:
        return LENGTH
    return LENGTH**2 if "area" in name else 1.0


def batch(pool, features, deviations, day):
    """Draws one day's rows with replacement and measures them with that day's scanner."""
    # A generator per day: changing one day leaves the bytes of the others alone.
    rng = random.Random(SEED + day)
    for number in range(1, BATCH_ROWS + 1):
        source = pool[int(rng.random() * len(pool))]
        values = {}
        for name in features:
            # Jitter breaks the ties between copies of a row; a measurement is never negative.
            value = float(source[name]) + JITTER * deviations[name] * normal(rng)
            values[name] = f"{max(value, 0.0) * scale(name, day):.6g}"
        missing, wrong = rng.random() < MISSING_SHARE, rng.random() < WRONG_LABELS_SHARE
        if day == MISSING_ON and missing:
            values[MISSING_COLUMN] = ""
        label = source["diagnosis"]
        if day == WRONG_LABELS_ON and wrong:
            label = "benign" if label == "malignant" else "malignant"
        yield f"{day:02}-{number:03}", source["sample_id"], values, label


def main():
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    rows, features = read_table()
    rows = shuffled(rows, random.Random(SEED))
    reference, pool = rows[:REFERENCE_ROWS], rows[REFERENCE_ROWS:]
    header = ["sample_id", *features, "diagnosis"]
    write(out / "reference.csv", header, ([row[name] for name in header] for row in reference))
    deviations = {name: statistics.pstdev([float(row[name]) for row in rows]) for name in features}
    for day in range(1, DAYS + 1):
        date = FIRST_DAY + datetime.timedelta(days=day - 1)
        drawn = list(batch(pool, features, deviations, day))
        names = [name for name in features if not (day == VANISHED_ON and name == VANISHED_COLUMN)]
        header = ["row_id", "sample_id", *names]
        lines = ([row, sample, *(values[name] for name in names)] for row, sample, values, _ in drawn)
        write(out / "live" / f"date={date}" / "part-0000.csv", header, lines)
        labels = ([row, label] for row, _, _, label in drawn)
        write(out / "labels" / f"date={date}" / "labels.csv", ["row_id", "diagnosis"], labels)


main()
