// What the SDK makes of a 401.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: process.env.API_KEY, maxRetries: 0 });
try {
  await client.chat.completions.create({ model: "demo", messages: [{ role: "user", content: "Hello" }] });
  throw new Error("it was let in");
} catch (error) {
  if (!(error instanceof OpenAI.AuthenticationError)) throw error;
  console.log(JSON.stringify({ name: error.constructor.name, status: error.status, message: error.message }));
}
