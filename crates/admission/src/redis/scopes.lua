-- Shared code of the scripts that follow it. The arithmetic is the same as in levels.rs, in the same order.
--
-- An account is a hash. Fields: a scope's name -> ten doubles (see `Levels::decode`); `l:<id>` -> a lease;
-- `d` -> four doubles: when the account is due in its bucket's index (0: not in it), when its expiry is to be renewed,
-- and where an unfinished sweep continues (cursor, earliest due time found).
-- A lease is eleven doubles: due time, money held, money granted, whether it has expired, the next part of its event,
-- tokens and money charged, tokens held, and the lengths of the three strings that follow: the names of its scopes
-- (each followed by a zero byte), the first piece of its event, the piece of the last report. The rest is the piece up
-- to which it was billed.
--
-- Functions take everything as arguments: captured variables cost more time than the arithmetic.
local call, pack, read, sub = redis.call, struct.pack, struct.unpack, string.sub
local lease_format, lease_size = '<ddddddddddd', 88

-- A scope's state after a charge; its limits begin at `from`. `requests` count per minute, `lasting` per day and in
-- total.
local function charge(state, numbers, from, now, month, requests, lasting, tokens, money, held_tokens, held_money, running,
  read, pack)
  local rpm, rpd, _, tpm, tpd = read('<ddddd', numbers, from)
  local at, held, active, minute, day, total, tokens_minute, tokens_day, spent, reserved = now, 0, 0, 0, 0, 0, 0, 0, 0, 0
  if state then
    at, held, active, minute, day, total, tokens_minute, tokens_day, spent, reserved = read('<dddddddddd', state)
  end
  if at < month and now >= month then spent = 0 end
  local passed = now - at
  if passed > 0 then at = now else passed = 0 end
  if rpm > 0 then
    minute = minute - passed * rpm / 60e6
    minute = (minute > 0 and minute or 0) + requests
  else minute = 0 end
  if rpd > 0 then
    day = day - passed * rpd / 86400e6
    day = (day > 0 and day or 0) + lasting
    if day < 0 then day = 0 end
  else day = 0 end
  if tpm > 0 then
    tokens_minute = tokens_minute - passed * tpm / 60e6
    tokens_minute = (tokens_minute > 0 and tokens_minute or 0) + tokens
    if tokens_minute < 0 then tokens_minute = 0 end
  else tokens_minute = 0 end
  if tpd > 0 then
    tokens_day = tokens_day - passed * tpd / 86400e6
    tokens_day = (tokens_day > 0 and tokens_day or 0) + tokens
    if tokens_day < 0 then tokens_day = 0 end
  else tokens_day = 0 end
  total, spent = total + lasting, spent + money
  if total < 0 then total = 0 end
  if spent < 0 then spent = 0 end
  held, active, reserved = held + held_tokens, active + running, reserved + held_money
  return pack('<dddddddddd', at, held > 0 and held or 0, active > 0 and active or 0, minute, day, total,
    tokens_minute, tokens_day, spent, reserved > 0 and reserved or 0)
end

-- Changes what the scopes in a lease's record hold.
local function hold(key, names, tokens, money, running)
  for name in string.gmatch(names, '[^%z]+') do
    local state = redis.call('HGET', key, name)
    if state then
      local held, active = struct.unpack('<dd', state, 9)
      local reserved = struct.unpack('<d', state, 73)
      held, active, reserved = held + tokens, active + running, reserved + money
      redis.call('HSET', key, name, string.sub(state, 1, 8)
        .. struct.pack('<dd', held > 0 and held or 0, active > 0 and active or 0)
        .. string.sub(state, 25, 72) .. struct.pack('<d', reserved > 0 and reserved or 0))
    end
  end
end

-- Writes an event to the outbox; returns the id of the entry.
local function write(outbox, event, part, first, billed)
  if part == 0 then return redis.call('XADD', outbox, '*', 'e', event) end
  return redis.call('XADD', outbox, '*', 'e', event, 'p', part, 'b', first .. billed)
end

