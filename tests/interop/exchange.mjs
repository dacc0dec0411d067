// What every interop peer does on a connection: the client opens streams, sends a pattern and FIN on each and
// expects the same bytes and FIN back; the server echoes. Peers adapt their stack's streams to
// { read, write, finish }.

export const ALPN = 'ravine-interop';

// A byte sequence that differs per stream, so that mixed-up streams are noticed.
export function pattern(stream, offset, size) {
  const bytes = new Uint8Array(size);
  for (let i = 0; i < size; i++) bytes[i] = ((offset + i) * 31 + stream * 7 + ((offset + i) >> 8)) & 0xff;
  return bytes;
}

const CHUNK = 16384;

// `read` resolves to a Uint8Array, or null after FIN.
export async function exchange(open, streams, bytes) {
  const one = async (index) => {
    const stream = await open();
    const send = async () => {
      for (let at = 0; at < bytes; at += CHUNK) {
        await stream.write(pattern(index, at, Math.min(CHUNK, bytes - at)));
      }
      await stream.finish();
    };
    const receive = async () => {
      let at = 0;
      for (let chunk = await stream.read(); chunk !== null; chunk = await stream.read()) {
        const wanted = pattern(index, at, chunk.length);
        if (Buffer.compare(Buffer.from(chunk), Buffer.from(wanted)) !== 0) {
          throw new Error(`stream ${index}: wrong bytes near offset ${at}`);
        }
        at += chunk.length;
      }
      if (at !== bytes) throw new Error(`stream ${index}: ${at} of ${bytes} bytes came back`);
    };
    await Promise.all([send(), receive()]);
  };
  await Promise.all(Array.from({ length: streams }, (_, index) => one(index)));
}

export async function echo(stream) {
  for (let chunk = await stream.read(); chunk !== null; chunk = await stream.read()) {
    await stream.write(chunk);
  }
  await stream.finish();
}

// `node PEER.mjs client PORT STREAMS BYTES` or `node PEER.mjs server`, which prints "listening PORT".
export async function main(client, server) {
  const [mode, port, streams, bytes] = process.argv.slice(2);
  try {
    if (mode === 'client') {
      const start = performance.now();
      await client(Number(port), Number(streams), Number(bytes));
      console.log(`exchanged ${streams} x ${bytes} bytes in ${Math.round(performance.now() - start)} ms`);
      process.exit(0);
    }
    await server((bound) => console.log(`listening ${bound}`));
  } catch (error) {
    console.error(`${error.stack ?? error}`, error.cause ?? '', error.data ?? '');
    process.exit(1);
  }
}
