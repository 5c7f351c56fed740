#!/usr/bin/env python3
"""Public MQTT clients against Meshring: `python3 crates/broker/tests/interop/run.py`.

Starts the broker once for each driver and for 1 and 2 shards, on ports that the system picks, and
lets paho-mqtt, MQTT.js, the mosquitto clients and rumqttc loose on it. One line per check; the
last line is `interop: N passed, M failed`. Exit code 0 if nothing failed.

What is installed on first use, below target/interop: paho-mqtt from PyPI, MQTT.js from npm.
mosquitto_pub and mosquitto_sub must be there (Debian: mosquitto-clients), and cargo.
"""

import argparse
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[3]
TOOLS = ROOT / "target" / "interop"

# One client's checks against one broker; far above what they need.
CLIENT_PATIENCE_S = 900
STOP_PATIENCE_S = 40

# Where mosquitto 2.0.11 itself falls short, when it stands in for the broker (--mosquitto).
KNOWN_OF_MOSQUITTO = {
    "paho 5 TCP takes_over_a_session": "no reason code 0x8E",
    "paho 5 WebSocket takes_over_a_session": "no reason code 0x8E",
    "mqtt.js 5 TCP takes_over_a_session": "no reason code 0x8E",
    "mqtt.js 5 WebSocket takes_over_a_session": "no reason code 0x8E",
    "rumqttc version_5::the_second_connection_takes_over": "no reason code 0x8E",
    "mosquitto clients 5 keeps_ten_thousand_messages_in_order": "mosquitto_sub sees a protocol error",
}


def install():
    """Installs what is missing; returns the python that has paho and the folder that has MQTT.js."""
    venv, node = TOOLS / "venv", TOOLS / "node"
    python = venv / "bin" / "python"
    has_paho = python.exists() and subprocess.run(
        [python, "-c", "import paho.mqtt.client"], capture_output=True).returncode == 0
    if not has_paho:
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                        "-r", HERE / "requirements.txt"], check=True)
    if not (node / "node_modules" / "mqtt").exists():
        node.mkdir(parents=True, exist_ok=True)
        shutil.copy(HERE / "package.json", node)
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"],
                       cwd=node, check=True, stdin=subprocess.DEVNULL)
    for program in ("mosquitto_pub", "mosquitto_sub", "stdbuf", "node", "cargo"):
        if not shutil.which(program):
            sys.exit(f"{program} is not installed; Debian has it in mosquitto-clients, coreutils, "
                     "nodejs, or comes with Rust")
    return python, node


