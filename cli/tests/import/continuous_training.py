"""Daily drift check that retrains."""
from __future__ import annotations

import json
import logging
from datetime import datetime, timedelta
from pathlib import Path

from airflow import DAG
from airflow.operators.bash import BashOperator
from airflow.operators.empty import EmptyOperator
from airflow.operators.python import BranchPythonOperator, PythonOperator

THRESHOLD = 0.2
DATA = Path("drift.json")
log = logging.getLogger(__name__)

default_args = {
    "owner": "ml-team",
    "depends_on_past": False,
    "email_on_failure": False,
    "retries": 2,
    "retry_delay": timedelta(minutes=5),
}


def read_score(path):
    return json.loads(path.read_text())["score"] if path.exists() else 0.0


def monitor_drift(ti, ds, **context):
    """Measures, and says what follows."""
    score = read_score(DATA)
    ti.xcom_push(key="score", value=score)
    log.info("drift on %s: %s", ds, score)
    return "retrain" if score > THRESHOLD else "no_op"


def train_model(**context):
    score = context["ti"].xcom_pull(task_ids="monitor_drift", key="score")
    return {"model": f"model-{context['ds_nodash']}", "score": score}


with DAG(
    dag_id="continuous_training",
    description="Daily drift check; retrains when the inputs moved",
    schedule="@daily",
    start_date=datetime(2024, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args=default_args,
    tags=["ml", "drift"],
) as dag:
    monitor = BranchPythonOperator(task_id="monitor_drift", python_callable=monitor_drift)
    retrain = PythonOperator(
        task_id="retrain",
        python_callable=train_model,
        execution_timeout=timedelta(hours=2),
    )
    no_op = EmptyOperator(task_id="no_op")
    report = BashOperator(
        task_id="report",
        bash_command="echo {{ ds }} score={{ ti.xcom_pull(task_ids='monitor_drift', key='score') }}",
        trigger_rule="none_failed_min_one_success",
    )

    monitor >> [retrain, no_op]
    [retrain, no_op] >> report
