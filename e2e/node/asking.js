// The words that every test asks with. The SDK reads OPENAI_BASE_URL and OPENAI_API_KEY by itself.

import OpenAI from "openai";

export const GREETING = "Hello from the tiny test model, happy to help.";

// Without the SDK's own retries, which would hide what the server does.
export const client = new OpenAI({ maxRetries: 0, timeout: 100_000 });

export const replyWith = (text) => [{ role: "user", content: `Reply with: ${text}` }];
export const repeat = (text) => [{ role: "user", content: `Repeat: ${text}` }];

export const STATUS_TOOL = {
  type: "function",
  function: {
    name: "get_order_status",
    description: "Lookup an order status by id.",
    parameters: {
      type: "object",
      properties: { order_id: { type: "string" } },
      required: ["order_id"],
      additionalProperties: false,
    },
  },
};

// Reads a stream to its end.
export async function gather(stream) {
  const chunks = [];
  let text = "";
  let reason = null;
  for await (const chunk of stream) {
    chunks.push(chunk);
    text += chunk.choices[0]?.delta.content ?? "";
    reason = chunk.choices[0]?.finish_reason ?? reason;
  }
  return { text, reason, chunks };
}
