from datetime import datetime

from airflow import DAG
from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from airflow.providers.common.sql.sensors.sql import SqlSensor
from airflow.providers.http.operators.http import HttpOperator
from airflow.providers.http.sensors.http import HttpSensor
from airflow.providers.postgres.operators.postgres import PostgresOperator
from airflow.providers.slack.operators.slack_webhook import SlackWebhookOperator
from airflow.providers.sqlite.operators.sqlite import SqliteOperator

with DAG("outside", start_date=datetime(2026, 1, 1), schedule="@daily", catchup=False, params={"name": "a"}):
    up = HttpSensor(
        task_id="up", http_conn_id="reports", endpoint="health", poke_interval=30, timeout=3600
    )
    start = HttpOperator(
        task_id="start",
        http_conn_id="reports",
        endpoint="exports/{{ ds }}",
        method="PUT",
        data='{"day": "{{ ds }}"}',
        headers={"Content-Type": "application/json"},
        extra_options={"timeout": 60},
    )
    get = HttpOperator(
        task_id="get", http_conn_id="reports", endpoint="exports", method="GET", data={"day": "{{ ds }}", "limit": 5}
    )
    form = HttpOperator(
        task_id="form", endpoint="x", data={"a": 1}, response_check=lambda response: response.ok
    )
    loaded = SqlSensor(
        task_id="loaded",
        conn_id="warehouse",
        sql="SELECT count(*) FROM orders WHERE day = '{{ ds }}'",
        mode="reschedule",
        soft_fail=True,
    )
    load = SQLExecuteQueryOperator(
        task_id="load",
        conn_id="warehouse",
        sql=[
            "DELETE FROM features WHERE day = %(day)s",
            "INSERT INTO features SELECT * FROM staging WHERE day = %(day)s AND name = '{{ params.name }}'",
        ],
        parameters={"day": "{{ ds }}"},
    )
    vacuum = PostgresOperator(task_id="vacuum", postgres_conn_id="warehouse", sql="VACUUM features", autocommit=True)
    lite = SqliteOperator(
        task_id="lite", sqlite_conn_id="lite", sql="INSERT INTO t VALUES (?, ?)", parameters=["{{ ds }}", 3]
    )
    script = PostgresOperator(task_id="script", postgres_conn_id="warehouse", sql="queries/features.sql")
    table = SQLExecuteQueryOperator(task_id="table", conn_id="warehouse", sql="DELETE FROM {{ params.table }}")
    tell = SlackWebhookOperator(task_id="tell", slack_webhook_conn_id="slack", message="done")
    up >> start >> get >> form
    loaded >> load >> [vacuum, lite, script, table] >> tell
