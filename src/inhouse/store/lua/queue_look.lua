-- What has come of a job since, for a gateway that missed it. ARGV: id, the last seq that it has, how many entries.
-- Returns {state, seq, trimmed, final, final_data, {entries of the stream}}; state is "" where there is no such job.
local found = redis.call('HMGET', key('job:' .. ARGV[1]), 'state', 'seq', 'trimmed', 'final', 'final_data')
if not found[1] then
  return {'', -1, 0, '', '', {}}
end
local entries = redis.call('XRANGE', key('out:' .. ARGV[1]), '(' .. ARGV[2] .. '-0', '+', 'COUNT', ARGV[3])
return {found[1], tonumber(found[2]), tonumber(found[3] or 0), found[4] or '', found[5] or '', entries}
