from datetime import datetime

from airflow import DAG
from airflow.models.baseoperator import chain, cross_downstream
from airflow.operators.bash import BashOperator
from airflow.operators.empty import EmptyOperator
from airflow.operators.python import PythonOperator

TABLES = ["users", "orders"]
SETTINGS = {"users": {"rows": 10}, "orders": {"rows": 20}}


def load(table, rows):
    print(table, rows)


def make_check(name):
    def check():
        print("checking", name)

    return PythonOperator(task_id=f"check_{name}", python_callable=check)


with DAG(dag_id="loops", start_date=datetime(2024, 1, 1), schedule="*/15 * * * *", catchup=False) as dag:
    start = EmptyOperator(task_id="start")
    end = EmptyOperator(task_id="end")

    loads = [
        PythonOperator(task_id=f"load_{table}", python_callable=load, op_kwargs={"table": table, **SETTINGS[table]})
        for table in TABLES
    ]
    previous = start
    for number in range(3):
        stage = BashOperator(task_id="stage_%d" % number, bash_command=f"echo {number} {{{{ ds }}}}")
        previous >> stage
        previous = stage
    previous >> loads

    checks = []
    for i, table in enumerate(TABLES):
        check = make_check(table)
        checks.append(check)
        loads[i] >> check
    first, second = [EmptyOperator(task_id="x_{}".format(n)) for n in ("a", "b")]
    cross_downstream(loads, [first, second])
    chain([first, second], [EmptyOperator(task_id="y_a"), EmptyOperator(task_id="y_b")], end)
