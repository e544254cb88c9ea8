from datetime import datetime, time, timedelta

from airflow import DAG
from airflow.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sensors.date_time import DateTimeSensor
from airflow.sensors.external_task import ExternalTaskSensor
from airflow.sensors.time_sensor import TimeSensor

with DAG("other_runs", start_date=datetime(2024, 1, 1), schedule="@daily", catchup=False) as dag:
    loaded = ExternalTaskSensor(task_id="loaded", external_dag_id="load", execution_delta=timedelta(hours=1), timeout=3600, mode="reschedule")
    strict = ExternalTaskSensor(task_id="strict", external_dag_id="load", failed_states=["failed"], soft_fail=True)
    part = ExternalTaskSensor(task_id="part", external_dag_id="load", external_task_id="rows")
    clock = TimeSensor(task_id="half_past_six", target_time=time(6, 30, 5))
    moment = DateTimeSensor(task_id="until", target_time=datetime(2024, 2, 1, 6))
    start = TriggerDagRunOperator(
        task_id="start",
        trigger_dag_id="train",
        conf={"day": "{{ ds }}", "rounds": 3, "sizes": ["s", "l"]},
        logical_date="{{ execution_date }}",
        wait_for_completion=True,
        allowed_states=["success", "failed"],
    )
    again = TriggerDagRunOperator(task_id="again", trigger_dag_id="train", trigger_run_id="of-{{ ds }}", reset_dag_run=True)
    [loaded, strict, part, clock, moment] >> start >> again
