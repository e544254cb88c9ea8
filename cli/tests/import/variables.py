"""Variables, connections, params and lists of arguments."""
from datetime import datetime, timedelta

from airflow import DAG
from airflow.hooks.base import BaseHook
from airflow.models import Variable
from airflow.models.param import Param
from airflow.operators.bash import BashOperator
from airflow.operators.python import PythonOperator

REGION = Variable.get("region")
LIMIT = Variable.get("limit", default_var=5)
DB = BaseHook.get_connection("warehouse")


def load(table):
    key = Variable.get("api_key")
    limits = Variable.get("limits", deserialize_json=True)
    hook = BaseHook.get_connection("warehouse")
    print(table, key, limits["cpu"], hook.host, hook.password, hook.get_uri())


def guess():
    print(Variable.get("maybe", default_var="no"))


with DAG(
    "variables",
    schedule=None,
    start_date=datetime(2024, 1, 1),
    catchup=False,
    params={
        "rows": Param(10, type="integer", minimum=1, description="How many"),
        "code": Param("ab", type="string", pattern="^[a-z]+$", maxLength=8),
        "options": Param({"depth": 3}, type="object", properties={"depth": {"type": "integer"}}, required=["depth"]),
        "stage": Param("prod", const="prod"),
        "tags": Param(["a"], type="array", items={"type": "string"}),
    },
) as dag:
    copy = BashOperator(
        task_id="copy",
        bash_command=f"copy --region {REGION} --limit {LIMIT} --rows {{{{ params.rows }}}}",
        env={"PGHOST": DB.host, "PGPASSWORD": DB.password, "URI": DB.get_uri(), "OLD": "{{ var.value.old }}"},
        sla=timedelta(hours=1),
    )
    fetch = PythonOperator(task_id="fetch", python_callable=load, op_kwargs={"table": Variable.get("table")})
    maybe = PythonOperator(task_id="maybe", python_callable=guess)
    copy >> fetch >> maybe
