// FreshBlu's npm package against a server: `node freshblu_node_checks.mjs FOLDER HTTP_ADDRESS
// MQTT_ADDRESS`, where FOLDER holds node_modules. Every method of FreshBluHttp, FreshBlu and
// FreshBluMqtt.

import { createRequire } from "node:module";
import { equal, run, that, unique, within } from "./mqttjs_peer.mjs";

const required = createRequire(`${process.argv[2]}/package.json`);
const URL = `http://${process.argv[3]}`;
const [HOST, MQTT_PORT] = process.argv[4].split(":");
const NOBODY = "00000000-0000-4000-8000-000000000001";
const KINDS = ["broadcast", "configure", "message", "unregister"]
  .flatMap((kind) => [`${kind}.sent`, `${kind}.received`]);

// Browsers and Node.js from version 22 have one.
globalThis.WebSocket ??= required("ws");
const { FreshBlu, FreshBluHttp, FreshBluMqtt, createClient, createHttpClient } = required("freshblu");

const closed = (whitelists = {}) => ({ meshblu: { version: "2.0.0", whitelists } });

async function device(properties, make = createHttpClient) {
  const client = make(URL);
  const registered = await client.register(properties);
  client.setCredentials(registered.uuid, registered.token);
  return Object.assign(client, { registered });
}

async function refused(said, promise) {
  const outcome = await promise.then(() => "not refused", (error) => error.message);
  equal(outcome, said, "the refusal");
}

/** A device with a WebSocket, and what came over it. */
async function listener(properties) {
  const client = await device(properties, (url) => new FreshBlu(url));
  const came = [];
  const waiting = [];
  client.on("*", (event) => (waiting.length ? waiting.shift()(event) : came.push(event)));
  const next = () => (came.length ? Promise.resolve(came.shift()) : new Promise((done) => waiting.push(done)));
  client.event = async (name) => {
    for (;;) {
      const event = await within(next(), `no event ${name}`);
      if (event.event === name) return event;
    }
  };
  await within(client.connect(), "not ready");
  return client;
}

async function registers_authenticates_and_says_who_it_is() {
  const client = await device({ type: "sensor", name: "pond" });
  const { uuid, token } = client.registered;
  that(token.length <= 64 && !token.includes(":"), `the token is ${token}`);
  equal((await client.authenticate()).uuid, uuid);
  const me = await client.whoami();
  equal([me.uuid, me.type, me.name, me.token], [uuid, "sensor", "pond", undefined]);
}

async function wrong_credentials_are_refused() {
  const client = await device();
  client.setCredentials(client.registered.uuid, "wrong");
  await refused("unauthorized", client.whoami());
  await refused("unauthorized", client.authenticate());
}

async function gets_updates_and_unregisters() {
  const [client, other] = [await device(), await device(closed())];
  const { uuid } = client.registered;
  const updated = await client.updateDevice(uuid, { color: "blue", type: "lamp" });
  equal([updated.color, updated.type], ["blue", "lamp"]);
  equal((await client.getDevice(uuid)).color, "blue");
  await refused("device not found", client.getDevice(NOBODY));
  await refused("device not found", client.getDevice(other.registered.uuid));
  await refused("forbidden", client.updateDevice(other.registered.uuid, { x: 1 }));
  await client.unregister(uuid);
  await refused("unauthorized", client.whoami());
}

async function acts_as_another() {
  const client = await device();
  const actor = await device(closed({ discover: { as: [{ uuid: client.registered.uuid }] } }));
  const seen = await device(closed({ discover: { view: [{ uuid: actor.registered.uuid }] } }));
  const found = await client.getDevice(seen.registered.uuid, actor.registered.uuid);
  equal(found.uuid, seen.registered.uuid);
}

