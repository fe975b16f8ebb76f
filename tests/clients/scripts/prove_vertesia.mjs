// Asks for the training sessions, waits for a word, and tells the version.
import { VertesiaClient } from "@vertesia/client";
import { readFile } from "node:fs/promises";
import { KEY, URL_, hear, tell } from "./telling.mjs";

const client = new VertesiaClient({ serverUrl: URL_, storeUrl: URL_, apikey: KEY });
const sessions = await client.training.listSessions({ limit: 3 });
tell("listed", { jobs: sessions.map((session) => session.id), word: await hear() });
const document = await readFile("node_modules/@vertesia/client/package.json", "utf8");
tell("version", { version: JSON.parse(document).version });
process.exit();
