// graphile-worker in its tuned form: a local queue of as many jobs as the variant says, jobs completed in batches, 24 at
// a time. `fill` adds 1,000 in a statement.
import { pools, steps } from './postgres.mjs';

export async function open({ require, variant }) {
  const { run, makeWorkerUtils, Logger } = require('graphile-worker');
  const made = pools(require);
  const logger = new Logger(() => () => {});
  const utils = await makeWorkerUtils({ pgPool: made(16), logger });
  await utils.migrate();
  const step = await steps(made(16));
  return {
    add: (hasStep, sentAt) => utils.addJob('job', { hasStep, sentAt }),
    fill: async (count, hasStep) => {
      for (let from = 0; from < count; from += 1000) {
        const length = Math.min(1000, count - from);
        await utils.addJobs(Array.from({ length }, () => ({ identifier: 'job', payload: { hasStep } })));
      }
    },
    work: async (onRun) => {
      const pgPool = made(12);
      const job = async ({ hasStep, sentAt }) => {
        onRun(sentAt);
        if (hasStep) await step();
      };
      const localQueue = { size: Number(variant), refetchDelay: { durationMs: 5 } };
      const runner = await run({
        preset: {
          worker: { concurrentJobs: 24, localQueue, completeJobBatchDelay: 0, failJobBatchDelay: 0 },
        },
        pgPool,
        logger,
        noHandleSignals: true,
        taskList: { job },
      });
      return async () => {
        await runner.stop();
        await pgPool.end();
      };
    },
  };
}
