"""Writes the day's report to $TIDEMILL_DATA_DIR/reports/DAY.md and prints it: what moved, what was done."""

import os
import pathlib

import model


def main():
    day, found = os.environ["TIDEMILL_DS"], model.inputs()
    drift, score, retrained = (found.get(task, {}) for task in ("monitor_drift", "score", "retrain"))
    lines = [f"# Continuous training on {day}", ""]
    lines.append(f"- Compared with: `{found.get('pick_baseline', {}).get('path', 'unknown')}`.")
    features = drift.get("drifted_features") or []
    names = ", ".join(features) if isinstance(features, list) else str(features)
    lines.append(f"- Verdict: **{drift.get('verdict', 'unknown')}**{f' ({names})' if names else ''}.")
    warnings = drift.get("warnings") or []
    for warning in warnings if isinstance(warnings, list) else [warnings]:
        lines.append(f"- Warning: {warning}")
    if score:
        lines.append(f"- Model in service: accuracy {score['accuracy']:.3f}, AUC {score['auc']:.3f} on {score['rows']} rows.")
    if retrained:
        lines.append(
            f"- Retrained: accuracy {retrained['accuracy']:.3f} on {retrained['rows_unseen']} unseen rows, "
            f"where the old model had {retrained['accuracy_before']:.3f}. New model: `{retrained['model']}`."
        )
    text = "\n".join(lines) + "\n"
    path = pathlib.Path(os.environ["TIDEMILL_DATA_DIR"]) / "reports" / f"{day}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    print(text, end="")
    model.output({"report": str(path)})


main()
