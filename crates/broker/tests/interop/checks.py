"""What the Python parts of the suite share: running named checks, one line of output each.

A check is a function that raises when it finds something wrong. The line it leaves is
`ok NAME` or `FAIL NAME: why`, which run.py counts.
"""

import secrets
import socket
import sys
import time
import traceback

# How long to wait for what must come. Far above what any broker needs, also on a busy machine.
PATIENCE_S = 20


def unique(name):
    """A topic or client identifier that no other check uses."""
    return f"{name}-{secrets.token_hex(4)}"


def equal(found, expected, what=""):
    """Raises unless the two are equal; long values are cut."""
    if found != expected:
        found, expected = repr(found)[:300], repr(expected)[:300]
        raise AssertionError(f"{what} is {found}, expected {expected}".strip())


def that(condition, what):
    """Raises `what` unless the condition holds."""
    if not condition:
        raise AssertionError(what)


def run(prefix, checks):
    """Runs each check and reports it; returns whether all passed."""
    all_passed = True
    for check in checks:
        name = f"{prefix} {check.__name__}"
        start = time.monotonic()
        try:
            check()
        except Exception as error:  # whatever it is, it belongs into the report
            all_passed = False
            where = traceback.extract_tb(error.__traceback__)
            line = next((f.lineno for f in reversed(where) if f.name == check.__name__), "?")
            why = " ".join(f"{type(error).__name__} {error}".split())
            print(f"FAIL {name}: line {line}: {why}", flush=True)
        else:
            print(f"ok {name} ({time.monotonic() - start:.2f} s)", flush=True)
    return all_passed


def closes(address, *parts):
    """Sends raw bytes and returns what the broker answered before it closed; raises if it does
    not close."""
    with socket.create_connection(address, timeout=PATIENCE_S) as peer:
        answer = b""
        try:
            for part in parts:
                peer.sendall(part)
            while True:
                received = peer.recv(65536)
                if not received:
                    return answer
                answer += received
        except (ConnectionResetError, BrokenPipeError):
            return answer
        except TimeoutError:
            raise AssertionError(f"still open after {answer!r}") from None


def address_of(arguments):
    """(host, port) of an argument such as 127.0.0.1:1883."""
    host, port = arguments.rsplit(":", 1)
    return host, int(port)


def finish(results):
    """Exit code of a program of checks."""
    sys.exit(0 if all(results) else 1)
