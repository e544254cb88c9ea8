from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, chain, task
from airflow.timetables.trigger import CronTriggerTimetable

with DAG(
    dag_id="airflow_three",
    schedule=CronTriggerTimetable("0 1 * * 3", timezone="Europe/Vienna"),
    start_date=datetime(2025, 1, 1),
):

    @task.short_circuit
    def is_open(dag_run=None, params=None):
        return bool(dag_run) and not params.get("closed")

    @task(retries=1, retry_delay=timedelta(minutes=1))
    def work(day: str, numbers: list[int]):
        """Sums.

        Over two lines.
        """
        query = """
    select *
      from t
"""
        return {"day": day, "sum": sum(numbers), "query": query}

    done = BashOperator(task_id="done", bash_command='test -n "{{ ti.xcom_pull(task_ids="work")["sum"] }}"')
    chain(is_open(), work("{{ ds }}", numbers=[1, 2, 3]), done)
