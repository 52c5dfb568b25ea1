-- Its maker is gone: it ends here. ARGV: how long a maker that is late may take in ms, how long it is kept in ms, how many
-- events there were when that was seen, status, refusal. Returns 1; 0 where it is otherwise by now.
local found = redis.call('HMGET', about, 'state', 'late', 'count')
local count = tonumber(found[3] or -1)
if found[1] ~= 'r' or not found[2] or count ~= tonumber(ARGV[3]) then return 0 end
if now_ms() - tonumber(found[2]) < tonumber(ARGV[1]) then return 0 end
redis.call('HSET', about, 'status', ARGV[4], 'refusal', ARGV[5])
close('g', count, ARGV[2])
return 1
