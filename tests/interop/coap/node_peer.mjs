// node-coap as server and as client of the resources that coap_peer.cpp describes.
// usage: node node_peer.mjs server | client PORT
import coap from "coap";

const LARGE = Buffer.from(Array.from({ length: 5000 }, (_, i) => 97 + (i % 26)));

function serve() {
  const server = coap.createServer((request, response) => {
    const path = request.url;
    if (path === "/text") return response.end("ravine");
    if (path === "/large") return response.end(LARGE);
    if (path === "/echo") {
      response.code = request.method === "FETCH" ? "2.05" : "2.04";
      return response.end(request.payload);
    }
    if (path === "/slow") return setTimeout(() => response.end("late"), 1500);
    if (path === "/ticks") {
      let ticks = 0;
      if (request.headers.Observe !== 0) return response.end("tick 0");
      response.write(`tick ${++ticks}`);
      const timer = setInterval(() => response.write(`tick ${++ticks}`), 300);
      return response.on("finish", () => clearInterval(timer));
    }
    response.code = "4.04";
    response.end();
  });
  server.listen(0, "127.0.0.1", () => console.log(`listening ${server._sock.address().port}`));
}

function ask(port, pathname, { method = "GET", body, observe = false, answers = 1, options = {} } = {}) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${pathname}: no answer in time`)), 20_000);
    const request = coap.request({ hostname: "127.0.0.1", port, pathname, method, observe, options });
    request.on("response", (response) => {
      const seen = [];
      const finish = () => {
        clearTimeout(timer);
        if (observe) response.close();
        resolve({ code: response.code, bodies: seen });
      };
      response.on("data", (piece) => {
        seen.push(piece);
        if (seen.length >= answers) finish();
      });
      if (!observe) response.on("end", () => seen.length === 0 && finish());
    });
    request.on("error", reject);
    request.end(body);
  });
}

async function expect(what, promise, code, body) {
  const { code: got, bodies } = await promise;
  const whole = Buffer.concat(bodies);
  const good = got === code && (body === undefined || whole.equals(Buffer.from(body)));
  console.log(`${what} ${good ? "ok" : `FAILED: ${got}, ${whole.length} bytes`}`);
  if (!good) process.exitCode = 1;
}

async function client(port) {
  await expect("text", ask(port, "/text"), "2.05", "ravine");
  await expect("missing", ask(port, "/nothing"), "4.04");
  await expect("large", ask(port, "/large"), "2.05", LARGE);
  await expect("put", ask(port, "/echo", { method: "PUT", body: LARGE.subarray(0, 900) }), "2.04",
    LARGE.subarray(0, 900));
  await expect("fetch", ask(port, "/echo", { method: "FETCH", body: "question" }), "2.05", "question");
  await expect("slow", ask(port, "/slow"), "2.05", "late");
  const { bodies } = await ask(port, "/ticks", { observe: true, answers: 4 });
  const ticks = new Set(bodies.map(String));
  console.log(`observe ${ticks.size === 4 ? "ok" : "FAILED"}`);
  if (ticks.size !== 4) process.exitCode = 1;
  process.exit();
}

if (process.argv[2] === "server") serve();
else await client(Number(process.argv[3]));
