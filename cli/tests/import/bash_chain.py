from datetime import datetime, timedelta

from airflow import DAG
from airflow.operators.bash import BashOperator

dag = DAG(
    "bash_chain",
    schedule_interval="30 2 * * 1-5",
    start_date=datetime(2023, 5, 1),
    catchup=False,
    default_args={"retries": 1, "retry_delay": timedelta(seconds=30), "retry_exponential_backoff": True},
)

extract = BashOperator(task_id="extract", bash_command="curl -sf https://example.org/data.csv > /tmp/{{ ds }}.csv", dag=dag)
transform = BashOperator(
    task_id="transform",
    bash_command="""
set -euo pipefail
for part in {1..3}; do
  ./transform.sh --day "{{ ds }}" --part $part
done
""",
    env={"MODE": "full", "DAY": "{{ ds_nodash }}"},
    dag=dag,
)
count = BashOperator(task_id="count", bash_command="wc -l < /tmp/{{ ds }}.csv", dag=dag)
load = BashOperator(
    task_id="load",
    bash_command="echo loaded {{ ti.xcom_pull(task_ids='count') }} lines",
    execution_timeout=timedelta(minutes=90),
    skip_on_exit_code=[42],
    dag=dag,
)
clean = BashOperator(task_id="clean", bash_command="clean.sh ", trigger_rule="all_done", dag=dag)

extract >> transform >> load << count
count.set_upstream(extract)
clean.set_upstream([load])
