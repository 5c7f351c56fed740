"""What FreshBlu's Arduino library does, on plain sockets: `freshblu_arduino_checks.py HTTP_ADDRESS
MQTT_ADDRESS`.

The library itself needs a board. What it does with its sockets is little, and this does the same:
HTTP/1.1 with `Connection: close`, of whose answers it knows the status line and Content-Length
only and keeps 2,047 bytes; MQTT 3.1.1 at QoS 0 as PubSubClient does it, with one buffer of 512
bytes, which a packet that is longer does not reach.
"""

import base64
import json
import socket
import sys
import time

from checks import PATIENCE_S, address_of, equal, finish, run, that

HTTP, MQTT = address_of(sys.argv[1]), address_of(sys.argv[2])

# The sizes of the library's buffers, each with its zero at the end.
TOKEN_BUFFER, UUID_BUFFER, RESPONSE_BUFFER, STATUS_BUFFER, PACKET_BUFFER = 65, 37, 2048, 64, 512


def http(method, path, body=None, device=None):
    """One request on a connection of its own; the status and the JSON of the answer."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {HTTP[0]}", "Connection: close"]
    if device:
        credentials = f"{device['uuid']}:{device['token']}"
        lines.append(f"Authorization: Basic {base64.b64encode(credentials.encode()).decode()}")
    content = b"" if body is None else json.dumps(body).encode()
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    with socket.create_connection(HTTP, timeout=PATIENCE_S) as peer:
        peer.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + content)
        answer = b""
        while received := peer.recv(65536):
            answer += received
    head, _, text = answer.partition(b"\r\n\r\n")
    status, *headers = head.decode().split("\r\n")
    that(len(status) < STATUS_BUFFER, f"a status line of {len(status)} bytes")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in headers)}
    that("transfer-encoding" not in fields, "an answer in chunks")
    equal(int(fields["content-length"]), len(text), "Content-Length")
    that(len(text) < RESPONSE_BUFFER, f"an answer of {len(text)} bytes")
    return int(status.split()[1]), json.loads(text)


def register(properties):
    status, device = http("POST", "/devices", properties)
    equal(status, 200)
    that(len(device["token"]) < TOKEN_BUFFER and len(device["uuid"]) < UUID_BUFFER, "uuid or token too long")
    return device


class Board:
    """PubSubClient."""

    def __init__(self, device, token=None):
        self.uuid = device["uuid"]
        self.peer = socket.create_connection(MQTT, timeout=PATIENCE_S)
        token = device["token"] if token is None else token
        # Clean session, user name and password; keep alive 15 s.
        connect = (b"\x00\x04MQTT\x04\xc2\x00\x0f" + self.text(self.uuid) + self.text(self.uuid) + self.text(token))
        self.send(0x10, connect)
        self.code = self.packet()[1][1]

    @staticmethod
    def text(value):
        return len(value).to_bytes(2, "big") + value.encode()

    def send(self, kind, content):
        that(len(content) + 5 <= PACKET_BUFFER, "the library could not send this")
        length, rest = b"", len(content)
        while True:
            rest, digit = rest >> 7, rest & 127
            length += bytes([digit | (128 if rest else 0)])
            if not rest:
                break
        self.peer.sendall(bytes([kind]) + length + content)

    def exactly(self, count):
        received = b""
        while len(received) < count:
            more = self.peer.recv(count - len(received))
            that(more, "the connection is closed")
            received += more
        return received

    def packet(self):
        """The next packet that fits into the buffer."""
        while True:
            kind, length, shift = self.exactly(1)[0], 0, 0
            while True:
                digit = self.exactly(1)[0]
                length |= (digit & 127) << shift
                shift += 7
                if digit < 128:
                    break
            content = self.exactly(length)
            if length + 5 <= PACKET_BUFFER:
                return kind, content

    def begin(self):
        """Connected, with the two subscriptions of the library."""
        equal(self.code, 0, "CONNACK")
        for packet_id, topic in ((2, "message"), (3, "broadcast")):
            self.send(0x82, packet_id.to_bytes(2, "big") + self.text(f"{self.uuid}/{topic}") + b"\x00")
            equal(self.packet(), (0x90, packet_id.to_bytes(2, "big") + b"\x00"), "SUBACK")
        return self

    def publish(self, topic, content):
        self.send(0x30, self.text(f"{self.uuid}/{topic}") + json.dumps(content).encode())

    def message(self):
        """The topic's last level, the sender and the content, as the library hands them on."""
        kind, content = self.packet()
        equal(kind, 0x30, "a packet")
        length = int.from_bytes(content[:2], "big")
        topic, document = content[2:2 + length].decode(), json.loads(content[2 + length:])
        uuid, _, level = topic.partition("/")
        return level, document.get("fromUuid", uuid), document

    def ping(self):
        self.send(0xC0, b"")
        equal(self.packet(), (0xD0, b""), "PINGRESP")

    def __enter__(self):
        return self.begin()

    def __exit__(self, *_):
        self.peer.close()


