from datetime import datetime

from airflow import DAG
from airflow.decorators import task, task_group
from airflow.operators.bash import BashOperator
from airflow.operators.empty import EmptyOperator
from airflow.operators.python import BranchPythonOperator
from airflow.utils.task_group import TaskGroup

with DAG("task_groups", start_date=datetime(2024, 1, 1), schedule="@hourly", catchup=False) as dag:
    start = EmptyOperator(task_id="start")

    with TaskGroup("load", tooltip="All loads", default_args={"retries": 4}) as load:
        users = BashOperator(task_id="users", bash_command="echo users")
        with TaskGroup(group_id="daily") as daily:
            a = BashOperator(task_id="a", bash_command="echo a")
            b = BashOperator(task_id="b", bash_command="echo b")
            a >> b
        users >> daily

    with TaskGroup("plain", prefix_group_id=False) as plain:
        check = BashOperator(task_id="check", bash_command="true")

    @task_group(group_id="report")
    def report():
        @task
        def render():
            return "page"

        @task
        def send(page):
            print(page)

        send(render())

    choose = BranchPythonOperator(task_id="choose", python_callable=lambda: "plain")
    end = EmptyOperator(task_id="end", trigger_rule="none_failed_min_one_success")

    start >> load >> choose >> [plain, report()] >> end
