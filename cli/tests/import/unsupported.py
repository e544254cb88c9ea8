from datetime import datetime, timedelta

from airflow import DAG
from airflow.datasets import Dataset
from airflow.decorators import task
from airflow.models import Variable
from airflow.operators.bash import BashOperator
from airflow.operators.python import PythonOperator
from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor
from airflow.sensors.external_task import ExternalTaskSensor


def alert(context):
    print(context)


def use_variable():
    return Variable.get("secret")


with DAG(
    "unsupported",
    start_date=datetime(2024, 1, 1),
    schedule=[Dataset("s3://bucket/file")],
    on_failure_callback=alert,
    default_args={"sla": timedelta(hours=1), "on_failure_callback": alert},
) as dag:
    s3 = S3KeySensor(task_id="s3", bucket_key="s3://bucket/key", retries=2)
    other = ExternalTaskSensor(task_id="other", external_dag_id="x", external_task_id="y", pool="waits")
    variable = PythonOperator(task_id="variable", python_callable=use_variable)
    templated = BashOperator(task_id="templated", bash_command="echo {{ var.value.secret }}")
    asset = BashOperator(task_id="asset", bash_command="echo x", outlets=[Dataset("s3://bucket/out")], run_as_user="etl")

    @task
    def one(x):
        return x

    many = one.expand(x=[1, 2, 3])
    s3 >> other >> variable >> templated >> asset >> many

    for name in Variable.get("names").split(","):
        BashOperator(task_id=f"dynamic_{name}", bash_command="echo x")
    if Variable.get("flag"):
        many >> BashOperator(task_id="maybe", bash_command="echo x")
