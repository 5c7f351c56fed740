"""paho-mqtt against a broker: `paho_checks.py MQTT_ADDRESS [HTTP_ADDRESS]`.

Everything that all versions have is checked in 3.1, 3.1.1 and 5, over TCP and (3.1.1 and 5) over
WebSocket; paho_v5.py has what came with version 5.
"""

import sys

import paho_v5
from checks import address_of, closes, equal, finish, run, that, unique
from paho_peer import V5, V31, V311, Peer, properties, wait_for

NAMES = {V31: "3.1", V311: "3.1.1", V5: "5"}


def expiring(version, seconds=60):
    """Options for a session that outlives its connection."""
    return {"connect": properties("CONNECT", SessionExpiryInterval=seconds)} if version == V5 else {}


def common(version):
    """The checks that every version can do."""

    def connects():
        with Peer(version) as peer:
            equal(peer.reason.value, 0, "reason")
            equal(peer.session_present, False, "session present")

    def publishes_at_every_qos_to_every_qos():
        topic = unique("qos")
        with Peer(version) as publisher, Peer(version) as subscriber:
            for granted in (0, 1, 2):
                equal(subscriber.subscribe(topic, granted), [granted], "granted")
                for qos in (0, 1, 2):
                    publisher.publish(topic, f"{qos} to {granted}", qos)
                    message = subscriber.next()
                    equal(message.payload.decode(), f"{qos} to {granted}")
                    equal(message.qos, min(qos, granted), "delivered QoS")
                    equal(message.retain, False, "retain flag")

    def echoes_to_itself():
        topic = unique("echo")
        with Peer(version) as peer:
            peer.subscribe(topic, 2)
            for qos in (0, 1, 2):
                peer.publish(topic, f"{qos}", qos)
                equal(peer.take(1), [f"{qos}"])

    def keeps_retained_messages():
        topic = unique("retained")
        with Peer(version) as publisher:
            for qos in (0, 1, 2):
                publisher.publish(f"{topic}/{qos}", f"old {qos}", 1, retain=True)
                publisher.publish(f"{topic}/{qos}", f"kept {qos}", qos, retain=True)
            # QoS 0 has no acknowledgement; what follows it on its connection has.
            publisher.publish(f"{topic}/3", "gone", 1, retain=True)
            publisher.publish(f"{topic}/3", "", 1, retain=True)
        with Peer(version) as subscriber:
            subscriber.subscribe(f"{topic}/+", 2)
            found = [subscriber.next() for _ in range(3)]
            equal(sorted(m.payload.decode() for m in found), ["kept 0", "kept 1", "kept 2"])
            equal({m.retain for m in found}, {True}, "retain flags")
            subscriber.publish(f"{topic}/1", "live", 1, retain=True)
            message = subscriber.next()
            equal((message.payload, message.retain), (b"live", False), "to who is subscribed")

    def publishes_the_will_of_who_vanishes():
        topic = unique("will")
        with Peer(version) as subscriber:
            subscriber.subscribe(topic, 2)
            for qos in (0, 1, 2):
                will = {"topic": topic, "payload": f"gone {qos}", "qos": qos, "retain": False}
                Peer(version, will=will).vanish()
                message = subscriber.next()
                equal((message.payload.decode(), message.qos), (f"gone {qos}", qos))

    def retains_a_will():
        topic = unique("will")
        with Peer(version) as subscriber:
            subscriber.subscribe(topic, 1)
            Peer(version, will={"topic": topic, "payload": "gone", "qos": 1, "retain": True}).vanish()
            equal(subscriber.take(1), ["gone"])
        with Peer(version) as later:
            later.subscribe(topic, 1)
            message = later.next()
            equal((message.payload, message.retain), (b"gone", True))
            later.publish(topic, "", 1, retain=True)

    def forgets_the_will_of_who_leaves():
        topic, client_id = unique("will"), unique("polite")
        with Peer(version) as subscriber:
            subscriber.subscribe(topic, 1)
            will = {"topic": topic, "payload": "gone", "qos": 1, "retain": False}
            Peer(version, client_id=client_id, will=will).leave()
            with Peer(version, client_id=client_id) as again:
                again.publish(topic, "still here", 1)
            equal(subscriber.take(1), ["still here"])

    def matches_wildcards():
        root = unique("wild")
        topics = [f"{root}/a/b", f"{root}/a", f"{root}", f"{root}/a/b/c", f"{root}//b"]
        for filter, expected in [
            (f"{root}/+/b", [f"{root}/a/b", f"{root}//b"]),
            (f"{root}/#", topics),
            (f"{root}/a/#", [f"{root}/a/b", f"{root}/a", f"{root}/a/b/c"]),
            (f"{root}/+", [f"{root}/a"]),
            (f"{root}/+/+/+", [f"{root}/a/b/c"]),
            (f"+/a/b", [f"{root}/a/b"]),
        ]:
            with Peer(version) as peer:
                peer.subscribe(filter, 1)
                for topic in topics:
                    peer.publish(topic, topic, 1)
                equal(sorted(peer.take(len(expected))), sorted(expected), filter)
                that(peer.messages.empty(), f"{filter} matches too much")

    def unsubscribes():
        topic = unique("unsubscribe")
        with Peer(version) as peer:
            peer.subscribe(topic, 1)
            peer.subscribe(topic + "/other", 1)
            peer.publish(topic, "before", 1)
            equal(peer.take(1), ["before"])
            peer.unsubscribe(topic)
            peer.publish(topic, "after", 1)
            peer.publish(topic + "/other", "fence", 1)
            equal(peer.take(1), ["fence"])

    def shares_subscriptions():
        topic, count = unique("shared"), 100
        filter = f"$share/{unique('group')}/{topic}"
        with Peer(version) as one, Peer(version) as two, Peer(version) as publisher:
            for member in (one, two):
                equal(member.subscribe(filter, 1), [1], "granted")
            sent = [publisher.send(topic, f"{i}", 1) for i in range(count)]
            for mid in sent:
                publisher.acknowledged(mid)
            wait_for(lambda: one.messages.qsize() + two.messages.qsize() >= count, "not all arrived")
            shares = [one.take(one.messages.qsize()), two.take(two.messages.qsize())]
            equal(sorted(map(int, shares[0] + shares[1])), list(range(count)), "all shares")
            that(all(shares), "one member got everything")
            for share in shares:
                equal(share, sorted(share, key=int), "order within a share")

    def resumes_a_session_with_what_was_queued():
        topic, client_id = unique("resume"), unique("resume")
        options = {"client_id": client_id, "clean": False} | expiring(version)
        with Peer(version, **options) as first:
            equal(first.session_present, False, "session present at first")
            equal(first.subscribe(topic, 2), [2])
        with Peer(version) as publisher:
            expected = [f"{i} at {i % 2 + 1}" for i in range(50)]
            for i, payload in enumerate(expected):
                publisher.publish(topic, payload, i % 2 + 1)
        with Peer(version, **options) as second:
            if version != V31:  # 3.1 has no such flag
                equal(second.session_present, True, "session present")
            # Order is promised per QoS, and paho hands QoS 2 out at PUBREL.
            queued = second.take(50)
            for qos in ("1", "2"):
                of_qos = lambda payloads: [p for p in payloads if p.endswith(qos)]
                equal(of_qos(queued), of_qos(expected), "queued")
            second.publish(topic, "live", 2)
            equal(second.take(1), ["live"])
        with Peer(version, client_id=client_id) as third:
            equal(third.session_present, False, "session present after a clean start")

    def takes_over_a_session():
        topic, client_id = unique("takeover"), unique("takeover")
        options = {"client_id": client_id, "clean": False} | expiring(version)
        first = Peer(version, **options)
        first.subscribe(topic, 1)
        with Peer(version, **options) as second:
            if version != V31:
                equal(second.session_present, True, "session present")
            that(first.closed.wait(20), "the first connection is still open")
            if version == V5:
                equal(first.close_reason.value, 0x8E, "reason")
            second.publish(topic, "mine", 1)
            equal(second.take(1), ["mine"])
        first.leave()
        Peer(version, client_id=client_id).leave()

    def carries_large_payloads():
        topic = unique("large")
        payload = bytes(i * 7 % 251 for i in range(200_000))
        with Peer(version) as publisher, Peer(version) as subscriber:
            subscriber.subscribe(topic, 2)
            for qos in (0, 1, 2):
                publisher.publish(topic, payload, qos)
                that(subscriber.next().payload == payload, f"QoS {qos}: the payload has changed")
            publisher.publish(topic, b"", 1)
            equal(subscriber.next().payload, b"", "an empty payload")

    def keeps_ten_thousand_messages_in_order():
        topic, count = unique("order"), 10_000
        with Peer(version) as publisher, Peer(version) as subscriber:
            subscriber.subscribe(topic, 2)
            for qos in (1, 2):
                sent = [publisher.send(topic, f"{i}", qos) for i in range(count)]
                equal(subscriber.take(count), [f"{i}" for i in range(count)], f"QoS {qos}")
                for mid in sent:
                    publisher.acknowledged(mid)

    def carries_any_topic():
        with Peer(version) as peer:
            for topic in ["ü/日本語/🦀", "/", "//", "a b/[c]", "x" * 1000, unique("end") + "/"]:
                peer.subscribe(topic, 1)
                peer.publish(topic, topic, 1)
                message = peer.next()
                equal((message.topic, message.payload.decode()), (topic, topic))
                peer.unsubscribe(topic)

    def stays_while_it_pings():
        with Peer(version, keep_alive=1) as peer:
            that(not peer.closed.wait(3), "closed although it pings")
            peer.subscribe("ping", 1)

    checks = [check for check in locals().values() if callable(check)]
    # It takes seconds, and keep-alive is the same in all versions.
    return [check for check in checks if check is not stays_while_it_pings or version == V311]


