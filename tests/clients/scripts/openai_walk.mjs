// A fine-tuning script as people have them: upload, create, poll, events, results, cancel, errors.
//
// Arguments as those of openai_walk.py.
import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import OpenAI, { toFile } from "openai";
import { ARGUMENTS, tell } from "./telling.mjs";

const client = new OpenAI();
const jobs = client.fineTuning.jobs;
const { model, native, endless, rows } = ARGUMENTS;
const body = (more = {}) => ({ training_cluster: { ...native, ...more } });

async function refused(name, call) {
  try {
    await call();
  } catch (error) {
    if (!(error instanceof OpenAI.APIError)) throw error;
    const { status, code, param, message } = error;
    tell("refused", { name, kind: error.constructor.name, status, code, param, message });
  }
}

async function every(pages) {
  const found = [];
  for await (const each of pages) found.push(each);
  return found;
}

const training = await client.files.create({
  file: await toFile(Buffer.from(rows), "train.jsonl"),
  purpose: "fine-tune",
});
tell("uploaded", { file: training });
const heldOut = await client.files.create({
  file: await toFile(Buffer.from(ARGUMENTS.held_out), "held_out.jsonl"),
  purpose: "fine-tune",
});
let job = await jobs.create({
  model,
  training_file: training.id,
  validation_file: heldOut.id,
  suffix: "walk",
  seed: 11,
  metadata: { script: "walk" },
  method: {
    type: "supervised",
    supervised: { hyperparameters: { n_epochs: 2, batch_size: "auto" } },
  },
  ...body(),
});
tell("created", { job });
const seen = [job.status];
while (!["succeeded", "failed", "cancelled"].includes(job.status)) {
  await sleep(50);
  job = await jobs.retrieve(job.id);
  if (job.status !== seen.at(-1)) seen.push(job.status);
}
tell("ended", { job, statuses: seen });
tell("file", { file: await client.files.waitForProcessing(training.id, { pollInterval: 50 }) });

const events = await every(jobs.listEvents(job.id, { limit: 4 }));
tell("events", { ids: events.map((e) => e.id), messages: events.map((e) => e.message) });
tell("metrics", { data: events.filter((e) => e.type === "metrics").map((e) => e.data) });
const checkpoints = await every(jobs.checkpoints.list(job.id, { limit: 1 }));
tell("checkpoints", { steps: checkpoints.map((each) => each.step_number) });
tell("results", { text: await (await client.files.content(job.result_files[0])).text() });
const content = await (await client.files.content(training.id)).text();
tell("content", { same: content === rows });
const found = await every(jobs.list({ metadata: { script: "walk" }, limit: 1 }));
tell("found", { ids: found.map((each) => each.id) });

if (ARGUMENTS.ends_here) process.exit();

let other = await jobs.create({
  model,
  training_file: training.id,
  hyperparameters: {},
  ...body(endless),
});
while (other.status !== "running") {
  await sleep(50);
  other = await jobs.retrieve(other.id);
}
tell("running", { job: other });
tell("paused", { status: (await jobs.pause(other.id)).status });
tell("resumed", { status: (await jobs.resume(other.id)).status });
tell("cancelled", { job: await jobs.cancel(other.id) });

const tuned = await client.models.retrieve(job.fine_tuned_model);
const listed = (await every(client.models.list())).map((each) => each.id);
tell("model", { model: tuned, listed: listed.includes(tuned.id) });

const bytes = Buffer.from(rows);
const announced = await client.uploads.create({
  bytes: bytes.length,
  filename: "parts.jsonl",
  mime_type: "application/jsonl",
  purpose: "fine-tune",
});
const parts = [];
for (let at = 0; at < bytes.length; at += 400) {
  const data = await toFile(bytes.subarray(at, at + 400), "part");
  parts.push((await client.uploads.parts.create(announced.id, { data })).id);
}
const md5 = createHash("md5").update(bytes).digest("hex");
const upload = await client.uploads.complete(announced.id, { part_ids: parts, md5 });
tell("parts", { upload });
tell("deleted", { file: await client.files.delete(upload.file.id) });

await refused("cancel again", () => jobs.cancel(other.id));
await refused("no such job", () => jobs.retrieve("ftjob-none"));
await refused("no such file", () => jobs.create({ model, training_file: "file-none" }));
await refused("no such model", () => client.models.retrieve("ft:none"));
await refused("bad model", () => jobs.create({ model: "../etc", training_file: training.id }));
await refused("bad number", () =>
  jobs.create({ model, training_file: training.id, hyperparameters: { n_epochs: 0 } }),
);
await refused("bad purpose", async () =>
  client.files.create({ file: await toFile(Buffer.from("x"), "x"), purpose: "batch" }),
);
tell("model deleted", { model: await client.models.delete(job.fine_tuned_model) });
process.exit();
