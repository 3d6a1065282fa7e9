// What the types must refuse. The compiler fails where a line marked as an error is none.
import type { components } from "./api.js";

type Schemas = components["schemas"];

// @ts-expect-error There is no such action.
export const action: Schemas["RefillRequest"] = { key: "k", action: "refil", order: "1" };
// @ts-expect-error A request needs its key.
export const keyless: Schemas["BalanceRequest"] = { action: "balance" };
// @ts-expect-error There is no such status.
export const status: Schemas["RefillState"] = { status: "done" };
