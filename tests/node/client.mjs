// A client of DuetFace in another language, written from protos/ and docs/protocol.md alone:
// asks for a challenge, signs a recorded probe with the certificate's key, and verifies it over mutual TLS.
//
//   node client.mjs --address HOST:PORT --identity FOLDER --protos FOLDER --subject ID --probe FILE
//
// Prints one JSON object. Exit 0 when the service answered, 1 when it refused (the refusal is printed as well).

import { createPrivateKey, sign } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";

import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const DEADLINE_MS = 10_000;
const CONTEXT = Buffer.from("duetface/v1/signed-probe\0", "latin1");

const { values: options } = parseArgs({
  options: {
    address: { type: "string" },
    identity: { type: "string" },
    protos: { type: "string" },
    subject: { type: "string" },
    probe: { type: "string" },
  },
});

function readIdentity(name) {
  return readFileSync(join(options.identity, name));
}

/** The bytes that a device signs: face.proto, SignedProbe.signature. All integers are big-endian. */
function signedBytes(nonce, sequence, probe) {
  const nonceLength = Buffer.alloc(4);
  nonceLength.writeUInt32BE(nonce.length);
  const counters = Buffer.alloc(12);
  counters.writeBigUInt64BE(BigInt(sequence), 0);
  counters.writeUInt32BE(probe.length, 8);
  return Buffer.concat([CONTEXT, nonceLength, nonce, counters, probe]);
}

function signProbe(nonce, probe) {
  const key = createPrivateKey(readIdentity("client.key"));
  const signature = sign("sha256", signedBytes(nonce, 0, probe), key); // ECDSA in DER, as Node.js does by itself
  return { probe, nonce, sequence: 0, signature };
}

function connect() {
  const definition = protoLoader.loadSync("duetface/v1/verification.proto", {
    includeDirs: [options.protos],
    enums: String,
    defaults: true,
  });
  const { VerificationService } = grpc.loadPackageDefinition(definition).duetface.v1;
  const credentials = grpc.credentials.createSsl(
    readIdentity("ca.crt"),
    readIdentity("client.key"),
    readIdentity("client.crt"),
  );
  return new VerificationService(options.address, credentials);
}

function call(client, method, request) {
  return new Promise((resolve, reject) => {
    const deadline = Date.now() + DEADLINE_MS;
    client[method](request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

async function main() {
  const client = connect();
  try {
    const info = await call(client, "GetServiceInfo", {});
    const { nonce } = await call(client, "GetChallenge", {});
    const signedProbe = signProbe(nonce, readFileSync(options.probe));
    const { decision } = await call(client, "Verify", { subjectId: options.subject, signedProbe });
    const { outcome, reason, fmr, subjectId } = decision;
    console.log(JSON.stringify({ realm: info.realm, outcome, reason, fmr, subjectId }));
  } catch (error) {
    console.log(JSON.stringify({ status: grpc.status[error.code] ?? "NONE", details: error.details ?? error.message }));
    process.exitCode = 1;
  } finally {
    client.close();
  }
}

await main();
