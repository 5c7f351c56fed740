// MQTT.js against a broker: `node mqttjs_checks.mjs FOLDER MQTT_ADDRESS HTTP_ADDRESS`, where
// FOLDER holds node_modules. Versions 3.1, 3.1.1 and 5 over TCP and over WebSocket.

import { Peer, equal, run, that, unique, within } from "./mqttjs_peer.mjs";
import { versionFive } from "./mqttjs_v5.mjs";

const VERSIONS = [
  ["3.1", { protocolId: "MQIsdp", protocolVersion: 3 }],
  ["3.1.1", { protocolVersion: 4 }],
  ["5", { protocolVersion: 5 }],
];

/** The checks that every version can do. */
function common(url, version) {
  const connect = (options = {}) => Peer.connect(url, { ...version, ...options });
  const isFive = version.protocolVersion === 5;
  const lasting = isFive ? { properties: { sessionExpiryInterval: 60 } } : {};

  async function connects() {
    const peer = await connect();
    equal([peer.connack.sessionPresent, peer.connack.reasonCode ?? peer.connack.returnCode], [false, 0]);
    await peer.leave();
  }

  async function publishes_at_every_qos_to_every_qos() {
    const topic = unique("qos");
    const [publisher, subscriber] = [await connect(), await connect()];
    for (const granted of [0, 1, 2]) {
      equal(await subscriber.subscribe(topic, granted), [granted], "granted");
      for (const qos of [0, 1, 2]) {
        await publisher.publish(topic, `${qos} to ${granted}`, qos);
        const message = await subscriber.next();
        equal([message.text, message.qos], [`${qos} to ${granted}`, Math.min(qos, granted)]);
      }
    }
  }

  async function keeps_retained_messages() {
    const topic = unique("retained");
    const publisher = await connect();
    for (const qos of [0, 1, 2]) await publisher.publish(`${topic}/${qos}`, `kept ${qos}`, qos, { retain: true });
    await publisher.publish(`${topic}/3`, "gone", 1, { retain: true });
    await publisher.publish(`${topic}/3`, "", 1, { retain: true });
    const subscriber = await connect();
    await subscriber.subscribe(`${topic}/#`, 2);
    const found = [await subscriber.next(), await subscriber.next(), await subscriber.next()];
    equal(found.map((message) => message.text).sort(), ["kept 0", "kept 1", "kept 2"]);
    that(found.every((message) => message.retain), "a retained message without its flag");
    await publisher.publish(`${topic}/3`, "live", 1);
    const live = await subscriber.next();
    equal([live.text, live.retain], ["live", false]);
  }

  async function publishes_the_will_of_who_vanishes() {
    const topic = unique("will");
    const subscriber = await connect();
    await subscriber.subscribe(topic, 2);
    for (const qos of [0, 1, 2]) {
      const peer = await connect({ will: { topic, payload: Buffer.from(`gone ${qos}`), qos, retain: false } });
      await peer.vanish();
      const message = await subscriber.next();
      equal([message.text, message.qos], [`gone ${qos}`, qos]);
    }
    const clientId = unique("polite");
    const polite = await connect({ clientId, will: { topic, payload: Buffer.from("gone"), qos: 1, retain: false } });
    await polite.leave();
    const again = await connect({ clientId });
    await again.publish(topic, "still here", 1);
    equal(await subscriber.take(1), ["still here"]);
  }

  async function matches_wildcards() {
    const root = unique("wild");
    const topics = [`${root}/a/b`, `${root}/a`, root, `${root}//b`];
    for (const [filter, expected] of [
      [`${root}/+/b`, [`${root}/a/b`, `${root}//b`]],
      [`${root}/#`, topics],
      [`+/a`, [`${root}/a`]],
    ]) {
      const peer = await connect();
      await peer.subscribe(filter, 1);
      for (const topic of topics) await peer.publish(topic, topic, 1);
      equal((await peer.take(expected.length)).sort(), [...expected].sort(), filter);
      equal(peer.messages, [], `${filter} matches too much`);
      await peer.leave();
    }
  }

  async function unsubscribes() {
    const topic = unique("unsubscribe");
    const peer = await connect();
    await peer.subscribe(topic, 1);
    await peer.publish(topic, "before", 1);
    equal(await peer.take(1), ["before"]);
    await peer.unsubscribe(topic);
    await peer.publish(topic, "after", 1);
    await peer.subscribe(topic, 1);
    await peer.publish(topic, "again", 1);
    equal(await peer.take(1), ["again"]);
  }

  async function shares_subscriptions() {
    const topic = unique("shared");
    const filter = `$share/${unique("group")}/${topic}`;
    const members = [await connect(), await connect()];
    for (const member of members) equal(await member.subscribe(filter, 1), [1], "granted");
    const publisher = await connect();
    const numbers = Array.from({ length: 100 }, (_, i) => `${i}`);
    await Promise.all(numbers.map((number) => publisher.publish(topic, number, 1)));
    // Each message wakes whoever waits; wait for the sum.
    const arrived = new Promise((resolve) => {
      const look = () => members[0].messages.length + members[1].messages.length >= 100 && resolve();
      for (const member of members) member.client.on("message", look);
      look();
    });
    await within(arrived, "not all arrived");
    const shares = members.map((member) => member.messages.map((message) => message.text));
    equal(shares.flat().sort(), [...numbers].sort(), "all shares");
    that(shares.every((share) => share.length > 0), "one member got everything");
  }

  async function resumes_a_session_with_what_was_queued() {
    const topic = unique("resume");
    const options = { clientId: unique("resume"), clean: false, ...lasting };
    const first = await connect(options);
    equal(await first.subscribe(topic, 2), [2]);
    await first.leave();
    const publisher = await connect();
    const payloads = Array.from({ length: 50 }, (_, i) => `${i}`);
    for (const payload of payloads) await publisher.publish(topic, payload, 1 + (payload >= 25));
    const second = await connect(options);
    // 3.1 has no such flag.
    if (version.protocolVersion > 3) equal(second.connack.sessionPresent, true, "session present");
    const queued = await second.take(50);
    equal(queued.filter((p) => p < 25), payloads.slice(0, 25), "queued at QoS 1");
    equal(queued.filter((p) => p >= 25), payloads.slice(25), "queued at QoS 2");
    await second.leave();
    const third = await connect({ clientId: options.clientId });
    equal(third.connack.sessionPresent, false, "session present after a clean start");
  }

  async function takes_over_a_session() {
    const options = { clientId: unique("takeover"), clean: false, ...lasting };
    const first = await connect(options);
    const topic = unique("takeover");
    await first.subscribe(topic, 1);
    const second = await connect(options);
    await within(first.closed, "the first connection is still open");
    if (isFive) equal(first.closeReason, 0x8e, "reason");
    await second.publish(topic, "mine", 1);
    equal(await second.take(1), ["mine"]);
  }

  async function carries_large_payloads() {
    const topic = unique("large");
    const payload = Buffer.from(Array.from({ length: 200_000 }, (_, i) => (i * 7) % 251));
    const peer = await connect();
    await peer.subscribe(topic, 2);
    for (const qos of [0, 1, 2]) {
      await peer.publish(topic, payload, qos);
      that((await peer.next()).payload.equals(payload), `QoS ${qos}: the payload has changed`);
    }
  }

  async function keeps_ten_thousand_messages_in_order() {
    const topic = unique("order");
    const [publisher, subscriber] = [await connect(), await connect()];
    await subscriber.subscribe(topic, 2);
    const payloads = Array.from({ length: 10_000 }, (_, i) => `${i}`);
    for (const qos of [1, 2]) {
      const sent = publishAll(publisher, topic, payloads, qos);
      equal(await subscriber.take(payloads.length), payloads, `QoS ${qos}`);
      await within(sent, "not all acknowledged");
    }
  }

  async function closes_on_a_publish_to_a_wildcard() {
    const bad = await connect();
    bad.client.publish("no/#", "x", { qos: 1 });
    await within(bad.closed, "still open");
    const good = await connect();
    await good.subscribe("after", 1);
    await good.publish("after", "well", 1);
    equal(await good.take(1), ["well"]);
  }

  return [
    connects, publishes_at_every_qos_to_every_qos, keeps_retained_messages,
    publishes_the_will_of_who_vanishes, matches_wildcards, unsubscribes, shares_subscriptions,
    resumes_a_session_with_what_was_queued, takes_over_a_session, carries_large_payloads,
    keeps_ten_thousand_messages_in_order, closes_on_a_publish_to_a_wildcard,
  ];
}

