-- A gateway has its answer, or nobody waits for it any more. ARGV: id, tokens it really took (-1: not known).
-- Its tenant's account is settled, its worker told to stop, and nothing of it is kept.
local id, used = ARGV[1], tonumber(ARGV[2])
local found = redis.call('HMGET', key('job:' .. id), 'state', 'worker', 'class', 'tenant', 'weight', 'cost')
local share = found[1] and (found[3] .. ' ' .. found[4])
if not found[1] then
  return 0
end
for _, account in ipairs({'tags', 'served'}) do
  if used >= 0 and redis.call('HEXISTS', key(account), share) == 1 then
    redis.call('HINCRBYFLOAT', key(account), share, (used - found[6]) / found[5])
  end
end
redis.call('ZREM', key('pending:' .. found[3]), id)
if found[1] == 'R' then
  redis.call('RPUSH', key('to:' .. found[2]), 'cancel ' .. id .. ' 0')
  redis.call('PEXPIRE', key('to:' .. found[2]), 60000)
end
drop(id)
return 1
