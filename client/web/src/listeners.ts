// An app's functions, called from here.

/** Calls all of them. What one throws is reported as an error of the app's, and the others are called all the same. */
export function callAll<T extends readonly unknown[]>(
  listeners: Iterable<((...told: T) => void) | undefined>,
  ...told: T
): void {
  for (const listener of listeners) {
    try {
      listener?.(...told);
    } catch (error) {
      report(error);
    }
  }
}

function report(error: unknown): void {
  if (typeof globalThis.reportError === "function") {
    globalThis.reportError(error);
    return;
  }
  // Node has no such function: there it ends the process, unless the app hears of what nobody caught.
  queueMicrotask(() => {
    throw error;
  });
}
