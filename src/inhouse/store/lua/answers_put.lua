-- Keeps one answer of a model for all gateways, within a bound on the memory of that model's answers.
--
-- KEYS, all with the hash tag {model}:
--   1 <prefix>:answers:{<model>}:order  zset    key of an answer, ':' and its size in bytes → second at which it was kept
--   2 <prefix>:answers:{<model>}:bytes  string  their sizes together
--   3 <prefix>:answers:{<model>}:<key>  string  the answer; lives for its age
-- ARGV: key, answer, age in seconds, bytes that a model's answers may take, what a key of an answer begins with
-- Returns 1; 0 where it is too large to be kept at all

local key, answer, age, most, start = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local size = #answer + 200
if size > most then return 0 end
local now = tonumber(redis.call('TIME')[1])
if redis.call('EXISTS', KEYS[3]) == 1 then return 1 end
local bytes = tonumber(redis.call('GET', KEYS[2]) or '0')
while true do
  local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  if #oldest == 0 or (bytes + size <= most and tonumber(oldest[2]) + age >= now) then break end
  local name, taken = string.match(oldest[1], '^(.*):(%d+)$')
  redis.call('ZREM', KEYS[1], oldest[1])
  redis.call('DEL', start .. name)
  bytes = math.max(0, bytes - tonumber(taken))
end
redis.call('SET', KEYS[3], answer, 'EX', math.max(1, math.ceil(age)))
redis.call('ZADD', KEYS[1], now, key .. ':' .. string.format('%.0f', size))
redis.call('SET', KEYS[2], string.format('%.0f', bytes + size), 'EX', math.ceil(age) + 86400)
redis.call('EXPIRE', KEYS[1], math.ceil(age) + 86400)
return 1
