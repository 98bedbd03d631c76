import { ChatOpenAI } from "@langchain/openai";
import OpenAI from "openai";
import { key, origin, tell } from "./story.mjs";

const client = (path, apiKey, model) => new ChatOpenAI({ model, apiKey, maxRetries: 0, configuration: { baseURL: `${origin}${path}/v1` } });

await tell({
  async chat({ path, key: apiKey, model }) {
    return (await client(path, apiKey, model).invoke("Hello")).content;
  },
  async *stream(signal, model) {
    for await (const part of await client("", key, model).stream("Hello", { signal })) if (part.content) yield part.content;
  },
  describe: (error) => ({ name: error.constructor.name, status: error.status, ours: error instanceof OpenAI.APIError }),
});
