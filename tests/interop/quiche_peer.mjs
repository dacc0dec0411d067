// A peer whose QUIC is Cloudflare's quiche, through @matrixai/quic. See exchange.mjs for what it does.
// The server reads its certificate and key (PEM) from the files that INTEROP_CERT and INTEROP_KEY name.
import { readFileSync } from 'node:fs';
import { webcrypto } from 'node:crypto';
import Logger, { LogLevel } from '@matrixai/logger';
import { QUICClient, QUICServer, events } from '@matrixai/quic';
import { ALPN, echo, exchange, main } from './exchange.mjs';

const ops = {
  async randomBytes(data) {
    webcrypto.getRandomValues(new Uint8Array(data));
  },
  async sign(key, data) {
    return webcrypto.subtle.sign('HMAC', await hmac(key), data);
  },
  async verify(key, data, signature) {
    return webcrypto.subtle.verify('HMAC', await hmac(key), signature, data);
  },
};
const hmac = (key) =>
  webcrypto.subtle.importKey('raw', key, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign', 'verify']);

const logger = new Logger('quiche', LogLevel.ERROR);

const config = {
  applicationProtos: [ALPN],
  verifyPeer: true,
  verifyCallback: async () => undefined,  // both sides are strangers: any certificate will do
  cert: readFileSync(process.env.INTEROP_CERT, 'utf8'),
  key: readFileSync(process.env.INTEROP_KEY, 'utf8'),
  maxIdleTimeout: 10000,
};

function adapt(stream) {
  const reader = stream.readable.getReader();
  const writer = stream.writable.getWriter();
  return {
    read: async () => (await reader.read()).value ?? null,
    write: (bytes) => writer.write(bytes),
    finish: () => writer.close(),
  };
}

async function client(port, streams, bytes) {
  const peer = await QUICClient.createQUICClient({
    host: '127.0.0.1', port, serverName: 'interop.test', localHost: '127.0.0.1',
    crypto: { ops }, config, logger,
  }, { timer: 10000 });
  await exchange(async () => adapt(peer.connection.newStream()), streams, bytes);
  await peer.destroy({ isApp: true, errorCode: 0 });
}

async function server(listening) {
  const key = webcrypto.getRandomValues(new Uint8Array(32)).buffer;
  const peer = new QUICServer({ crypto: { key, ops }, config, logger });
  peer.addEventListener(events.EventQUICServerConnection.name, ({ detail: connection }) => {
    connection.addEventListener(events.EventQUICConnectionStream.name, ({ detail: stream }) => {
      echo(adapt(stream)).catch((error) => console.error(`echo: ${error}`));
    });
  });
  await peer.start({ host: '127.0.0.1', port: 0 });
  listening(peer.port);
}

await main(client, server);
