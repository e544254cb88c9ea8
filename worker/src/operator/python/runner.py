"""Calls what a `python` task names. `tidemill operator` starts it, and the JSON file in argv[1] tells what to call.

Everything that came from a template arrives through that file: as data, never as code.
"""

import json
import os
import re
import sys
import traceback
import types

OUTPUT_KEY = re.compile(r"[A-Za-z0-9_.-]{1,200}\Z")


class Problem(Exception):
    """What ends the try with a code."""


def plain(value):
    """Turns what JSON does not know into what it knows."""
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    for name in ("tolist", "item"):  # numpy
        if callable(getattr(value, name, None)):
            return getattr(value, name)()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"a value of the type {type(value).__name__}")


def give(value):
    """Writes what the callable returned to the outputs: whole, and the members of a dict by their names."""
    if value is None:
        return
    try:
        text = json.dumps(value, default=plain, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise Problem(f"WRK0313: what the callable returned cannot be an output: {error}") from None
    outputs = {}
    value = json.loads(text)
    if isinstance(value, dict):
        outputs.update((key, item) for key, item in value.items() if OUTPUT_KEY.match(key))
    outputs["return_value"] = value
    with open(os.environ["TIDEMILL_OUTPUT"], "a+b") as file:
        if file.seek(0, os.SEEK_END) > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(json.dumps(outputs, allow_nan=False).encode() + b"\n")


def run_script(path, args):
    sys.argv = [path, *args]
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    with open(path, "rb") as file:
        code = compile(file.read(), path, "exec")
    # Kept in place for good: what the script pickles or hands to `multiprocessing` looks for it there.
    main = types.ModuleType("__main__")
    main.__file__ = os.path.abspath(path)
    main.__builtins__ = __builtins__
    sys.modules["__main__"] = main
    exec(code, main.__dict__)


def load(path):
    """Imports the file under the name that an import from the folder of the DAG file would give it."""
    import importlib.util

    folder = os.path.dirname(os.path.abspath(path))
    sys.path[:0] = [os.getcwd()] if folder == os.getcwd() else [os.getcwd(), folder]
    parts = os.path.normpath(path)[: -len(".py")].split(os.sep)
    if not all(part.isidentifier() for part in parts):
        parts = [re.sub(r"\W", "_", parts[-1])]
    # A file called `json.py` must not take the place of the module that everybody else means.
    if parts[0] in sys.modules or parts[0] in getattr(sys, "stdlib_module_names", ()):
        parts = ["tidemill_task_" + parts[-1]]
    name = ".".join(parts)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def run_callable(path, function, args, kwargs):
    target = load(path)
    for part in function.split("."):
        if not hasattr(target, part):
            raise Problem(f"WRK0314: there is no `{function}` in {path}")
        target = getattr(target, part)
    if not callable(target):
        raise Problem(f"WRK0314: `{function}` in {path} is not callable, it is a {type(target).__name__}")
    value = target(*args, **kwargs)
    if isinstance(value, types.CoroutineType):
        import asyncio

        value = asyncio.run(value)
    give(value)


def report(path, problem):
    """Tells the worker why, in one step: half a file is no file."""
    with open(path + ".part", "w", encoding="utf-8") as file:
        json.dump({"outputs": {}, "problem": problem, "is_final": False}, file)
    os.replace(path + ".part", path)


def fail(error, result):
    """Prints the traceback without the frames of this file and tells the last line as the reason."""
    place = error.__traceback__
    while place is not None and place.tb_frame.f_code.co_filename == __file__:
        place = place.tb_next
    sys.stdout.flush()
    traceback.print_exception(type(error), error, place)
    sys.stderr.flush()
    lines = "".join(traceback.format_exception_only(type(error), error)).strip().splitlines()
    report(result, "WRK0312: " + (lines[-1] if lines else type(error).__name__)[:1000])


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        call = json.load(file)
    if sys.path and sys.path[0] == os.path.dirname(os.path.abspath(__file__)):
        del sys.path[0]
    target, result = call["target"], call["result"]
    try:
        if "script" in target:
            run_script(target["script"]["path"], target["script"]["args"])
        else:
            called = target["callable"]
            run_callable(called["file"], called["function"], called["args"], called["kwargs"])
    except Problem as problem:
        print(problem, file=sys.stderr, flush=True)
        report(result, str(problem))
        sys.exit(1)
    except Exception as error:
        fail(error, result)
        sys.exit(1)


if __name__ == "__main__":
    main()
