// A 429 without retries is the SDK's RateLimitError; with retries it waits as Retry-After says and gets its answer.
import OpenAI from "openai";

const options = { baseURL: process.env.BASE_URL, apiKey: process.env.API_KEY };
const question = { model: "demo", messages: [{ role: "user", content: "Hello" }] };
const impatient = new OpenAI({ ...options, maxRetries: 0 });
const patient = new OpenAI({ ...options, maxRetries: 2 });

let refused = null;
for (let tries = 0; tries < 10 && !refused; tries++) {
  try {
    await impatient.chat.completions.create(question);
  } catch (error) {
    if (!(error instanceof OpenAI.RateLimitError)) throw error;
    refused = { name: error.constructor.name, status: error.status, code: error.code };
  }
}
const retried = await patient.chat.completions.create(question);
console.log(JSON.stringify({ error: refused, retried: retried.choices[0].message.content }));
