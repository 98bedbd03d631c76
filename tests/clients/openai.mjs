import OpenAI from "openai";
import { key, origin, question, tell } from "./story.mjs";

const client = (path, apiKey) => new OpenAI({ baseURL: `${origin}${path}/v1`, apiKey, maxRetries: 0 });

await tell({
  async chat({ path, key: apiKey, model }) {
    const answer = await client(path, apiKey).chat.completions.create({ model, messages: question });
    return answer.choices[0].message.content;
  },
  async *stream(signal, model) {
    const events = await client("", key).chat.completions.create({ model, messages: question, stream: true }, { signal });
    for await (const event of events) if (event.choices[0]?.delta?.content) yield event.choices[0].delta.content;
  },
  describe: (error) => ({ name: error.constructor.name, status: error.status, ours: error instanceof OpenAI.APIError }),
});
