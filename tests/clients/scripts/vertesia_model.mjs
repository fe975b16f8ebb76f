// A session with a few runs is trained by whatever trainer there is, and waited for.
import { VertesiaClient } from "@vertesia/client";
import { ARGUMENTS, KEY, URL_, tell } from "./telling.mjs";

const { training, runs } = new VertesiaClient({ serverUrl: URL_, storeUrl: URL_, apikey: KEY });
const session = await training.createSession({
  name: "answers of the real trainer",
  env: "local",
  model: ARGUMENTS.model,
});
const ids = [];
for (const word of ["urgent", "spam", "later", "thanks"]) {
  const run = await runs.create({ interaction: "Sort", prompt: `a mail: ${word}`, output: word });
  ids.push(run.id);
}
await training.addToSession(session.id, ids);
await training.buildSession(session.id);
const job = await training.startTraining(session.id);
tell("ended", { job: await training.getAndSyncTrainingJob(job.id) });
tell("completed", { session: await training.getSession(session.id) });
process.exit();
