// A peer whose QUIC is quinn, through @chainsafe/libp2p-quic. See exchange.mjs for what it does.
// Its TLS is that of libp2p: ALPN "libp2p", and certificates on both sides that carry a libp2p host key.
import { generateKeyPair, privateKeyToProtobuf } from '@libp2p/crypto/keys';
import * as napi from './node_modules/@chainsafe/libp2p-quic/dist/src/napi.js';
import { echo, exchange, main } from './exchange.mjs';

const IPV4 = 0;

async function makeConfig() {
  return new napi.QuinnConfig({
    privateKeyProto: privateKeyToProtobuf(await generateKeyPair('Ed25519')),
    handshakeTimeout: 5000, maxIdleTimeout: 10000, keepAliveInterval: 5000, maxConcurrentStreamLimit: 256,
    maxStreamData: 10_000_000, maxConnectionData: 15_000_000,
    receiveBufferSize: 500_000, sendBufferSize: 500_000,
  });
}

function adapt(stream) {
  return {
    read: async () => (await stream.read(16384)) ?? null,
    write: (bytes) => stream.write(bytes),
    finish: () => stream.finishWrite(),
  };
}

async function client(port, streams, bytes) {
  const connection = await new napi.Client(await makeConfig(), IPV4).outboundConnection('127.0.0.1', port);
  await exchange(async () => adapt(await connection.outboundStream()), streams, bytes);
}

async function serveConnection(connection) {
  for (;;) {
    const stream = await connection.inboundStream();
    echo(adapt(stream)).catch((error) => console.error(`echo: ${error}`));
  }
}

async function server(listening) {
  const listener = new napi.Server(await makeConfig(), '127.0.0.1', 0);
  listening(listener.port());
  for (;;) {
    const connection = await listener.inboundConnection();
    serveConnection(connection).catch((error) => console.error(`connection: ${error}`));
  }
}

await main(client, server);
