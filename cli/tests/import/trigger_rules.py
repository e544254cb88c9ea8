from datetime import datetime

from airflow import DAG
from airflow.operators.bash import BashOperator
from airflow.utils.edgemodifier import Label
from airflow.utils.trigger_rule import TriggerRule

with DAG("trigger_rules", start_date=datetime(2024, 1, 1), schedule="@monthly", catchup=False) as dag:
    a = BashOperator(task_id="a", bash_command="echo a")
    b = BashOperator(task_id="b", bash_command="exit 1")
    clean = BashOperator(task_id="clean", bash_command="echo clean", trigger_rule=TriggerRule.ALL_DONE)
    alarm = BashOperator(task_id="alarm", bash_command="echo alarm", trigger_rule=TriggerRule.ONE_FAILED)
    old = BashOperator(task_id="old", bash_command="echo old", trigger_rule="none_failed_or_skipped")
    first = BashOperator(task_id="first", bash_command="echo first", trigger_rule="one_done")
    a >> Label("fine") >> [clean, first]
    b >> Label("or not") >> clean
    alarm << [a, b]
    a.set_downstream([alarm, old])
    old.set_downstream(first)
