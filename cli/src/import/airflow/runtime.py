import datetime as _datetime
import inspect as _inspect
import json as _json
import logging as _logging
import os as _os
import sys as _sys
import time as _time
import urllib.parse as _urllib

_logging.basicConfig(level=_logging.INFO, stream=_sys.stdout, format="%(levelname)s %(message)s")


class AirflowException(Exception):
    """What a task raises to fail."""


class AirflowSkipException(AirflowException):
    """What a task raises to be skipped: exit code 99."""


class AirflowFailException(AirflowException):
    """What a task raises to fail without another try: exit code 98."""


def _env(name):
    return _os.environ.get(name, "")


class Variable:
    """Variables from the environment, as Airflow too takes them: AIRFLOW_VAR_NAME."""

    @staticmethod
    def get(key, *default, deserialize_json=False, **named):
        text = _os.environ.get("AIRFLOW_VAR_" + key.upper())
        if text is None:
            found = [*default, *named.values()]
            if not found:
                raise KeyError(f"Variable {key}: set AIRFLOW_VAR_{key.upper()} in the task's env")
            return found[0]
        return _json.loads(text) if deserialize_json else text


class BaseHook:
    """Connections from the environment: AIRFLOW_CONN_ID, as a URI."""

    @staticmethod
    def get_connection(conn_id):
        text = _os.environ.get("AIRFLOW_CONN_" + conn_id.upper())
        if text is None:
            raise KeyError(f"Connection {conn_id}: set AIRFLOW_CONN_{conn_id.upper()} in the task's env")
        uri, plain = _urllib.urlsplit(text), _urllib.unquote
        extra = dict(_urllib.parse_qsl(uri.query, keep_blank_values=True))
        return _Record(
            conn_id=conn_id,
            conn_type=uri.scheme,
            host=plain(uri.hostname or "") or None,
            port=uri.port,
            login=None if uri.username is None else plain(uri.username),
            password=None if uri.password is None else plain(uri.password),
            schema=plain(uri.path[1:]) or None,
            extra=_json.dumps(extra) if extra else None,
            extra_dejson=extra,
            get_uri=lambda: text,
        )


def _instant(name):
    text = _os.environ.get(name)
    return _datetime.datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None


def _plain(value):
    if isinstance(value, (_datetime.date, _datetime.datetime)):
        return value.isoformat()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"an output is JSON; this is a {type(value).__name__}")


class _Record:
    def __init__(self, **fields):
        self.__dict__.update(fields)


class _TaskInstance(_Record):
    def __init__(self):
        super().__init__(
            dag_id=_env("TIDEMILL_DAG_ID"),
            run_id=_env("TIDEMILL_RUN_ID"),
            task_id=_env("TIDEMILL_TASK_ID"),
            map_index=int(_env("TIDEMILL_MAP_INDEX") or -1),
            try_number=int(_env("TIDEMILL_TRY_NUMBER") or 1),
        )
        self._inputs = _json.loads(_env("XCOMS") or "{}")
        path = _env("TIDEMILL_INPUTS")
        if path and _os.path.isfile(path):
            with open(path, encoding="utf-8") as file:
                self._inputs.update(_json.loads(file.read() or "{}"))

    def xcom_push(self, key, value, **_):
        with open(_os.environ["TIDEMILL_OUTPUT"], "a", encoding="utf-8") as file:
            file.write(_json.dumps({key: value}, default=_plain) + "\n")

    def xcom_pull(self, task_ids=None, key="return_value", default=None, **_):
        if isinstance(task_ids, str):
            return self._of(task_ids, key, default)
        if task_ids is None:
            found = [self._of(task_id, key, None) for task_id in self._inputs]
            found = [value for value in found if value is not None]
            return found[-1] if found else default
        return [self._of(task_id, key, default) for task_id in task_ids]

    def _of(self, task_id, key, default):
        outputs = self._inputs.get(task_id, {})
        if isinstance(outputs, list):
            # A mapped task: what each of its elements gave.
            return [(one or {}).get(key) for one in outputs]
        return outputs.get(key, default)


_ti = _TaskInstance()


def get_current_context():
    logical_date = _instant("TIDEMILL_LOGICAL_DATE")
    start, end = _instant("TIDEMILL_DATA_INTERVAL_START"), _instant("TIDEMILL_DATA_INTERVAL_END")
    params = _json.loads(_env("TIDEMILL_PARAMS") or "{}")
    run = _Record(
        dag_id=_ti.dag_id,
        run_id=_ti.run_id,
        run_type=_ti.run_id.split("__")[0],
        logical_date=logical_date,
        data_interval_start=start,
        data_interval_end=end,
        conf=params,
    )
    context = {
        "ti": _ti,
        "task_instance": _ti,
        "dag_run": run,
        "dag": _Record(dag_id=_ti.dag_id),
        "task": _Record(task_id=_ti.task_id),
        "run_id": _ti.run_id,
        "params": params,
        "logical_date": logical_date,
        "execution_date": logical_date,
        "data_interval_start": start,
        "data_interval_end": end,
        "map_index": _ti.map_index,
        "try_number": _ti.try_number,
    }
    if logical_date:
        context.update(
            ds=logical_date.strftime("%Y-%m-%d"),
            ds_nodash=logical_date.strftime("%Y%m%d"),
            ts=logical_date.isoformat(),
            ts_nodash=logical_date.strftime("%Y%m%dT%H%M%S"),
        )
    return context


def _call(function, args, kwargs):
    """Gives a function what it names, and everything when it takes any name."""
    given = {**get_current_context(), **kwargs}
    parameters = list(_inspect.signature(function).parameters.values())
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    taken = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][: len(args)]
    if any(p.kind == p.VAR_KEYWORD for p in parameters):
        named = list(given)
    return function(*args, **{name: given[name] for name in named if name in given and name not in taken})


def _branch(result, groups):
    chosen = [] if result is None else [result] if isinstance(result, str) else list(result)
    _ti.xcom_push("branch", [task for name in chosen for task in groups.get(name, [name])])


def _bash(command):
    import subprocess

    last = ""
    with subprocess.Popen(["bash", "-c", command], stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            last = line.rstrip("\n")
            print(last, flush=True)
    if process.returncode:
        _sys.exit(process.returncode)
    return last


def _wait(function, args, kwargs, interval, timeout, soft_fail):
    until = _time.monotonic() + timeout
    while True:
        result = _call(function, args, kwargs)
        if result:
            return result if isinstance(result, (str, int, float, list, dict)) and result is not True else None
        if _time.monotonic() + interval > until:
            print(f"it did not come within {timeout} s", file=_sys.stderr)
            _sys.exit(99 if soft_fail else 98)
        _time.sleep(interval)


def _main(function, args=(), kwargs=None, mode="python", groups=None, multiple=False, wait=None):
    kwargs = kwargs or {}
    try:
        result = _wait(function, args, kwargs, **wait) if wait else _call(function, args, kwargs)
    except AirflowSkipException as error:
        print(f"skipped: {error}")
        _sys.exit(99)
    except AirflowFailException as error:
        print(f"failed: {error}", file=_sys.stderr)
        _sys.exit(98)
    if mode == "bash":
        result = _bash(result)
    if mode == "branch":
        _branch(result, groups or {})
    if mode == "short_circuit":
        _ti.xcom_push("condition", bool(result))
    if result is not None:
        _ti.xcom_push("return_value", result)
    if multiple and isinstance(result, dict):
        for key, value in result.items():
            _ti.xcom_push(str(key), value)
