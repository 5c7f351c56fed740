#!/usr/bin/env python3
"""FreshBlu's clients, unchanged, against Meshring: `python3 crates/broker/tests/interop/run_freshblu.py`.

Starts the broker once for each driver and for 1 and 2 shards, on ports that the system picks, and
lets these loose on it: the Python package, the npm package, the npm and the Rust command line, the types of the Rust
crates, what the Arduino library does on its sockets, and the npm package that Meshblu's signed
webhooks are checked with; then our own command line. One line per check; the last line is `freshblu: N passed, M failed`. Exit code 0 if nothing failed.

What is installed on first use, below target/interop: freshblu with httpx and websockets from PyPI;
freshblu, freshblu-cli, http-signature, ws and MQTT.js from npm; freshblu-cli and freshblu-core as Rust crates.

`--freshblu PROGRAM` checks the checks: it runs all but our own command line and the signatures, which FreshBlu has none of, against a real
freshblu-server, and reports what that one fails as known.
"""

import argparse
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

from run import HERE, ROOT, TOOLS, Meshring, Report

VERSION = "1.0.0"
RUST = TOOLS / "rust"
KEY = HERE.parent / "support" / "keys" / "pkcs8.pem"
NPM = ["freshblu@1.0.0", "freshblu-cli@1.0.0", "http-signature@1.4.0", "mqtt@5.14.1", "ws@8.23.0"]
PYPI = ["freshblu==1.0.0", "httpx==0.28.1", "websockets==17.4"]

CLIENTS = ["python", "npm", "npm-cli", "rust-cli", "types", "arduino", "signature", "meshring"]

# What freshblu-server 1.0.0 fails of its own clients' checks, and why.
KNOWN_OF_FRESHBLU = {
    "freshblu python updates_what_is_reserved": "a second `type` breaks the device for ever",
    "freshblu python urllib updates_what_is_reserved": "a second `type` breaks the device for ever",
    "freshblu python changes_who_may_see_it": "whitelists cannot be changed",
    "freshblu python urllib changes_who_may_see_it": "whitelists cannot be changed",
    "freshblu python nobody_forges_the_sender": "the body overwrites fromUuid and event",
    "freshblu python urllib nobody_forges_the_sender": "the body overwrites fromUuid and event",
    "freshblu python subscribes_in_its_own_spelling": "dotted types are refused",
    "freshblu python urllib subscribes_in_its_own_spelling": "dotted types are refused",
    "freshblu python WebSocket every_kind_of_subscription_fires": "few kinds fire for WebSocket",
    "freshblu python WebSocket closing_one_connection_leaves_the_other": "it closes both",
    "freshblu python WebSocket nothing_is_lost_right_after_ready": "now and then a message is",
    "freshblu python WebSocket leaving_is_answered": "a close is not answered",
    "freshblu python async a_hundred_at_once": "bcrypt for each request",
    "freshblu python async refusals_are_json": "some refusals are plain text",
    "freshblu npm searches_claims_and_lists": "a claim does not answer with the device",
    "freshblu npm subscribes_in_its_own_spelling": "dotted types are refused",
    "freshblu npm MQTT": "no MQTT client can connect",
    "freshblu-cli rust subscribes_in_both_spellings": "dotted types are refused",
    "freshblu rust types a_claimed_device_is_a_device": "a claim does not answer with the device",
    "freshblu rust types subscriptions_have_every_field": "BroadcastSent is refused",
    "freshblu rust types events_have_every_field": "the frame `broadcast` is passed over",
    "freshblu arduino refusals_fit_its_buffers_too": "some refusals are plain text",
    **{f"freshblu arduino {check}": "no MQTT client can connect" for check in (
        "connects_with_credentials_alone", "receives_messages_from_http", "boards_send_to_each_other",
        "broadcasts_reach_subscribers", "its_own_messages_are_not_echoed",
        "nobody_publishes_or_listens_for_another", "a_message_beyond_its_buffer_costs_only_itself",
        "is_online_while_connected")},
}


def install(clients):
    """Installs what is missing, of what these clients need."""
    if "python" in clients:
        python = TOOLS / "venv" / "bin" / "python"
        modules = "import freshblu, httpx, websockets"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", TOOLS / "venv"], check=True)
        if subprocess.run([python, "-c", modules], capture_output=True).returncode != 0:
            subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PYPI],
                           check=True)
    node = TOOLS / "freshblu"
    modules = [node / "node_modules" / name.rsplit("@", 1)[0] for name in NPM]
    if {"npm", "npm-cli", "signature"} & set(clients) and not all(path.exists() for path in modules):
        node.mkdir(parents=True, exist_ok=True)
        (node / "package.json").write_text('{"private": true}\n')
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", *NPM],
                       cwd=node, check=True, stdin=subprocess.DEVNULL)
    # Unoptimized, as speed is not what is looked at; and without debug assertions, as what is
    # published has none (clap would complain of how `token revoke` is defined).
    if "rust-cli" in clients and not (RUST / "bin" / "freshblu").exists():
        subprocess.run(["cargo", "install", "--quiet", "--locked", "--debug", "freshblu-cli", "--version", VERSION,
                        "--root", RUST, "--target-dir", RUST / "build"], check=True, stdin=subprocess.DEVNULL,
                       env=os.environ | {"CARGO_PROFILE_DEV_DEBUG_ASSERTIONS": "false",
                                         "CARGO_PROFILE_DEV_DEBUG": "0"})
    if "types" in clients:
        subprocess.run(["cargo", "build", "--quiet", "--locked", "--target-dir", RUST / "build"],
                       cwd=HERE / "freshblu_types", check=True, stdin=subprocess.DEVNULL)


