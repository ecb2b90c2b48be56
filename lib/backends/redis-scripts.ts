import { identityLength } from '../entry-format.js'

/*
 * Lua that runs on the server, each script in one step. KEYS[1] of those that see a region's stamp is the stamp's key:
 * 'epoch|softened|tagged|deleted', see Stamp. A value that is too short for an entry, or a key of another type than string,
 * is none of ours and counts as missing: it will be overwritten.
 */

// Replaces what is no stamp.
const ensureStamp = `
local stamp = redis.pcall('GET', KEYS[1])
if type(stamp) ~= 'string' or not string.match(stamp, '^%d+|%d+|%d+|%d+$') or string.match(stamp, string.rep('%d', 16)) then
  stamp = ARGV[1]
  redis.call('SET', KEYS[1], stamp)
end
`

// Appends to `result` what each key from `first` on holds. Leaves the mark where a key holds nothing.
const leaseKeys = `
local all = first > #KEYS and {} or redis.call('MGET', unpack(KEYS, first))
for i = first, #KEYS do
  local held = all[i - first + 1]
  if not held or #held < #ARGV[2] then
    held = ARGV[2]
    redis.call('SET', KEYS[i], held, 'PX', ARGV[3])
  else
    if ARGV[4] ~= '0' then
      redis.call('SETRANGE', KEYS[i], 4, string.sub(ARGV[2], 5))
      held = redis.call('GET', KEYS[i])
    end
    -- A stale entry stays for as long as the lease on it: its own times tell whether it may still be served.
    if redis.call('PTTL', KEYS[i]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[i], ARGV[3]) end
  end
  result[#result + 1] = held
end
return result`

const ifUnchanged = `
local stamp = redis.pcall('GET', KEYS[1])
if type(stamp) ~= 'string' then return false end
local epoch, deleted = string.match(stamp, '^(%d+)|%d+|%d+|(%d+)$')
if epoch ~= ARGV[1] or deleted ~= ARGV[2] then return false end`

// ARGV: a new stamp; the mark; its ttl; '1' to take over, '2' where another chunk has raised `deleted` for that already, '0'.
// Returns the stamp and what each key holds.
export const lease = `${ensureStamp}
if ARGV[4] == '1' then
  local others, deleted = string.match(stamp, '^(.*|)(%d+)$')
  stamp = others .. string.format('%d', deleted + 1)
  redis.call('SET', KEYS[1], stamp)
end
local result = {stamp} local first = 2${leaseKeys}`

// The same in two scripts, for a Cluster: the stamp is on a node of its own. ARGV as above.
export const leaseStamp = `${ensureStamp}return {stamp}`
export const leaseWithoutStamp = `local result = {} local first = 1${leaseKeys}`

// ARGV, for each key: the lease; value; ttl. Returns 1 for each key that was filled, 0 for the others.
export const fill = `
local filled = {}
for i, key in ipairs(KEYS) do
  local lease = ARGV[3 * i - 2]
  if redis.pcall('GETRANGE', key, 0, #lease - 1) == lease then
    redis.call('SET', key, ARGV[3 * i - 1], 'PX', ARGV[3 * i])
    filled[i] = 1
  else
    filled[i] = 0
  end
end
return filled`

// ARGV: epoch and deleted as they were; for each key the first bytes of what it held, or nothing; value; ttl.
// Returns false if the stamp has changed, else the places of the keys that were refused.
export const fillUnchanged = `
${ifUnchanged}
local all = redis.call('MGET', unpack(KEYS, 2))
local refused = {}
for i, held in ipairs(all) do
  local identity = held and #held >= ${identityLength} and string.sub(held, 1, ${identityLength}) or ''
  if identity == ARGV[3 * i] then
    redis.call('SET', KEYS[i + 1], ARGV[3 * i + 1], 'PX', ARGV[3 * i + 2])
  else
    refused[#refused + 1] = i - 1
  end
end
return refused`

// The same where all keys were missing. ARGV: epoch and deleted as they were; the values; one ttl for all, or one for each.
export const fillMissing = `
${ifUnchanged}
local call, refused, ttls = redis.call, {}, #KEYS + 1
for i = 2, #KEYS do
  local ttl = ARGV[ttls + i - 1] or ARGV[ttls + 1]
  if not call('SET', KEYS[i], ARGV[i + 1], 'PX', ttl, 'NX') then
    if call('TYPE', KEYS[i]).ok == 'string' and call('STRLEN', KEYS[i]) >= ${identityLength} then refused[#refused + 1] = i - 2
    else call('SET', KEYS[i], ARGV[i + 1], 'PX', ttl) end
  end
end
return refused`

// ARGV: a new stamp; what to revise. KEYS[2] and on: for 'deleted' what to delete, for 'tags' the tags.
export const revise = `${ensureStamp}
-- Deletions first: a server that is out of memory still does them, but refuses the SET below.
if ARGV[2] == 'deleted' then
  for i = 2, #KEYS do redis.call('UNLINK', KEYS[i]) end
end
local epoch, softened, tagged, deleted = string.match(stamp, '^(%d+)|(%d+)|(%d+)|(%d+)$')
if ARGV[2] == 'hard' then epoch = string.match(ARGV[1], '^%d+')
elseif ARGV[2] == 'soft' then softened = softened + 1
elseif ARGV[2] == 'tags' then tagged = tagged + 1
else deleted = deleted + 1 end
redis.call('SET', KEYS[1], string.format('%s|%d|%d|%d', epoch, softened, tagged, deleted))
if ARGV[2] == 'tags' then
  for i = 2, #KEYS do redis.call('SET', KEYS[i], string.format('%s|%d', epoch, tagged), 'XX', 'KEEPTTL') end
end`

// ARGV: for each tag its ttl.
export const holdTags = `
local stamp = redis.call('GET', KEYS[1])
if not stamp then return end -- and every entry is gone with it
local epoch, tagged = string.match(stamp, '^(%d+)|%d+|(%d+)|')
for i = 2, #KEYS do
  local ttl = tonumber(ARGV[i - 1])
  if not redis.call('SET', KEYS[i], epoch .. '|' .. tagged, 'PX', ttl, 'NX') and redis.call('PTTL', KEYS[i]) < ttl then
    redis.call('PEXPIRE', KEYS[i], ttl)
  end
end`
