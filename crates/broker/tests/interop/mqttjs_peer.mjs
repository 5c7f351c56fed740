// An MQTT.js client that can be used step by step, and what running named checks needs.
// Each check leaves a line, `ok NAME` or `FAIL NAME: why`, which run.py counts.

import { createRequire } from "node:module";
import { randomBytes } from "node:crypto";
import { isDeepStrictEqual, inspect } from "node:util";

// MQTT.js is installed outside the source tree; its folder is the first argument.
const mqtt = createRequire(`${process.argv[2]}/package.json`)("mqtt");

// How long to wait for what must come. Far above what any broker needs, also on a busy machine.
const PATIENCE_MS = 20_000;

export const unique = (name) => `${name}-${randomBytes(4).toString("hex")}`;

export function equal(found, expected, what = "") {
  if (!isDeepStrictEqual(found, expected)) {
    const text = (value) => inspect(value, { breakLength: Infinity }).slice(0, 300);
    throw new Error(`${what} is ${text(found)}, expected ${text(expected)}`);
  }
}

export function that(condition, what) {
  if (!condition) throw new Error(what);
}

/** What `promise` gives, or an error that says what did not come. */
export function within(promise, what, patienceMs = PATIENCE_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} in ${patienceMs / 1000} s`)), patienceMs);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// MQTT.js throws some refusals where nobody can catch them: they fail the check that runs.
let failRunning = () => {};
process.on("uncaughtException", (error) => failRunning(error));
process.on("unhandledRejection", (error) => failRunning(error));

/** Runs each check in turn and reports it; returns whether all passed. */
export async function run(prefix, checks) {
  let allPassed = true;
  for (const check of checks) {
    const name = `${prefix} ${check.name}`;
    const start = performance.now();
    try {
      const thrown = new Promise((_, reject) => (failRunning = reject));
      await within(Promise.race([check(), thrown]), "the check has not ended", 4 * PATIENCE_MS);
      console.log(`ok ${name} (${((performance.now() - start) / 1000).toFixed(2)} s)`);
    } catch (error) {
      allPassed = false;
      console.log(`FAIL ${name}: ${String(error.message ?? error).replace(/\s+/g, " ")}`);
    }
    Peer.closeAll();
  }
  return allPassed;
}

/** One client. */
export class Peer {
  static open = new Set();

  /** Connects; `options` are those of MQTT.js. Rejects if the broker refuses. */
  static async connect(url, options = {}) {
    const peer = new Peer(url, options);
    await within(peer.connected, "no CONNACK");
    return peer;
  }

  /** Cuts whatever a check has left open. */
  static closeAll() {
    for (const peer of Peer.open) peer.client.end(true);
    Peer.open.clear();
  }

  constructor(url, options) {
    this.version = options.protocolVersion;
    this.messages = [];
    this.waiting = [];
    const defaults = { reconnectPeriod: 0, clientId: unique("mqttjs"), connectTimeout: PATIENCE_MS };
    this.client = mqtt.connect(url, { ...defaults, ...options });
    this.clientId = this.client.options.clientId;
    Peer.open.add(this);
    this.connected = new Promise((resolve, reject) => {
      this.client.once("connect", (connack) => resolve((this.connack = connack)));
      this.client.once("error", reject);
    });
    this.closed = new Promise((resolve) => {
      this.client.on("disconnect", (packet) => (this.closeReason = packet.reasonCode));
      this.client.on("close", resolve);
    });
    this.client.on("error", () => {}); // reported by what waits for it
    this.client.on("message", (topic, payload, packet) => {
      const message = { topic, payload, text: payload.toString(), ...pick(packet) };
      const waiting = this.waiting.shift();
      if (waiting) waiting(message);
      else this.messages.push(message);
    });
  }

  /** Subscribes and returns the reason codes of SUBACK. */
  async subscribe(filter, qos = 0, options = {}) {
    const sent = this.client.subscribeAsync(filter, { qos, ...options });
    const grants = await within(sent, `no SUBACK for ${filter}`);
    return grants.map((grant) => grant.qos);
  }

  /** Unsubscribes and waits for UNSUBACK. */
  unsubscribe(filter) {
    return within(this.client.unsubscribeAsync(filter), "no UNSUBACK");
  }

  /** Publishes and waits for the acknowledgement. */
  publish(topic, payload, qos = 0, options = {}) {
    const sent = this.client.publishAsync(topic, payload, { qos, ...options });
    return within(sent, `no acknowledgement at QoS ${qos}`);
  }

  /** The next message. */
  next() {
    if (this.messages.length > 0) return Promise.resolve(this.messages.shift());
    return within(new Promise((resolve) => this.waiting.push(resolve)), `${this.clientId}: no message`);
  }

  /** The payloads of the next messages, as text. */
  async take(count) {
    const payloads = [];
    while (payloads.length < count) payloads.push((await this.next()).text);
    return payloads;
  }

  /** Cuts the connection without DISCONNECT, so that the will is published. */
  vanish() {
    this.client.stream.destroy();
    return within(this.closed, "the client does not close");
  }

  /** Disconnects politely. */
  leave(options = {}) {
    Peer.open.delete(this);
    return within(this.client.endAsync(false, options), "the client does not end");
  }
}

function pick({ qos, retain, dup, properties }) {
  return { qos, retain, dup, properties: properties ?? {} };
}
