"""What came with version 5, with paho-mqtt."""

import time

from checks import equal, that, unique
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode
from paho_peer import V5, V311, Peer, properties


def carries_the_properties_of_a_message():
    topic = unique("properties")
    users = [("first", "1"), ("second", "2"), ("first", "again"), ("", ""), ("ü", "日本")]
    sent = properties("PUBLISH", UserProperty=users, ResponseTopic="answers/here",
                      CorrelationData=b"\x00\x01\xff", ContentType="text/plain",
                      PayloadFormatIndicator=1)
    with Peer(V5) as publisher, Peer(V5) as subscriber:
        subscriber.subscribe(topic, 2)
        for qos in (0, 1, 2):
            publisher.publish(topic, "text", qos, properties=sent)
            found = subscriber.next().properties
            equal(found.UserProperty, users, "user properties")
            equal(found.ResponseTopic, "answers/here")
            equal(found.CorrelationData, b"\x00\x01\xff")
            equal(found.ContentType, "text/plain")
            equal(found.PayloadFormatIndicator, 1)
            that(not hasattr(found, "MessageExpiryInterval"), "an expiry nobody asked for")


def keeps_the_properties_of_a_retained_message():
    topic = unique("retained")
    with Peer(V5) as peer:
        sent = properties("PUBLISH", UserProperty=[("a", "b")], ContentType="x", MessageExpiryInterval=100)
        peer.publish(topic, "kept", 1, retain=True, properties=sent)
        peer.subscribe(topic, 1)
        found = peer.next().properties
        equal((found.UserProperty, found.ContentType), ([("a", "b")], "x"))
        that(0 < found.MessageExpiryInterval <= 100, f"expiry {found.MessageExpiryInterval}")
        peer.publish(topic, "", 1, retain=True)


def crosses_versions():
    topic = unique("versions")
    with Peer(V5) as new, Peer(V311) as old:
        new.subscribe(topic, 1)
        old.subscribe(topic, 1)
        new.publish(topic, "new", 1, properties=properties("PUBLISH", UserProperty=[("a", "b")]))
        equal((new.take(1), old.take(1)), (["new"], ["new"]))
        old.publish(topic, "old", 1)
        equal((new.take(1), old.take(1)), (["old"], ["old"]))


def asks_and_answers():
    topic, answers = unique("question"), unique("answers")
    with Peer(V5) as server, Peer(V5) as client:
        server.subscribe(topic, 1)
        client.subscribe(answers, 1)
        client.publish(topic, "6 * 7", 1,
                       properties=properties("PUBLISH", ResponseTopic=answers, CorrelationData=b"q1"))
        question = server.next()
        back = properties("PUBLISH", CorrelationData=question.properties.CorrelationData)
        server.publish(question.properties.ResponseTopic, "42", 1, properties=back)
        answer = client.next()
        equal((answer.payload, answer.properties.CorrelationData), (b"42", b"q1"))


def lets_messages_expire():
    topic, client_id = unique("expiry"), unique("expiry")
    options = {"client_id": client_id, "clean": False,
               "connect": properties("CONNECT", SessionExpiryInterval=60)}
    with Peer(V5, **options) as subscriber:
        subscriber.subscribe(topic, 1)
    with Peer(V5) as publisher:
        for payload, expiry in [("short", 1), ("long", 100)]:
            publisher.publish(topic, payload, 1,
                              properties=properties("PUBLISH", MessageExpiryInterval=expiry))
        publisher.publish(topic, "endless", 1)
    time.sleep(2.1)  # the passage of time is what is checked
    with Peer(V5, **options) as subscriber:
        long, endless = subscriber.next(), subscriber.next()
        equal((long.payload, endless.payload), (b"long", b"endless"))
        left = long.properties.MessageExpiryInterval
        that(90 <= left <= 98, f"{left} s are left of 100 after 2")
        that(not hasattr(endless.properties, "MessageExpiryInterval"), "an expiry nobody asked for")
    Peer(V5, client_id=client_id).leave()


