// @halcyon/client: what an app imports.

export { createClient } from "./client";
export type { ClientOptions, Db, EntityClient, Followed, HalcyonClient } from "./client";
export { HalcyonError } from "./errors";
export type { ErrorCode, LocalErrorCode, ServerErrorCode } from "./errors";
export type { Result } from "./live";
export type { Connection, ConnectionState, Status, Superseded } from "./protocol";
export { Query } from "./query/query";
export type { Direction, Filter, Include, Tests, TextTests } from "./query/types";
export type { Message, Peer, Room, RoomOptions, RoomState } from "./room";
export { t } from "./schema/fields";
export type { Json } from "./schema/fields";
export { defineSchema } from "./schema/schema";
export type {
  Entities,
  Insert,
  RoomShape,
  RoomShapes,
  Reference,
  Row,
  Schema,
  SetChange,
  Update,
} from "./schema/schema";
export { newId } from "./tx";
export type { EntityTx, Tx } from "./tx";
export type { Write, WriteStatus } from "./writes";
