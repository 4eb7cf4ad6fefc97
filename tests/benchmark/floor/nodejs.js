// What any server costs in Node.js: the contract's request and answer, with the benchmark's script built in.
'use strict';

const server = require('node:http').createServer((request, response) => {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => {
    const answer = request.method === 'POST' ? { result: JSON.parse(Buffer.concat(parts)).params.n + 1 } : 'ok';
    const body = JSON.stringify(answer);
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) });
    response.end(body);
  });
});
// As long as the runtime, or the client would lose requests on connections that are just being closed.
server.keepAliveTimeout = 65 * 60 * 1000;
server.listen(8080);
