// The whole way by the real client: a session, runs, data, a training and its end, another that is
// cancelled, and what is refused.
import { VertesiaClient } from "@vertesia/client";
import { ARGUMENTS, KEY, URL_, hear, tell } from "./telling.mjs";

const client = new VertesiaClient({ serverUrl: URL_, storeUrl: URL_, apikey: KEY });
const { training, runs, environments } = client;
const { model, count } = ARGUMENTS;

async function recorded(number) {
  const run = await runs.create({
    interaction: "Classify",
    data: { mail: `number ${number}` },
    config: { environment: "local", model },
    tags: ["gold"],
    result: `a word about mail ${number}`,
  });
  return { id: run.id, text: run.result.text() };
}

async function prepared(name) {
  const session = await training.createSession({ name, env: "local", model });
  const made = [];
  for (let number = 0; number < count; number++) made.push(await recorded(number));
  const added = await training.addToSession(session.id, made.map((run) => run.id));
  return { session, made, added };
}

async function untilIt(isSo, id) {
  for (;;) {
    const session = await training.getSession(id);
    if (isSo(session.status)) return session;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function refusal(step, call) {
  try {
    tell(step, { answered: await call() });
  } catch (error) {
    tell(step, {
      kind: error.constructor.name,
      status: error.status,
      message: error.original_message,
      payload: error.payload,
    });
  }
}

tell("environments", { found: await environments.list() });
const { session, made, added } = await prepared("by the real client");
tell("session", { session, made, added });
tell("found", { session: await training.getSession(session.id) });
tell("runs", { found: await training.listSessionRuns(session.id, 2, 1) });
tell("run", { run: await runs.retrieve(made[0].id) });
tell("listed", {
  refs: await training.listSessions({ limit: 1, offset: 0, status: "created" }),
  names: await training.listSessionNames(),
  runs: await runs.list({ limit: 10, offset: 0, filters: { tag: "gold" } }),
});

tell("built", { built: await training.buildSession(session.id) });
const { url } = await training.getDataUrl(session.id);
const data = await fetch(url);
tell("data", { status: data.status, lines: (await data.text()).trim().split("\n") });
tell("chosen", { chosen: await training.setDataset(session.id) });
tell("prepared", { session: await untilIt((status) => status !== "building", session.id) });
tell("started", { job: await training.startTraining(session.id) });
await hear();
const { job } = await training.getSession(session.id);
tell("polled", { job: await training.getTrainingJob(job.id) });
tell("ended", { job: await training.getAndSyncTrainingJob(job.id) });
tell("completed", { session: await training.getSession(session.id) });

const sent = await training.createSession({ name: "sent", env: "local", model });
const lines = made.map((run) => ({
  messages: [{ role: "user", content: run.id }, { role: "assistant", content: run.text }],
}));
const body = lines.map((line) => JSON.stringify(line)).join("\n");
for (const resumable of [false, true]) {
  const target = await training.getDataUploadUrl(sent.id, resumable);
  const answer = await fetch(target.url, { method: "PUT", body });
  const session = await untilIt((status) => !["created", "building"].includes(status), sent.id);
  tell("sent", { status: answer.status, session });
}

const other = (await prepared("to be cancelled")).session;
await training.buildSession(other.id);
tell("started another", { job: await training.startTraining(other.id) });
await hear();
tell("cancelled", { job: await training.cancelTraining(other.id) });
tell("gone", { session: await untilIt((status) => status !== "processing", other.id) });

await refusal("no session", () => training.getSession("nothing"));
await refusal("no job", () => training.getTrainingJob("nothing"));
await refusal("no model", () =>
  training.createSession({ name: "x", env: "local", model: "gpt-4o" }),
);
await refusal("cancelled already", () => training.cancelTraining(other.id));
await refusal("not executed", () => runs.create({ interaction: "Classify", data: {} }));
await refusal("not known", () =>
  new VertesiaClient({ serverUrl: URL_, storeUrl: URL_, apikey: "tq_no_token" }).training
    .listSessions(),
);
process.exit();
