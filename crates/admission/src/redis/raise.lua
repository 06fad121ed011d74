-- Changes the money that a lease holds to the wanted amount, or to the rest of the budgets if that is less.
--
-- KEYS: 1 account.
-- ARGV: 1 doubles: clock offset, 0, 0, money, least money, shadow, start of the month; then the seven limits of each
--       scope (0: none). 2 field of the lease, 3 and 4 fields of the scopes (none, one or two).
-- Returns doubles: 1: changed, 0: too little is left and nothing was changed, -1: the lease does not exist; now, money
-- granted; then the ten of each scope, after the change, or without what the lease holds.
local call, pack, read, sub = redis.call, struct.pack, struct.unpack, string.sub
local numbers, field, one, two = unpack(ARGV)
local offset, _, _, money, least, shadow, month = read('<ddddddd', numbers)
local time = call('TIME')
local now = time[1] * 1000000 + time[2] + offset
local key = KEYS[1]
local lease = call('HGET', key, field)
if not lease then return pack('<ddd', -1, now, 0) end
local due, held, _, expired = read('<dddd', lease)
if expired == 1 then return pack('<ddd', -1, now, 0) end

-- A scope's state, its money spent, its money held by others, and its budget.
local function look(name, from)
  local state = call('HGET', key, name) or string.rep('\0', 80)
  local at = read('<d', state)
  local spent, reserved = read('<dd', state, 65)
  if at < month and now >= month then spent = 0 end
  reserved = reserved - held
  if reserved < 0 then reserved = 0 end
  local budget = read('<d', numbers, from + 48)
  return state, spent, reserved, budget
end

local granted = money
local state, spent, reserved, budget, state_two, spent_two, reserved_two, budget_two
if one then
  state, spent, reserved, budget = look(one, 57)
  if budget > 0 and budget - spent - reserved < granted then granted = budget - spent - reserved end
end
if two then
  state_two, spent_two, reserved_two, budget_two = look(two, 113)
  if budget_two > 0 and budget_two - spent_two - reserved_two < granted then
    granted = budget_two - spent_two - reserved_two
  end
end
if shadow ~= 0 then granted = money end
local admitted = granted >= least and 1 or 0
local more = admitted == 1 and granted or 0
if one then state = sub(state, 1, 72) .. pack('<d', reserved + more) end
if two then state_two = sub(state_two, 1, 72) .. pack('<d', reserved_two + more) end
if admitted == 1 then
  lease = pack('<ddd', due, granted, granted) .. sub(lease, 25)
  if two then call('HSET', key, field, lease, one, state, two, state_two)
  elseif one then call('HSET', key, field, lease, one, state)
  else call('HSET', key, field, lease) end
end
return pack('<ddd', admitted, now, more) .. (state or '') .. (state_two or '')
