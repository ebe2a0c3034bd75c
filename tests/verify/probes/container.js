// Runs inside the gateway's container: node - JOB. JOB and the printed answer are JSON.
// JOB: connect ["HOST PORT"], lookup [names], dns [addresses of name servers]. Answer: the same keys, each with an
// object by item; `providers`: the answers of the configured model servers at /api/version; `config`: OpenClaw's
// present configuration, which has no secret in it; `configSeconds`: how old its file was when the gateway started.
const dgram = require("dgram");
const dns = require("dns").promises;
const fs = require("fs");
const net = require("net");

const CONNECT_MS = 4000;
const LOOKUP_MS = 6000;
const job = JSON.parse(process.argv[2]);
// Node cannot stop a question to the system's resolver, and the process ends only after it. So each server is asked
// once, and the answer comes within LOOKUP_MS.
process.env.RES_OPTIONS = "timeout:3 attempts:1";

function connect(item) {
  const [host, port] = item.split(" ");
  return new Promise((done) => {
    const socket = net.connect({ host, port: Number(port) });
    const end = (outcome) => { socket.destroy(); done([item, outcome]); };
    socket.setTimeout(CONNECT_MS, () => end("silent"));
    socket.on("connect", () => end("open"));
    socket.on("error", (error) => end(String(error.code).toLowerCase()));
  });
}

async function lookup(name) {
  const asked = [
    dns.lookup(name, { all: true }).then((found) => found.map((each) => each.address)),
    // Without the system's resolver: Node asks the resolver's servers directly.
    dns.resolve4(name),
    dns.resolve6(name),
  ];
  const late = new Promise((done) => setTimeout(() => done([]), LOOKUP_MS).unref());
  const found = await Promise.all(asked.map((one) => Promise.race([one.catch(() => []), late])));
  return [name, [...new Set(found.flat())]];
}

function question(server) {
  // A DNS query for job.lookup[0], type A (RFC 1035).
  const labels = job.lookup[0].split(".").flatMap((label) => [label.length, ...Buffer.from(label)]);
  const query = Buffer.from([0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...labels, 0, 0, 1, 0, 1]);
  return new Promise((done) => {
    const socket = dgram.createSocket(server.includes(":") ? "udp6" : "udp4");
    const end = (outcome) => { clearTimeout(late); socket.close(); done([server, outcome]); };
    const late = setTimeout(() => end("silent"), CONNECT_MS);
    socket.on("message", () => end("answered"));
    socket.on("error", (error) => end(String(error.code).toLowerCase()));
    socket.send(query, 53, server, (error) => { if (error) end(String(error.code).toLowerCase()); });
  });
}

async function provider([id, settings]) {
  const model = settings.models[0];
  const told = { id, url: settings.baseUrl, model: model.id, context: model.params.num_ctx };
  try {
    const answer = await fetch(`${settings.baseUrl}/api/version`, { signal: AbortSignal.timeout(CONNECT_MS) });
    return { ...told, status: answer.status, version: (await answer.json()).version };
  } catch (error) {
    return { ...told, status: 0, version: "", error: String(error.cause?.code ?? error) };
  }
}

async function main() {
  const config = JSON.parse(fs.readFileSync(process.env.OPENCLAW_CONFIG_PATH, "utf8"));
  const [providers, connected, names, servers] = await Promise.all([
    Promise.all(Object.entries(config.models.providers).map(provider)),
    Promise.all(job.connect.map(connect)),
    Promise.all(job.lookup.map(lookup)),
    Promise.all(job.dns.map(question)),
  ]);
  // proc(5): field 22 is the start of the process in ticks of 1/100 s after boot; a process's name may have spaces.
  // btime has only whole seconds, rounded down: with it, a gateway that started at once would seem older than its
  // configuration.
  const boot = Date.now() / 1000 - Number(fs.readFileSync("/proc/uptime", "utf8").split(" ")[0]);
  const ticks = Number(fs.readFileSync("/proc/1/stat", "utf8").split(") ")[1].split(" ")[19]);
  const [written, started] = [fs.statSync(process.env.OPENCLAW_CONFIG_PATH).mtimeMs, (boot + ticks / 100) * 1000];
  const answer = {
    providers,
    config,
    configSeconds: (started - written) / 1000,
    connect: Object.fromEntries(connected),
    lookup: Object.fromEntries(names),
    dns: Object.fromEntries(servers),
  };
  process.stdout.write(JSON.stringify(answer), () => process.exit(0));
}

main();
