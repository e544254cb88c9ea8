from datetime import datetime, time, timedelta

from airflow import DAG
from airflow.decorators import task
from airflow.operators.bash import BashOperator
from airflow.sensors.bash import BashSensor
from airflow.sensors.date_time import DateTimeSensor
from airflow.sensors.filesystem import FileSensor
from airflow.sensors.python import PythonSensor
from airflow.sensors.time_delta import TimeDeltaSensor
from airflow.sensors.time_sensor import TimeSensor


def is_ready(name, **context):
    return bool(name)


with DAG("sensors", start_date=datetime(2024, 1, 1), schedule="@daily", catchup=False) as dag:
    file = FileSensor(task_id="wait_for_file", filepath="/data/{{ ds }}/*.csv", poke_interval=30, timeout=3600, mode="reschedule")
    python = PythonSensor(task_id="ready", python_callable=is_ready, op_kwargs={"name": "x"}, soft_fail=True, poke_interval=1)
    bash = BashSensor(task_id="answers", bash_command="nc -z localhost 5432", timeout=600)
    delta = TimeDeltaSensor(task_id="an_hour", delta=timedelta(hours=1))
    clock = TimeSensor(task_id="half_past_six", target_time=time(6, 30))
    moment = DateTimeSensor(task_id="until", target_time="{{ data_interval_end }}")

    @task.sensor(poke_interval=60, timeout=3600, mode="poke")
    def rows() -> bool:
        return True

    done = BashOperator(task_id="done", bash_command="echo done")
    [file, python, bash, delta, clock, moment, rows()] >> done
