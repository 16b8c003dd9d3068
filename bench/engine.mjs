// The peers of `bench/run engine`: graphile-worker and pg-boss, measured as the engine is.
//
// awooop-bench runs it with the arguments DIRECTORY PEER JOBS CALLERS SECONDS, where DIRECTORY is where npm installed
// both, and with PGHOST and the like for its own database. Each measurement prints one JSON line when it begins and one
// with its result. PEER is graphile-500 and graphile-2000 (the size of its local queue, jobs completed in batches, 24
// at a time) or pg-boss (fetched and completed in batches of 1,000, two at a time). A job with a step inserts one row
// into a table of its own. It ends by itself.
import { createRequire } from 'node:module';

const [directory, peer, ...numbers] = process.argv.slice(1);
const [jobs, callers, seconds] = numbers.map(Number);
const require = createRequire(`${directory}/`);
const { Pool } = require('pg');
const made = (max) => {
  const pool = new Pool({ max });
  pool.on('error', (error) => console.error(error.message));
  pool.on('connect', (client) => client.on('error', (error) => console.error(error.message)));
  return pool;
};
const callerPool = made(16);
const stepPool = made(16);
await stepPool.query('CREATE TABLE IF NOT EXISTS step (job text, n int, body text, PRIMARY KEY (job, n))');
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const at = (values, part) => {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? 0;
};
const cpuUs = () => {
  const { user, system } = process.cpuUsage();
  return user + system;
};
let stepped = 0;
const step = () =>
  stepPool.query('INSERT INTO step VALUES ($1, 1, $2)', [`${peer}-${stepped++}`, '{"output":{"answer":"42"}}']);

// How to add a job, many jobs, and work on them until told to stop.
async function graphile(size) {
  const { run, makeWorkerUtils, Logger } = require('graphile-worker');
  const logger = new Logger(() => () => {});
  const utils = await makeWorkerUtils({ pgPool: callerPool, logger });
  await utils.migrate();
  return {
    add: (payload) => utils.addJob('job', payload),
    fill: async (count) => {
      for (let from = 0; from < count; from += 1000) {
        const some = Math.min(1000, count - from);
        await utils.addJobs(Array.from({ length: some }, (_, n) => ({ identifier: 'job', payload: { n } })));
      }
    },
    work: async (task) => {
      const pgPool = made(12);
      const runner = await run({
        preset: {
          worker: {
            concurrentJobs: 24,
            localQueue: { size, refetchDelay: { durationMs: 5 } },
            completeJobBatchDelay: 0,
            failJobBatchDelay: 0,
          },
        },
        pgPool,
        logger,
        noHandleSignals: true,
        taskList: { job: task },
      });
      return async () => {
        await runner.stop();
        await pgPool.end();
      };
    },
  };
}

async function pgBoss() {
  const module = require('pg-boss');
  const PgBoss = module.PgBoss ?? module.default ?? module;
  const boss = new PgBoss({ max: 12, db: { executeSql: (text, values) => callerPool.query(text, values) } });
  boss.on('error', (error) => console.error(error.message));
  await boss.start();
  await boss.createQueue('job');
  return {
    add: (data) => boss.send('job', data),
    fill: async (count) => {
      for (let from = 0; from < count; from += 1000) {
        const some = Math.min(1000, count - from);
        await boss.insert('job', Array.from({ length: some }, (_, n) => ({ data: { n } })));
      }
    },
    work: async (task) => {
      let isOn = true;
      const one = async () => {
        while (isOn) {
          const some = await boss.fetch('job', { batchSize: 1000 });
          if (!some?.length) {
            await sleep(2);
            continue;
          }
          await Promise.all(some.map((job) => task(job.data)));
          await boss.complete('job', some.map((job) => job.id));
        }
      };
      const loops = [one(), one()];
      return async () => {
        isOn = false;
        await Promise.all(loops);
      };
    },
  };
}

const queue = peer === 'pg-boss' ? await pgBoss() : await graphile(Number(peer.split('-')[1]));

async function measured(name, count, work) {
  console.log(JSON.stringify({ begins: name }));
  const [began, cpu] = [performance.now(), cpuUs()];
  const more = await work();
  const s = (performance.now() - began) / 1000;
  const line = { name, jobs: count, seconds: s, per_s: count / s, process_us: (cpuUs() - cpu) / count, ...more };
  console.log(JSON.stringify(line));
  return count / s;
}

async function drain(name, count, task) {
  let left = count;
  let finish;
  const finished = new Promise((resolve) => (finish = resolve));
  return measured(name, count, async () => {
    const stop = await queue.work(async () => {
      await task();
      if (--left === 0) finish();
    });
    await finished;
    await stop();
  });
}

await queue.fill(1000);
await drain('warm', 1000, step);
let next = 0;
const enqueued = await measured('enqueue', jobs, () =>
  Promise.all(
    Array.from({ length: callers }, async () => {
      while (next < jobs) {
        next += 1;
        await queue.add({ t: 0 });
      }
    }),
  ),
);
await drain('drain', jobs, async () => {});
await queue.fill(jobs);
const drained = await drain('drain with a step', jobs, step);
{
  const rate = Math.max(20, Math.floor(0.5 / (1 / enqueued + 1 / drained)));
  const waits = [];
  const stop = await queue.work(async ({ t }) => {
    waits.push(performance.now() - t);
    await step();
  });
  await sleep(300);
  const count = rate * seconds;
  await measured('latency', count, async () => {
    const began = performance.now();
    const sent = [];
    for (let n = 0; n < count; n++) {
      const due = began + (n * 1000) / rate;
      if (due > performance.now()) await sleep(due - performance.now());
      sent.push(queue.add({ t: performance.now() }));
    }
    await Promise.all(sent);
    while (waits.length < count) await sleep(5);
    return { rate, p50_ms: at(waits, 0.5), p99_ms: at(waits, 0.99) };
  });
  await stop();
}
process.exit(0);
