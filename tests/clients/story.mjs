// What every SDK's script goes through: a chat, a stream, an error of each kind, and a stream that is given up in the middle.
export const origin = process.env.ORIGIN;
export const key = process.env.API_KEY;
export const question = [{ role: "user", content: "Hello" }];

async function failureOf(attempt) {
  try {
    await attempt();
  } catch (error) {
    return error;
  }
  throw new Error("it should have failed");
}

// chat({ path, key, model }) → text; stream(signal, model) → async iterable of text; describe(error) → what the SDK's user sees.
export async function tell({ chat, stream, describe }) {
  const well = { path: "", key, model: "demo" };
  const told = { answer: await chat(well), streamed: [], errors: {} };
  for await (const text of await stream(undefined, "demo")) told.streamed.push(text);
  await chat({ ...well, path: "/limited" }).catch(() => {}); // spends what there is
  const cases = {
    unauthorized: { ...well, key: "sp_not-a-key" },
    limited: { ...well, path: "/limited" },
    invalid: { ...well, model: "refused" },
    unknown: { ...well, path: "/nowhere" },
    down: { ...well, path: "/down" },
  };
  for (const [name, how] of Object.entries(cases)) told.errors[name] = describe(await failureOf(() => chat(how)));

  const controller = new AbortController();
  told.beforeLeaving = "";
  try {
    for await (const text of await stream(controller.signal, "held")) {
      told.beforeLeaving += text;
      controller.abort();
    }
  } catch (error) {
    if (!controller.signal.aborted) throw error;
  }
  console.log(JSON.stringify(told));
}
