from datetime import datetime

from airflow.sdk import DAG, Asset, AssetAll, AssetAny
from airflow.datasets import Dataset
from airflow.providers.standard.operators.bash import BashOperator
from airflow.timetables.assets import AssetOrTimeSchedule
from airflow.timetables.trigger import CronTriggerTimetable

FEATURES = Asset("features", uri="s3://warehouse/features")
LABELS = Dataset("s3://warehouse/labels")

with DAG("make", schedule="@daily", start_date=datetime(2026, 1, 1), catchup=False):
    BashOperator(task_id="features", bash_command="echo features", outlets=[FEATURES])
    BashOperator(task_id="labels", bash_command="echo labels", outlets=[LABELS, FEATURES], inlets=[FEATURES])

with DAG("one", schedule=[FEATURES], start_date=datetime(2026, 1, 1)):
    BashOperator(task_id="use", bash_command="echo one")

with DAG("each", schedule=AssetAll(FEATURES, LABELS), start_date=datetime(2026, 1, 1)):
    BashOperator(task_id="use", bash_command="echo each")

with DAG("either", schedule=AssetAny(FEATURES, LABELS), start_date=datetime(2026, 1, 1)):
    BashOperator(task_id="use", bash_command="echo either")

with DAG(
    "both",
    schedule=AssetOrTimeSchedule(timetable=CronTriggerTimetable("0 6 * * *", timezone="UTC"), assets=[LABELS]),
    start_date=datetime(2026, 1, 1),
):
    BashOperator(task_id="use", bash_command="echo both")

with DAG("nested", schedule=AssetAny(FEATURES, AssetAll(LABELS, Asset("other"))), start_date=datetime(2026, 1, 1)):
    BashOperator(task_id="use", bash_command="echo nested")
