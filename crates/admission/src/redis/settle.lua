-- Ends a lease: releases what it holds, charges what was used, writes its event to the outbox, and remembers its id.
--
-- KEYS: 1 account, 2 outbox of its bucket, 3 and 4 ids settled in this period and in the previous one.
-- ARGV: 1 doubles: clock offset, 1: charge a request that was not admitted, tokens, money, 1: it was refused, so it is
--       given back per day and in total with its charges, 0, start of the month; then the seven limits of each scope
--       (0: none). 2 the event, 3 names of the scopes, each followed by a zero byte, 4 field of the lease, 5 and 6
--       fields of the scopes (none, one or two).
-- Returns 0: unknown, 1: done, 2: settled before.
local numbers, event, own_names, field, one, two = unpack(ARGV)
local offset, anyway, tokens, money, refused, _, month = read('<ddddddd', numbers)
local key, id = KEYS[1], sub(field, 3)
local found
if two then found = call('HMGET', key, field, one, two)
elseif one then found = call('HMGET', key, field, one)
else found = call('HMGET', key, field) end
local lease = found[1]

local requests, held_tokens, held_money, running, entry, others = 1, 0, 0, 0, nil, nil
if lease then
  local _, h, _, expired, part, tokens_before, money_before, t, names_size, first_size, last_size = read(lease_format, lease)
  local from = lease_size + names_size
  if part == 0 then
    entry = call('XADD', KEYS[2], '*', 'e', event)
  else
    entry = write(KEYS[2], event, part, sub(lease, from + 1, from + first_size),
      sub(lease, from + first_size + last_size + 1))
  end
  tokens, money = tokens - tokens_before, money - money_before
  if refused == 0 then
    if tokens < 0 then tokens = 0 end
    if money < 0 then money = 0 end
  end
  requests, held_tokens, held_money, running = 0, -t, -h, expired - 1
  call('HDEL', key, field)
  local names = sub(lease, lease_size + 1, from)
  if names ~= own_names then
    hold(key, names, held_tokens, held_money, running)
    found = one and call('HMGET', key, field, one, two or one) or found
    held_tokens, held_money, running = 0, 0, 0
  end
elseif call('SISMEMBER', KEYS[3], id) == 1 or call('SISMEMBER', KEYS[4], id) == 1 then
  return 2
elseif anyway == 0 then
  return 0
else
  entry = call('XADD', KEYS[2], '*', 'e', event)
end

-- The entry's id starts with the milliseconds of the server's clock (13 digits until 2286), which saves a call of
-- TIME.
local now = sub(entry, 1, 13) * 1000 + offset
if two then
  call('HSET', key,
    one, charge(found[2], numbers, 57, now, month, requests, requests - refused, tokens, money, held_tokens, held_money,
      running, read, pack),
    two, charge(found[3], numbers, 113, now, month, requests, requests - refused, tokens, money, held_tokens, held_money,
      running, read, pack))
elseif one then
  call('HSET', key,
    one, charge(found[2], numbers, 57, now, month, requests, requests - refused, tokens, money, held_tokens, held_money,
      running, read, pack))
end
if requests == 1 then call('EXPIRE', key, 3456000) end
call('SADD', KEYS[3], id)
return 1