class Meshring:
    """A running broker. In a `with` statement it is stopped again, and must stop well."""

    def __init__(self, binary, driver, shards, flags=()):
        self.name = f"{driver} {shards} shard{'s' if shards > 1 else ''}"
        line = [binary, "serve", "--dev", "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0",
                "--driver", driver, "--shards", str(shards), "--log", "warn", *flags, "--data"]
        self.data = tempfile.TemporaryDirectory()
        line.append(self.data.name)
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=self.log,
                                        stdin=subprocess.DEVNULL, text=True)
        bound = dict(self.process.stdout.readline().split() or ("", "") for _ in range(2))
        if set(bound) != {"mqtt", "http"}:
            self.process.kill()
            sys.exit(f"the broker did not start ({self.name}): {self.said()}")
        self.mqtt, self.http = bound["mqtt"], bound["http"]

    def said(self):
        """The end of its log."""
        self.log.seek(0)
        return self.log.read()[-4000:].decode(errors="replace")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.code = self.process.wait(STOP_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            self.code = "none: it had to be killed"


class Mosquitto:
    """mosquitto in the broker's place, to check the checks."""

    name = "mosquitto"

    def __init__(self, mqtt, http):
        self.mqtt, self.http = mqtt, http
        self.folder = tempfile.TemporaryDirectory()
        conf = pathlib.Path(self.folder.name) / "mosquitto.conf"
        ports = [address.rsplit(":", 1)[1] for address in (mqtt, http)]
        conf.write_text(f"listener {ports[0]} 127.0.0.1\nlistener {ports[1]} 127.0.0.1\n"
                        "protocol websockets\nallow_anonymous true\npersistence false\n"
                        "max_queued_messages 100000\nmax_inflight_messages 1000\nsys_interval 2\n")
        path = os.environ["PATH"] + ":/usr/sbin"
        self.process = subprocess.Popen([shutil.which("mosquitto", path=path), "-c", conf],
                                        stderr=subprocess.DEVNULL)
        time.sleep(1)  # it does not say when it is ready
        self.code = 0

    def said(self):
        return ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


class Report:
    """Counts the lines `ok NAME` and `FAIL NAME: why`, and shows them."""

    def __init__(self):
        self.passed, self.failed, self.failures = 0, 0, []

    def add(self, broker, line):
        verdict, _, rest = line.partition(" ")
        is_known = broker.name == "mosquitto" and rest.startswith(tuple(KNOWN_OF_MOSQUITTO))
        if verdict == "FAIL" and is_known:
            print(f"known mosquitto: {rest}", flush=True)
        elif verdict == "ok":
            self.passed += 1
            print(f"ok {broker.name}: {rest}", flush=True)
        else:
            self.failed += 1
            self.failures.append(f"{broker.name}: {rest}")
            print(f"FAIL {broker.name}: {rest}", flush=True)

    def run(self, broker, client, line, **options):
        """Runs one client's checks; if it ends badly without saying why, that is a failure."""
        count = self.failed
        process = subprocess.Popen([str(part) for part in line], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, **options)
        try:
            out, errors = process.communicate(timeout=CLIENT_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            out, errors = process.communicate()
            errors += f"\nnot done in {CLIENT_PATIENCE_S} s"
        for said in out.splitlines():
            if said.startswith(("ok ", "FAIL ")):
                self.add(broker, said)
        if process.returncode != 0 and self.failed == count and broker.name != "mosquitto":
            last = " ".join(errors.split())[-600:]
            self.add(broker, f"FAIL {client} ends with {process.returncode}: {last}")

    def run_rust(self, broker):
        """rumqttc's checks are a Rust test: `test NAME ... ok` becomes `ok rumqttc NAME`."""
        environment = os.environ | {"MESHRING_INTEROP_ADDRESS": broker.mqtt}
        line = ["cargo", "test", "--quiet", "-p", "meshring", "--test", "rumqttc", "--",
                "--format", "pretty", "--test-threads", "1"]
        done = subprocess.run(line, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=CLIENT_PATIENCE_S)
        count = 0
        for said in done.stdout.splitlines():
            words = said.split()
            if said.startswith("test ") and words[-1] in ("ok", "FAILED"):
                count += 1
                verdict = "ok" if words[-1] == "ok" else "FAIL"
                self.add(broker, f"{verdict} rumqttc {words[1]}")
        if count == 0 or done.returncode not in (0, 101):
            self.add(broker, f"FAIL rumqttc did not run: {' '.join(done.stderr.split())[-600:]}")
        elif done.returncode == 101:
            print(done.stdout[-4000:], flush=True)


def check(broker, python, node, report, clients):
    """All clients against one running broker, then its end."""
    with broker:
        if "paho" in clients:
            report.run(broker, "paho", [python, HERE / "paho_checks.py", broker.mqtt, broker.http])
        if "mqttjs" in clients:
            report.run(broker, "mqtt.js", ["node", HERE / "mqttjs_checks.mjs", node, broker.mqtt, broker.http])
        if "mosquitto" in clients:
            report.run(broker, "mosquitto clients", [sys.executable, HERE / "mosquitto_checks.py", broker.mqtt])
        if "rumqttc" in clients:
            report.run_rust(broker)
        if broker.process.poll() is not None:
            report.add(broker, f"FAIL the broker died: {broker.said()}")
    report.add(broker, "ok stops with exit code 0" if broker.code == 0
               else f"FAIL stops with exit code {broker.code}: {' '.join(broker.said().split())}")


def main():
    every_client = ["paho", "mqttjs", "mosquitto", "rumqttc"]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", type=pathlib.Path, help="the broker [default: builds target/debug/meshring]")
    parser.add_argument("--driver", choices=["io_uring", "epoll"], action="append")
    parser.add_argument("--shards", type=int, action="append")
    parser.add_argument("--client", choices=every_client, action="append")
    parser.add_argument("--mosquitto", nargs=2, metavar=("ADDR:PORT", "ADDR:PORT"),
                        help="check the checks against mosquitto, listening for MQTT and WebSocket here")
    arguments = parser.parse_args()
    clients = arguments.client or every_client
    python, node = install()
    report = Report()
    if arguments.mosquitto:
        check(Mosquitto(*arguments.mosquitto), python, node, report, clients)
    else:
        binary = arguments.binary
        if binary is None:
            subprocess.run(["cargo", "build", "--quiet", "-p", "meshring"], cwd=ROOT, check=True)
            binary = ROOT / "target" / "debug" / "meshring"
        for driver in arguments.driver or ["io_uring", "epoll"]:
            for shards in arguments.shards or [1, 2]:
                check(Meshring(binary, driver, shards), python, node, report, clients)
    for failure in report.failures:
        print(f"failed: {failure}")
    print(f"interop: {report.passed} passed, {report.failed} failed")
    sys.exit(0 if report.failed == 0 and report.passed > 0 else 1)


if __name__ == "__main__":
    main()