def every_request_of_the_library():
    device = register({"type": "arduino", "name": "board"})
    status, answer = http("POST", "/authenticate", {"uuid": device["uuid"], "token": device["token"]})
    equal((status, answer["uuid"]), (200, device["uuid"]))
    equal(http("GET", "/status")[1]["online"], True)
    own = f"/devices/{device['uuid']}"
    equal(http("GET", "/whoami", device=device)[1]["name"], "board")
    equal(http("PUT", own, {"color": "blue"}, device)[1]["color"], "blue")
    equal(http("GET", own, device=device)[1]["color"], "blue")
    for devices in ([device["uuid"]], ["*"]):
        equal(http("POST", "/messages", {"devices": devices, "payload": {"t": 1}}, device), (200, {"sent": True}))
    equal(http("DELETE", own, device=device)[0], 200)


def refusals_fit_its_buffers_too():
    device = register({})
    equal(http("GET", "/whoami")[0], 401)
    equal(http("GET", "/no/such/route", device=device)[0], 404)
    equal(http("POST", "/messages", {"payload": 1}, device)[0], 422)
    equal(http("POST", "/authenticate", {"uuid": device["uuid"], "token": "wrong"})[0], 401)


def connects_with_credentials_alone():
    device = register({})
    with Board(device) as board:
        board.ping()
    equal(Board(device, token="wrong").code in (4, 5), True, "refused with a wrong token")
    equal(Board(register({}), token=device["token"]).code in (4, 5), True, "refused with another's token")


def receives_messages_from_http():
    device, sender = register({}), register({})
    with Board(device) as board:
        http("POST", "/messages", {"devices": [device["uuid"]], "payload": {"led": True}}, sender)
        level, source, document = board.message()
        equal((level, source, document["payload"]), ("message", sender["uuid"], {"led": True}))
        equal(document["devices"], [device["uuid"]])


def boards_send_to_each_other():
    one, two = register({}), register({})
    with Board(one) as first, Board(two) as second:
        first.publish("message", {"devices": [two["uuid"]], "payload": 7})
        level, source, document = second.message()
        equal((level, source, document["payload"]), ("message", one["uuid"], 7))
        second.publish("message", {"devices": [one["uuid"], two["uuid"]], "payload": 8})
        equal(first.message()[2]["payload"], 8)


def broadcasts_reach_subscribers():
    device, emitter = register({}), register({})
    subscription = {"subscriberUuid": device["uuid"], "emitterUuid": emitter["uuid"], "type": "broadcast-sent"}
    equal(http("POST", f"/devices/{device['uuid']}/subscriptions", subscription, device)[0], 200)
    with Board(device) as board, Board(emitter) as other:
        other.publish("broadcast", {"temp": 21.5})
        level, source, document = board.message()
        equal((level, source), ("broadcast", emitter["uuid"]))
        equal(document.get("payload", document), {"temp": 21.5})


def its_own_messages_are_not_echoed():
    device, other = register({}), register({})
    with Board(device) as board:
        board.publish("message", {"devices": [other["uuid"]], "payload": 1})
        board.publish("broadcast", {"temp": 1})
        # The answer to a ping comes after whatever would have been echoed.
        board.ping()


def nobody_publishes_or_listens_for_another():
    one, two = register({}), register({"meshblu": {"version": "2.0.0", "whitelists": {}}})
    with Board(two) as victim, Board(one) as board:
        topic = f"{two['uuid']}/message"
        board.send(0x82, b"\x00\x09" + board.text(topic) + b"\x00")
        board.send(0x30, board.text(topic) + json.dumps({"devices": [one["uuid"]], "payload": "forged"}).encode())
        refused = None
        try:
            kind, content = board.packet()
            refused = kind == 0x90 and content[2] == 0x80
            board.ping()
        except (AssertionError, ConnectionError):
            refused = True  # closed for it, which is an answer too
        that(refused, "another's messages can be subscribed to")
        http("POST", "/messages", {"devices": [two["uuid"]], "payload": "secret"}, two)
        equal(victim.message()[2]["payload"], "secret", "what the device itself receives")


def a_message_beyond_its_buffer_costs_only_itself():
    device, sender = register({}), register({})
    with Board(device) as board:
        for payload in ("x" * 600, "small"):
            http("POST", "/messages", {"devices": [device["uuid"]], "payload": payload}, sender)
        equal(board.message()[2]["payload"], "small")


def is_online_while_connected():
    device = register({})
    online = lambda: http("GET", "/whoami", device=device)[1]["online"]
    with Board(device):
        equal(online(), True, "online")
    end = time.monotonic() + PATIENCE_S
    while online():
        that(time.monotonic() < end, "still online")
        time.sleep(0.02)


def main():
    finish([run("freshblu arduino", [
        every_request_of_the_library, refusals_fit_its_buffers_too, connects_with_credentials_alone,
        receives_messages_from_http, boards_send_to_each_other, broadcasts_reach_subscribers,
        its_own_messages_are_not_echoed, nobody_publishes_or_listens_for_another,
        a_message_beyond_its_buffer_costs_only_itself, is_online_while_connected,
    ])])


if __name__ == "__main__":
    main()
