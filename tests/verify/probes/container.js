// Runs inside the gateway's container: node - JOB, with JOB and the printed answer in JSON.
// JOB: connect ["HOST PORT"], lookup [names]. Answer: the same keys by item; `providers`: what the model servers of the
// configuration in force say at /api/version.
const dns = require("dns").promises;
const fs = require("fs");
const net = require("net");

const CONNECT_MS = 4000;
const LOOKUP_MS = 6000;
const job = JSON.parse(process.argv[2]);

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
    // Past the system's resolver, straight to the servers it names.
    dns.resolve4(name),
    dns.resolve6(name),
  ];
  const late = new Promise((done) => setTimeout(() => done([]), LOOKUP_MS).unref());
  const found = await Promise.all(asked.map((one) => Promise.race([one.catch(() => []), late])));
  return [name, [...new Set(found.flat())]];
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
  const [providers, connected, names] = await Promise.all([
    Promise.all(Object.entries(config.models.providers).map(provider)),
    Promise.all(job.connect.map(connect)),
    Promise.all(job.lookup.map(lookup)),
  ]);
  const answer = { providers, connect: Object.fromEntries(connected), lookup: Object.fromEntries(names) };
  process.stdout.write(JSON.stringify(answer), () => process.exit(0));
}

main();
