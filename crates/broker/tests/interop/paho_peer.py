"""A paho client that can be used step by step: every call waits for the broker's answer."""

import queue
import threading
import time

import paho.mqtt.client as mqtt
from checks import PATIENCE_S, that, unique
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

V31, V311, V5 = mqtt.MQTTv31, mqtt.MQTTv311, mqtt.MQTTv5


def properties(packet, **values):
    """v5 properties for a packet such as "PUBLISH"; names as in the specification, without
    spaces."""
    made = Properties(getattr(PacketTypes, packet))
    for name, value in values.items():
        setattr(made, name, value)
    return made


class Peer:
    """One client. Use it in a `with` statement; it disconnects politely at the end."""

    # Where the broker is, and how to get there; set once by the program.
    host, port, transport = "127.0.0.1", 1883, "tcp"

    def __init__(self, version, client_id=None, clean=True, keep_alive=60, will=None,
                 connect=None, window=1000):
        self.version = version
        self.client_id = unique("paho") if client_id is None else client_id
        self.messages = queue.Queue()
        self.connected, self.closed = threading.Event(), threading.Event()
        self.answers = {}
        self.answered = threading.Condition()
        self.close_reason = None
        session = {} if version == V5 else {"clean_session": clean}
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=self.client_id,
                                  protocol=version, transport=self.transport,
                                  reconnect_on_failure=False, **session)
        if self.transport == "websockets":
            self.client.ws_set_options(path="/mqtt")
        self.client.max_inflight_messages_set(window)
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.client.on_message = lambda _client, _data, message: self.messages.put(message)
        self.client.on_subscribe = lambda _c, _d, mid, codes, _p: self._answer("sub", mid, codes)
        self.client.on_unsubscribe = lambda _c, _d, mid, codes, _p: self._answer("un", mid, codes)
        self.client.on_publish = lambda _c, _d, mid, code, _p: self._answer("pub", mid, code)
        if will:
            self.client.will_set(**will)
        start = {"clean_start": clean, "properties": connect} if version == V5 else {}
        self.client.connect(self.host, self.port, keepalive=keep_alive, **start)
        self.client.loop_start()
        that(self.connected.wait(PATIENCE_S), "no CONNACK")

    def _on_connect(self, _client, _data, flags, reason, connack):
        self.session_present, self.reason, self.connack = flags.session_present, reason, connack
        self.connected.set()

    def _on_disconnect(self, _client, _data, _flags, reason, _properties):
        self.close_reason = reason
        self.closed.set()

    def _answer(self, kind, mid, answer):
        with self.answered:
            self.answers[kind, mid] = answer
            self.answered.notify_all()

    def _await(self, kind, mid):
        with self.answered:
            has_come = self.answered.wait_for(lambda: (kind, mid) in self.answers, PATIENCE_S)
            that(has_come, f"no answer to {kind} {mid}")
            return self.answers.pop((kind, mid))

    def subscribe(self, filter, qos=0, **options):
        """Subscribes and returns the reason codes of SUBACK."""
        answer_to = options.pop("properties", None)
        if options:
            options = {"options": mqtt.SubscribeOptions(qos=qos, **options)}
        else:
            options = {"options": mqtt.SubscribeOptions(qos=qos)} if self.version == V5 else {"qos": qos}
        _, mid = self.client.subscribe(filter, properties=answer_to, **options)
        return [code.value for code in self._await("sub", mid)]

    def unsubscribe(self, filter):
        """Unsubscribes and returns the reason codes of UNSUBACK; none in 3.x."""
        _, mid = self.client.unsubscribe(filter)
        return [code.value for code in self._await("un", mid)]

    def send(self, topic, payload, qos=0, **options):
        """Publishes without waiting; returns what `acknowledged` takes."""
        info = self.client.publish(topic, payload, qos, **options)
        that(info.rc in (mqtt.MQTT_ERR_SUCCESS, mqtt.MQTT_ERR_QUEUE_SIZE), f"publish: {info.rc}")
        return info.mid

    def acknowledged(self, mid):
        """Waits until the message has been sent (QoS 0) or acknowledged; the reason code."""
        return self._await("pub", mid).value

    def publish(self, topic, payload, qos=0, **options):
        """Publishes and waits for the acknowledgement; its reason code."""
        return self.acknowledged(self.send(topic, payload, qos, **options))

    def next(self, timeout_s=PATIENCE_S):
        """The next message."""
        try:
            return self.messages.get(timeout=timeout_s)
        except queue.Empty:
            raise AssertionError(f"{self.client_id}: no message in {timeout_s} s") from None

    def take(self, count):
        """The payloads of the next messages, as text."""
        return [self.next().payload.decode() for _ in range(count)]

    def vanish(self):
        """Cuts the connection without DISCONNECT, so that the will is published."""
        self.client._sock_close()  # paho has no public way to be impolite
        self.client.loop_stop()

    def leave(self, **options):
        """Disconnects politely."""
        self.client.disconnect(**options)
        self.client.loop_stop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.leave()


def wait_for(condition, what):
    """Waits for something that is not an answer to this client; polls, since there is no event."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        that(time.monotonic() < end, what)
        time.sleep(0.01)
