import pendulum
from airflow.decorators import dag, task


@dag(
    schedule="0 6 * * *",
    start_date=pendulum.datetime(2024, 3, 1, tz="Europe/Berlin"),
    catchup=False,
    tags=["example"],
)
def taskflow_etl(limit: int = 100):
    """
    Extracts, transforms, loads.
    """

    @task()
    def extract() -> dict[str, int]:
        return {"a": 1, "b": 2, "c": 3}

    @task(multiple_outputs=True, retries=3)
    def transform(orders: dict):
        total = sum(orders.values())
        return {"total": total, "count": len(orders)}

    @task
    def load(total: float, day=None, ds=None):
        print(f"total of {ds or day}: {total:.2f}")

    @task.bash
    def announce(count: int) -> str:
        return f"echo there are {count}"

    orders = extract()
    summary = transform(orders)
    load(summary["total"], day="{{ ds }}")
    load.override(task_id="load_again", pool="db")(total=summary["total"])
    announce(summary["count"])


taskflow_etl()
