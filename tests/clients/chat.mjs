// A chat completion, the list of models and a stream, as any program that uses this SDK would ask for them.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: process.env.API_KEY, maxRetries: 0 });
const messages = [{ role: "user", content: "Hello" }];

const answer = await client.chat.completions.create({ model: "demo", messages });
const models = [];
for await (const model of client.models.list()) models.push(model.id);
const streamed = [];
for await (const event of await client.chat.completions.create({ model: "demo", messages, stream: true })) {
  const text = event.choices[0]?.delta?.content;
  if (text) streamed.push(text);
}
console.log(JSON.stringify({
  answer: answer.choices[0].message.content, usage: answer.usage, requestId: answer._request_id, models, streamed,
}));
