// A query that changes (another filter, a longer page) has no rows for a moment. Lists go on showing the last ones.

import type { Result } from "@halcyon/client";
import { useRef } from "react";

export function useSteady<R>(result: Result<R>): Result<R> {
  const last = useRef(result);
  if (result.isLoaded || result.error) last.current = result;
  return last.current;
}
