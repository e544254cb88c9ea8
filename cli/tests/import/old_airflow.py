from datetime import timedelta

from airflow.models import DAG
from airflow.operators.bash_operator import BashOperator
from airflow.operators.dummy_operator import DummyOperator
from airflow.operators.python_operator import BranchPythonOperator, PythonOperator
from airflow.utils.dates import days_ago

args = {"owner": "airflow", "start_date": days_ago(2), "provide_context": True}

dag = DAG(dag_id="old_airflow", default_args=args, schedule_interval="0 0 * * *", dagrun_timeout=timedelta(minutes=60))


def push(**kwargs):
    kwargs["ti"].xcom_push(key="value from pusher 1".replace(" ", "_"), value=[1, 2, 3])


def pull(**kwargs):
    ti = kwargs["task_instance"]
    print(ti.xcom_pull(key="value_from_pusher_1", task_ids="push"), kwargs["execution_date"])


def choose(**kwargs):
    return "even" if kwargs["execution_date"].day % 2 == 0 else "odd"


start = DummyOperator(task_id="start", dag=dag)
push_it = PythonOperator(task_id="push", python_callable=push, provide_context=True, dag=dag)
pull_it = PythonOperator(task_id="pull", python_callable=pull, dag=dag)
branch = BranchPythonOperator(task_id="branch", python_callable=choose, dag=dag)
even = BashOperator(task_id="even", bash_command="echo {{ execution_date }} {{ yesterday_ds }} {{ next_ds }}", dag=dag)
odd = BashOperator(task_id="odd", bash_command="echo {{ macros.ds_add(ds, 7) }} {{ dag_run.conf.get('x', 'none') }}", dag=dag)
start >> push_it >> pull_it >> branch
branch >> [even, odd]

if __name__ == "__main__":
    dag.cli()