/** Publishes all, in order, with a window below any broker's receive maximum, which MQTT.js does
 * not respect by itself. */
async function publishAll(publisher, topic, payloads, qos) {
  const window = [];
  for (const payload of payloads) {
    if (window.length === 500) await window.shift();
    window.push(publisher.client.publishAsync(topic, payload, { qos }));
  }
  await Promise.all(window);
}

/** A path of the client's choosing serves MQTT as well, by its subprotocol. */
function anyPath(http) {
  async function serves_the_path_a_client_asks_for() {
    const peer = await Peer.connect(`ws://${http}/devices/socket?x=1`, { protocolVersion: 4 });
    await peer.subscribe("path", 1);
    await peer.publish("path", "found", 1);
    equal(await peer.take(1), ["found"]);
  }
  return [serves_the_path_a_client_asks_for];
}

const [mqttAddress, httpAddress] = process.argv.slice(3);
const results = [];
for (const [transport, url] of [["TCP", `mqtt://${mqttAddress}`], ["WebSocket", `ws://${httpAddress}/mqtt`]]) {
  for (const [name, version] of VERSIONS) {
    const checks = common(url, version);
    if (version.protocolVersion === 5) checks.push(...versionFive(url));
    results.push(await run(`mqtt.js ${name} ${transport}`, checks));
  }
}
results.push(await run("mqtt.js 3.1.1 WebSocket", anyPath(httpAddress)));
process.exit(results.every(Boolean) ? 0 : 1);
