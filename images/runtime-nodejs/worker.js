// Waits for a script, runs it, and writes what came of it; then again, for the same caller and the same script only. The
// frames are described in images/runtime/src/frame.rs.
//
// What the script can do to this file's objects changes only its own caller's answers, and the supervisor relies on the
// kernel for everything else.
'use strict';

const fs = require('node:fs');
const { startupSnapshot } = require('node:v8');
const vm = require('node:vm');

const JOB = 3;
const FRAMES = 4;
const FILE = 'script.js';
const AsyncFunction = (async () => {}).constructor;
const { stringify } = JSON;
const now = process.hrtime.bigint;
const immediately = setImmediate;

let begun = 0n;
let ended = false;
let load = require; // what scripts get as `require`
let work; // the script as a function

function read(length) {
  const buffer = Buffer.alloc(length);
  let filled = 0;
  while (filled < length) {
    const count = fs.readSync(JOB, buffer, filled, length - filled, null);
    if (count === 0) process.reallyExit(0);
    filled += count;
  }
  return buffer;
}

function write(kind, payload) {
  const body = Buffer.from(payload, 'utf8');
  const head = Buffer.alloc(13);
  head.write(kind, 0, 'latin1');
  head.writeBigUInt64LE(begun === 0n ? 0n : (now() - begun) / 1000n, 1);
  head.writeUInt32LE(body.length, 9);
  const frame = Buffer.concat([head, body]);
  let sent = 0;
  while (sent < frame.length) sent += fs.writeSync(FRAMES, frame, sent);
}

// The first frame is the answer. After a result there may be another job; else the process waits for its end, so that the
// supervisor can read its peak of memory.
function end(kind, payload) {
  if (ended) return;
  ended = true;
  write(kind, payload);
  if (kind === 'R') immediately(again);
  else read(1);
}

// In the event loop's next turn, when all that is due has run.
function again() {
  if (process.getActiveResourcesInfo().length > 0) {
    write('N', '');
    read(1);
  }
  begun = 0n;
  write('S', '');
  ended = false;
  run();
}

function describe(error) {
  if (!(error instanceof Error)) {
    try {
      return `threw ${typeof error === 'object' ? stringify(error) : String(error)}`;
    } catch {
      return 'threw a value that cannot be shown';
    }
  }
  const line = /script\.js:(\d+)/.exec(String(error.stack));
  return `${error.name}: ${error.message}${line ? ` (line ${line[1]})` : ''}`;
}

function fail(error) {
  let message;
  try {
    message = describe(error);
  } catch {
    message = 'threw a value that cannot be shown';
  }
  end('E', message.slice(0, 8192));
}

class NotJson extends Error {}

// JSON.stringify turns what JSON has no word for into null or nothing; a caller would take that for the answer.
function strict(key, value) {
  if (typeof value === 'number' && !Number.isFinite(value)) throw new NotJson(`${value} at ${place(key)}`);
  if (typeof value === 'function' || typeof value === 'symbol') {
    throw new NotJson(`a ${typeof value} at ${place(key)}`);
  }
  return value;
}

function place(key) {
  return key === '' ? 'its top' : stringify(key);
}

function succeed(value) {
  let text;
  try {
    text = stringify(value === undefined ? null : value, strict);
    if (text === undefined) throw new NotJson('its toJSON gives nothing');
  } catch (error) {
    end('J', `the result is not JSON: ${String(error && error.message).split('\n')[0]}`);
    return;
  }
  end('R', text);
}

// Line numbers are those of the script: the head stands on the script's first line.
const HEAD = '(async function (params, context, require) {';

function compile(script) {
  const compiled = new vm.Script(`${HEAD}${script}\n})`, {
    filename: FILE,
    columnOffset: -HEAD.length,
    importModuleDynamically: (name) => import(name),
  });
  // Once more as a body by itself: a script that closes the function and opens another passes in the form above.
  new AsyncFunction('params', 'context', 'require', script);
  return compiled.runInThisContext();
}

function run() {
  const { params, context, script } = JSON.parse(read(read(4).readUInt32LE(0)).toString('utf8'));
  begun = now();
  if (script !== null) {
    try {
      work = compile(script);
    } catch (error) {
      fail(error);
      return;
    }
  }
  work(params, context, load).then(succeed, fail);
}

function main() {
  process.on('uncaughtException', fail);
  process.on('exit', (code) => end('X', `the script ended its process with exit status ${code} before it gave a result`));
  process.on('beforeExit', () => {
    if (begun !== 0n) end('E', 'the script waits for something that cannot happen: its promise is never settled');
  });
  // What the first script would otherwise load and compile.
  compile('return 1')({}, {}, load).then((value) => {
    stringify([value, 'é'], strict);
    write('S', '');
    run();
  });
}

// The supervisor has Node.js load this file once and starts its processes from a snapshot of that; where it cannot, each
// process loads the file. In a snapshot `require` knows Node.js's own modules only.
if (startupSnapshot.isBuildingSnapshot()) {
  const file = __filename;
  startupSnapshot.setDeserializeMainFunction(() => {
    const { emitWarning } = process;
    process.emitWarning = () => {}; // that node:module is not supported in snapshots: here it is asked for after its start
    load = require('node:module').createRequire(file);
    process.emitWarning = emitWarning;
    main();
  });
} else {
  main();
}
