-- A gateway has read an answer up to a piece: its worker may write more. ARGV: id, seq.
local found = redis.call('HMGET', key('job:' .. ARGV[1]), 'state', 'worker')
if found[1] == 'R' then
  redis.call('RPUSH', key('to:' .. found[2]), 'read ' .. ARGV[1] .. ' ' .. ARGV[2])
  redis.call('PEXPIRE', key('to:' .. found[2]), 60000)
end
return 1
