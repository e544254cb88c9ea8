from datetime import datetime

from airflow.decorators import dag, task
from airflow.operators.bash import BashOperator


@dag(start_date=datetime(2024, 1, 1), schedule=None, catchup=False)
def mapped():
    @task
    def find():
        return ["north", "south"]

    @task(max_active_tis_per_dagrun=2)
    def load(region, day, folder):
        print(f"{folder}/{region}/{day}")
        return len(region) + day

    @task
    def total(rows):
        print(f"total {sum(rows)}")

    @task
    def pair(values):
        return values["a"]

    regions = find()
    loaded = load.partial(folder="data").expand(region=regions, day=[1, 2])
    total(loaded)
    pair.expand(values=[{"a": 1}, {"a": 2}])
    BashOperator.partial(task_id="greet", env={"LANG": "C"}).expand(bash_command=["echo {{ ds }}", "echo two"])
    pair.expand_kwargs([{"values": {"a": 1}}])


mapped()
