"""Starts once, loads what scripts commonly use, and forks a process for each script when the supervisor asks.

It runs no caller's code and reads nothing of a caller's. images/runtime/src/fork_server.rs has the messages; what a
process gives up is decided there, and the steps are those of images/runtime/src/sandbox.rs.
"""

import contextlib
import ctypes
import fcntl
import gc
import json
import os
import resource
import signal
import socket
import struct
import sys
import time

# What scripts commonly import.
import base64  # noqa: F401
import collections  # noqa: F401
import copy  # noqa: F401
import csv  # noqa: F401
import dataclasses  # noqa: F401
import datetime  # noqa: F401
import decimal  # noqa: F401
import enum  # noqa: F401
import functools  # noqa: F401
import hashlib  # noqa: F401
import hmac  # noqa: F401
import io  # noqa: F401
import itertools  # noqa: F401
import math  # noqa: F401
import operator  # noqa: F401
import re  # noqa: F401
import secrets  # noqa: F401
import statistics  # noqa: F401
import string  # noqa: F401
import textwrap  # noqa: F401
import threading  # noqa: F401
import typing  # noqa: F401
import urllib.parse  # noqa: F401
import uuid  # noqa: F401

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import worker

del sys.path[0]

FAILED = 125

# linux/prctl.h, linux/seccomp.h
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2
# System calls that have one number on every processor
CLOSE_RANGE = 436
LANDLOCK_ADD_RULE = 445
LANDLOCK_RESTRICT_SELF = 446
# linux/landlock.h
LANDLOCK_RULE_PATH_BENEATH = 1

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def succeed(result):
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def prctl(option, argument, more=0):
    succeed(libc.prctl(option, ctypes.c_ulong(argument), ctypes.c_ulong(more), ctypes.c_ulong(0), ctypes.c_ulong(0)))


def confine(rules, order, descriptors, forked_by, supervisor):
    """All of it before a byte of the script is read."""
    os.setsid()
    # The fork server cannot be looked into; the supervisor has to look into this one.
    prctl(PR_SET_DUMPABLE, 1)
    os.setpriority(os.PRIO_PROCESS, 0, order["nice"])
    oom_score = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    os.write(oom_score, b"1000")
    # 0 is empty, 1 and 2 are the log, then the job, the frames and the Landlock rules. Nothing else stays open.
    last = worker.FRAMES + order["landlock"]
    null = os.open("/dev/null", os.O_RDONLY)
    job, frames, log, *landlock = descriptors
    sources = [fcntl.fcntl(source, fcntl.F_DUPFD, 64) for source in (null, log, log, job, frames, *landlock)]
    for target, source in enumerate(sources):
        os.dup2(source, target)
    succeed(libc.syscall(CLOSE_RANGE, last + 1, ctypes.c_uint(2**32 - 1), 0))
    os.chdir(order["directory"])
    os.environ.clear()
    os.environ.update(order["environment"])
    for kind, soft, hard in order["limits"]:
        resource.setrlimit(kind, (soft, hard))

    # The process in between ends at once, and makes this one the supervisor's child. Before that, its end would be
    # taken for the supervisor's.
    while os.getppid() == forked_by:
        time.sleep(0.0001)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:
        os._exit(FAILED)

    prctl(PR_SET_NO_NEW_PRIVS, 1)
    if landlock:
        for name in rules["own_process"]:
            own = os.open(f"/proc/self/{name}", os.O_PATH)
            rule = struct.pack("=Qi", rules["read_bits"], own)
            succeed(libc.syscall(LANDLOCK_ADD_RULE, last, LANDLOCK_RULE_PATH_BENEATH, rule, 0))
            os.close(own)
        succeed(libc.syscall(LANDLOCK_RESTRICT_SELF, last, 0))
        os.close(last)
    for rule in rules["filters"]:
        program = bytearray.fromhex(rule["program"])
        for place in rule["process_ids"]:
            struct.pack_into("=I", program, place, os.getpid())
        buffer = (ctypes.c_char * len(program)).from_buffer(program)
        # struct sock_fprog: the number of instructions, of eight bytes each, and where they are.
        head = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer)))
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(head))
    verify(landlock)


def verify(landlock):
    """Tries what must fail."""
    try:
        socket.socket(socket.AF_UNIX)
    except PermissionError:
        pass
    else:
        raise RuntimeError("the system call filter is installed and socket() is not refused")
    if landlock:
        try:
            os.listdir("/")
        except PermissionError:
            return
        raise RuntimeError("Landlock is in force and the root folder can be read")


def become_worker(*confinement):
    try:
        confine(*confinement)
    except BaseException as error:
        os.write(2, f"sandbox: {type(error).__name__}: {error}\n".encode())
        os._exit(FAILED)
    worker.work()


def fork(rules, order, descriptors, supervisor):
    """The process id of a worker, None if there is none."""
    told, telling = os.pipe()
    between = os.fork()
    if between == 0:
        try:
            # The worker loses its parent, and so becomes a child of the supervisor, which adopts orphans.
            between = os.getpid()
            pid = os.fork()
            if pid == 0:
                become_worker(rules, order, descriptors, between, supervisor)
            os.write(telling, pid.to_bytes(4, "little"))
        finally:
            os._exit(0)
    os.close(telling)
    os.waitpid(between, 0)
    pid = os.read(told, 4)
    os.close(told)
    return pid


def serve():
    supervisor = os.getppid()
    control = socket.socket(fileno=0)
    rules = json.loads(control.recv(1 << 18))
    # Scripts of this user's id must not look into what all their successors come from.
    prctl(PR_SET_DUMPABLE, 0)
    # Each line goes out by itself, so that a script that is stopped has said what it had printed.
    sys.stdout.reconfigure(line_buffering=True)
    # What the first script would otherwise compile and look up.
    worker.code = compile("def handle(params, context): return [params, 'é']", worker.FILE, "exec")
    json.dumps(worker.call({}, {}))
    del sys.modules["script"]
    gc.collect()
    gc.freeze()
    control.send(os.getpid().to_bytes(4, "little"))
    while True:
        order, descriptors, _flags, _address = socket.recv_fds(control, 1 << 18, 4)
        if not order:
            return
        try:
            pid = fork(rules, json.loads(order), descriptors, supervisor)
        except OSError as error:
            print(f"fork server: {error}", file=sys.stderr, flush=True)
            pid = b""
        for descriptor in descriptors:
            os.close(descriptor)
        control.send(pid or bytes(4))


if __name__ == "__main__":
    # The supervisor is gone, and this one with it.
    with contextlib.suppress(ConnectionError):
        serve()
