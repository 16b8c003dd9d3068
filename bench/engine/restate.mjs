// Restate: a service of this process that its server calls for everything that is sent to it, at once. Its server is
// awooop-bench's to start and end; it listens on RESTATE_INGRESS and RESTATE_ADMIN, ports of 127.0.0.1.
import http from 'node:http';
import net from 'node:net';
import { CALLERS, pushed } from './pushed.mjs';

async function freePort() {
  const server = net.createServer();
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

export async function open({ require }) {
  const restate = require('@restatedev/restate-sdk');
  let onRun = () => {};
  const handlers = {
    plain: async (_, { sentAt }) => onRun(sentAt),
    stepped: async (context, { sentAt }) => {
      onRun(sentAt);
      await context.run('step', () => ({ answer: '42' }));
    },
  };
  const port = await freePort();
  await restate.serve({
    logger: () => {},
    services: [restate.service({ name: 'bench', handlers })],
    port,
    host: '127.0.0.1',
  });
  const registered = await fetch(`${process.env.RESTATE_ADMIN}/deployments`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ uri: `http://127.0.0.1:${port}`, force: true }),
  });
  if (!registered.ok) throw new Error(`the service is not registered: ${await registered.text()}`);
  const ingress = new URL(process.env.RESTATE_INGRESS);
  const agent = new http.Agent({ keepAlive: true, maxSockets: CALLERS });
  const add = (hasStep, sentAt) =>
    new Promise((done, failed) => {
      const body = JSON.stringify({ sentAt });
      const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
      const path = `/bench/${hasStep ? 'stepped' : 'plain'}/send`;
      const sent = http.request(
        { host: ingress.hostname, port: ingress.port, path, method: 'POST', agent, headers },
        (answer) => {
          answer.resume();
          answer.on('end', () =>
            answer.statusCode < 300 ? done() : failed(new Error(`refused: ${answer.statusCode}`)),
          );
        },
      );
      sent.on('error', failed);
      sent.end(body);
    });
  return pushed(add, (told) => (onRun = told));
}
