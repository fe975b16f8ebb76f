// Lists the trainings each time the test asks.
import { VertesiaClient } from "@vertesia/client";
import { KEY, URL_, hear, tell } from "./telling.mjs";

const client = new VertesiaClient({ serverUrl: URL_, storeUrl: URL_, apikey: KEY });
tell("ready");
while ((await hear()).look) {
  const jobs = {};
  for (const { job } of await client.training.listSessions()) jobs[job.id] = job.status;
  tell("seen", { jobs });
}
process.exit();
