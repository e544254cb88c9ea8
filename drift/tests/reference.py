"""Generates pairs of tables and what scipy and numpy say about them.

Usage: reference.py FOLDER. Writes FOLDER/cases.json and the data files beside it. The definitions follow
docs/drift.md and are written here a second time, in numpy, on purpose.
"""

import datetime
import decimal
import json
import math
import pathlib
import sys
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import stats
from scipy.spatial.distance import jensenshannon

MISSING_WORDS = ["", "NA", "NaN", "nan", "null", "NULL", "None", "N/A", " NA "]


# ---- the numbers ----------------------------------------------------------------------------------------------


def calculate_psi(reference, live, buckets=10):
    """The published example's PSI."""
    breakpoints = np.percentile(reference, np.linspace(0, 100, buckets + 1))
    breakpoints[-1] += 1e-6
    ref = np.histogram(reference, breakpoints)[0] / len(reference)
    cur = np.histogram(live, breakpoints)[0] / len(live)
    return float(np.sum((cur - ref) * np.log((cur + 1e-6) / (ref + 1e-6))))


def shares(index, bins):
    return np.bincount(index, minlength=bins) / len(index)


def clipped_psi(p, q):
    e, a = np.clip(p, 1e-4, None), np.clip(q, 1e-4, None)
    return float(np.sum((a - e) * np.log(a / e)))


def divergences(p, q):
    cp, cq = np.clip(p, 1e-4, None), np.clip(q, 1e-4, None)
    distance = float(jensenshannon(p, q))
    return {
        "kl_reference_current": float(stats.entropy(cp, cq)),
        "kl_current_reference": float(stats.entropy(cq, cp)),
        "js_distance": distance,
        "js_divergence": distance**2,
    }


