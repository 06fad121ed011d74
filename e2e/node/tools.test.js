// Tool calls and structured answers through openai-node.

import assert from "node:assert/strict";
import { test } from "node:test";

import { STATUS_TOOL, client, replyWith } from "./asking.js";

const ask = {
  model: "demo",
  messages: [{ role: "user", content: "Look up the status of order 123." }],
  tools: [STATUS_TOOL],
  temperature: 0,
};

test("the model calls a tool by itself", async () => {
  const [choice] = (await client.chat.completions.create(ask)).choices;
  assert.equal(choice.finish_reason, "tool_calls");
  assert.equal(choice.message.content, null);
  const [call] = choice.message.tool_calls;
  assert.match(call.id, /^call_[A-Za-z0-9]{24}$/);
  assert.equal(call.function.name, "get_order_status");
  assert.deepEqual(JSON.parse(call.function.arguments), { order_id: "123" });
});

test("a streamed call is the same call", async () => {
  const runner = client.chat.completions.stream(ask);
  const message = await runner.finalMessage();
  const [call] = message.tool_calls;
  assert.match(call.id, /^call_[A-Za-z0-9]{24}$/);
  assert.equal(call.function.name, "get_order_status");
  assert.deepEqual(JSON.parse(call.function.arguments), { order_id: "123" });
});

for (const choice of ["required", { type: "function", function: { name: "get_order_status" } }]) {
  const name = typeof choice === "string" ? choice : "named";
  test(`a ${name} call is made whatever is asked`, async () => {
    const answer = await client.chat.completions.create({
      ...ask,
      messages: [{ role: "user", content: "Say hello." }],
      tool_choice: choice,
      parallel_tool_calls: false,
    });
    const [call] = answer.choices[0].message.tool_calls;
    assert.equal(call.function.name, "get_order_status");
    assert.deepEqual(Object.keys(JSON.parse(call.function.arguments)), ["order_id"]);
  });
}

test("the SDK runs the tool and asks again", async () => {
  const seen = [];
  const runner = client.chat.completions.runTools({
    ...ask,
    tools: [
      {
        type: "function",
        function: {
          ...STATUS_TOOL.function,
          parse: JSON.parse,
          function: (given) => {
            seen.push(given);
            return "Order ready, in batch 7.";
          },
        },
      },
    ],
  });
  assert.equal(await runner.finalContent(), "Order ready, in batch 7.");
  assert.deepEqual(seen, [{ order_id: "123" }]);
});

test("the answer obeys a schema", async () => {
  const schema = {
    type: "object",
    properties: { colour: { type: "string", enum: ["red", "green"] }, sure: { type: "boolean" } },
    required: ["colour", "sure"],
    additionalProperties: false,
  };
  const answer = await client.chat.completions.create({
    model: "demo",
    messages: replyWith("no JSON"),
    response_format: { type: "json_schema", json_schema: { name: "verdict", schema, strict: true } },
    temperature: 0,
  });
  const verdict = JSON.parse(answer.choices[0].message.content);
  assert.ok(["red", "green"].includes(verdict.colour));
  assert.equal(typeof verdict.sure, "boolean");
});

test("json_object gives an object", async () => {
  const answer = await client.chat.completions.create({
    model: "demo",
    messages: replyWith('{"ok": true}'),
    response_format: { type: "json_object" },
    temperature: 0,
  });
  assert.deepEqual(JSON.parse(answer.choices[0].message.content), { ok: true });
});
