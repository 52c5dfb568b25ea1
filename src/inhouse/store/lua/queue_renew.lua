-- A worker says that it is there. ARGV: worker, lease in ms, what it says of itself, then id and epoch of each job.
-- Returns the ids of those that are no longer its own. Jobs whose gateway is gone end here.
local worker, lease_ms = ARGV[1], tonumber(ARGV[2])
local now = now_ms()
redis.call('ZADD', key('workers'), now + lease_ms, worker)
redis.call('HSET', key('about'), worker, ARGV[3])
local lost = {}
for at = 4, #ARGV, 2 do
  local id, epoch = ARGV[at], ARGV[at + 1]
  local found = redis.call('HMGET', key('job:' .. id), 'state', 'epoch', 'gateway')
  if found[1] ~= 'R' or found[2] ~= epoch then
    if not (found[1] == 'D' and found[2] == epoch) then
      lost[#lost + 1] = id
    end
  elseif not there('gateways', found[3]) then
    drop(id)
    lost[#lost + 1] = id
  else
    redis.call('ZADD', key('running'), now + lease_ms, id)
  end
end
return lost