class FreshBlu:
    """freshblu-server in Meshring's place."""

    name = "freshblu-server"

    def __init__(self, program):
        ports = []
        for _ in range(2):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                ports.append(free.getsockname()[1])
        self.http, self.mqtt = (f"127.0.0.1:{port}" for port in ports)
        self.folder = tempfile.TemporaryDirectory()
        settings = {"FRESHBLU_HTTP_PORT": str(ports[0]), "FRESHBLU_MQTT_PORT": str(ports[1]), "RUST_LOG": "warn",
                    "DATABASE_URL": f"sqlite:{self.folder.name}/freshblu.db", "FRESHBLU_RATE_LIMIT": "1000000000"}
        self.process = subprocess.Popen([program], env=os.environ | settings, cwd=self.folder.name,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(200):  # it does not say when it is ready
            try:
                urllib.request.urlopen(f"http://{self.http}/healthcheck", timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        self.code = 0

    def said(self):
        return ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGKILL)  # it knows no graceful stop
        self.process.wait()


class FreshBluReport(Report):
    """As `Report`, but knows what freshblu-server fails."""

    has_known = False  # of the client that runs

    def add(self, broker, line):
        verdict, _, rest = line.partition(" ")
        # A program of checks that has said which one failed ends with 1 for it.
        if self.has_known and " ends with 1: " in rest:
            return
        known = next((why for name, why in KNOWN_OF_FRESHBLU.items() if rest.startswith(name)), None)
        if verdict == "FAIL" and broker.name == FreshBlu.name and known:
            self.has_known = True
            print(f"known freshblu-server: {rest} ({known})", flush=True)
        else:
            super().add(broker, line)


def check(server, program, report, clients):
    """All clients against one running server, then its end."""
    http, mqtt = server.http, server.mqtt
    python = TOOLS / "venv" / "bin" / "python"
    node = TOOLS / "freshblu"
    cli = HERE / "freshblu_cli_checks.py"
    lines = {
        "python": [python, HERE / "freshblu_python_checks.py", http],
        "npm": ["node", HERE / "freshblu_node_checks.mjs", node, http, mqtt],
        "npm-cli": [sys.executable, cli, "npm", node / "node_modules" / ".bin" / "freshblu", http],
        "rust-cli": [sys.executable, cli, "rust", RUST / "bin" / "freshblu", http],
        "types": [RUST / "build" / "debug" / "freshblu-types", http],
        "arduino": [sys.executable, HERE / "freshblu_arduino_checks.py", http, mqtt],
        "signature": ["node", HERE / "freshblu_signature_checks.mjs", node, http],
        "meshring": [sys.executable, cli, "meshring", program, http],
    }
    with server:
        for client in clients:
            report.has_known = False
            report.run(server, client, lines[client])
        if server.process.poll() is not None:
            report.add(server, f"FAIL the server died: {server.said()}")
    report.add(server, "ok stops with exit code 0" if server.code == 0
               else f"FAIL stops with exit code {server.code}: {' '.join(server.said().split())}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", type=pathlib.Path, help="the broker [default: builds target/debug/meshring]")
    parser.add_argument("--driver", choices=["io_uring", "epoll"], action="append")
    parser.add_argument("--shards", type=int, action="append")
    parser.add_argument("--client", choices=CLIENTS, action="append")
    parser.add_argument("--freshblu", metavar="PROGRAM", type=pathlib.Path,
                        help="check the checks against this freshblu-server")
    arguments = parser.parse_args()
    clients = arguments.client or CLIENTS
    for program in ("node", "npm", "cargo"):
        if not shutil.which(program):
            sys.exit(f"{program} is not installed; Debian has it in nodejs and npm, or it comes with Rust")
    install(clients)
    report = FreshBluReport()
    if arguments.freshblu:
        check(FreshBlu(arguments.freshblu), None, report, [name for name in clients if name not in ("meshring", "signature")])
    else:
        binary = arguments.binary
        if binary is None:
            subprocess.run(["cargo", "build", "--quiet", "-p", "meshring"], cwd=ROOT, check=True)
            binary = ROOT / "target" / "debug" / "meshring"
        for driver in arguments.driver or ["io_uring", "epoll"]:
            for shards in arguments.shards or [1, 2]:
                flags = ["--webhooks-to-private", "allow", "--webhooks-private-key-file", KEY]
                check(Meshring(binary, driver, shards, flags), binary, report, clients)
    for failure in report.failures:
        print(f"failed: {failure}")
    print(f"freshblu: {report.passed} passed, {report.failed} failed")
    sys.exit(0 if report.failed == 0 and report.passed > 0 else 1)


if __name__ == "__main__":
    main()
