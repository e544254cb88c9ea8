from datetime import datetime

from airflow import DAG
from airflow.operators.latest_only import LatestOnlyOperator
from airflow.operators.python import PythonOperator, ShortCircuitOperator

MINIMUM = 3


def enough(minimum, ti=None):
    rows = ti.xcom_pull("count")
    return rows >= minimum


def count():
    return 5


with DAG("gates", start_date=datetime(2024, 1, 1), schedule="@weekly", catchup=True) as dag:
    latest = LatestOnlyOperator(task_id="latest_only")
    counted = PythonOperator(task_id="count", python_callable=count)
    gate = ShortCircuitOperator(
        task_id="enough",
        python_callable=enough,
        op_args=[MINIMUM],
        ignore_downstream_trigger_rules=False,
    )
    publish = PythonOperator(task_id="publish", python_callable=print, op_args=["published"])
    latest >> counted >> gate >> publish
