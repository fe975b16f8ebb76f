// What scripts for a real client in Node share: what they were given, and how they tell.
import { createInterface } from "node:readline";

export const URL_ = process.env.CLIENT_URL;
export const KEY = process.env.CLIENT_KEY;
export const ARGUMENTS = JSON.parse(process.env.CLIENT_ARGUMENTS);

let heard;

/** One line for the test. */
export function tell(step, facts = {}) {
  process.stdout.write(JSON.stringify({ step, ...facts }) + "\n");
}

/** Wait for a word of the test. */
export async function hear() {
  heard ??= createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  return JSON.parse((await heard.next()).value);
}