def hides_dollar_topics():
    """`#` must not match $SYS, `$SYS/#` must."""
    with Peer(V311) as peer:
        peer.subscribe("$SYS/#", 0)
        that(peer.next(30).topic.startswith("$SYS/"), "nothing below $SYS")
    with Peer(V311) as peer, Peer(V311) as publisher:
        peer.subscribe("#", 1)
        for i in range(20):
            publisher.publish(unique("any"), f"{i}", 1)
        topics = []
        while "19" not in (message := peer.next()).payload.decode():
            topics.append(message.topic)
        that(not any(topic.startswith("$") for topic in topics), "# matches $SYS")


def connect_packet(protocol=b"\0\4MQTT\4", flags=2, client_id=b"raw", properties=b""):
    """CONNECT, as bytes."""
    body = protocol + bytes([flags, 0, 60]) + properties + len(client_id).to_bytes(2) + client_id
    return bytes([0x10, len(body)]) + body


def closes_on_nonsense():
    """What is no MQTT ends the connection and nothing else."""
    address = (Peer.host, Peer.port)
    connect = connect_packet(client_id=unique("raw").encode())
    connack = b"\x20\x02\x00\x00"
    for what, parts, answer in [
        ("HTTP on the MQTT port", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"], b""),
        ("all bits set", [b"\xff" * 64], b""),
        ("PUBLISH before CONNECT", [b"\x30\x03\x00\x01a"], b""),
        ("a second CONNECT", [connect, connect], connack),
        ("PUBLISH with QoS 3", [connect, b"\x36\x05\x00\x01a\x00\x01"], connack),
        ("PUBLISH to a wildcard", [connect, b"\x30\x03\x00\x01#"], connack),
        ("PUBLISH to no topic", [connect, b"\x30\x02\x00\x00"], connack),
        ("SUBSCRIBE without filters", [connect, b"\x82\x02\x00\x01"], connack),
        ("SUBSCRIBE with wrong flags", [connect, b"\x80\x06\x00\x01\x00\x01a\x00"], connack),
        ("a length of five bytes", [connect, b"\x30\xff\xff\xff\xff\x01"], connack),
        ("a packet only servers send", [connect, b"\x20\x02\x00\x00"], connack),
        ("a topic that is not UTF-8", [connect, b"\x30\x04\x00\x02\xc3\x28"], connack),
        ("an unknown level", [connect_packet(protocol=b"\0\4MQTT\x09")], None),
        ("reserved CONNECT flag", [connect_packet(flags=3)], b""),
    ]:
        found = closes(address, *parts)
        if answer is not None:
            equal(found, answer, what)
    with Peer(V311) as peer:
        peer.subscribe("after", 1)
        peer.publish("after", "well", 1)
        equal(peer.take(1), ["well"])


def main():
    Peer.host, Peer.port = address_of(sys.argv[1])
    results = [
        run(f"paho {NAMES[version]} TCP", common(version) + (paho_v5.CHECKS if version == V5 else []))
        for version in (V31, V311, V5)
    ]
    results.append(run("paho raw", [hides_dollar_topics, closes_on_nonsense]))
    if len(sys.argv) > 2:
        Peer.host, Peer.port = address_of(sys.argv[2])
        Peer.transport = "websockets"
        results += [run(f"paho {NAMES[version]} WebSocket", common(version)) for version in (V311, V5)]
    finish(results)


if __name__ == "__main__":
    main()
