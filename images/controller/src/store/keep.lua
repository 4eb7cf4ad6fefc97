-- Keeps values until they expire, within what their owners may keep.
--
-- KEYS: two of each owner, the index of what it keeps (when each key expires, Unix time) and the sizes (the bytes of each
--       key; of all under the field 'all'); then the values' keys.
-- ARGV: how; the number of owners; seconds until the values expire; for each owner the most keys and the most bytes;
--       the values.
-- how:  'keep' writes. 'claim' writes only where the first key is not there. 'force' writes whatever the owners may keep.
-- Gives {'kept'}, {'there', VALUE} where the first key was there already, {'keys' or 'bytes', OWNER, SECONDS until the
-- owner's first key expires}, or {'full'}.

-- What a key takes beside its name and its value: Redis' own entries for it, for the index and for the sizes.
local OVERHEAD = 400
-- Beyond this part of its memory Redis gets no more, so that it evicts nothing: not what it has confirmed, and no counter
-- of the rate limits.
local FULL = 0.9

local how, owners, seconds = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local first_key, first_value = 2 * owners, 3 + 2 * owners
local values = #ARGV - first_value
local now = tonumber(redis.call('TIME')[1])
-- Whole seconds: no sooner than the value itself.
local expires = now + seconds + 1

if how == 'claim' then
    local there = redis.call('GET', KEYS[first_key + 1])
    if there then return {'there', there} end
end

-- Counts what has expired no more, so many keys at a time that Redis is not held up. False where nothing has.
local function settle(index, sizes)
    local expired = redis.call('ZRANGEBYSCORE', index, '-inf', now, 'LIMIT', 0, 1000)
    if #expired == 0 then return false end
    local bytes = 0
    for _, size in ipairs(redis.call('HMGET', sizes, unpack(expired))) do bytes = bytes + (tonumber(size) or 0) end
    redis.call('HINCRBY', sizes, 'all', -bytes)
    redis.call('HDEL', sizes, unpack(expired))
    redis.call('ZREM', index, unpack(expired))
    return true
end

local function size_of(value)
    return #KEYS[first_key + value] + #ARGV[first_value + value] + OVERHEAD
end

-- What the owner would keep with the values: keys, bytes.
local function with_values(index, sizes)
    local keys, bytes = redis.call('ZCARD', index), tonumber(redis.call('HGET', sizes, 'all')) or 0
    for value = 1, values do
        local before = tonumber(redis.call('HGET', sizes, KEYS[first_key + value]))
        if not before then keys = keys + 1 end
        bytes = bytes + size_of(value) - (before or 0)
    end
    return keys, bytes
end

for owner = 1, owners do
    local index, sizes = KEYS[2 * owner - 1], KEYS[2 * owner]
    local most_keys, most_bytes = tonumber(ARGV[2 + 2 * owner]), tonumber(ARGV[3 + 2 * owner])
    settle(index, sizes)
    while how ~= 'force' do
        local keys, bytes = with_values(index, sizes)
        local over = keys > most_keys and 'keys' or bytes > most_bytes and 'bytes'
        if not over then break end
        if not settle(index, sizes) then
            local first = redis.call('ZRANGE', index, 0, 0, 'WITHSCORES')
            return {over, owner, math.max(1, (tonumber(first[2]) or now) - now)}
        end
    end
end

local memory = redis.call('INFO', 'memory')
local used = tonumber(string.match(memory, '\nused_memory:(%d+)'))
local most = tonumber(string.match(memory, '\nmaxmemory:(%d+)'))
if how ~= 'force' and most > 0 and used > FULL * most then return {'full'} end

for value = 1, values do
    local key, text, size = KEYS[first_key + value], ARGV[first_value + value], size_of(value)
    redis.call('SET', key, text, 'EX', seconds)
    for owner = 1, owners do
        local index, sizes = KEYS[2 * owner - 1], KEYS[2 * owner]
        local before = tonumber(redis.call('HGET', sizes, key)) or 0
        redis.call('HINCRBY', sizes, 'all', size - before)
        redis.call('HSET', sizes, key, size)
        redis.call('ZADD', index, expires, key)
    end
end
for owner = 1, 2 * owners do
    if redis.call('TTL', KEYS[owner]) <= seconds then redis.call('EXPIRE', KEYS[owner], seconds + 1) end
end
return {'kept'}