async function searches_claims_and_lists() {
  const type = unique("kind");
  const [client, found] = [await device({ type, x: 1 }), await device({ type, x: 2 })];
  const uuids = (devices) => devices.map((one) => one.uuid).sort();
  const both = [client.registered.uuid, found.registered.uuid];
  equal(uuids(await client.search({ type })), [...both].sort());
  equal(uuids(await client.search({ type, x: 2 })), [found.registered.uuid]);
  const claimed = await client.claimDevice(found.registered.uuid);
  equal([claimed.uuid, claimed.meshblu.owner], [found.registered.uuid, client.registered.uuid]);
  equal((await client.myDevices()).map((one) => one.uuid), both);
}

async function sends_messages_and_broadcasts() {
  const [client, other] = [await device(), await listener()];
  const [from, to] = [client.registered.uuid, other.registered.uuid];
  equal(await client.message({ devices: [to], payload: { temp: 1 }, topic: "t" }), { sent: true });
  const message = await other.event("message");
  equal([message.fromUuid, message.payload, message.topic], [from, { temp: 1 }, "t"]);
  await other.createSubscription({ subscriberUuid: to, emitterUuid: from, type: "broadcast-sent" });
  await client.broadcast({ payload: 2 });
  equal((await other.event("broadcast")).payload, 2);
  other.disconnect();
}

async function subscribes_in_its_own_spelling() {
  const [client, emitter] = [await device(), await device()];
  const [subscriberUuid, emitterUuid] = [client.registered.uuid, emitter.registered.uuid];
  for (const type of KINDS) {
    const made = await client.createSubscription({ subscriberUuid, emitterUuid, type });
    equal([made.subscriberUuid, made.emitterUuid], [subscriberUuid, emitterUuid]);
    // What the types of the package promise.
    that(made.type, "the answer has no `type`");
  }
  equal((await client.subscriptions(subscriberUuid)).length, KINDS.length);
  for (const type of KINDS) await client.deleteSubscription(subscriberUuid, emitterUuid, type);
  equal(await client.subscriptions(subscriberUuid), []);
}

async function generates_revokes_and_resets_tokens() {
  const client = await device();
  const { uuid, token } = client.registered;
  const made = await client.generateToken(uuid, { expiresOn: 4102444800, tag: "t" });
  client.setCredentials(uuid, made.token);
  equal((await client.whoami()).uuid, uuid);
  await client.revokeToken(uuid, made.token);
  await refused("unauthorized", client.whoami());
  client.setCredentials(uuid, token);
  const fresh = await client.resetToken(uuid);
  await refused("unauthorized", client.whoami());
  client.setCredentials(uuid, fresh.token);
  equal((await client.whoami()).uuid, uuid);
}

async function says_that_it_is_well() {
  const status = await new FreshBluHttp(URL).status();
  equal([status.meshblu, status.online], [true, true]);
}

async function messages_go_both_ways_over_websocket() {
  const [one, two] = [await listener(), await listener()];
  that(one.connected, "not connected");
  for (const [sender, receiver] of [[one, two], [two, one]]) {
    sender.sendMessage([receiver.registered.uuid], { n: 1 }, "t");
    const first = await receiver.event("message");
    equal([first.fromUuid, first.payload, first.topic], [sender.registered.uuid, { n: 1 }, "t"]);
    sender.sendMessage({ devices: [receiver.registered.uuid], payload: 2 });
    equal((await receiver.event("message")).payload, 2);
  }
  one.close();
  two.disconnect();
}

async function everything_else_goes_over_websocket() {
  const client = await listener();
  const own = client.registered.uuid;
  equal((await client.event("ready")).uuid, own);
  client.whoamiWs();
  equal((await client.event("whoami")).device.uuid, own);
  client.updateWs({ color: "red" });
  equal((await client.event("config")).device.color, "red");
  client.subscribeWs(own, "broadcast.sent");
  client.sendMessage(["*"], 5);
  equal((await client.event("broadcast")).payload, 5);
  client.subscribeWs(NOBODY, "broadcast.sent");
  that((await client.event("error")).message, "an error without a message");
  client.disconnect();
  await client.event("close");
}

