// The body of an async function: `params` are the call's, `context` the session's; what is returned is the answer, as JSON.
const name = params.name ?? "world";
return { greeting: `Hello, ${name}!` };
