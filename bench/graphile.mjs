// The peer of bench/: graphile-worker with a job that does nothing, measured as AwoooP is.
//
// awooop-bench runs it with the arguments DIRECTORY JOBS CALLERS RATE SECONDS, where DIRECTORY is where npm
// installed graphile-worker, and with PGHOST and the like for its own database. Each measurement prints one
// JSON line when it begins and one with its result. The form is the tuned one: local queue of 500, jobs
// completed in batches, 24 at a time. It ends by itself.
import { createRequire } from 'node:module';

const [directory, ...numbers] = process.argv.slice(1);
const [jobs, callers, rate, seconds] = numbers.map(Number);
const require = createRequire(`${directory}/`);
const { run, makeWorkerUtils, Logger } = require('graphile-worker');
const { Pool } = require('pg');

const logger = new Logger(() => () => {});
const pool = () => {
  const made = new Pool({ max: 10 });
  made.on('error', (error) => console.error(error.message));
  made.on('connect', (client) => client.on('error', (error) => console.error(error.message)));
  return made;
};
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const say = (line) => console.log(JSON.stringify(line));
const at = (values, part) => {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))];
};
const cpuUs = () => {
  const { user, system } = process.cpuUsage();
  return user + system;
};

const callerPool = pool();
const utils = await makeWorkerUtils({ pgPool: callerPool, logger });
await utils.migrate();

async function start(task, worker = {}) {
  const workerPool = pool();
  const tuned = {
    concurrentJobs: 24,
    localQueue: { size: 500, refetchDelay: { durationMs: 5 } },
    completeJobBatchDelay: 0,
    failJobBatchDelay: 0,
    ...worker,
  };
  const runner = await run({
    preset: { worker: tuned },
    pgPool: workerPool,
    logger,
    noHandleSignals: true,
    taskList: { noop: task },
  });
  return async () => {
    await runner.stop();
    await workerPool.end();
  };
}

// Calls `send` for 0 to `count`, `callers` at a time.
async function call(count, send) {
  let next = 0;
  const one = async () => {
    while (next < count) await send(next++);
  };
  await Promise.all(Array.from({ length: callers }, one));
}

// The time until all of `count` jobs have run, and until the worker has written that they have.
async function drained(name, count, fill, whileRunning) {
  let left = count;
  let finish;
  const finished = new Promise((resolve) => (finish = resolve));
  await fill();
  say({ begins: name });
  const [began, cpu] = [performance.now(), cpuUs()];
  const stop = await start(async () => {
    if (--left === 0) finish();
  });
  await whileRunning();
  await finished;
  await stop();
  const s = (performance.now() - began) / 1000;
  say({ name, jobs: count, seconds: s, per_s: count / s, process_us: (cpuUs() - cpu) / count });
}

const nothing = async () => {};
const fill = async (count) => {
  for (let from = 0; from < count; from += 1000) {
    const size = Math.min(1000, count - from);
    await utils.addJobs(Array.from({ length: size }, (_, n) => ({ identifier: 'noop', payload: { n } })));
  }
};

await fill(500); // warms both sides; nothing is printed of it
{
  const stop = await start(nothing);
  await sleep(500);
  await stop();
}

await drained('single', jobs, nothing, () => call(jobs, (n) => utils.addJob('noop', { n })));
await drained('drain', jobs * 5, () => fill(jobs * 5), nothing);

{
  const waits = [];
  const stop = await start(async ({ t }) => waits.push(performance.now() - t));
  await sleep(500);
  const count = rate * seconds;
  say({ begins: 'latency' });
  const [began, cpu] = [performance.now(), cpuUs()];
  const sent = [];
  for (let n = 0; n < count; n++) {
    const due = began + (n * 1000) / rate;
    if (due > performance.now()) await sleep(due - performance.now());
    sent.push(utils.addJob('noop', { t: performance.now() }));
  }
  await Promise.all(sent);
  while (waits.length < count) await sleep(5);
  const process_us = (cpuUs() - cpu) / count;
  say({ name: 'latency', jobs: count, p50_ms: at(waits, 0.5), p99_ms: at(waits, 0.99), process_us });
  await stop();
}

await utils.release();
await callerPool.end();
process.exit(0);
