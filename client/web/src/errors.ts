// Errors that an app can tell apart and show. `code` is a node's (proto: ErrorCode) or one of ours.

export type LocalErrorCode =
  | "INVALID_SCHEMA"
  | "INVALID_WRITE"
  | "INVALID_QUERY"
  | "QUERY_FAILED"
  | "NO_STORAGE"
  | "NO_WORKER"
  | "STORAGE_FAILED"
  | "STORAGE_FULL"
  | "NEWER_STORAGE"
  | "ENGINE_FAILED"
  | "CLOSED"
  | "CLEARED"
  | "UNREACHABLE"
  | "NOT_THERE_YET"
  | "INVALID_ROOM";

export type ServerErrorCode =
  | "WRONG_REGION"
  | "CLOCK_DRIFT"
  | "LIMIT"
  | "BUSY"
  | "RETRY"
  | "NOT_FOUND"
  | "UNAUTHENTICATED"
  | "FORBIDDEN"
  | "MALFORMED"
  | "NUMBER_REUSED"
  | "WIRE_VERSION"
  | "NOT_YET_REPLICATED"
  | "CONFLICT"
  | "INTERNAL";

export type ErrorCode = LocalErrorCode | ServerErrorCode;

/** What crosses from the worker to the page. */
export interface ErrorShape {
  readonly code: string;
  readonly message: string;
}

export class HalcyonError extends Error {
  override readonly name = "HalcyonError";
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string) {
    super(message);
    this.code = code;
  }

  static from(shape: ErrorShape): HalcyonError {
    return new HalcyonError(shape.code as ErrorCode, shape.message);
  }
}
