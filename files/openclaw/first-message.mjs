// Runs in the gateway's container: one message to the gateway, as a client sends it, whose answer is a few tokens. After that
// the gateway has all it needs at hand, and the model has read the system prompt, with which every conversation begins.
// Ends with NO_ANSWER when the gateway has taken the message and has no answer.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { request } from "node:https";

// From plan/openclaw/time_limits.py, by openclaw-warm.
const [READY_SECONDS, ANSWER_SECONDS, SESSION_SECONDS] = process.argv.slice(2).map(Number);
const NO_ANSWER = 75;
// Like any conversation over HTTP, but for its name. One that is kept in memory only ("incognito") would have another
// system prompt, and leave the gateway's way to its storage untried.
const CONVERSATION = "agent:main:openai:first-message";

const config = JSON.parse(readFileSync(process.env.OPENCLAW_CONFIG_PATH, "utf8"));
const token = readFileSync(config.secrets.providers.token.path, "utf8").trim();
const gateway = {
  // The gateway closes connections on which nothing is said for a while.
  agent: false,
  host: "127.0.0.1",
  port: config.gateway.port,
  // The gateway's own certificate, and no other.
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
// That of the start before.
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
// Not deleted: the next conversation would wait while the gateway finds its way again.
sessions("archive");
