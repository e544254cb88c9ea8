"""Settings of all kinds."""
from datetime import timedelta

import pendulum
from airflow import DAG
from airflow.models.param import Param
from airflow.operators.bash import BashOperator

local = pendulum.timezone("America/New_York")

with DAG(
    "settings",
    "Two words",
    schedule=timedelta(hours=4),
    start_date=pendulum.datetime(2024, 1, 1, 6, 30, tz=local),
    end_date=pendulum.datetime(2030, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=3,
    max_active_tasks=5,
    dagrun_timeout=timedelta(hours=3, minutes=30),
    doc_md=__doc__,
    params={
        "rate": Param(0.5, type="number", minimum=0, maximum=1, title="Rate"),
        "mode": Param("fast", enum=["fast", "slow"]),
        "note": "none",
        "maybe": None,
    },
    default_args={"owner": "data", "queue": "cpu", "weight_rule": "absolute", "email": ["a@example.org"]},
) as dag:
    BashOperator(
        task_id="train",
        bash_command="train --rate {{ params.rate }} --mode {{ params['mode'] }}",
        pool="gpu",
        pool_slots=2,
        priority_weight=10,
        queue="gpu",
        max_active_tis_per_dag=1,
        max_retry_delay=timedelta(hours=1),
        doc_md="Trains.",
    )
