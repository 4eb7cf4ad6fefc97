"""Waits for a script, runs it, and writes what came of it; then again, for the same caller and the same script only. The
frames are described in images/runtime/src/frame.rs. fork_server.py makes the process.

What the script can do to this module's objects changes only its own caller's answers, and the supervisor relies on the
kernel for everything else.
"""

import linecache
import os
import random
import sys
import threading
import time
import types
from json import dumps, loads

JOB = 3
FRAMES = 4
FILE = "script.py"

begun = None
code = None  # the script, compiled


def read(length):
    """Exactly length bytes of the job, or the end of the process when the supervisor is gone."""
    chunks = []
    while length:
        chunk = os.read(JOB, min(length, 1 << 20))
        if not chunk:
            os._exit(0)
        chunks.append(chunk)
        length -= len(chunk)
    return b"".join(chunks)


def write(kind, payload=b""):
    elapsed = 0 if begun is None else (time.monotonic_ns() - begun) // 1000
    frame = memoryview(kind + elapsed.to_bytes(8, "little") + len(payload).to_bytes(4, "little") + payload)
    while frame:
        frame = frame[os.write(FRAMES, frame) :]


def flush():
    """What was printed without an end of its line. A script may have put anything in the streams' place."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:  # noqa: S110 - the script's own streams, and its own loss
            pass


def end(kind, payload):
    """The answer. After a result there may be another job; else waits for the end, so that the supervisor can read the
    peak of memory."""
    global begun
    flush()
    write(kind, payload)
    if kind != b"R":
        read(1)
    begun = None
    if threading.active_count() > 1:
        write(b"N")
        read(1)
    write(b"S")


def describe(error):
    """The exception in one line, with the script's line that it came from."""
    line = None
    if isinstance(error, SyntaxError) and error.filename == FILE:
        line, text = error.lineno, f"{type(error).__name__}: {error.msg}"
    else:
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == FILE:
                line = trace.tb_lineno
            trace = trace.tb_next
    return text if line is None else f"{text} (line {line})"


def fail(kind, message):
    end(kind, message[:8192].encode("utf-8", "replace"))


def call(params, context):
    module = types.ModuleType("script")
    sys.modules["script"] = module
    module.params, module.context = params, context
    exec(code, module.__dict__)  # noqa: S102 - this is what the process is for
    handle = module.__dict__.get("handle")
    if callable(handle):
        result = handle(params, context)
        if isinstance(result, types.CoroutineType):
            result.close()
            raise TypeError("handle is a coroutine function; it has to be a plain one")
        return result
    if "result" in module.__dict__:
        return module.result
    raise NameError("the script neither sets result nor defines handle(params, context)")


def run():
    global begun, code
    job = loads(read(int.from_bytes(read(4), "little")))
    script = job["script"]
    if script is not None:
        # Forks have one state in common.
        random.seed()
        # So that traceback.print_exc() in a script shows the script's own lines.
        linecache.cache[FILE] = (len(script), None, script.splitlines(True), FILE)
    begun = time.monotonic_ns()
    try:
        if script is not None:
            code = compile(script, FILE, "exec")
        result = call(job["params"], job["context"])
    except SystemExit as error:
        fail(b"X", f"the script called sys.exit({error.code!r}) before it gave a result")
    except MemoryError as error:
        fail(b"M", f"the script used more than its memory limit: {describe(error)}")
    except BaseException as error:
        fail(b"E", describe(error))
    try:
        payload = dumps(result, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    except MemoryError:
        fail(b"M", "the script used more than its memory limit: the result does not fit as JSON")
    except BaseException as error:
        fail(b"J", f"the result is not JSON: {type(error).__name__}: {error}")
    end(b"R", payload)


def work():
    write(b"S")
    while True:
        run()
