// What the peers have in common that start what they are given at once, worker or not: `CALLERS` add, and a job that ends
// is told to whoever listens just then.
export const CALLERS = 64;

export function pushed(add, listen) {
  return {
    pushes: true,
    add,
    fill: async (count, hasStep) => {
      let left = count;
      const caller = async () => {
        while (left-- > 0) await add(hasStep, 0);
      };
      await Promise.all(Array.from({ length: CALLERS }, caller));
    },
    work: async (told) => {
      listen(told);
      return async () => listen(() => {});
    },
  };
}
