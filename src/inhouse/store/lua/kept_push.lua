-- The maker is there, and this is new. ARGV: maker, tenant, api, background, lease in ms, how long it is kept in ms, the
-- number of the first event that follows, whether it is whole 0|1, whether its client cancelled it 0|1, shown and status
-- and refusal ('' where they are as before), events.
-- Returns what became of it, then a number:
--   ok         for how many ms nobody has followed it at another gateway, -1 where nobody ever has
--   cancelled  the same; it was cancelled at another gateway
--   behind     events that are there: fewer than the maker takes for written, as Redis has lost some
--   over       it was given up or deleted
local maker, lease_ms, keep_ms = ARGV[1], tonumber(ARGV[5]), tonumber(ARGV[6])
local first, whole = tonumber(ARGV[7]), ARGV[8] == '1'
local now = now_ms()
local found = redis.call('HMGET', about, 'state', 'count', 'cancelled', 'followed', 'maker')
local state, count = found[1], tonumber(found[2] or 0)
if not state then
  if first > 0 then return {'behind', 0} end
  redis.call('DEL', events)
  redis.call('HSET', about, 'tenant', ARGV[2], 'api', ARGV[3], 'background', ARGV[4], 'maker', maker, 'state', 'r')
elseif state == 'w' and found[5] == maker then
  return {'ok', -1} -- written before; the answer to that got lost
elseif state ~= 'r' or found[5] ~= maker then
  return {'over', 0}
end
if count < first then return {'behind', count} end
for at = 13 + count - first, #ARGV do
  add(count, ARGV[at])
  count = count + 1
end
redis.call('HSET', about, 'count', count, 'until', now + lease_ms)
redis.call('HDEL', about, 'late')
if ARGV[9] == '1' then redis.call('HSET', about, 'cancelled', 1) end
if ARGV[10] ~= '' then redis.call('HSET', about, 'shown', ARGV[10]) end
if ARGV[12] ~= '' then redis.call('HSET', about, 'status', ARGV[11], 'refusal', ARGV[12]) end
redis.call('PEXPIRE', about, keep_ms + lease_ms)
redis.call('PEXPIRE', events, keep_ms + lease_ms)
if whole then close('w', count, keep_ms) end
return {found[3] == '1' and 'cancelled' or 'ok', found[4] and now - tonumber(found[4]) or -1}
