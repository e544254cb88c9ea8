from datetime import datetime

from airflow.decorators import dag, task
from airflow.exceptions import AirflowFailException, AirflowSkipException
from airflow.operators.empty import EmptyOperator

LIMITS = {"low": 0.1, "high": 0.9}


@dag(dag_id="taskflow.branch", schedule=None, start_date=datetime(2024, 1, 1))
def branching():
    @task
    def measure():
        return 0.95

    @task.branch(task_id="choose")
    def choose_path(score):
        if score is None:
            raise AirflowFailException("no score")
        if score > LIMITS["high"]:
            return ["retrain", "tell"]
        if score < LIMITS["low"]:
            return None
        return "keep"

    @task
    def retrain():
        raise AirflowSkipException("there is nothing new")

    @task
    def tell():
        print("told")

    keep = EmptyOperator(task_id="keep")
    end = EmptyOperator(task_id="end", trigger_rule="none_failed")

    choose_path(measure()) >> [retrain(), tell(), keep] >> end


branching()
