// The peers of `bench/run engine`, measured as the engine is.
//
// awooop-bench runs it with the arguments DIRECTORY PEER JOBS CALLERS SECONDS, where DIRECTORY is where npm installed the
// peers, and with PGHOST and the like for a database of its own, or RESTATE_INGRESS and RESTATE_ADMIN for a server of its
// own. Each measurement prints one JSON line when it begins and one with its result. PEER names a file beside this one,
// and what comes after its first `-` is for that file. Adding one at a time ends after SECONDS or JOBS, whichever is
// first; what is missing is then filled in as the peer fills best. It ends by itself.
//
// A peer is what `open` of its file gives: `add(hasStep, sentAt)`, `fill(count, hasStep)`, `work(onRun)`, which starts
// working and answers how to stop, and `pushes` when it starts what it is given at once, worker or not.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { resolve } from 'node:path';

const [directory, peer, ...numbers] = process.argv.slice(2);
const [jobs, callers, seconds] = numbers.map(Number);
const [file, ...rest] = peer.split('-');
const { open } = await import(pathToFileURL(resolve(import.meta.dirname ?? 'bench/engine', `${file}.mjs`)));
const queue = await open({ require: createRequire(`${resolve(directory)}/`), variant: rest.join('-') });

// Jobs before anything is measured.
const WARM_UP = queue.pushes ? 200 : 1000;
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const at = (values, part) => {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? 0;
};
const cpuUs = () => {
  const { user, system } = process.cpuUsage();
  return user + system;
};

// `work` answers how many it did, and what else there is to say.
async function measured(name, work) {
  console.log(JSON.stringify({ begins: name }));
  const [began, cpu] = [performance.now(), cpuUs()];
  const { count, ...more } = await work();
  const per_s = (count * 1000) / (performance.now() - began);
  console.log(JSON.stringify({ name, jobs: count, per_s, process_us: (cpuUs() - cpu) / count, ...more }));
  return per_s;
}

// Resolves `finished` when `count` have run.
function counted(count, onRun = () => {}) {
  let left = count;
  let finish;
  const finished = new Promise((done) => (finish = done));
  const run = (sentAt) => {
    onRun(sentAt);
    if (--left === 0) finish();
  };
  return { run, finished };
}

async function drain(count) {
  const { run, finished } = counted(count);
  const stop = await queue.work(run);
  await finished;
  await stop();
  return { count };
}

async function addOneByOne(hasStep) {
  const until = performance.now() + seconds * 1000;
  let count = 0;
  const caller = async () => {
    while (count < jobs && performance.now() < until) {
      count += 1;
      await queue.add(hasStep, 0);
    }
  };
  await Promise.all(Array.from({ length: callers }, caller));
  return { count };
}

// What waits for a worker is added first and worked off then.
async function apart() {
  await queue.fill(WARM_UP, true);
  await drain(WARM_UP);
  let added = 0;
  const enqueued = await measured('enqueue', async () => {
    const one = await addOneByOne(false);
    added = one.count;
    return one;
  });
  await queue.fill(jobs - added, false);
  await measured('drain', () => drain(jobs));
  await queue.fill(jobs, true);
  const drained = await measured('drain with a step', () => drain(jobs));
  return 0.5 / (1 / enqueued + 1 / drained);
}

// What is started when it comes: adding and working cannot be told apart but by when the last was accepted.
async function pushed() {
  const both = async (name, hasStep) => {
    let ran = 0;
    const stop = await queue.work(() => (ran += 1));
    const began = performance.now();
    let accepted = 0;
    const per_s = await measured(name, async () => {
      const { count } = await addOneByOne(hasStep);
      accepted = (count * 1000) / (performance.now() - began);
      while (ran < count) await sleep(2);
      return { count, accepted_per_s: accepted };
    });
    await stop();
    return per_s;
  };
  const { run, finished } = counted(WARM_UP);
  const stop = await queue.work(run);
  await queue.fill(WARM_UP, true);
  await finished;
  await stop();
  await both('drain', false);
  return 0.5 * (await both('drain with a step', true));
}

const rate = Math.max(20, Math.floor(queue.pushes ? await pushed() : await apart()));
const waits = [];
const count = rate * seconds;
const { run, finished } = counted(count, (sentAt) => waits.push(performance.now() - sentAt));
const stop = await queue.work(run);
await sleep(300);
await measured('latency', async () => {
  const began = performance.now();
  const sent = [];
  for (let n = 0; n < count; n++) {
    const due = began + (n * 1000) / rate;
    if (due > performance.now()) await sleep(due - performance.now());
    sent.push(queue.add(true, performance.now()));
  }
  await Promise.all(sent);
  await finished;
  return { count, rate, p50_ms: at(waits, 0.5), p99_ms: at(waits, 0.99) };
});
await stop();
process.exit(0);
