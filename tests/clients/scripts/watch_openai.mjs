// Lists the fine-tuning jobs each time the test asks.
import OpenAI from "openai";
import { hear, tell } from "./telling.mjs";

const client = new OpenAI();
tell("ready");
while ((await hear()).look) {
  const jobs = {};
  for await (const job of client.fineTuning.jobs.list()) jobs[job.id] = job.status;
  tell("seen", { jobs });
}
process.exit();
