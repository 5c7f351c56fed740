"""mosquitto_pub and mosquitto_sub against a broker: `mosquitto_checks.py MQTT_ADDRESS`, in
versions 3.1, 3.1.1 and 5.

A subscriber is known to be subscribed when its debug output shows SUBACK.
"""

import json
import subprocess
import sys
import threading

from checks import PATIENCE_S, address_of, equal, finish, run, that, unique

VERSIONS = {"3.1": "mqttv31", "3.1.1": "mqttv311", "5": "mqttv5"}
HOST, PORT = "127.0.0.1", 1883


def command(program, version, *arguments):
    return [program, "-h", HOST, "-p", str(PORT), "-V", version, *map(str, arguments)]


def publish(version, *arguments, stdin=""):
    """Runs mosquitto_pub to its end; returns its exit code."""
    line = command("mosquitto_pub", version, *arguments)
    done = subprocess.run(line, input=stdin.encode(), capture_output=True, timeout=PATIENCE_S)
    return done.returncode


class Subscriber:
    """A mosquitto_sub that ends after `count` messages."""

    def __init__(self, version, count, *arguments, is_resuming=False):
        # stdbuf: its debug output would otherwise stay in a buffer until it ends.
        line = command("mosquitto_sub", version, "-d", "-F", "message %j", "-C", count, "-W", PATIENCE_S)
        self.process = subprocess.Popen(["stdbuf", "-oL", *line, *map(str, arguments)],
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.lines, self.subscribed = [], threading.Event()
        self.reader = threading.Thread(target=self._read)
        self.reader.start()
        # A resumed session may have all its messages before SUBACK.
        if not is_resuming and not self.subscribed.wait(PATIENCE_S):
            self.process.kill()
            raise AssertionError(f"not subscribed: {self.lines[-3:]}")

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.decode(errors="replace").rstrip("\n"))
            if "received SUBACK" in self.lines[-1]:
                self.subscribed.set()

    def messages(self):
        """Waits for the end; the messages as mosquitto_sub's JSON has them."""
        self.process.wait(PATIENCE_S + 5)
        self.reader.join()
        equal(self.process.returncode, 0, f"exit code of mosquitto_sub, after {self.lines[-3:]},")
        prefix = "message "
        return [json.loads(l[len(prefix):]) for l in self.lines if l.startswith(prefix)]

    def payloads(self):
        return [message["payload"] for message in self.messages()]

    def kill(self):
        """Cuts the connection without DISCONNECT."""
        self.process.kill()
        self.process.wait()
        self.reader.join()


