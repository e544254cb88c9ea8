from datetime import datetime

from airflow import DAG
from airflow.decorators import setup, task, teardown
from airflow.operators.bash import BashOperator

with DAG("setups", start_date=datetime(2024, 1, 1), schedule="@daily", catchup=False, default_args={"depends_on_past": True}) as dag:
    create = BashOperator(task_id="create", bash_command="echo create").as_setup()
    use = BashOperator(task_id="use", bash_command="echo use")
    delete = BashOperator(task_id="delete", bash_command="echo delete").as_teardown(setups=create, on_failure_fail_dagrun=True)
    create >> use >> delete

    @setup
    def connect():
        print("connected")

    @task
    def query():
        print("asked")

    @teardown
    def disconnect():
        print("disconnected")

    connect() >> query() >> disconnect()
