import Anthropic from "@anthropic-ai/sdk";
import { key, origin, question, tell } from "./story.mjs";

const client = (path, apiKey) => new Anthropic({ baseURL: `${origin}${path}`, apiKey, maxRetries: 0 });
const asked = (model) => ({ model, max_tokens: 100, messages: question });

await tell({
  async chat({ path, key: apiKey, model }) {
    const answer = await client(path, apiKey).messages.create(asked(model));
    return answer.content[0].text;
  },
  async *stream(signal, model) {
    const events = await client("", key).messages.create({ ...asked(model), stream: true }, { signal });
    for await (const event of events) if (event.type === "content_block_delta") yield event.delta.text;
  },
  describe: (error) => ({ name: error.constructor.name, status: error.status, type: error.error?.error?.type, ours: error instanceof Anthropic.APIError }),
});
