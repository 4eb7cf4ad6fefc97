-- A session and its script, whose key is the session's first line; nothing where either is not there.
local session = redis.call('GET', KEYS[1])
if not session then return false end
local script = redis.call('GET', string.match(session, '^[^\n]*'))
return script and {session, script}
