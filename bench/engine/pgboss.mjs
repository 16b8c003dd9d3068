// pg-boss: two loops that fetch and complete 1,000 jobs at a time. `fill` inserts 1,000 in a statement.
import { pools, steps } from './postgres.mjs';

const AT_A_TIME = 1000;
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

export async function open({ require }) {
  const module = require('pg-boss');
  const PgBoss = module.PgBoss ?? module.default ?? module;
  const made = pools(require);
  const pool = made(16);
  const boss = new PgBoss({ max: 12, db: { executeSql: (text, values) => pool.query(text, values) } });
  boss.on('error', (error) => console.error(error.message));
  await boss.start();
  await boss.createQueue('job');
  const step = await steps(made(16));
  return {
    add: (hasStep, sentAt) => boss.send('job', { hasStep, sentAt }),
    fill: async (count, hasStep) => {
      for (let from = 0; from < count; from += AT_A_TIME) {
        const length = Math.min(AT_A_TIME, count - from);
        await boss.insert('job', Array.from({ length }, () => ({ data: { hasStep } })));
      }
    },
    work: async (onRun) => {
      let isOn = true;
      const one = async ({ data }) => {
        onRun(data.sentAt);
        if (data.hasStep) await step();
      };
      const loop = async () => {
        while (isOn) {
          const some = await boss.fetch('job', { batchSize: AT_A_TIME });
          if (!some?.length) {
            await sleep(2);
            continue;
          }
          await Promise.all(some.map(one));
          await boss.complete('job', some.map((job) => job.id));
        }
      };
      const loops = [loop(), loop()];
      return async () => {
        isOn = false;
        await Promise.all(loops);
      };
    },
  };
}
