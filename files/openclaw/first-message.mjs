// Runs in the gateway's container. Sends one message to the gateway, as a client does. The answer has a few tokens
// only. After that, the gateway has loaded everything that it needs, and the model has read the system prompt, with
// which every conversation begins. Ends with the status NO_ANSWER if the gateway accepts the message but returns no
// answer.
import { readFileSync } from "node:fs";
import { request } from "node:https";
import { createRequire } from "node:module";

// OpenClaw's own library for WebSockets. That of Node.js cannot be told which certificate to trust.
const WebSocket = createRequire("/app/")("ws");

// From plan/openclaw/time_limits.py, by openclaw-warm.
const [READY_SECONDS, ANSWER_SECONDS, SESSION_SECONDS] = process.argv.slice(2).map(Number);
const NO_ANSWER = 75;
// A conversation like all others over HTTP, but with its own name. A conversation that is kept only in memory
// ("incognito") would have another system prompt, and the gateway would not use its storage.
const CONVERSATION = "agent:main:openai:first-message";

const config = JSON.parse(readFileSync(process.env.OPENCLAW_CONFIG_PATH, "utf8"));
const token = readFileSync(config.secrets.providers.token.path, "utf8").trim();
const gateway = {
  host: "127.0.0.1",
  port: config.gateway.port,
  // Only the gateway's own certificate is trusted.
  ca: readFileSync(config.gateway.tls.certPath),
  allowPartialTrustChain: true,
  servername: new URL(config.gateway.controlUi.allowedOrigins[0]).hostname,
  // No connection is kept open, because the gateway closes connections that are not used for a while.
  agent: false,
};

function ask(path, options, body) {
  return new Promise((resolve, reject) => {
    const asked = request({ ...gateway, path, ...options }, (answer) => {
      let said = "";
      answer.setEncoding("utf8");
      answer.on("data", (part) => (said += part));
      answer.on("error", reject);
      answer.on("end", () => resolve({ status: answer.statusCode, said }));
    });
    asked.on("timeout", () => asked.destroy(new Error(`no answer to ${path}`)));
    asked.on("error", reject);
    asked.end(body);
  });
}

async function ready() {
  const { said } = await ask("/readyz", { timeout: 5000 });
  return JSON.parse(said).ready === true;
}

// Call one method of the gateway. OpenClaw's command line does the same, but starting it takes several seconds of the
// processor. On the container's loopback and with the token, neither needs an approved device.
function call(method, params) {
  const client = { id: "cli", mode: "cli", version: "first-message", platform: process.platform };
  const connect = { minProtocol: 4, maxProtocol: 4, client, role: "operator", scopes: ["operator.admin"], auth: { token } };
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`wss://${gateway.host}:${gateway.port}`, gateway);
    const send = (id, name, values) => socket.send(JSON.stringify({ type: "req", id, method: name, params: values }));
    const limit = setTimeout(() => socket.emit("error", new Error(`no answer within ${SESSION_SECONDS} s`)), SESSION_SECONDS * 1000);
    const end = (settle, value) => {
      clearTimeout(limit);
      socket.terminate();
      settle(value);
    };
    socket.on("error", (error) => end(reject, error));
    socket.on("close", (code, reason) => end(reject, new Error(`the gateway closed the connection: ${code} ${reason}`)));
    socket.on("message", (data) => {
      const { type, event, id, ok, payload, error } = JSON.parse(data);
      if (event === "connect.challenge") send("connect", "connect", connect);
      else if (type === "res" && !ok) end(reject, new Error(`${id}: ${error.message}`));
      else if (type === "res" && id === "connect") send(method, method, params);
      else if (type === "res") end(resolve, payload);
    });
  });
}

const end = Date.now() + READY_SECONDS * 1000;
while (!(await ready().catch(() => false))) {
  if (Date.now() > end) throw new Error(`the gateway was not ready within ${READY_SECONDS} s`);
  await new Promise((resolve) => setTimeout(resolve, 300));
}
const headers = {
  Authorization: `Bearer ${token}`,
  "Content-Type": "application/json",
  "x-openclaw-session-key": CONVERSATION,
};
// Tell what failed. The message is sent in any case.
const failed = (error) => console.error(`${CONVERSATION}: ${error.message}`);
// Delete the conversation of the last start.
await call("sessions.delete", { key: CONVERSATION }).catch(failed);
const message = { model: "openclaw/default", max_tokens: 8, messages: [{ role: "user", content: "Hello" }] };
const { status, said } = await ask(
  "/v1/chat/completions",
  { method: "POST", headers, timeout: ANSWER_SECONDS * 1000 },
  JSON.stringify(message),
);
if (status !== 200) {
  console.error(`the gateway answered the first message with ${status}: ${said.slice(0, 500)}`);
  process.exitCode = NO_ANSWER;
}
// The conversation is archived, not deleted: after a deletion, the next conversation would have to wait for the
// gateway.
await call("sessions.describe", { key: CONVERSATION })
  .then(({ session }) => call("sessions.patch", { key: CONVERSATION, expectedSessionId: session.sessionId, archived: true }))
  .catch(failed);
