// Calls the server with the types that openapi-typescript made. Every action is a POST to one address, so the type of
// an answer is that of all answers: the function ask() narrows it to the action's own.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

declare const process: { env: Record<string, string | undefined> };

type Schemas = components["schemas"];
type Answers = {
  balance: [Schemas["BalanceRequest"], Schemas["BalanceAnswer"]];
  refill: [Schemas["RefillRequest"], Schemas["RefillAnswer"]];
  refill_status: [Schemas["RefillStatusRequest"], Schemas["RefillStatusAnswer"]];
  status: [Schemas["StatusRequest"], Schemas["StatusAnswer"]];
};

const client = createClient<paths>({ baseUrl: process.env.SERVER });
const key = process.env.API_KEY!;
const [first, second] = process.env.ORDERS!.split(",");
const unknown = "ord_01HG9X7KJP4NV8QZ2M6T3W5YBD";

async function ask<A extends keyof Answers>(action: A, parameters: Omit<Answers[A][0], "key" | "action">) {
  const body = { key, action, ...parameters } as Answers[A][0];
  const { data, error } = await client.POST("/api/v2", { body });
  if (error) throw new Error(error.error);
  return data as Answers[A][1];
}

const { balance } = (await ask("balance", {})) as Schemas["BalanceAnswer"];
const made = await ask("refill", { order: first });
if (Array.isArray(made)) throw new Error("One order was sent.");
const rows = await ask("refill", { orders: [second, unknown] });
if (!Array.isArray(rows)) throw new Error("A batch was sent.");
const state = await ask("refill_status", { refill: made.refill });
if (Array.isArray(state)) throw new Error("One refill was sent.");
const states = (await ask("status", { orders: [first, unknown] })) as Schemas["OrderStates"];
const { error, response } = await client.POST("/api/v2", { body: { key, action: "refill", order: unknown } });

console.log(
  JSON.stringify({
    balance,
    refill: made.refill,
    rows: rows.map((row) => ("refill" in row ? row.refill : row.error)),
    status: state.status,
    states: Object.values(states).map((each) => ("charge" in each ? each.charge : each.error)),
    refused: [response.status, response.headers.get("X-Error-Code"), error?.error],
  }),
);