def tells_which_subscription_matched():
    topic = unique("identifier")
    with Peer(V5) as peer:
        equal(peer.subscribe(topic + "/a", 1, properties=properties("SUBSCRIBE", SubscriptionIdentifier=7)), [1])
        peer.publish(topic + "/a", "one", 1)
        equal(peer.next().properties.SubscriptionIdentifier, [7])
        peer.subscribe(topic + "/#", 2, properties=properties("SUBSCRIBE", SubscriptionIdentifier=268435455))
        peer.publish(topic + "/a", "both", 1)
        peer.publish(topic + "/a", "fence", 1)
        # One copy with both or a copy for each: the specification allows either.
        found = []
        while len(found) < 2:
            found += peer.next().properties.SubscriptionIdentifier
        equal(sorted(found), [7, 268435455])


def takes_topic_aliases():
    topic = unique("alias")
    with Peer(V5) as publisher, Peer(V5) as subscriber:
        that(getattr(publisher.connack, "TopicAliasMaximum", 0) >= 2, "no topic aliases allowed")
        subscriber.subscribe(topic + "/#", 1)
        publisher.publish(topic + "/one", "1", 1, properties=properties("PUBLISH", TopicAlias=1))
        publisher.publish(topic + "/two", "2", 1, properties=properties("PUBLISH", TopicAlias=2))
        publisher.publish("", "3", 1, properties=properties("PUBLISH", TopicAlias=1))
        publisher.publish("", "4", 1, properties=properties("PUBLISH", TopicAlias=2))
        publisher.publish(topic + "/three", "5", 1, properties=properties("PUBLISH", TopicAlias=1))
        publisher.publish("", "6", 1, properties=properties("PUBLISH", TopicAlias=1))
        found = [subscriber.next() for _ in range(6)]
        found = {m.payload.decode(): m.topic.removeprefix(topic) for m in found}
        equal(found, {"1": "/one", "2": "/two", "3": "/one", "4": "/two", "5": "/three", "6": "/three"})


def sends_topic_aliases_within_the_maximum():
    topic = unique("alias")
    with Peer(V5, connect=properties("CONNECT", TopicAliasMaximum=2)) as peer:
        peer.subscribe(topic + "/#", 1)
        names = {}
        for i in range(12):
            peer.publish(f"{topic}/{i % 4}", f"{i % 4}", 1)
            message = peer.next()
            alias = getattr(message.properties, "TopicAlias", None)
            name = message.topic or names.get(alias)
            equal(name, f"{topic}/{message.payload.decode()}", "topic")
            if alias is not None:
                that(1 <= alias <= 2, f"alias {alias} is above the maximum")
                names[alias] = name


def honours_subscription_options():
    topic = unique("options")
    with Peer(V5) as peer, Peer(V5) as other:
        peer.subscribe(topic, 1, noLocal=True)
        peer.publish(topic, "own", 1)
        other.publish(topic, "other's", 1)
        equal(peer.take(1), ["other's"])
        other.publish(topic, "kept", 1, retain=True)
        equal(peer.take(1), ["kept"])
        for handling, expected in [(0, True), (1, False), (2, False)]:
            peer.subscribe(topic, 1, retainHandling=handling)
            if expected:
                equal(peer.next().retain, True, "retain flag")
        peer.unsubscribe(topic)
        peer.subscribe(topic, 1, retainHandling=1, retainAsPublished=True)
        equal(peer.take(1), ["kept"])
        other.publish(topic, "", 1, retain=True)
        message = peer.next()
        equal((message.payload, message.retain), (b"", True), "as published")


def assigns_client_identifiers():
    with Peer(V5, client_id="") as one, Peer(V5, client_id="") as two:
        names = one.connack.AssignedClientIdentifier, two.connack.AssignedClientIdentifier
        that(all(names) and names[0] != names[1], f"assigned {names}")


