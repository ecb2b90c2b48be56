/*
 * Lua for locks, each script in one step. A name's key holds the token of its holder, as in the Redlock library: each keeps
 * the other out. KEYS: the names. ARGV: token, ttl. A client may send a script again after it has lost its connection, and
 * with it the answer: what has the token already is the holder's own.
 */

/** Takes all names or none. Returns 1 or 0. A thousand keys at a time: Lua's `unpack` takes no more than some thousands. */
export const acquire = `
for first = 1, #KEYS, 1000 do
  if redis.call('EXISTS', unpack(KEYS, first, math.min(first + 999, #KEYS))) > 0 then
    -- Sent again? If the first is one's own, they all are.
    if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
    break
  end
end
for _, key in ipairs(KEYS) do redis.call('SET', key, ARGV[1], 'PX', ARGV[2]) end
return 1`

/** Takes those that nobody else holds. Returns the places of the others. */
export const acquireSome = `
local others = {}
for i, key in ipairs(KEYS) do
  if not redis.call('SET', key, ARGV[1], 'PX', ARGV[2], 'NX') then
    if redis.pcall('GET', key) == ARGV[1] then redis.call('PEXPIRE', key, ARGV[2]) else others[#others + 1] = i - 1 end
  end
end
return others`

/** Extends those that are still held. Returns 1 if there is one, 0 if all were lost. */
export const extend = `
local own = 0
for first = 1, #KEYS, 1000 do
  for i, token in ipairs(redis.call('MGET', unpack(KEYS, first, math.min(first + 999, #KEYS)))) do
    if token == ARGV[1] then own = redis.call('PEXPIRE', KEYS[first + i - 1], ARGV[2]) end
  end
end
return own`

/** The same, but returns the places of those that were lost. */
export const extendSome = `
local others = {}
for i, key in ipairs(KEYS) do
  if redis.pcall('GET', key) == ARGV[1] then redis.call('PEXPIRE', key, ARGV[2]) else others[#others + 1] = i - 1 end
end
return others`

/** Releases those that are still held. */
export const release = `
for first = 1, #KEYS, 1000 do
  local own = {}
  for i, token in ipairs(redis.call('MGET', unpack(KEYS, first, math.min(first + 999, #KEYS)))) do
    if token == ARGV[1] then own[#own + 1] = KEYS[first + i - 1] end
  end
  if #own > 0 then redis.call('DEL', unpack(own)) end
end`
