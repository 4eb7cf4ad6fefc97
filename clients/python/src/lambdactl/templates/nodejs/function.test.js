// node --test
const assert = require("node:assert");
const { readFileSync } = require("node:fs");
const { join } = require("node:path");
const test = require("node:test");

const AsyncFunction = (async () => {}).constructor;
const handle = new AsyncFunction("params", "context", "require", readFileSync(join(__dirname, "function.js"), "utf8"));

test("who is named is greeted", async () => {
  assert.deepStrictEqual(await handle({ name: "Ada" }, {}, require), { greeting: "Hello, Ada!" });
});

test("nobody is the world", async () => {
  assert.deepStrictEqual(await handle({}, {}, require), { greeting: "Hello, world!" });
});