def numeric(reference, current):
    reference, current = np.asarray(reference, float), np.asarray(current, float)
    out = {
        "missing_reference": int(np.isnan(reference).sum()),
        "missing_current": int(np.isnan(current).sum()),
        "infinite_reference": int(np.isinf(reference).sum()),
        "infinite_current": int(np.isinf(current).sum()),
    }
    r, c = reference[np.isfinite(reference)], current[np.isfinite(current)]
    out["n_reference"], out["n_current"] = len(r), len(c)
    if not len(r) or not len(c):
        return {"kind": "numeric", "status": "no_data" if not len(c) else "no_reference", "counts": out, "numbers": {}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        auto, exact, asymp = (stats.ks_2samp(r, c, method=m) for m in ("auto", "exact", "asymp"))
    effective = np.round(len(r) * len(c) / (len(r) + len(c)))
    q = np.percentile(r, np.linspace(0, 100, 11))
    cuts = np.unique(q[1:10])
    p_clip, q_clip = (shares(np.searchsorted(cuts, x, "right"), len(cuts) + 1) for x in (r, c))
    values, times = np.unique(q, return_counts=True)
    after = values[times > 1]
    bins = len(cuts) + len(after) + 1
    p, l = (shares(np.searchsorted(cuts, x, "right") + np.searchsorted(after, x, "left"), bins) for x in (r, c))
    w = float(stats.wasserstein_distance(r, c))
    numbers = {
        "ks": float(asymp.statistic),
        "p_exact": float(exact.pvalue),
        "p_asymp": float(asymp.pvalue) if effective >= 1 else None,
        "p_auto": float(auto.pvalue),
        "psi_atoms": clipped_psi(p, l),
        "psi_clipped": clipped_psi(p_clip, q_clip),
        "psi_seed": calculate_psi(r, c),
        "wasserstein": w,
        "wasserstein_normed": w / max(float(np.std(r)), 0.001),
        **divergences(p, l),
    }
    return {"kind": "numeric", "status": "ok", "counts": out, "numbers": numbers, "sign": int(asymp.statistic_sign)}


def categorical(reference, current):
    missing = lambda side: sum(v is None or v == "" for v in side)
    out = {"missing_reference": missing(reference), "missing_current": missing(current)}
    r, c = ([v for v in side if v is not None and v != ""] for side in (reference, current))
    out["n_reference"], out["n_current"] = len(r), len(c)
    if not r or not c:
        return {"kind": "categorical", "status": "no_data" if not c else "no_reference", "counts": out, "numbers": {}}
    names = sorted(set(r) | set(c))
    table = np.array([[side.count(n) for n in names] for side in (r, c)])
    p, q = table[0] / len(r), table[1] / len(c)
    seed = float(np.sum((q - p) * np.log((q + 1e-6) / (p + 1e-6))))
    clip = clipped_psi(p, q)
    numbers = {
        "chi2": float(stats.chi2_contingency(table, correction=False).pvalue),
        "psi_atoms": clip,
        "psi_clipped": clip,
        "psi_seed": seed,
        **divergences(p, q),
    }
    return {"kind": "categorical", "status": "ok", "counts": out, "numbers": numbers}


def judge(features):
    """Adds the p-values after Benjamini-Hochberg and what drifted: significant at 0.01 and PSI above 0.2."""
    tested = [f for f in features.values() if f["status"] == "ok"]
    p_values = [f["numbers"].get("p_auto", f["numbers"].get("chi2")) for f in tested]
    for feature, corrected in zip(tested, stats.false_discovery_control(p_values, method="bh") if tested else []):
        feature["numbers"]["corrected"] = float(corrected)
        feature["drifted"] = bool(corrected <= 0.01 and feature["numbers"]["psi_atoms"] > 0.2)
    return features


# ---- the tables -----------------------------------------------------------------------------------------------


def sample(rng, shape, n):
    """One column of n values."""
    if shape == "normal":
        return rng.normal(0, 1, n)
    if shape == "lognormal":
        return rng.lognormal(0, 2, n)
    if shape == "tiny":
        return rng.normal(0, 1e-9, n)
    if shape == "huge":
        return rng.normal(1e12, 1e9, n)
    if shape == "integers":
        return rng.integers(-3, 6, n).astype(float)
    if shape == "zeros":
        return np.where(rng.random(n) < 0.9, 0.0, rng.random(n))
    if shape == "minus_zeros":
        return np.where(rng.random(n) < 0.5, -0.0, np.where(rng.random(n) < 0.5, 0.0, rng.normal(0, 1, n)))
    if shape == "constant":
        return np.full(n, 3.25)
    if shape == "rounded":
        return np.round(rng.normal(10, 2, n), 1)
    if shape == "missing":
        return np.where(rng.random(n) < 0.3, np.nan, rng.normal(0, 1, n))
    if shape == "infinite":
        x = np.where(rng.random(n) < 0.1, np.inf, rng.normal(0, 1, n))
        return np.where(rng.random(n) < 0.1, -np.inf, x)
    if shape == "gone":
        return np.full(n, np.nan)
    raise ValueError(shape)


SHAPES = ["normal", "lognormal", "tiny", "huge", "integers", "zeros", "minus_zeros", "constant", "rounded", "missing",
          "infinite"]
SIZES = [(1, 1), (1, 2), (2, 1), (2, 3), (5, 5), (7, 4), (10, 10), (13, 40), (40, 13), (50, 50), (64, 48), (100, 101),
         (137, 300), (300, 269), (500, 500), (997, 1000), (3000, 1), (2000, 1500)]


def numeric_cases(rng):
    """Every shape at every size, unshifted or shifted, in turn as CSV, JSON lines and Parquet."""
    for number, (n, m) in enumerate(SIZES):
        reference, current, expected = {}, {}, {}
        for place, shape in enumerate(SHAPES):
            shift = [0.0, 0.15, 0.8, 5.0][(number + place) % 4]
            r = sample(rng, shape, n)
            c = sample(rng, shape, m)
            with np.errstate(invalid="ignore"):
                scale = np.nanstd(r[np.isfinite(r)]) if np.isfinite(r).any() else 1.0
            c = c + shift * (scale if scale > 0 else 1.0) if shape != "minus_zeros" else c
            reference[shape], current[shape] = r, c
            expected[shape] = numeric(r, c)
        yield f"sizes_{n}_{m}", ["csv", "jsonl", "parquet"][number % 3], reference, current, expected
    for number, (n, m) in enumerate([(12000, 12000), (11000, 10001), (50000, 49999)]):
        reference = {"a": rng.normal(0, 1, n), "b": np.round(rng.normal(0, 1, n), 2), "c": rng.lognormal(0, 1, n)}
        current = {"a": rng.normal(0.02, 1, m), "b": np.round(rng.normal(0.01, 1, m), 2), "c": rng.lognormal(0, 1, m)}
        expected = {k: numeric(reference[k], current[k]) for k in reference}
        yield f"large_{n}_{m}", ["parquet", "csv", "parquet"][number], reference, current, expected
    for number in range(60):
        n, m = (int(x) for x in rng.integers(1, 60, 2))
        if number % 3 == 0:
            m = n
        grid = int(rng.integers(1, 30))
        reference = {"x": rng.integers(0, grid, n).astype(float), "y": rng.normal(0, 1, n)}
        current = {"x": rng.integers(0, grid, m) + float(number % 4), "y": rng.normal(number % 5 / 4, 1, m)}
        expected = {k: numeric(reference[k], current[k]) for k in reference}
        yield f"small_{number}", ["csv", "jsonl"][number % 2], reference, current, expected
    for side in range(2):
        full, gone = {"x": sample(rng, "normal", 30)}, {"x": sample(rng, "gone", 20)}
        reference, current = (full, gone) if side == 0 else (gone, full)
        yield f"gone_{side}", "csv", reference, current, {"x": numeric(reference["x"], current["x"])}


def words(rng, n, k, tilt):
    p = np.arange(1, k + 1) ** -1.0
    p = p * np.linspace(1, 1 + tilt, k)
    names = [f"{'äb c'[i % 4]}{i:03}" for i in range(k)]
    return [names[i] for i in rng.choice(k, n, p=p / p.sum())]


def categorical_cases(rng):
    for number, k in enumerate([1, 2, 3, 5, 12, 50, 200]):
        reference, current, expected = {}, {}, {}
        for tilt in (0.0, 0.5, 4.0):
            n, m = int(rng.integers(20, 2000)), int(rng.integers(20, 2000))
            n = m = max(n, m) if number % 2 else 400
            r, c = words(rng, n, k, 0.0), words(rng, m, k, tilt)
            r[0], c[-1] = "", "only, \"here\"" if tilt else c[-1]
            name = f"tilt {tilt}"
            reference[name], current[name], expected[name] = r, c, categorical(r, c)
            break_rows = n
        for name in list(reference):
            size = min(len(v) for v in reference.values())
            reference[name] = reference[name][:size]
            other = min(len(v) for v in current.values())
            current[name] = current[name][:other]
        expected = {name: categorical(reference[name], current[name]) for name in reference}
        yield f"categories_{k}", ["csv", "jsonl", "parquet"][number % 3], reference, current, expected


TYPES = ["float64", "float32", "float16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
         "decimal", "wide_decimal", "date", "timestamp", "time", "bool", "string", "large_string", "dictionary", "nothing"]


def typed(rng, kind, n, shift):
    """An arrow column and the same values as Python sees them."""
    mask = rng.random(n) < 0.1
    with_null = lambda values: [None if gone else v for v, gone in zip(values, mask)]
    plain = lambda values: np.array([math.nan if v is None else float(v) for v in values])
    if kind in ("float64", "float32", "float16"):
        dtype = np.dtype(kind)
        values = with_null((rng.normal(shift, 1, n)).astype(dtype))
        return pa.array(values, type=pa.from_numpy_dtype(dtype)), plain(values)
    if kind.startswith(("int", "uint")):
        info = np.iinfo(kind)
        low, high = info.min // 2, info.max // 2
        values = with_null([int(v) for v in rng.integers(low, high, n)])
        if kind.startswith("uint"):
            values = [None if v is None else v + info.max // 2 for v in values]
        return pa.array(values, type=getattr(pa, kind)()), plain(values)
    if kind in ("decimal", "wide_decimal"):
        values = with_null([decimal.Decimal(int(v)).scaleb(-2) for v in rng.normal(1000 + 300 * shift, 300, n)])
        kind_of = pa.decimal128(12, 2) if kind == "decimal" else pa.decimal256(50, 2)
        return pa.array(values, type=kind_of), plain(values)
    if kind == "date":
        values = with_null([int(v) for v in rng.integers(19000, 19100 + int(50 * shift), n)])
        return pa.array(values, type=pa.int32()).cast(pa.date32()), plain(values)
    if kind in ("timestamp", "time"):
        values = with_null([int(v) for v in rng.integers(10**9, 10**10, n)])
        return pa.array(values, type=pa.int64()).cast(pa.timestamp("us") if kind == "timestamp" else pa.time64("us")), plain(values)
    if kind == "bool":
        values = with_null([bool(v) for v in rng.random(n) < 0.3 + 0.1 * shift])
        return pa.array(values, type=pa.bool_()), [None if v is None else str(v).lower() for v in values]
    if kind == "nothing":
        return pa.nulls(n), np.full(n, np.nan)
    values = with_null(words(rng, n, 12, shift))
    array = pa.array(values, type=pa.large_string() if kind == "large_string" else pa.string())
    return (array.dictionary_encode() if kind == "dictionary" else array), values


def typed_cases(rng, folder):
    """Parquet as pyarrow writes it: types x codecs x encodings x page versions, several row groups and parts."""
    for number, codec in enumerate(["snappy", "gzip", "zstd", "brotli", "lz4", "none"]):
        columns, expected = ({}, {}), {}
        for kind in TYPES:
            n, m = 700 + 13 * number, 600 - 7 * number
            left, r = typed(rng, kind, n, 0.0)
            right, c = typed(rng, kind, m, 0.4 * (number % 3))
            columns[0][kind], columns[1][kind] = left, right
            texts = kind in ("bool", "string", "large_string", "dictionary")
            expected[kind] = categorical(r, c) if texts else numeric(r, c)
        options = dict(compression=codec, use_dictionary=number % 2 == 0, row_group_size=256, data_page_size=2048,
                       data_page_version="2.0" if number % 3 else "1.0", version=["1.0", "2.4", "2.6"][number % 3])
        if options["version"] == "1.0":
            for side in columns:
                del side["uint32"]
            expected.pop("uint32")
        paths = []
        for side, table in zip(("reference", "current"), columns):
            table = pa.table(table)
            path = folder / f"types_{codec}_{side}"
            (path / "day=1").mkdir(parents=True)
            pq.write_table(table.slice(0, 300), path / "day=1" / "part-0.parquet", **options)
            (path / "day=2").mkdir()
            pq.write_table(table.slice(300), path / "day=2" / "part-0.parquet", **options)
            (path / "_SUCCESS").write_text("")
            paths.append(path.name)
        yield {"name": f"types_{codec}", "reference": paths[0], "current": paths[1], "features": expected}


def write(rng, folder, name, side, kind, columns):
    """Writes a table of Python values; a CSV goes out in two parts of a folder."""
    names, length = list(columns), len(next(iter(columns.values())))
    path = folder / f"{name}_{side}.{kind}"
    if kind == "parquet":
        table = {k: pa.array(v if isinstance(v, list) else list(v), from_pandas=False) for k, v in columns.items()}
        pq.write_table(pa.table(table), path, row_group_size=max(1, length // 3))
        return path.name

    def cell(value):
        if isinstance(value, str):
            return '"' + value.replace('"', '""') + '"' if any(ch in value for ch in ',"\n') else value
        if math.isnan(value):
            return MISSING_WORDS[int(rng.integers(len(MISSING_WORDS)))]
        return repr(float(value))

    def line(i):
        if kind == "csv":
            return ",".join(cell(columns[k][i]) for k in names) or '""'
        row = {}
        for k in names:
            value = columns[k][i]
            if isinstance(value, str):
                row[k] = value
            elif math.isnan(value):
                # A null, Python's bare NaN, or no key at all.
                choice = int(rng.integers(3))
                if choice < 2:
                    row[k] = None if choice else math.nan
            else:
                row[k] = float(value)
        return json.dumps(row, ensure_ascii=i % 2 == 0)

    lines = [line(i) or '""' for i in range(length)]
    if kind == "csv":
        path = folder / f"{name}_{side}"
        path.mkdir()
        head = ",".join(cell(n) for n in names)
        half = length // 2
        for number, part in enumerate((lines[:half], lines[half:])):
            text = "\n".join([head, *part]) + ("\n" if number else "")
            (path / f"part-{number}.csv").write_bytes(b"\xef\xbb\xbf" * (1 - number) + text.encode())
    else:
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path.name


def main():
    folder = pathlib.Path(sys.argv[1])
    rng = np.random.default_rng(20261101)
    cases = list(typed_cases(rng, folder))
    for name, kind, reference, current, expected in [*numeric_cases(rng), *categorical_cases(rng)]:
        paths = [write(rng, folder, name, side, kind, table) for side, table in
                 (("reference", reference), ("current", current))]
        cases.append({"name": name, "reference": paths[0], "current": paths[1], "features": expected})
    for case in cases:
        judge(case["features"])
    (folder / "cases.json").write_text(json.dumps(cases, allow_nan=False))


main()
