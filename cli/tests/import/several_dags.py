from datetime import datetime, timedelta

from airflow import DAG
from airflow.operators.bash import BashOperator


def create_dag(name, schedule):
    with DAG(f"sync_{name}", schedule=schedule, start_date=datetime(2024, 1, 1), catchup=False) as dag:
        BashOperator(task_id="sync", bash_command=f"sync --source {name}")
    return dag


for name, schedule in {"crm": "@daily", "shop": timedelta(hours=6)}.items():
    globals()[f"sync_{name}"] = create_dag(name, schedule)

defaults = dict(retries=1, owner="ops")

with DAG("once", schedule="@once", start_date=datetime(2024, 1, 1), default_args=defaults) as once:
    BashOperator(task_id="only", bash_command="echo once")