def announces_what_it_can_do():
    with Peer(V5) as peer:
        for name in ("RetainAvailable", "WildcardSubscriptionAvailable",
                     "SubscriptionIdentifierAvailable", "SharedSubscriptionAvailable"):
            equal(getattr(peer.connack, name, 1), 1, name)
        that(getattr(peer.connack, "MaximumQoS", 2) == 2, "no QoS 2")
        that(getattr(peer.connack, "ReceiveMaximum", 65535) > 0, "receive maximum 0")


def respects_the_receive_maximum():
    topic = unique("window")
    with Peer(V5, connect=properties("CONNECT", ReceiveMaximum=2)) as subscriber, Peer(V5) as publisher:
        subscriber.subscribe(topic, 2)
        for qos in (1, 2):
            for mid in [publisher.send(topic, f"{i}", qos) for i in range(200)]:
                publisher.acknowledged(mid)
            equal(subscriber.take(200), [f"{i}" for i in range(200)])


def respects_the_maximum_packet_size():
    topic = unique("size")
    with Peer(V5, connect=properties("CONNECT", MaximumPacketSize=500)) as small, Peer(V5) as publisher:
        small.subscribe(topic, 1)
        publisher.publish(topic, "x" * 1000, 1)
        publisher.publish(topic, "short", 1)
        equal(small.take(1), ["short"])


def lets_sessions_expire():
    client_id = unique("session")
    options = {"client_id": client_id, "clean": False}
    with Peer(V5, connect=properties("CONNECT", SessionExpiryInterval=1), **options):
        pass
    time.sleep(2.2)  # the passage of time is what is checked
    with Peer(V5, connect=properties("CONNECT", SessionExpiryInterval=100), **options) as peer:
        equal(peer.session_present, False, "session present after its expiry")
        peer.leave(properties=properties("DISCONNECT", SessionExpiryInterval=0))
    with Peer(V5, **options) as peer:
        equal(peer.session_present, False, "session present though ended by DISCONNECT")


def waits_with_a_delayed_will():
    topic, client_id = unique("will"), unique("will")
    lasting = properties("CONNECT", SessionExpiryInterval=60)
    delayed = properties("WILLMESSAGE", WillDelayInterval=1, UserProperty=[("a", "b")], ContentType="t")
    will = {"topic": topic, "payload": "gone", "qos": 1, "properties": delayed}
    with Peer(V5) as subscriber:
        subscriber.subscribe(topic, 1)
        # Back in time: no will.
        Peer(V5, client_id=client_id, connect=lasting, clean=False, will=will).vanish()
        with Peer(V5, client_id=client_id, connect=lasting, clean=False) as back:
            back.publish(topic, "back", 1)
            equal(subscriber.take(1), ["back"])
        # Not back.
        start = time.monotonic()
        Peer(V5, client_id=client_id, connect=lasting, will=will).vanish()
        message = subscriber.next()
        that(time.monotonic() - start >= 0.9, "the will came before its delay")
        equal((message.payload, message.properties.UserProperty), (b"gone", [("a", "b")]))
        equal(message.properties.ContentType, "t")
    Peer(V5, client_id=client_id).leave()


def publishes_the_will_on_request():
    topic = unique("will")
    with Peer(V5) as subscriber:
        subscriber.subscribe(topic, 1)
        peer = Peer(V5, will={"topic": topic, "payload": "said so", "qos": 1})
        peer.leave(reasoncode=ReasonCode(PacketTypes.DISCONNECT, identifier=4))
        equal(subscriber.take(1), ["said so"])


def says_what_came_of_it():
    topic = unique("reason")
    with Peer(V5) as peer:
        equal(peer.publish(topic, "nobody hears", 1), 0x10, "PUBACK")
        equal(peer.unsubscribe(topic), [0x11], "UNSUBACK of a filter never subscribed")
        peer.subscribe(topic, 1)
        equal(peer.publish(topic, "heard", 1), 0, "PUBACK")
        equal(peer.unsubscribe(topic), [0], "UNSUBACK")


CHECKS = [check for check in list(globals().values())
          if callable(check) and getattr(check, "__module__", None) == __name__]
