// API_URL=... API_KEY=np_... node again.mjs ord_...
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

async function ask(parameters, attempts = 8) {
  const body = new URLSearchParams({ key: process.env.API_KEY, ...parameters });
  let wait = 0;
  for (let attempt = 0; attempt < attempts; attempt++) {
    await sleep(wait * 1000);
    wait = 2 ** attempt;
    try {
      const answer = await fetch(process.env.API_URL, { method: "POST", body, signal: AbortSignal.timeout(30_000) });
      // Anything else is the answer: what was refused will be refused again.
      if (answer.status !== 429 && answer.status < 500) return await answer.json();
      wait = Number(answer.headers.get("Retry-After") ?? wait);
    } catch {
      // No answer, or only part of one: the request may have been carried out.
    }
  }
  throw new Error(`No answer after ${attempts} attempts`);
}

// Store the request_id with the order before you ask, so that you can repeat the request after a crash too.
console.log(JSON.stringify(await ask({ action: "refill", order: process.argv[2], request_id: randomUUID() })));
