-- A worker gives a job back: its engine failed, or it stops. ARGV: id, epoch, why, whether it counts as an attempt,
-- the worker that it should not go to next ("" any), then the limits: attempts, dead letters, error, kept for ms.
-- Returns `again`, `dead`, `dropped`, or `lost` where it is no longer this worker's.
local id, epoch = ARGV[1], ARGV[2]
local found = redis.call('HMGET', key('job:' .. id), 'state', 'epoch')
if found[1] ~= 'R' or found[2] ~= epoch then
  return 'lost'
end
local limits = {attempts_max = tonumber(ARGV[6]), dead_max = ARGV[7], error = ARGV[8], keep_ms = ARGV[9]}
return again(id, ARGV[3], tonumber(ARGV[4]), ARGV[5], limits)
