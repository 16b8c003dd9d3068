// DBOS: workflows of one queue, which this process looks into every 50 ms from the beginning; a step is one of its own,
// which it records. It has no batch to add many, so `fill` adds 64 at a time.
import { pushed } from './pushed.mjs';

export async function open({ require }) {
  const { DBOS, DBOSClient } = require('@dbos-inc/dbos-sdk');
  const { PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE } = process.env;
  const password = encodeURIComponent(PGPASSWORD);
  const url = `postgres://${PGUSER}:${password}@localhost:${PGPORT}/${PGDATABASE}?host=${encodeURIComponent(PGHOST)}`;
  DBOS.setConfig({
    name: 'bench',
    systemDatabaseUrl: url,
    systemDatabasePoolSize: 20,
    logLevel: 'error',
    runAdminServer: false,
    applicationVersion: 'bench',
  });
  let onRun = () => {};
  const plain = async (sentAt) => onRun(sentAt);
  const stepped = async (sentAt) => {
    onRun(sentAt);
    return DBOS.runStep(async () => ({ answer: '42' }), { name: 'step' });
  };
  DBOS.registerWorkflow(plain, { name: 'plain' });
  DBOS.registerWorkflow(stepped, { name: 'stepped' });
  await DBOS.launch();
  await DBOS.registerQueue('queue', { minPollingIntervalMs: 50 });
  const client = await DBOSClient.create({ systemDatabaseUrl: url });
  const add = (hasStep, sentAt) =>
    client.enqueue(
      { workflowName: hasStep ? 'stepped' : 'plain', queueName: 'queue', appVersion: 'bench' },
      sentAt,
    );
  return pushed(add, (told) => (onRun = told));
}
