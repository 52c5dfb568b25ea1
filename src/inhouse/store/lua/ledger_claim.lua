-- One claim of a gateway on a lease, in the accounts of all scopes that KEYS name: see `store/ledger_claim.py`, which
-- says the same in Python. Keys and types: `ledger_account.lua`, which stands before this text.
--
-- A claim tells totals since the lease was made (spent, freed, granted as far as the gateway knows), never differences:
-- one that is told twice, or whose answer was lost, changes nothing the second time. `seq` grows with each claim on a
-- lease; one that comes late, after a newer one, is passed over.
--
-- ARGV[1] msgpack of {now (-1: the server's clock), id, seq, day, month, age of what was spent, lifetime of the lease,
--                     lifetime of a charged one, spent, freed, granted, need, want, part, requests let in at once,
--                     limits of each scope}; limits: {requests and tokens per minute, tokens per day and month, money per
--                     day and month, concurrent requests}, -1 where there is none; times in microseconds
-- Returns {msgpack of {state, granted, now, leases charged}, account of each scope}; state: 0 granted, 1 refused,
--         2 too old to be looked at, 3 the day is not that of the server's clock

local DAY, SLACK = 86400 * SECOND, 5 * SECOND
local now_given, id, seq, day, month, age, lifetime, keep, spent, freed, known, need, want, part, at_once, limits =
  unpack(cmsgpack.unpack(ARGV[1]))
local now = clock(now_given)
local scopes = #KEYS / 3

local records = {}
for index = 1, scopes do
  local raw = redis.call('HGET', KEYS[3 * index - 1], id)
  records[index] = raw and cmsgpack.unpack(raw) or {0, day, month, 0, {0, 0, 0, 0}, {0, 0, 0, 0}, {0, 0, 0, 0}}
  if records[index][1] >= seq then return {cmsgpack.pack({2, {0, 0, 0, 0}, now, 0})} end
end

local function room(account, limit)
  local today, this_month = period(account[7], day), period(account[8], month)
  local function left(most, taken)
    if most < 0 then return 2 ^ 52 end
    return math.max(0, most - taken)
  end
  return {
    left(limit[1], account[2] + account[9]),
    left(limit[7], account[5]),
    math.min(
      left(limit[2], account[4] + account[6]),
      left(limit[3], today[2] + today[3]),
      left(limit[4], this_month[2] + this_month[3])
    ),
    math.min(left(limit[5], today[4] + today[5]), left(limit[6], this_month[4] + this_month[5])),
  }
end

local NONE, accounts, charged = {0, 0, 0, 0}, {}, 0
for index = 1, scopes do
  local record = records[index]
  local account = load(KEYS[3 * index - 2], now)
  accounts[index] = account
  charged = charged + reclaim(account, KEYS[3 * index - 1], KEYS[3 * index], id, now, keep)
  if record[4] == 1 then
    revive(account, held(record), day, month)
    record[4] = 0
  end
  local unknown, newly_spent, newly_freed = {}, {}, {}
  for amount = 1, 4 do
    unknown[amount] = record[7][amount] - known[amount]
    newly_spent[amount] = spent[amount] - record[5][amount]
    newly_freed[amount] = freed[amount] - record[6][amount]
  end
  settle(account, NONE, unknown, day, month, now)
  settle(account, newly_spent, newly_freed, day, month, now - age)
  record[1], record[5], record[6], record[7] = seq, spent, freed, known
end

local state, granted = 0, {0, 0, 0, 0}
local asks = not (is_none(need) and is_none(want))
if asks and now_given < 0 and math.abs(now - day * DAY - DAY / 2) > DAY / 2 + SLACK then
  state, asks = 3, false
end
if asks then
  granted = {need[1], need[2], need[3], need[4]}
  local spare = {want[1], want[2], want[3], want[4]}
  for index = 1, scopes do
    local left = room(accounts[index], limits[index])
    for amount = 1, 4 do
      if need[amount] > left[amount] then state = 1 end
      spare[amount] = math.min(spare[amount], math.floor(math.max(0, left[amount] - need[amount]) / part))
    end
  end
  for amount = 1, 4 do granted[amount] = state == 0 and granted[amount] + spare[amount] or 0 end
end

local answer = {cmsgpack.pack({state, granted, now, charged})}
for index = 1, scopes do
  local record, account = records[index], accounts[index]
  if state == 0 then
    hold(account, granted, day, month)
    local total = {}
    for amount = 1, 4 do total[amount] = known[amount] + granted[amount] end
    record[7] = total
    if at_once > 0 and asks then
      settle(account, {at_once, 0, 0, 0}, NONE, day, month, now)
      record[5] = {spent[1] + at_once, spent[2], spent[3], spent[4]}
    end
  end
  redis.call('HSET', KEYS[3 * index - 1], id, cmsgpack.pack(record))
  redis.call('ZADD', KEYS[3 * index], text(now + lifetime), id)
  redis.call('PEXPIRE', KEYS[3 * index - 1], KEYS_KEPT_MS)
  redis.call('PEXPIRE', KEYS[3 * index], KEYS_KEPT_MS)
  answer[index + 1] = save(KEYS[3 * index - 2], account)
end
return answer
