"""FreshBlu's Python package against a server: `freshblu_python_checks.py HTTP_ADDRESS`. Every method
of its three classes: synchronous (over httpx, and over urllib as it does where httpx is missing),
with a WebSocket, and asynchronous.

Names of checks that FreshBlu's own server fails are listed in run_freshblu.py.
"""

import asyncio
import importlib
import queue
import sys
import threading
import time

from checks import PATIENCE_S, equal, finish, run, that, unique

URL = f"http://{sys.argv[1]}"
NOBODY = "00000000-0000-4000-8000-000000000001"


def closed(**whitelists):
    """Properties of a device that allows nobody anything but what is given."""
    return {"meshblu": {"version": "2.0.0", "whitelists": whitelists}}


def refused(package, status, said, call, *arguments):
    """Raises unless the call is refused in these words."""
    try:
        answer = call(*arguments)
    except package.FreshBluError as error:
        equal((error.status_code, str(error)), (status, said), "the refusal")
    else:
        raise AssertionError(f"not refused: {answer!r}")


def eventually(condition, what):
    """Waits for what has no acknowledgement."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        that(time.monotonic() < end, what)
        time.sleep(0.02)


class Listener:
    """A device with a WebSocket, and what came over it."""

    def __init__(self, package, device=None, token=None):
        self.client = package.FreshBlu(URL)
        self.device = device or self.client.register({"type": "listener"})
        self.uuid = self.device["uuid"]
        self.client.set_credentials(self.uuid, token or self.device["token"])
        self.came, self.ready = queue.Queue(), threading.Event()
        for event in ("ready", "notReady", "message", "broadcast", "config", "unregistered", "error"):
            self.client.on(event, self.came.put)
        self.client.connect(self.ready.set)

    def event(self, name):
        """The next event of this name; others are passed over."""
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                event = self.came.get(timeout=max(0, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no event {name}") from None
            if event["event"] == name:
                return event

    def __enter__(self):
        that(self.ready.wait(PATIENCE_S), "the WebSocket is not ready")
        return self

    def __exit__(self, *_):
        self.client.disconnect()


def synchronous(package):
    """The checks of FreshBluHttp."""

    def device(properties=None):
        client = package.FreshBluHttp(URL)
        registered = client.register(properties)
        client.set_credentials(registered["uuid"], registered["token"])
        client.own = registered["uuid"]
        return client

    def registers_and_says_who_it_is():
        client = package.FreshBluHttp(URL)
        registered = client.register({"type": "sensor", "name": "pond", "nested": {"a": [1, None]}})
        token = registered["token"]
        that(20 <= len(token) <= 64 and ":" not in token, f"the token is {token}")
        equal((registered["type"], registered["name"], registered["online"]), ("sensor", "pond", False))
        equal(registered["meshblu"]["whitelists"]["discover"]["view"], [{"uuid": "*"}])
        client.set_credentials(registered["uuid"], token)
        me = client.whoami()
        equal((me["uuid"], me["nested"]), (registered["uuid"], {"a": [1, None]}))
        that("token" not in me, "whoami tells the token")

    def registers_without_properties():
        that(device().whoami()["meshblu"]["hash"], "no hash")

    def wrong_credentials_are_refused():
        client = device()
        client.set_credentials(client.own, "wrong")
        refused(package, 401, "unauthorized", client.whoami)
        client.set_credentials(NOBODY, "wrong")
        refused(package, 401, "unauthorized", client.whoami)
        client.set_credentials(None, None)
        refused(package, 401, "unauthorized", client.whoami)

    def gets_devices():
        client, other = device(), device({"name": "other"})
        equal(client.get_device(other.own)["name"], "other")
        refused(package, 404, "device not found", client.get_device, NOBODY)
        private = device(closed())
        refused(package, 404, "device not found", client.get_device, private.own)
        equal(private.get_device(private.own)["uuid"], private.own)

    def gets_a_device_as_another():
        client = device()
        actor = device(closed(discover={"as": [{"uuid": client.own}]}))
        private = device(closed(discover={"view": [{"uuid": actor.own}]}))
        refused(package, 404, "device not found", client.get_device, private.own)
        equal(client.get_device(private.own, as_uuid=actor.own)["uuid"], private.own)
        refused(package, 403, "forbidden", device().get_device, private.own, actor.own)

    def updates_devices():
        client, other = device({"name": "old", "kept": 1}), device(closed(configure={}))
        updated = client.update_device(client.own, {"name": "new", "color": None})
        equal((updated["name"], updated["kept"], updated["color"]), ("new", 1, None))
        that(updated["meshblu"]["updatedAt"], "no updatedAt")
        refused(package, 403, "forbidden", client.update_device, other.own, {"x": 1})

    def updates_what_is_reserved():
        client = device({"type": "first"})
        for kind in ("second", "third"):
            equal(client.update_device(client.own, {"type": kind})["type"], kind)
        client.update_device(client.own, {"online": True, "uuid": NOBODY, "token": "t"})
        equal((client.whoami()["uuid"], client.whoami()["type"]), (client.own, "third"))

    def changes_who_may_see_it():
        client, other = device(), device()
        equal(other.get_device(client.own)["uuid"], client.own)
        whitelists = client.whoami()["meshblu"]["whitelists"]
        whitelists["discover"]["view"] = []
        client.update_device(client.own, {"meshblu": {"whitelists": whitelists}})
        refused(package, 404, "device not found", other.get_device, client.own)

    def unregisters():
        client = device()
        equal(client.unregister(client.own)["uuid"], client.own)
        refused(package, 401, "unauthorized", client.whoami)
        refused(package, 404, "device not found", device().get_device, client.own)

    def searches():
        kind = unique("kind")
        client = device({"type": kind, "floor": 1})
        device({"type": kind, "floor": 2})
        device({"type": kind, "floor": 1, **closed()})
        floors = lambda query: sorted(found["floor"] for found in client.search(query))
        equal(floors({"type": kind}), [1, 2], "all of the kind that may be seen")
        equal(floors({"type": kind, "floor": 2}), [2])
        equal(floors({"type": kind, "floor": 3}), [])
        that(len(client.search()) > 0, "a search for everything finds nothing")

    def claims_and_lists_its_devices():
        client, found = device(), device()
        claimed = client.claim_device(found.own)
        equal((claimed["uuid"], claimed["owner"]), (found.own, client.own))
        equal([mine["uuid"] for mine in client.my_devices()], [client.own, found.own])
        refused(package, 403, "forbidden", device().claim_device, found.own)

    def sends_messages():
        client = device()
        with Listener(package) as listener:
            message = {"devices": [listener.uuid], "topic": "t", "payload": {"temp": 72.4}, "extra": [1]}
            equal(client.message(message), {"sent": True})
            equal(listener.event("message"), {"event": "message", "fromUuid": client.own, **message})
        equal(client.message({"devices": [NOBODY], "payload": 1}), {"sent": True}, "to nobody")
        refused_shape(lambda: client.message({"payload": 1}))

    def refused_shape(call):
        try:
            call()
        except package.FreshBluError as error:
            equal(error.status_code, 422, "the status")
            that("devices" in str(error) and "{" not in str(error), f"it is told {error}")
        else:
            raise AssertionError("not refused")

    def nobody_forges_the_sender():
        client = device()
        with Listener(package) as listener:
            client.message({"devices": [listener.uuid], "fromUuid": NOBODY, "event": "config", "payload": 1})
            equal(listener.event("message")["fromUuid"], client.own, "the sender")

    def subscribes_in_its_own_spelling():
        client, emitter = device(), device()
        for kind in package.SubscriptionType:
            made = client.create_subscription(client.own, emitter.own, kind)
            hyphenated = kind.value.replace(".", "-")
            equal((made["emitterUuid"], made["subscriptionType"]), (emitter.own, hyphenated))
        made = client.create_subscription(client.own, emitter.own, "broadcast-sent")
        equal(made["subscriptionType"], "broadcast-sent")
        equal(len(client.subscriptions(client.own)), 8, "subscriptions")
        for kind in package.SubscriptionType:
            client.delete_subscription(client.own, emitter.own, kind)
        equal(client.subscriptions(client.own), [])
        closed_one = device(closed())
        refused(package, 403, "forbidden", client.create_subscription, client.own, closed_one.own,
                package.SubscriptionType.BROADCAST_SENT)

    def broadcasts_to_subscribers():
        client = device()
        with Listener(package) as listener:
            listener.client.create_subscription(listener.uuid, client.own, "broadcast-sent")
            equal(client.broadcast({"payload": {"temp": 1}, "topic": "t"}), {"sent": True})
            came = listener.event("broadcast")
            equal((came["fromUuid"], came["payload"], came["topic"]), (client.own, {"temp": 1}, "t"))
            client.message({"devices": ["*"], "payload": 2})
            equal(listener.event("broadcast")["payload"], 2)

    def generates_revokes_and_resets_tokens():
        client = device()
        root = client.config.token
        made = client.generate_token(client.own, expires_on=int(time.time()) + 3600, tag="laptop")
        equal(made["uuid"], client.own)
        client.set_credentials(client.own, made["token"])
        client.whoami()
        client.set_credentials(client.own, root)
        client.revoke_token(client.own, made["token"])
        refused(package, 404, "device not found", client.revoke_token, client.own, made["token"])
        client.set_credentials(client.own, made["token"])
        refused(package, 401, "unauthorized", client.whoami)
        client.set_credentials(client.own, root)
        fresh = client.reset_token(client.own)["token"]
        refused(package, 401, "unauthorized", client.whoami)
        client.set_credentials(client.own, fresh)
        equal(client.whoami()["uuid"], client.own)

    def says_that_it_is_well():
        status = package.FreshBluHttp(URL).status()
        equal((status["meshblu"], status["online"]), (True, True))

    return [registers_and_says_who_it_is, registers_without_properties, wrong_credentials_are_refused,
            gets_devices, gets_a_device_as_another, updates_devices, updates_what_is_reserved,
            changes_who_may_see_it, unregisters, searches, claims_and_lists_its_devices, sends_messages,
            nobody_forges_the_sender, subscribes_in_its_own_spelling, broadcasts_to_subscribers,
            generates_revokes_and_resets_tokens, says_that_it_is_well]


def with_websocket(package):
    """The checks of FreshBlu, which adds a WebSocket."""

    def becomes_ready_and_online():
        with Listener(package) as listener:
            ready = listener.event("ready")
            equal(ready["uuid"], listener.uuid)
            equal(ready["meshblu"]["version"], "2.0.0")
            equal(listener.client.whoami()["online"], True, "online")
        eventually(lambda: not listener.client.whoami()["online"], "still online")

    def wrong_tokens_are_not_ready():
        listener = Listener(package, token="wrong")
        equal(listener.event("notReady")["reason"], "unauthorized")
        that(not listener.ready.is_set(), "ready with a wrong token")
        listener.client.disconnect()

    def messages_go_both_ways():
        with Listener(package) as one, Listener(package) as two:
            for sender, receiver in ((one, two), (two, one), (one, one)):
                sender.client.send_message({"devices": [receiver.uuid], "payload": "hi", "topic": "t"})
                came = receiver.event("message")
                equal((came["fromUuid"], came["payload"], came["topic"]), (sender.uuid, "hi", "t"))

    def messages_stay_in_order():
        with Listener(package) as one, Listener(package) as two:
            for number in range(300):
                one.client.send_message({"devices": [two.uuid], "payload": number})
            equal([two.event("message")["payload"] for _ in range(300)], list(range(300)))

    def subscribes_to_broadcasts():
        with Listener(package) as emitter, Listener(package) as listener:
            listener.client.subscribe_ws(emitter.uuid, "broadcast.sent")
            eventually(lambda: listener.client.subscriptions(listener.uuid), "not subscribed")
            emitter.client.send_message({"devices": ["*"], "payload": 5})
            equal(listener.event("broadcast")["fromUuid"], emitter.uuid)

    def forbidden_subscriptions_are_told():
        with Listener(package) as listener:
            private = listener.client.register(closed())
            listener.client.subscribe_ws(private["uuid"], "broadcast.sent")
            that("forbidden" in listener.event("error")["message"], "not told why")

    def every_kind_of_subscription_fires():
        with Listener(package) as watcher, Listener(package) as watched, Listener(package) as other:
            for kind in package.SubscriptionType:
                watcher.client.create_subscription(watcher.uuid, watched.uuid, kind.value.replace(".", "-"))
            watched.client.create_subscription(watched.uuid, other.uuid, "broadcast-sent")
            watched.client.send_message({"devices": [other.uuid], "payload": "message.sent"})
            equal(watcher.event("message")["payload"], "message.sent")
            other.client.send_message({"devices": [watched.uuid], "payload": "message.received"})
            equal(watcher.event("message")["payload"], "message.received")
            watched.client.send_message({"devices": ["*"], "payload": "broadcast.sent"})
            equal(watcher.event("broadcast")["payload"], "broadcast.sent")
            other.client.send_message({"devices": ["*"], "payload": "broadcast.received"})
            equal(watcher.event("broadcast")["payload"], "broadcast.received")
            watched.client.update_device(watched.uuid, {"color": "blue"})
            equal(watcher.event("config")["device"]["color"], "blue")
            watched.client.unregister(watched.uuid)
            equal(watcher.event("unregistered")["uuid"], watched.uuid)

    def its_own_changes_are_told():
        with Listener(package) as listener:
            listener.client.update_device(listener.uuid, {"color": "red"})
            equal(listener.event("config")["device"]["color"], "red")

    def nothing_is_lost_right_after_ready():
        sender = package.FreshBluHttp(URL)
        own = sender.register({})
        sender.set_credentials(own["uuid"], own["token"])
        for _ in range(20):
            with Listener(package) as listener:
                sender.message({"devices": [listener.uuid], "payload": 1})
                listener.event("message")

    def closing_one_connection_leaves_the_other():
        with Listener(package) as first:
            with Listener(package, device=first.device):
                pass
            first.client.message({"devices": [first.uuid], "payload": "still there"})
            equal(first.event("message")["payload"], "still there")
            equal(first.client.whoami()["online"], True, "online")

    def leaving_is_answered():
        died, hook = [], threading.excepthook
        threading.excepthook = died.append
        try:
            with Listener(package) as listener:
                pass
            listener.client._ws_thread.join(8)
            that(not listener.client._ws_thread.is_alive(), "the close is not answered")
            equal([repr(death.exc_value) for death in died], [])
        finally:
            threading.excepthook = hook

    return [becomes_ready_and_online, wrong_tokens_are_not_ready, messages_go_both_ways,
            messages_stay_in_order, subscribes_to_broadcasts, forbidden_subscriptions_are_told,
            every_kind_of_subscription_fires, its_own_changes_are_told, nothing_is_lost_right_after_ready,
            closing_one_connection_leaves_the_other, leaving_is_answered]


def asynchronous(package):
    """The checks of AsyncFreshBlu."""

    def every_method():
        async def all_of_it():
            async with package.AsyncFreshBlu(URL) as client:
                own = await client.register({"type": unique("async")})
                client.set_credentials(own["uuid"], own["token"])
                equal((await client.whoami())["uuid"], own["uuid"])
                equal(await client.message({"devices": [own["uuid"]], "payload": 1}), {"sent": True})
                found = await client.search({"type": own["type"]})
                equal([device["uuid"] for device in found], [own["uuid"]])
                equal((await client.status())["meshblu"], True)
        asyncio.run(all_of_it())

    def a_hundred_at_once():
        async def all_of_it():
            async with package.AsyncFreshBlu(URL) as client:
                own = await client.register({})
                client.set_credentials(own["uuid"], own["token"])
                answers = await asyncio.gather(*(client.whoami() for _ in range(100)))
                equal({answer["uuid"] for answer in answers}, {own["uuid"]})
        asyncio.run(all_of_it())

    def refusals_are_json():
        async def all_of_it():
            async with package.AsyncFreshBlu(URL) as client:
                own = await client.register({})
                for message, status in (({"payload": 1}, 422), ([], 422)):
                    client.set_credentials(own["uuid"], own["token"])
                    try:
                        await client.message(message)
                    except package.FreshBluError as error:
                        equal(error.status_code, status)
                    else:
                        raise AssertionError(f"not refused: {message}")
        asyncio.run(all_of_it())

    return [every_method, a_hundred_at_once, refusals_are_json]


def without_httpx():
    """The package as it is where httpx is not installed."""
    sys.modules["httpx"] = None
    sys.modules.pop("freshblu")
    return importlib.import_module("freshblu")


def main():
    package = importlib.import_module("freshblu")
    that(package.HAS_HTTPX and package.HAS_WS, "httpx or websockets is missing")
    results = [
        run("freshblu python", synchronous(package)),
        run("freshblu python WebSocket", with_websocket(package)),
        run("freshblu python async", asynchronous(package)),
    ]
    plain = without_httpx()
    that(not plain.HAS_HTTPX, "httpx is still there")
    results.append(run("freshblu python urllib", synchronous(plain)))
    finish(results)


if __name__ == "__main__":
    main()
