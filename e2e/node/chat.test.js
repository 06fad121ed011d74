// Chat completions through openai-node: whole, streamed, and the settings.

import assert from "node:assert/strict";
import { test } from "node:test";

import { GREETING, client, gather, replyWith, repeat } from "./asking.js";

test("an answer has every field", async () => {
  const answer = await client.chat.completions.create({
    model: "demo",
    messages: replyWith("payload verified."),
    temperature: 0.2,
  });
  assert.match(answer.id, /^chatcmpl-/);
  assert.equal(answer.object, "chat.completion");
  assert.equal(answer.model, "demo");
  assert.equal(answer.choices.length, 1);
  assert.equal(answer.choices[0].finish_reason, "stop");
  assert.equal(answer.choices[0].message.role, "assistant");
  assert.match(answer.choices[0].message.content, /payload verified\./);
  assert.equal(answer.choices[0].message.refusal, null);
  assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
  assert.match(answer._request_id, /^req_[0-9a-f]{32}$/);
});

test("the test vector is streamed", async () => {
  const stream = await client.chat.completions.create({
    model: "abliterated-model",
    messages: replyWith("payload verified."),
    temperature: 0.2,
    stream: true,
  });
  const { text, reason, chunks } = await gather(stream);
  assert.match(text, /payload verified\./);
  assert.equal(reason, "stop");
  assert.ok(chunks.every((chunk) => chunk.usage === undefined));
});

test("a stream has usage when it is asked for", async () => {
  const stream = await client.chat.completions.create({
    model: "demo",
    messages: replyWith("counted"),
    stream: true,
    stream_options: { include_usage: true },
  });
  const { chunks } = await gather(stream);
  const last = chunks.pop();
  assert.deepEqual(last.choices, []);
  assert.equal(last.usage.completion_tokens, "counted".length + 1);
  assert.ok(chunks.every((chunk) => chunk.usage === null));
});

test("the SDK's own accumulator agrees", async () => {
  const runner = client.chat.completions.stream({ model: "demo", messages: replyWith("gathered"), temperature: 0 });
  assert.equal(await runner.finalContent(), "gathered");
});

test("a stream that is left ends at once for both", async () => {
  const stream = await client.chat.completions.create({ model: "demo", messages: repeat("tick"), stream: true });
  let pieces = 0;
  for await (const _ of stream) {
    if (++pieces === 5) break;
  }
  assert.equal(pieces, 5);
});

test("a call can be aborted", async () => {
  const controller = new AbortController();
  const stream = await client.chat.completions.create(
    { model: "demo", messages: repeat("tick"), stream: true },
    { signal: controller.signal },
  );
  let pieces = 0;
  for await (const _ of stream) {
    if (++pieces === 3) controller.abort();
  }
  assert.ok(pieces >= 3);
});

test("n, stop, limits and log probabilities", async () => {
  const several = await client.chat.completions.create({
    model: "demo",
    messages: replyWith("twice"),
    n: 2,
    temperature: 0,
  });
  assert.deepEqual(several.choices.map((choice) => choice.message.content), ["twice", "twice"]);

  const stopped = await client.chat.completions.create({
    model: "demo",
    messages: replyWith("one two three"),
    stop: ["two"],
    temperature: 0,
  });
  assert.equal(stopped.choices[0].message.content, "one ");

  const limited = await client.chat.completions.create({ model: "demo", messages: repeat("a"), max_completion_tokens: 5 });
  assert.equal(limited.choices[0].finish_reason, "length");
  assert.equal(limited.usage.completion_tokens, 5);

  const likely = await client.chat.completions.create({
    model: "demo",
    messages: replyWith("ok"),
    logprobs: true,
    top_logprobs: 2,
    temperature: 0,
  });
  const tokens = likely.choices[0].logprobs.content;
  assert.equal(tokens.map((token) => token.token).join(""), "ok");
  assert.ok(tokens.every((token) => token.logprob <= 0 && token.top_logprobs.length === 2));
});

test("the same seed gives the same text", async () => {
  const ask = async () => {
    const answer = await client.chat.completions.create({
      model: "demo",
      messages: [{ role: "user", content: "Tell me a story" }],
      temperature: 1.5,
      max_tokens: 50,
      seed: 11,
    });
    return answer.choices[0].message.content;
  };
  assert.equal(await ask(), await ask());
});

test("anything else gets the greeting", async () => {
  const answer = await client.chat.completions.create({
    model: "demo",
    messages: [{ role: "user", content: "Stream a short reply." }],
    temperature: 0,
  });
  assert.equal(answer.choices[0].message.content, GREETING);
});

test("answers asked for at the same time are each their own", async () => {
  const texts = Array.from({ length: 24 }, (_, number) => `answer ${number}`);
  const answers = await Promise.all(
    texts.map((text) => client.chat.completions.create({ model: "demo", messages: replyWith(text), temperature: 0 })),
  );
  assert.deepEqual(answers.map((answer) => answer.choices[0].message.content), texts);
});

test("legacy completions, whole and streamed", async () => {
  const asked = { model: "demo", prompt: "The quick", temperature: 0, max_tokens: 8 };
  const whole = await client.completions.create(asked);
  assert.equal(whole.object, "text_completion");
  let text = "";
  for await (const chunk of await client.completions.create({ ...asked, stream: true })) {
    text += chunk.choices[0].text;
  }
  assert.equal(text, whole.choices[0].text);
});

test("models are listed and retrieved", async () => {
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  assert.ok(names.includes("demo") && names.includes("abliterated-model"));
  assert.equal((await client.models.retrieve("demo")).id, "demo");
});
