// Signed webhooks of a running broker, checked by the npm package that Meshblu signs with:
// `node freshblu_signature_checks.mjs FOLDER HTTP_ADDRESS`, where FOLDER holds node_modules. The
// broker must have a key, and may call this machine.

import { createServer } from "node:http";
import { createRequire } from "node:module";
import { equal, run, that, within } from "./mqttjs_peer.mjs";

const required = createRequire(`${process.argv[2]}/package.json`);
const httpSignature = required("http-signature");
const URL = `http://${process.argv[3]}`;

async function ask(method, path, body, headers = {}) {
  const answer = await fetch(URL + path, {
    method,
    headers: { "content-type": "application/json", ...headers },
    body: body && JSON.stringify(body),
  });
  equal(answer.status, 200, `${method} ${path}`);
  return answer.json();
}

/** Lets a device with this webhook have a message, and gives the requests that came of it. */
async function called(hook, answers = [204]) {
  const requests = [];
  let done;
  const all = new Promise((resolve) => (done = resolve));
  const server = createServer((request, response) => {
    requests.push(request);
    request.resume().on("end", () => {
      response.writeHead(answers[requests.length - 1] ?? 500, { connection: "close" }).end();
      if (requests.length === answers.length) done();
    });
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  try {
    const url = `http://127.0.0.1:${server.address().port}/hook`;
    const received = [{ type: "webhook", url, signRequest: true, ...hook }];
    const { uuid, token } = await ask("POST", "/devices", { meshblu: { forwarders: { message: { received } } } });
    const basic = Buffer.from(`${uuid}:${token}`).toString("base64");
    await ask("POST", "/messages", { devices: [uuid], payload: 1 }, { authorization: `Basic ${basic}` });
    await within(all, `${answers.length} requests`);
    return { uuid, requests };
  } finally {
    server.close();
  }
}

async function check(request, options = {}) {
  const { publicKey } = await ask("GET", "/publickey");
  const headers = ["date", "x-meshblu-uuid"];
  const parsed = httpSignature.parseRequest(request, { headers, strict: true, ...options });
  equal([parsed.scheme, parsed.keyId, parsed.algorithm], ["Signature", "meshblu-webhook-key", "RSA-SHA256"]);
  that(httpSignature.verifySignature(parsed, publicKey), "the signature is wrong");
  const forged = { ...parsed, signingString: `${parsed.signingString}x` };
  that(!httpSignature.verifySignature(forged, publicKey), "any text has this signature");
  return parsed;
}

async function a_webhook_is_signed_by_the_public_key() {
  const { uuid, requests } = await called({});
  equal(requests[0].headers["x-meshblu-uuid"], uuid);
  const parsed = await check(requests[0]);
  equal(parsed.signingString, `date: ${requests[0].headers.date}\nx-meshblu-uuid: ${uuid}`);
}

async function with_credentials_it_is_in_a_header_of_its_own() {
  const { requests } = await called({ generateAndForwardMeshbluCredentials: true });
  that(requests[0].headers.authorization.startsWith("Bearer "), "no credentials");
  await check(requests[0], { authorizationHeaderName: "signature" });
}

async function another_try_has_another_date() {
  const { requests } = await called({}, [503, 503, 204]);
  for (const request of requests) await check(request);
  const dates = requests.map((request) => request.headers.date);
  // The third comes 4 s after the second.
  that(dates[2] !== dates[1], `the dates are ${dates}`);
}

const passed = await run("signed webhooks", [
  a_webhook_is_signed_by_the_public_key, with_credentials_it_is_in_a_header_of_its_own,
  another_try_has_another_date,
]);
process.exit(passed ? 0 : 1);