async function wrong_tokens_are_not_ready() {
  const client = await device(undefined, createClient);
  client.setCredentials(client.registered.uuid, "wrong");
  await refused("unauthorized", within(client.connect(), "no answer"));
}

/** Their MQTT class connects an MQTT.js client, and leaves the rest to it. */
async function mqttClient() {
  const { registered } = await device();
  const { uuid, token } = registered;
  const own = new FreshBluMqtt({ hostname: HOST, mqttPort: Number(MQTT_PORT), uuid, token });
  await own.connect();
  const { client } = own;
  const topics = [`${uuid}/message`, `${uuid}/broadcast`, `${uuid}/config`];
  await within(new Promise((done) => client.once("connect", done)), "MQTT: not connected");
  const granted = await within(client.subscribeAsync(topics), "MQTT: not subscribed");
  equal(granted.map((one) => one.qos), [0, 0, 0], "granted");
  const came = [];
  const waiting = [];
  client.on("message", (topic, payload) => {
    const message = { topic, ...JSON.parse(payload.toString()) };
    if (waiting.length) waiting.shift()(message);
    else came.push(message);
  });
  const next = () => within(came.length ? came.shift() : new Promise((done) => waiting.push(done)), "MQTT: nothing");
  const publish = (kind, content) => client.publishAsync(`${uuid}/${kind}`, JSON.stringify(content));
  return { uuid, next, publish, leave: () => client.endAsync() };
}

async function mqtt_and_websocket_reach_each_other() {
  const [peer, other] = [await mqttClient(), await listener()];
  const to = other.registered.uuid;
  await peer.publish("message", { devices: [to], payload: { temp: 1 } });
  const message = await other.event("message");
  equal([message.fromUuid, message.payload], [peer.uuid, { temp: 1 }]);
  other.sendMessage([peer.uuid], "back");
  const answer = await peer.next();
  equal([answer.topic, answer.fromUuid, answer.payload], [`${peer.uuid}/message`, to, "back"]);
  await other.createSubscription({ subscriberUuid: to, emitterUuid: peer.uuid, type: "broadcast-sent" });
  await peer.publish("broadcast", { temp: 2 });
  const broadcast = await other.event("broadcast");
  equal([broadcast.fromUuid, broadcast.payload], [peer.uuid, { temp: 2 }]);
  await other.updateDevice(peer.uuid, { color: "green" });
  const changed = await peer.next();
  equal([changed.topic, (changed.device ?? changed).color], [`${peer.uuid}/config`, "green"]);
  await peer.leave();
  other.close();
}

async function what_mqtt_sends_is_not_echoed() {
  const [peer, other] = [await mqttClient(), await mqttClient()];
  await peer.publish("message", { devices: [other.uuid], payload: 1 });
  equal((await other.next()).fromUuid, peer.uuid);
  await other.publish("message", { devices: [peer.uuid], payload: 2 });
  const first = await peer.next();
  equal([first.fromUuid, first.payload], [other.uuid, 2], "the first that comes");
  await peer.leave();
  await other.leave();
}

const passed = [
  await run("freshblu npm", [
    registers_authenticates_and_says_who_it_is, wrong_credentials_are_refused, gets_updates_and_unregisters,
    acts_as_another, searches_claims_and_lists, sends_messages_and_broadcasts, subscribes_in_its_own_spelling,
    generates_revokes_and_resets_tokens, says_that_it_is_well, messages_go_both_ways_over_websocket,
    everything_else_goes_over_websocket, wrong_tokens_are_not_ready,
  ]),
  await run("freshblu npm MQTT", [mqtt_and_websocket_reach_each_other, what_mqtt_sends_is_not_echoed]),
];
process.exit(passed.every(Boolean) ? 0 : 1);
