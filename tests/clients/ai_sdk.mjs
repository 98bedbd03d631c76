import { createOpenAI } from "@ai-sdk/openai";
import { APICallError, generateText, streamText } from "ai";
import { key, origin, tell } from "./story.mjs";

const model = (path, apiKey, name) => createOpenAI({ baseURL: `${origin}${path}/v1`, apiKey }).chat(name);

await tell({
  async chat({ path, key: apiKey, model: name }) {
    const { text } = await generateText({ model: model(path, apiKey, name), prompt: "Hello", maxRetries: 0 });
    return text;
  },
  stream: (signal, name) =>
    streamText({ model: model("", key, name), prompt: "Hello", maxRetries: 0, abortSignal: signal, onError: ({ error }) => { throw error; } }).textStream,
  describe: (error) => ({ name: error.name, status: error.statusCode, retryable: error.isRetryable, ours: APICallError.isInstance(error) }),
});
