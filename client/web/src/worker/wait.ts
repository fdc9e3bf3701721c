// Waits that end early: when they are called off, or when something says that trying again is worth it now.

/** Ends all waits that are under way. */
const wakers = new Set<() => void>();

export function wakeAll(): void {
  for (const wake of [...wakers]) wake();
}

/** Resolves after so long, when the signal is aborted, or when all are woken. */
export function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      wakers.delete(end);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    wakers.add(end);
    if (signal.aborted) end();
    else signal.addEventListener("abort", end);
  });
}
