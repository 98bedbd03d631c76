// What a program that paces itself by OpenAI's headers reads; and a stream whose usage it did not ask for, and one whose usage it did.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: process.env.API_KEY, maxRetries: 0 });
const question = { model: "m", messages: [{ role: "user", content: "Hello" }], max_completion_tokens: 100 };

const { data, response } = await client.chat.completions.create(question).withResponse();
const told = { usage: data.usage, headers: {}, plain: [], asked: [] };
for (const kind of ["requests", "tokens"])
  for (const what of ["limit", "remaining", "reset"])
    told.headers[`${what}-${kind}`] = response.headers.get(`x-ratelimit-${what}-${kind}`);
for await (const event of await client.chat.completions.create({ ...question, stream: true }))
  told.plain.push({ choices: event.choices.length, usage: event.usage ?? null });
for await (const event of await client.chat.completions.create({ ...question, stream: true, stream_options: { include_usage: true } }))
  told.asked.push({ choices: event.choices.length, usage: event.usage ?? null });
told.list = (await client.models.list()).data.map((model) => model.id);
try {
  await client.chat.completions.create({ ...question, model: "unknown" });
} catch (error) {
  told.unknown = { name: error.constructor.name, status: error.status, code: error.code };
}
console.log(JSON.stringify(told));
