// Asks for a page of fine-tuning jobs, waits for a word, and tells the version.
import OpenAI from "openai";
import { readFile } from "node:fs/promises";
import { hear, tell } from "./telling.mjs";

const client = new OpenAI();
const page = await client.fineTuning.jobs.list({ limit: 3 });
tell("listed", { jobs: page.data.map((job) => job.id), word: await hear() });
const document = await readFile("node_modules/openai/package.json", "utf8");
tell("version", { version: JSON.parse(document).version });
process.exit();
