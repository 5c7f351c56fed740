// What came with version 5, with MQTT.js.

import { Peer, equal, that, unique, within } from "./mqttjs_peer.mjs";

export function versionFive(url) {
  const connect = (options = {}) => Peer.connect(url, { protocolVersion: 5, ...options });

  async function carries_the_properties_of_a_message() {
    const topic = unique("properties");
    const properties = {
      userProperties: { first: ["1", "again"], second: "2" },
      responseTopic: "answers/here",
      correlationData: Buffer.from([0, 1, 255]),
      contentType: "text/plain",
      payloadFormatIndicator: true,
    };
    const peer = await connect();
    await peer.subscribe(topic, 2);
    for (const qos of [0, 1, 2]) {
      await peer.publish(topic, "text", qos, { properties });
      const found = (await peer.next()).properties;
      equal({ ...found.userProperties }, properties.userProperties, "user properties");
      equal(found.responseTopic, "answers/here", "response topic");
      that(found.correlationData.equals(properties.correlationData), "correlation data");
      equal([found.contentType, found.payloadFormatIndicator], ["text/plain", true]);
      equal(found.messageExpiryInterval, undefined, "an expiry nobody asked for");
    }
  }

  async function counts_the_expiry_down() {
    const topic = unique("expiry");
    const peer = await connect();
    const properties = { messageExpiryInterval: 100 };
    await peer.publish(topic, "kept", 1, { retain: true, properties });
    await peer.subscribe(topic, 1);
    const left = (await peer.next()).properties.messageExpiryInterval;
    that(left > 90 && left <= 100, `${left} s are left of 100`);
  }

  async function tells_which_subscription_matched() {
    const topic = unique("identifier");
    const peer = await connect();
    await peer.subscribe(topic, 1, { properties: { subscriptionIdentifier: 1234 } });
    await peer.publish(topic, "x", 1);
    equal([(await peer.next()).properties.subscriptionIdentifier].flat(), [1234]);
  }

  async function uses_topic_aliases_both_ways() {
    const topic = unique("alias");
    const publisher = await connect({ autoAssignTopicAlias: true });
    const subscriber = await connect({ properties: { topicAliasMaximum: 3 } });
    that(publisher.connack.properties.topicAliasMaximum > 0, "no topic aliases allowed");
    await subscriber.subscribe(`${topic}/#`, 1);
    for (let i = 0; i < 40; i++) {
      await publisher.publish(`${topic}/${i % 5}`, `${i % 5}`, 1);
      const message = await subscriber.next();
      equal(message.topic, `${topic}/${message.text}`, "topic");
    }
  }

  async function honours_subscription_options() {
    const topic = unique("options");
    const [peer, other] = [await connect(), await connect()];
    await peer.subscribe(topic, 1, { nl: true, rap: true });
    await peer.publish(topic, "own", 1);
    await other.publish(topic, "other's", 1, { retain: true });
    const message = await peer.next();
    equal([message.text, message.retain], ["other's", true]);
    await other.subscribe(topic, 1, { rh: 2 });
    await peer.publish(topic, "live", 1);
    equal((await other.take(1)), ["live"]);
  }

  async function assigns_a_client_identifier() {
    const peer = await connect({ clientId: "", clean: true });
    that(peer.connack.properties.assignedClientIdentifier, "none assigned");
  }

  async function respects_the_receive_maximum() {
    const topic = unique("window");
    const [subscriber, publisher] = [await connect({ properties: { receiveMaximum: 1 } }), await connect()];
    await subscriber.subscribe(topic, 2);
    const payloads = Array.from({ length: 100 }, (_, i) => `${i}`);
    const sent = payloads.map((payload) => publisher.publish(topic, payload, 2));
    equal(await subscriber.take(100), payloads);
    await Promise.all(sent);
  }

  async function carries_the_properties_of_a_will() {
    const topic = unique("will");
    const subscriber = await connect();
    await subscriber.subscribe(topic, 1);
    const properties = { willDelayInterval: 0, contentType: "last", userProperties: { a: "b" } };
    const will = { topic, payload: Buffer.from("gone"), qos: 1, retain: false, properties };
    await (await connect({ will })).vanish();
    const message = await subscriber.next();
    equal([message.text, message.properties.contentType], ["gone", "last"]);
    equal({ ...message.properties.userProperties }, { a: "b" });
  }

  async function refuses_what_is_larger_than_it_announced() {
    const topic = unique("size");
    const peer = await connect();
    const maximum = peer.connack.properties?.maximumPacketSize;
    const payload = Buffer.alloc((maximum ?? 100_000) + 1);
    await peer.subscribe(topic, 1);
    peer.client.publish(topic, payload, { qos: 1 });
    if (maximum === undefined) {
      equal((await peer.next()).payload.length, payload.length);
    } else {
      await within(peer.closed, "still open");
      equal(peer.closeReason, 0x95, "reason");
    }
  }

  return [
    carries_the_properties_of_a_message, counts_the_expiry_down, tells_which_subscription_matched,
    uses_topic_aliases_both_ways, honours_subscription_options, assigns_a_client_identifier,
    respects_the_receive_maximum, carries_the_properties_of_a_will,
    refuses_what_is_larger_than_it_announced,
  ];
}
