// The official Node client: files, job, events, chat, streaming. Prints a line per check.
import { readFile, writeFile, mkdtemp } from "node:fs/promises";
import { createReadStream } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(join(process.env.NODE_CLIENT, "x.js"));
const { default: OpenAI, toFile } = await import(pathToFileURL(require.resolve("openai")));
const client = new OpenAI();
const MODEL = "gpt-4.1-nano-2025-04-14";
const data = await readFile(process.argv[2]);
const state = {};
let failures = 0;

function equal(left, right) {
  if (left !== right) throw new Error(`${JSON.stringify(left)} is not ${JSON.stringify(right)}`);
}

async function check(name, body) {
  const start = Date.now();
  let outcome = "ok";
  try {
    await body();
  } catch (error) {
    failures += 1;
    outcome = `FAILED ${error}`.replaceAll("\n", " ");
  }
  console.log(`${name}\t${((Date.now() - start) / 1000).toFixed(1)}s\t${outcome}`);
}

async function finished(id) {
  for (let i = 0; i < 800; i++) {
    const job = await client.fineTuning.jobs.retrieve(id);
    if (["succeeded", "failed", "cancelled"].includes(job.status)) return job;
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
  throw new Error("the job did not finish");
}

await check("files", async () => {
  const path = join(await mkdtemp(join(tmpdir(), "node-")), "자료.jsonl");
  await writeFile(path, data);
  const file = await client.files.create({ file: createReadStream(path), purpose: "fine-tune" });
  equal(file.bytes, data.length);
  equal(file.filename, "자료.jsonl");
  equal((await client.files.waitForProcessing(file.id, { pollInterval: 100 })).status, "processed");
  equal(await (await client.files.content(file.id)).text(), data.toString());
  const gone = await client.files.create({ file: await toFile(data, "a.jsonl"), purpose: "fine-tune" });
  equal((await client.files.delete(gone.id)).deleted, true);
  let status = 0;
  try {
    await client.files.retrieve(gone.id);
  } catch (error) {
    status = error.status;
  }
  equal(status, 404);
  const ids = [];
  for await (const each of client.files.list({ limit: 2 })) ids.push(each.id);
  equal(ids.includes(file.id), true);
  state.file = file.id;
});

await check("job_events_and_result", async () => {
  const job = await client.fineTuning.jobs.create({
    model: MODEL,
    training_file: state.file,
    suffix: "node",
    method: { type: "supervised", supervised: { hyperparameters: { n_epochs: 1 } } },
  });
  const done = await finished(job.id);
  equal(done.status, "succeeded");
  const messages = [];
  for await (const event of client.fineTuning.jobs.listEvents(job.id, { limit: 3 }))
    messages.push(event.message);
  equal(messages[0], "The job has successfully completed");
  equal(messages.at(-1), `Created fine-tuning job: ${job.id}`);
  const content = await (await client.files.content(done.result_files[0])).text();
  equal(Buffer.from(content, "base64").toString().startsWith("step,train_loss"), true);
  state.model = done.fine_tuned_model;
  const checkpoints = await client.fineTuning.jobs.checkpoints.list(job.id);
  equal(checkpoints.data[0].fine_tuned_model_checkpoint, state.model);
});

const words = () => ({
  model: state.model,
  messages: [{ role: "user", content: "배송 기간은 며칠인가요?" }],
  max_tokens: 6,
  temperature: 0,
});

await check("chat_and_stream", async () => {
  const reply = await client.chat.completions.create(words());
  let text = "";
  for await (const chunk of await client.chat.completions.create({ ...words(), stream: true }))
    text += chunk.choices[0]?.delta?.content ?? "";
  equal(text, reply.choices[0].message.content);
});

await check("responses", async () => {
  const reply = await client.responses.create({
    model: state.model,
    input: "안녕",
    max_output_tokens: 16,
  });
  equal(typeof reply.output_text, "string");
});

await check("models", async () => {
  equal((await client.models.retrieve(state.model)).id, state.model);
  equal((await client.models.delete(state.model)).deleted, true);
});

process.exit(failures ? 1 : 0);
