// Every failure as the class that openai-node has for it.

import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI from "openai";

import { client, replyWith } from "./asking.js";

const ask = { model: "demo", messages: replyWith("ok") };

// What the promise is rejected with, checked for what every error has.
async function failure(promise) {
  const error = await promise.then(
    () => assert.fail("it should have failed"),
    (reason) => reason,
  );
  assert.ok(error instanceof OpenAI.APIError, String(error));
  assert.match(error.requestID, /^req_[0-9a-f]{32}$/);
  assert.deepEqual(Object.keys(error.error), ["message", "type", "param", "code"]);
  return error;
}

const table = [
  ["unknown model", { model: "unheard-of" }, "model_not_found", "model"],
  ["no messages", { messages: [] }, "empty_array", "messages"],
  ["messages of another type", { messages: "hello" }, "invalid_type", "messages"],
  ["negative limit", { max_tokens: -1 }, "integer_below_min_value", "max_tokens"],
  [
    "a prompt longer than the context",
    { messages: [{ role: "user", content: "x".repeat(5000) }] },
    "context_length_exceeded",
    "messages",
  ],
];
for (const [name, fields, code, param] of table) {
  for (const stream of [false, true]) {
    test(`${name}${stream ? ", streamed" : ""}`, async () => {
      const error = await failure(client.chat.completions.create({ ...ask, ...fields, stream }));
      assert.ok(error instanceof OpenAI.BadRequestError);
      assert.deepEqual([error.status, error.code, error.param], [400, code, param]);
    });
  }
}

test("a wrong key", async () => {
  const stranger = new OpenAI({ apiKey: `iy-${"x".repeat(43)}`, maxRetries: 0 });
  const error = await failure(stranger.chat.completions.create(ask));
  assert.ok(error instanceof OpenAI.AuthenticationError);
  assert.equal(error.code, "invalid_api_key");
});

test("a wrong base URL", async () => {
  const lost = new OpenAI({ baseURL: process.env.OPENAI_BASE_URL.replace(/\/v1$/, ""), maxRetries: 0 });
  const error = await failure(lost.chat.completions.create(ask));
  assert.ok(error instanceof OpenAI.NotFoundError);
  assert.match(error.message, /\/v1/);
});

test("an unknown model's page", async () => {
  const error = await failure(client.models.retrieve("unheard-of"));
  assert.ok(error instanceof OpenAI.NotFoundError);
});

test("a body above the limit", async () => {
  const error = await failure(
    client.chat.completions.create({ ...ask, messages: [{ role: "user", content: "x".repeat(5_000_000) }] }),
  );
  assert.equal(error.status, 413);
});
