// What the peers on PostgreSQL share: pools that do not end the process on an error, and a step, which is a row in a
// table of its own, committed on its own.
export function pools(require) {
  const { Pool } = require('pg');
  return (max) => {
    const pool = new Pool({ max });
    pool.on('error', (error) => console.error(error.message));
    pool.on('connect', (client) => client.on('error', (error) => console.error(error.message)));
    return pool;
  };
}

export async function steps(pool) {
  await pool.query('CREATE TABLE IF NOT EXISTS step (job text, n int, body text, PRIMARY KEY (job, n))');
  let count = 0;
  return () =>
    pool.query('INSERT INTO step VALUES ($1, 1, $2)', [`${process.pid}-${count++}`, '{"output":{"answer":"42"}}']);
}
