// A streamed answer with nothing but fetch: INHOUSE_API_KEY=sk-ih-… node examples/javascript/stream.mjs
// The official client works as well: new OpenAI({ baseURL, apiKey }).

const baseUrl = process.env.INHOUSE_BASE_URL ?? "http://127.0.0.1:8080/v1";

const response = await fetch(`${baseUrl}/chat/completions`, {
  method: "POST",
  headers: {
    authorization: `Bearer ${process.env.INHOUSE_API_KEY}`,
    "content-type": "application/json",
  },
  body: JSON.stringify({
    model: process.env.INHOUSE_MODEL ?? "demo",
    messages: [{ role: "user", content: "Hello, who are you?" }],
    max_tokens: 100,
    stream: true,
  }),
});

if (!response.ok) {
  const { error } = await response.json();
  console.error(`${response.status} ${error.code}: ${error.message}`);
  process.exit(1);
}

/** The data of each event: events are separated by an empty line, and a read may end anywhere. */
async function* events(body) {
  let rest = "";
  for await (const text of body.pipeThrough(new TextDecoderStream())) {
    const parts = (rest + text).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      if (part.startsWith("data: ")) yield part.slice("data: ".length);
    }
  }
}

let whole = false;
for await (const data of events(response.body)) {
  if (data === "[DONE]") {
    whole = true;
    break;
  }
  const event = JSON.parse(data);
  if (event.error) throw new Error(event.error.message);
  process.stdout.write(event.choices[0]?.delta.content ?? "");
}
console.log();
if (!whole) throw new Error("the answer broke off");