def common(version):
    """The checks that every version can do."""

    def publishes_at_every_qos_to_every_qos():
        for granted in (0, 1, 2):
            topic = unique("qos")
            subscriber = Subscriber(version, 3, "-t", topic, "-q", granted)
            for qos in (0, 1, 2):
                equal(publish(version, "-t", topic, "-m", f"{qos}", "-q", qos), 0, "exit code")
            found = [(m["payload"], m["qos"], m["retain"]) for m in subscriber.messages()]
            # Three publishers: no order among them is promised.
            equal(sorted(found), [(f"{q}", min(q, granted), 0) for q in (0, 1, 2)])

    def keeps_retained_messages():
        topic = unique("retained")
        for qos in (0, 1, 2):
            publish(version, "-t", f"{topic}/{qos}", "-m", f"kept {qos}", "-q", qos, "-r")
        publish(version, "-t", f"{topic}/3", "-m", "gone", "-q", 1, "-r")
        publish(version, "-t", f"{topic}/3", "-n", "-q", 1, "-r")
        subscriber = Subscriber(version, 4, "-t", f"{topic}/+", "-q", 1)
        publish(version, "-t", f"{topic}/3", "-m", "live", "-q", 1)
        found = sorted((m["payload"], m["retain"]) for m in subscriber.messages())
        equal(found, [("kept 0", 1), ("kept 1", 1), ("kept 2", 1), ("live", 0)])

    def publishes_the_will_of_who_vanishes():
        topic = unique("will")
        subscriber = Subscriber(version, 1, "-t", topic, "-q", 1)
        will = ["--will-topic", topic, "--will-payload", "gone", "--will-qos", 1]
        Subscriber(version, 1, "-t", "nothing", *will).kill()
        equal(subscriber.payloads(), ["gone"])

    def matches_wildcards():
        root = unique("wild")
        subscriber = Subscriber(version, 4, "-t", f"{root}/+/b", "-t", f"{root}/c/#", "-q", 1)
        for topic in ("a/b", "a/b/c", "a", "x/b", "c", "c/d/e"):
            publish(version, "-t", f"{root}/{topic}", "-m", topic, "-q", 1)
        equal(sorted(subscriber.payloads()), ["a/b", "c", "c/d/e", "x/b"])

    def shares_subscriptions():
        topic = unique("shared")
        filter = f"$share/{unique('group')}/{topic}"
        members = [Subscriber(version, 20, "-t", filter, "-q", 1) for _ in range(2)]
        lines = "".join(f"{i}\n" for i in range(40))
        equal(publish(version, "-t", topic, "-l", "-q", 1, stdin=lines), 0, "exit code")
        found = members[0].payloads() + members[1].payloads()
        equal(sorted(map(int, found)), list(range(40)), "all shares")

    def resumes_a_session_with_what_was_queued():
        topic, client_id = unique("resume"), unique("resume")
        session = ["-t", topic, "-q", 1, "-i", client_id, "-c"]
        session += ["-x", 60] if version == "mqttv5" else []
        first = Subscriber(version, 1, *session)
        publish(version, "-t", topic, "-m", "live", "-q", 1)
        equal(first.payloads(), ["live"])
        publish(version, "-t", topic, "-l", "-q", 1, stdin="".join(f"{i}\n" for i in range(30)))
        equal(Subscriber(version, 30, *session, is_resuming=True).payloads(), [f"{i}" for i in range(30)])

    def carries_large_payloads():
        topic = unique("large")
        for qos in (0, 1, 2):
            payload = f"{qos}" * 200_000
            subscriber = Subscriber(version, 1, "-t", topic, "-q", qos)
            equal(publish(version, "-t", topic, "-s", "-q", qos, stdin=payload), 0, "exit code")
            that(subscriber.payloads() == [payload], f"QoS {qos}: the payload has changed")

    def keeps_ten_thousand_messages_in_order():
        topic, count = unique("order"), 10_000
        lines = "".join(f"{i}\n" for i in range(count))
        for qos in (1, 2):
            subscriber = Subscriber(version, count, "-t", topic, "-q", qos)
            equal(publish(version, "-t", topic, "-l", "-q", qos, stdin=lines), 0, "exit code")
            equal(subscriber.payloads(), [f"{i}" for i in range(count)], f"QoS {qos}")

    def survives_a_publish_to_a_wildcard():
        code = publish(version, "-t", "no/#", "-m", "x")
        that(code != 0, "mosquitto_pub published to a wildcard")
        topic = unique("after")
        subscriber = Subscriber(version, 1, "-t", topic)
        publish(version, "-t", topic, "-m", "well")
        equal(subscriber.payloads(), ["well"])

    return [check for check in locals().values() if callable(check)]


def carries_the_properties_of_a_message():
    topic = unique("properties")
    subscriber = Subscriber("mqttv5", 1, "-t", topic, "-q", 1)
    publish("mqttv5", "-t", topic, "-m", "text", "-q", 1,
            "-D", "publish", "user-property", "first", "1",
            "-D", "publish", "user-property", "second", "2",
            "-D", "publish", "content-type", "text/plain",
            "-D", "publish", "response-topic", "answers/here",
            "-D", "publish", "correlation-data", "q1",
            "-D", "publish", "message-expiry-interval", "100",
            "-D", "publish", "payload-format-indicator", "1")
    found = subscriber.messages()[0]["properties"]
    left = found.pop("message-expiry-interval")
    that(90 < left <= 100, f"{left} s are left of 100")
    users = found.pop("user-properties")
    # Depending on its version a list of objects or one object.
    pairs = [pair for user in (users if isinstance(users, list) else [users]) for pair in user.items()]
    equal(pairs, [("first", "1"), ("second", "2")])
    equal(found.get("content-type"), "text/plain")
    equal(found.get("response-topic"), "answers/here")
    equal(found.get("correlation-data"), "q1")
    equal(found.get("payload-format-indicator"), 1)


def takes_a_topic_alias():
    topic = unique("alias")
    subscriber = Subscriber("mqttv5", 2, "-t", topic, "-q", 1)
    for payload in ("one", "two"):
        publish("mqttv5", "-t", topic, "-m", payload, "-q", 1, "-D", "publish", "topic-alias", 3)
    equal(sorted(subscriber.payloads()), ["one", "two"])


V5_CHECKS = [carries_the_properties_of_a_message, takes_a_topic_alias]


def main():
    global HOST, PORT
    HOST, PORT = address_of(sys.argv[1])
    results = [
        run(f"mosquitto clients {name}", common(version) + (V5_CHECKS if name == "5" else []))
        for name, version in VERSIONS.items()
    ]
    finish(results)


if __name__ == "__main__":
    main()
