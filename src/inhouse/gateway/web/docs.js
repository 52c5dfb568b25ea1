"use strict";

// Draws /openapi.json and lets a person try each operation. Texts are only ever set as text, never as HTML; the key is
// read from its field when a request is sent, and kept nowhere else.

const root = new URL(".", window.location.href);

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function resolve(api, schema) {
  if (!schema.$ref) return schema;
  return api.components.schemas[schema.$ref.split("/").pop()];
}

// one line for a schema: string, integer 1…16, array of Message, "auto" | "none"
function kind(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.filter((one) => one.type !== "null").map(kind).join(" | ") || "null";
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.type === "array") return `array of ${kind(schema.items ?? {})}`;
  if (schema.type === "object" && schema.additionalProperties) return `object of ${kind(schema.additionalProperties)}`;
  const low = schema.minimum ?? schema.exclusiveMinimum;
  const range = low !== undefined || schema.maximum !== undefined ? ` ${low ?? ""}…${schema.maximum ?? ""}` : "";
  return (schema.type ?? "anything") + range;
}

function inner(schema) {
  if (schema.$ref) return [schema];
  if (schema.anyOf) return schema.anyOf.flatMap(inner);
  if (schema.type === "array") return inner(schema.items ?? {});
  if (typeof schema.additionalProperties === "object") return inner(schema.additionalProperties);
  return [];
}

function fields(api, schema, above = []) {
  const shape = resolve(api, schema);
  const list = make("ul", { class: "fields" });
  for (const [name, field] of Object.entries(shape.properties ?? {})) {
    const mark = (shape.required ?? []).includes(name) ? make("span", { class: "required" }, " required") : null;
    const line = [make("code", {}, name), mark, make("span", { class: "quiet" }, ` ${kind(field)}`)];
    if (field.description) line.push(` ${field.description}`);
    const below = inner(field).filter((one) => !above.includes(one.$ref));
    list.append(make("li", {}, below.length ? folded(api, line, below, above) : make("span", {}, ...line.filter(Boolean))));
  }
  return list;
}

// the shapes below a field are drawn when they are opened: some contain themselves
function folded(api, line, below, above) {
  const details = make("details", {}, make("summary", {}, ...line.filter(Boolean)));
  details.addEventListener("toggle", () => {
    for (const one of below) {
      const title = make("div", { class: "quiet" }, kind(one));
      details.append(title, fields(api, one, [...above, one.$ref]));
    }
  }, { once: true });
  return details;
}

function responses(operation) {
  const table = make("table");
  for (const [status, response] of Object.entries(operation.responses)) {
    const stream = response.content?.["text/event-stream"]?.schema.description;
    const text = stream ? `${response.description} ${stream}` : response.description;
    table.append(make("tr", {}, make("td", {}, status), make("td", {}, text)));
  }
  return table;
}

function tryIt(path, method, operation) {
  const body = operation.requestBody?.content["application/json"];
  const id = operation.operationId;
  const described = operation.parameters ?? [];
  const parameters = described.map((one) => make("input", { id: `${id}-${one.name}`, name: one.name, placeholder: one.name, title: one.description ?? "", "aria-label": one.name }));
  const text = body ? make("textarea", { "aria-label": "Request body", spellcheck: "false" }) : null;
  if (text) text.value = JSON.stringify(body.example, null, 2);
  const send = make("button", { type: "submit" }, "Send");
  const stop = make("button", { type: "button", disabled: "" }, "Stop");
  const state = make("span", { class: "quiet", role: "status" });
  const output = make("pre", { hidden: "", tabindex: "0", "aria-label": "Answer" });
  const form = make("form", {}, ...parameters, send, stop, state);
  let running = null;
  stop.addEventListener("click", () => running?.abort());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    running = new AbortController();
    send.disabled = true;
    stop.disabled = false;
    output.hidden = false;
    output.textContent = "";
    const filled = address(path, described, parameters);
    try {
      await exchange(filled, method, operation, text?.value, running.signal, state, output);
    } catch (error) {
      state.className = "bad";
      state.textContent = error.name === "AbortError" ? "stopped" : String(error.message);
    } finally {
      send.disabled = false;
      stop.disabled = true;
    }
  });
  return make("div", { class: "try" }, text, form, output);
}

function address(path, described, inputs) {
  const query = new URLSearchParams();
  let filled = path;
  described.forEach((one, at) => {
    const value = inputs[at].value;
    if (one.in === "path") filled = filled.replace(`{${one.name}}`, encodeURIComponent(value));
    else if (value) query.set(one.name, value);
  });
  return query.size ? `${filled}?${query}` : filled;
}

async function exchange(path, method, operation, body, signal, state, output) {
  const headers = {};
  const key = document.getElementById("key").value;
  if (key && operation.security?.length !== 0) headers.authorization = `Bearer ${key}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  const began = performance.now();
  state.className = "quiet";
  state.textContent = "…";
  const url = new URL(path.slice(1), root);
  const response = await fetch(url, { method: method.toUpperCase(), headers, body, signal, cache: "no-store" });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    output.textContent += value;
    output.scrollTop = output.scrollHeight;
  }
  if ((response.headers.get("content-type") ?? "").startsWith("application/json")) output.textContent = pretty(output.textContent);
  state.className = response.ok ? "good" : "bad";
  state.textContent = `${response.status} in ${Math.round(performance.now() - began)} ms`;
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function article(api, path, method, operation) {
  const summary = make("summary", {},
    make("span", { class: "method" }, method), make("span", { class: "path" }, path), make("span", { class: "quiet" }, operation.summary));
  const details = make("details", {}, summary);
  details.addEventListener("toggle", () => {
    const request = operation.requestBody?.content["application/json"].schema;
    const answer = operation.responses["200"].content["application/json"]?.schema;
    const content = make("div");
    if (operation.security?.length === 0) content.append(make("p", { class: "quiet" }, "Needs no key."));
    if (request) content.append(make("h3", {}, "Request"), fields(api, request, [request.$ref]));
    content.append(make("h3", {}, "Answers"), responses(operation));
    for (const one of inner(answer ?? {})) content.append(fields(api, one, [one.$ref]));
    content.append(make("h3", {}, "Try it"), tryIt(path, method, operation));
    details.append(content);
  }, { once: true });
  return make("article", { id: operation.operationId }, details);
}

function open() {
  const details = document.getElementById(window.location.hash.slice(1))?.querySelector("details");
  if (details) details.open = true;
}

function draw(api) {
  document.getElementById("version").textContent = api.info.version;
  document.getElementById("base").textContent = new URL("v1", root).href;
  const all = Object.entries(api.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) => ({ path, method, operation })));
  const main = document.getElementById("operations");
  const index = make("ul");
  main.replaceChildren();
  for (const { name } of api.tags) {
    main.append(make("h2", {}, name));
    for (const { path, method, operation } of all.filter((one) => one.operation.tags.includes(name))) {
      main.append(article(api, path, method, operation));
      index.append(make("li", {}, make("a", { href: `#${operation.operationId}`, class: "path" }, path)));
    }
  }
  document.getElementById("index").replaceChildren(index);
  window.addEventListener("hashchange", open);
  open();
}

document.getElementById("access").addEventListener("submit", (event) => event.preventDefault());

fetch(new URL("openapi.json", root))
  .then((response) => {
    if (!response.ok) throw new Error(`openapi.json: ${response.status}`);
    return response.json();
  })
  .then(draw)
  .catch((error) => {
    document.getElementById("state").textContent = `The description of the API cannot be shown: ${error.message}`;
  });
