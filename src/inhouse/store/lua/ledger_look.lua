-- Where one scope stands. Leases that ran out are charged first, so that the answer is true.
-- Keys and types: `ledger_account.lua`, which stands before this text.
--
-- ARGV[1] msgpack of {now (-1: the server's clock), lifetime of a charged lease}, in microseconds
-- Returns {msgpack of {now, leases charged}, account}

local now_given, keep = unpack(cmsgpack.unpack(ARGV[1]))
local now = clock(now_given)
local account = load(KEYS[1], now)
local charged = reclaim(account, KEYS[2], KEYS[3], '', now, keep)
if charged > 0 then save(KEYS[1], account) end
return {cmsgpack.pack({now, charged}), cmsgpack.pack(account)}
