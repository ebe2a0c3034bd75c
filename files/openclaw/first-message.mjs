// Runs in the gateway's container. Sends one message to the gateway, as a client does. The answer has a few tokens
// only. After that, the gateway has loaded everything that it needs, and the model has read the system prompt, with
// which every conversation begins. Ends with the status NO_ANSWER if the gateway accepts the message but returns no
// answer.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { request } from "node:https";

// From plan/openclaw/time_limits.py, by openclaw-warm.
const [READY_SECONDS, ANSWER_SECONDS, SESSION_SECONDS] = process.argv.slice(2).map(Number);
const NO_ANSWER = 75;
// A conversation like all others over HTTP, but with its own name. A conversation that is kept only in memory
// ("incognito") would have another system prompt, and the gateway would not use its storage.
const CONVERSATION = "agent:main:openai:first-message";

const config = JSON.parse(readFileSync(process.env.OPENCLAW_CONFIG_PATH, "utf8"));
const token = readFileSync(config.secrets.providers.token.path, "utf8").trim();
const gateway = {
  // No connection is kept open, because the gateway closes connections that are not used for a while.
  agent: false,
  host: "127.0.0.1",
  port: config.gateway.port,
  // Only the gateway's own certificate is trusted.
  ca: readFileSync(config.gateway.tls.certPath),
  allowPartialTrustChain: true,
  servername: new URL(config.gateway.controlUi.allowedOrigins[0]).hostname,
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

function sessions(verb, ...options) {
  try {
    execFileSync("openclaw", ["sessions", verb, CONVERSATION, ...options], { stdio: "pipe", timeout: SESSION_SECONDS * 1000 });
  } catch (error) {
    const why = String(error.stderr || error.message);
    if (!why.includes("Session not found")) console.error(`sessions ${verb} ${CONVERSATION}: ${why}`);
  }
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
// Delete the conversation of the last start.
sessions("delete", "--yes");
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
sessions("archive");
