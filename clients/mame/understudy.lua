-- Understudy for MAME: the protocol, the connection, and the loop of a game, in plain Lua 5.3/5.4.
--
--   local understudy = dofile(... .. "understudy.lua")
--   understudy.play(spec, function(game) ... one episode ... end)
--
-- protocol/SPEC.md is what is spoken. Everything that needs MAME is in `understudy.mame` and
-- `understudy.play`; the rest runs in any Lua, and tests/e2e/test_mame_lua.py runs it there.

local understudy = {
  PROTOCOL = 1,
  RUNNING = 0, TERMINATED = 1, TRUNCATED = 2,  -- status of a frame
  NOBODY = 0, DQN = 1, EXPERT = 2,             -- actor of an answer
  LONGEST = 64 * 1024 * 1024,                  -- bytes of a message; more is no understudy server
}

local byte, char, concat = string.byte, string.char, table.concat
local spack, sunpack = string.pack, string.unpack

-- ------------------------------------------------------------------------------------- msgpack

local function head(count, short, most, codes)
  if short and count <= most then return char(short | count) end
  if codes[1] and count < 0x100 then return spack(">BB", codes[1], count) end
  if count < 0x10000 then return spack(">BI2", codes[2], count) end
  return spack(">BI4", codes[3], count)
end

local function pack_int(n)
  if n >= 0 then
    if n < 0x80 then return char(n) end
    if n < 0x100 then return spack(">BB", 0xcc, n) end
    if n < 0x10000 then return spack(">BI2", 0xcd, n) end
    if n < 0x100000000 then return spack(">BI4", 0xce, n) end
    return spack(">Bi8", 0xcf, n)
  end
  if n >= -32 then return char(0x100 + n) end
  if n >= -0x80 then return spack(">Bi1", 0xd0, n) end
  if n >= -0x8000 then return spack(">Bi2", 0xd1, n) end
  if n >= -0x80000000 then return spack(">Bi4", 0xd2, n) end
  return spack(">Bi8", 0xd3, n)
end

local function pack_str(s) return head(#s, 0xa0, 31, {0xd9, 0xda, 0xdb}) .. s end
local function pack_bin(s) return head(#s, nil, 0, {0xc4, 0xc5, 0xc6}) .. s end

-- Msgpack of a number, a string, a boolean, nil, or a table that is a list of such. Numbers that
-- are integers to Lua travel as int, others as float64.
local function pack(value)
  local kind = math.type(value) or type(value)
  if kind == "integer" then return pack_int(value) end
  if kind == "float" then return spack(">Bd", 0xcb, value) end
  if kind == "string" then return pack_str(value) end
  if kind == "boolean" then return value and "\xc3" or "\xc2" end
  if kind == "nil" then return "\xc0" end
  if kind ~= "table" then error("a message cannot hold a " .. kind) end
  local parts = {head(#value, 0x90, 15, {nil, 0xdc, 0xdd})}
  for i = 1, #value do parts[i + 1] = pack(value[i]) end
  return concat(parts)
end

local unpack_value

local function unpack_many(s, at, count)
  local list = {n = count}
  for i = 1, count do list[i], at = unpack_value(s, at) end
  return list, at
end

local function unpack_map(s, at, count)
  local map = {}
  for _ = 1, count do
    local key, value
    key, at = unpack_value(s, at)
    value, at = unpack_value(s, at)
    if key ~= nil then map[key] = value end
  end
  return map, at
end

local function unpack_text(s, at, count)
  if at + count - 1 > #s then error("message cut short") end
  return s:sub(at, at + count - 1), at + count
end

local FORMS = {
  [0xca] = ">f", [0xcb] = ">d",
  [0xcc] = ">B", [0xcd] = ">I2", [0xce] = ">I4", [0xcf] = ">i8",
  [0xd0] = ">b", [0xd1] = ">i2", [0xd2] = ">i4", [0xd3] = ">i8",
}
local COUNTED = {
  [0xc4] = {">B", unpack_text}, [0xc5] = {">I2", unpack_text}, [0xc6] = {">I4", unpack_text},
  [0xd9] = {">B", unpack_text}, [0xda] = {">I2", unpack_text}, [0xdb] = {">I4", unpack_text},
  [0xdc] = {">I2", unpack_many}, [0xdd] = {">I4", unpack_many},
  [0xde] = {">I2", unpack_map}, [0xdf] = {">I4", unpack_map},
}

-- The value at a place of a string, and the place behind it. Lists have their length in `n`, for
-- they may hold nil; str and bin are both strings. Raises an error where there is no whole value.
function unpack_value(s, at)
  local code = byte(s, at)
  if not code then error("message cut short") end
  at = at + 1
  if code < 0x80 then return code, at end
  if code >= 0xe0 then return code - 0x100, at end
  if code >= 0xa0 and code < 0xc0 then return unpack_text(s, at, code & 31) end
  if code < 0x90 then return unpack_map(s, at, code & 15) end
  if code < 0xa0 then return unpack_many(s, at, code & 15) end
  if code == 0xc0 then return nil, at end
  if code == 0xc2 or code == 0xc3 then return code == 0xc3, at end
  if FORMS[code] then return sunpack(FORMS[code], s, at) end
  local counted = COUNTED[code]
  if not counted then error(string.format("unexpected msgpack code 0x%02x", code)) end
  local count
  count, at = sunpack(counted[1], s, at)
  return counted[2](s, at, count)
end

understudy.pack = pack
understudy.unpack = unpack_value

-- ------------------------------------------------------------------------------------ messages

local function framed(payload) return spack(">I4", #payload) .. payload end

-- An action: an integer for a discrete head, a number (or a list of numbers) for a continuous one.
local function pack_action(heads, action)
  local parts = {head(#heads, 0x90, 15, {nil, 0xdc, 0xdd})}
  for i, one in ipairs(heads) do
    local part = action[i]
    if one[1] == "discrete" then
      parts[i + 1] = pack_int(math.tointeger(part) or error(one[2] .. ": expected a whole number"))
    elseif type(part) == "table" then
      local numbers = {}
      for k = 1, #part do numbers[k] = part[k] + 0.0 end
      parts[i + 1] = pack(numbers)
    else
      parts[i + 1] = pack(part + 0.0)
    end
  end
  return concat(parts)
end

local KEYS = {"dtype", "shape", "name", "kind", "low", "high", "n", "channels"}

-- What the game shows: {dtype, shape}, or a list of tables with KEYS, one for each observation.
local function pack_observation(given)
  if type(given[1]) == "string" then return pack(given) end
  local all = {head(#given, 0x90, 15, {nil, 0xdc, 0xdd})}
  for _, one in ipairs(given) do
    local parts, count = {}, 0
    for _, key in ipairs(KEYS) do
      local value = one[key]
      if (key == "low" or key == "high") and value then value = value + 0.0 end
      if value ~= nil then
        count = count + 1
        parts[#parts + 1] = pack_str(key) .. pack(value)
      end
    end
    all[#all + 1] = char(0x80 | count) .. concat(parts)
  end
  return concat(all)
end

-- HELLO. `spec` has client, game, observation {dtype, shape} (or several: {{name =, dtype =,
-- shape =, and perhaps kind =, low =, high =, n =, channels =}, ...}), actions {heads}, and perhaps
-- rewards {names}, masks (true: frames say which choices are legal) and metrics {names of numbers
-- that frames tell}; `more` may have role, policy, explores, token, realtime, episodes and evaluates.
function understudy.hello(spec, more)
  local heads = {}
  for i, one in ipairs(spec.actions) do
    heads[i] = one[1] == "discrete" and {"discrete", one[2], one[3]}
      or {"continuous", one[2], one[3] + 0.0, one[4] + 0.0, one[5] or 1}
  end
  local fields = {
    {"protocol", understudy.PROTOCOL}, {"client", spec.client}, {"game", spec.game},
    {"observation", spec.observation}, {"actions", heads}, {"rewards", spec.rewards or {"reward"}},
    {"slots", 1}, {"role", more.role or "train"}, {"token", more.token},
    {"realtime", more.realtime or nil}, {"episodes", more.episodes}, {"evaluates", more.evaluates or nil},
    {"masks", spec.masks or nil}, {"metrics", spec.metrics},
    {"policy", more.policy}, {"explores", more.explores or nil},
  }
  local parts, count = {}, 0
  for _, field in ipairs(fields) do
    if field[2] ~= nil then
      count = count + 1
      local value = field[1] == "observation" and pack_observation(field[2]) or pack(field[2])
      parts[#parts + 1] = pack_str(field[1]) .. value
    end
  end
  return framed("\x92\x01" .. char(0x80 | count) .. concat(parts))
end

-- The bits of a mask: a boolean for each choice of each discrete head, one head behind the other.
function understudy.mask(legal)
  local parts = {}
  for i = 1, #legal, 8 do
    local bits = 0
    for k = i, math.min(i + 7, #legal) do
      if legal[k] then bits = bits | 1 << (k - i) end
    end
    parts[#parts + 1] = char(bits)
  end
  return concat(parts)
end

-- FRAME. `obs`: the tensor as bytes. `reward`: a number, or a list of them. `expert`: an action or
-- nil. `took`: {action, actor} or nil. `legal`: a list of booleans, bytes that `mask` made of one, or
-- nil. `metrics`: a list with a number, or false for none, for each declared name; or nil.
function understudy.frame(heads, slot, seq, obs, reward, status, expert, took, legal, metrics)
  local earned = reward
  if type(reward) == "table" then
    earned = {}
    for i = 1, #reward do earned[i] = reward[i] + 0.0 end
  else
    earned = reward + 0.0
  end
  local told = {}
  for i = 1, metrics and #metrics or 0 do
    told[i] = metrics[i] and pack(metrics[i] + 0.0) or "\xc0"
  end
  return framed(concat{
    char(0x98 + (metrics and 2 or legal and 1 or 0)) .. "\x02", pack_int(slot), pack_int(seq), pack_bin(obs), pack(earned), pack_int(status),
    expert and pack_action(heads, expert) or "\xc0",
    took and "\x92" .. pack_action(heads, took[1]) .. pack_int(took[2]) or "\xc0",
    legal and pack_bin(type(legal) == "table" and understudy.mask(legal) or legal)
      or metrics and "\xc0" or "",
    metrics and head(#told, 0x90, 15, {nil, 0xdc, 0xdd}) .. concat(told) or "",
  })
end

function understudy.ping(nonce) return framed("\x92\x04" .. pack(nonce)) end

function understudy.bye() return framed("\x91\x05") end

local TYPES = {
  [11] = {"WELCOME", "fields"},
  [12] = {"ACTION", "slot", "seq", "action", "actor", "policy_version", "explored"},
  [14] = {"PONG", "nonce"},
  [15] = {"ERROR", "code", "message", "retry"},
  [16] = {"SETTINGS", "settings"},
}

-- The message in a payload, as a table with `type` and its fields. Raises an error for what is no
-- message to a client that sends FRAME.
function understudy.decode(payload)
  local list, behind = unpack_value(payload, 1)
  local names = type(list) == "table" and TYPES[list[1]]
  if not names or list.n < #names or behind ~= #payload + 1 then
    error("expected a message of protocol 1; is this an understudy server?")
  end
  local message = {type = names[1]}
  for i = 2, #names do message[names[i]] = list[i] end
  return message
end

-- Bytes in, messages out, however they are split or glued.
function understudy.inbox()
  local waiting = ""
  local box = {}
  function box.add(data) waiting = waiting .. data end
  function box.next()
    if #waiting < 4 then return nil end
    local length = sunpack(">I4", waiting)
    if length < 1 or length > understudy.LONGEST then
      error("expected the length of a message, got " .. length .. "; is this an understudy server?")
    end
    if #waiting < 4 + length then return nil end
    local payload = waiting:sub(5, 4 + length)
    waiting = waiting:sub(5 + length)
    return understudy.decode(payload)
  end
  return box
end

local NUMBERS = {float32 = "<f", uint8 = "B", int32 = "<i4", int64 = "<i8", bool = "B"}

-- Numbers as the bytes of a tensor: "float32", "uint8", "int32", "int64" or "bool" (0 and 1).
function understudy.tensor(dtype, numbers)
  local form = NUMBERS[dtype] or error(dtype .. ": expected bytes, got numbers")
  local parts = {}
  for i = 1, #numbers, 100 do  -- a call takes so many arguments and no more
    local last = math.min(i + 99, #numbers)
    local order, each = form:match("(<?)(.+)")
    parts[#parts + 1] = spack(order .. each:rep(last - i + 1), table.unpack(numbers, i, last))
  end
  return concat(parts)
end

-- What the game shows as bytes: a list of numbers; of several observations a table that has for each
-- name a list of numbers, or bytes.
function understudy.shown(observation, obs)
  if type(observation[1]) == "string" then return understudy.tensor(observation[1], obs) end
  local parts = {}
  for i, one in ipairs(observation) do
    local part = obs[one.name] or error("obs: expected " .. one.name .. ", got none")
    parts[i] = type(part) == "table" and understudy.tensor(one.dtype, part) or part
  end
  return concat(parts)
end

-- ---------------------------------------------------------------------------------- connection

-- What `session` raises: tables with `kind`, `message` and, of the server's, `code`.
--   "reconnected"  the connection was lost and there is a new one: begin a new episode
--   "refused"      the server will say the same again (its code and words are in it)
--   "gone"         no server within `give_up_s`
local function failure(kind, message, code)
  return setmetatable({kind = kind, message = message, code = code},
    {__tostring = function(self) return self.message end})
end

-- A session that reconnects. `transport` has open(host, port) giving an object with read() (what
-- has arrived, "" for nothing), write(bytes) (false when the other side is gone) and close(); now()
-- in seconds; sleep(seconds); and `survives`, whether this program lives on when it writes to a
-- connection that is closed. `options`: host, port, role, policy and explores (with the role
-- play), token, realtime, episodes, evaluates, timeout_s, give_up_s.
function understudy.session(spec, options, transport)
  local self = {settings = {}, session = nil, server = nil}
  local timeout_s, give_up_s = options.timeout_s or 300, options.give_up_s or 60
  local wire, box, seq
  -- Episodes of evaluation that are left of those that were announced; nil for none.
  local evaluation = options.role == "eval" or options.role == "eval_expert"
  local left = evaluation and math.tointeger(options.episodes) or nil
  local under_way = false

  local function ended()
    left = left and left > 1 and left - 1 or nil
    under_way = false
  end

  local function drop()
    if wire then wire.close() end
    wire = nil
  end

  -- The next message that is not PONG or SETTINGS; nil and why when the connection is lost.
  local function receive()
    local start = transport.now()
    local ping = start + 1
    while true do
      local good, message = pcall(box.next)
      if not good then
        drop()
        error(failure("refused", tostring(message), "message_malformed"), 0)
      end
      if message and message.type == "SETTINGS" then
        for key, value in pairs(message.settings) do self.settings[key] = value end
      elseif message and message.type ~= "PONG" then
        return message
      elseif not message then
        local data = wire.read()
        if data ~= "" then
          box.add(data)
        else
          local now = transport.now()
          if now - start > timeout_s then return nil, "no answer within " .. timeout_s .. " s" end
          -- MAME reads nothing from a closed connection as it does from a silent one: write to it.
          if now > ping and transport.survives then
            ping = now + 1
            if not wire.write(understudy.ping(seq)) then return nil, "the server closed the connection" end
          end
          -- Answers come within a millisecond or two, and then to sleep would cost more.
          if now - start > 0.003 then transport.sleep(math.min(0.05, (now - start) / 4)) end
        end
      end
    end
  end

  -- What came is an ERROR: raise it if the same would come again, else say why to try again.
  local function refused(message)
    drop()
    local text = message.code .. ": " .. message.message
    if not message.retry then error(failure("refused", text, message.code), 0) end
    return text, message.code
  end

  -- One attempt: true, or nil and what went wrong.
  local function attempt()
    local opened, problem = transport.open(options.host, options.port)
    if not opened then return nil, problem end
    wire, box, seq = opened, understudy.inbox(), 0
    local hello = {role = options.role, token = options.token, realtime = options.realtime,
      evaluates = options.evaluates, episodes = left, policy = options.policy, explores = options.explores}
    if not wire.write(understudy.hello(spec, hello)) then
      drop()
      return nil, "the server closed the connection"
    end
    local message, why = receive()
    if not message then
      drop()
      return nil, why
    end
    if message.type == "ERROR" then return nil, (refused(message)) end
    if message.type ~= "WELCOME" then
      drop()
      error(failure("refused", "expected WELCOME, got " .. message.type, "message_malformed"), 0)
    end
    self.session, self.server = message.fields.session, message.fields.server
    for key, value in pairs(message.fields.settings or {}) do self.settings[key] = value end
    return true
  end

  -- Connect, trying again after 0.1 s, twice that, and so on up to 5 s, with a random part so that
  -- many games which lost one server do not all come back in the same instant.
  local function establish(problem)
    local wait, first = 0.1, nil
    while true do
      if problem then
        first = first or transport.now()
        local pause = wait * (0.5 + math.random() / 2)
        if transport.now() + pause - first > give_up_s then
          error(failure("gone", string.format("no understudy server at %s:%d within %g s; the last problem: %s",
            options.host, options.port, give_up_s, problem)), 0)
        end
        transport.sleep(pause)
        wait = math.min(2 * wait, 5)
      end
      local good
      good, problem = attempt()
      if good then return end
    end
  end

  -- With the code episode_limit the server has cut an episode of evaluation: it is not played again.
  local function back(problem, code)
    drop()
    if code == "episode_limit" and under_way then ended() end
    under_way = false
    establish(problem)
    error(failure("reconnected", "session " .. self.session .. " after: " .. problem, code), 0)
  end

  -- Send one frame and wait for its answer: a table with action, actor, policy_version, explored.
  -- `legal`: of a spec with masks, a list of booleans as `mask` takes it; nil says all are legal.
  -- `metrics`: {name = number} of the spec's metrics, or nil.
  function self.act(obs, reward, status, expert, took, legal, metrics)
    local told = metrics and {}
    for i, name in ipairs(metrics and spec.metrics or {}) do told[i] = metrics[name] or false end
    if type(obs) == "table" then obs = understudy.shown(spec.observation, obs) end
    local frame = understudy.frame(spec.actions, 0, seq, obs, reward, status, expert, took, legal, told)
    if not wire.write(frame) then
      -- A server that refuses says why before it closes.
      local last = receive()
      if last and last.type == "ERROR" then back(refused(last)) end
      back("the server closed the connection")
    end
    local answer, why = receive()
    if not answer then back(why) end
    if answer.type == "ERROR" then back(refused(answer)) end
    if answer.type ~= "ACTION" or answer.seq ~= seq then
      drop()
      error(failure("refused", "expected ACTION for frame " .. seq .. ", got another message"), 0)
    end
    seq = seq + 1
    if status == understudy.RUNNING then under_way = true elseif under_way then ended() end
    return answer
  end

  function self.close()
    if wire then wire.write(understudy.bye()) end
    drop()
  end

  establish(nil)
  return self
end

-- ---------------------------------------------------------------------------------------- MAME

-- MAME's own sockets. A write takes all or fails; reading never waits.
understudy.mame = {}

function understudy.mame.open(host, port)
  local file = emu.file("rw")
  local problem = file:open("socket." .. host .. ":" .. port)
  if problem then return nil, tostring(problem) end
  return {
    read = function() return file:read(65536) or "" end,
    write = function(data) return file:write(data) == #data end,
    close = function() file = nil; collectgarbage() end,  -- MAME closes a file with its last holder
  }
end

-- Whether the emulation keeps to the clock of the arcade machine, as it does for a person. With
-- -nothrottle it runs as fast as it can, and can wait.
function understudy.mame.throttled()
  local good, throttled = pcall(function() return manager.machine.video.throttled end)
  return good and throttled == true
end

-- A process that writes to a closed connection is sent SIGPIPE, and ends of it unless whoever started
-- it had it ignored. Linux tells; elsewhere it is not known.
local function ignores_sigpipe()
  local status = io.open("/proc/self/status")
  local mask = status and status:read("a"):match("SigIgn:%s*(%x+)")
  if status then status:close() end
  return mask ~= nil and tonumber(mask:sub(-4), 16) & 0x1000 ~= 0
end

understudy.mame.survives = ignores_sigpipe()

function understudy.mame.now() return emu.osd_ticks() / emu.osd_ticks_per_second() end

-- Lua cannot sleep. Where there is a command that can, it keeps a core free for others.
local POSIX = package.config:sub(1, 1) == "/"
function understudy.mame.sleep(seconds)
  local stop = understudy.mame.now() + seconds
  if POSIX and os.execute(string.format("sleep %.3f", seconds)) then return end
  while understudy.mame.now() < stop do end
end

-- Whether somebody holds a button of the machine, whatever was set by set_value. `kind`: "standard",
-- or of a knob "increment" or "decrement".
function understudy.mame.pressed(field, kind)
  return manager.machine.input:seq_pressed(field:input_seq(kind or "standard"))
end

-- How far somebody turns a knob now, by keys, mouse or stick: -1 to 1, 0 for not at all. 1 is the way
-- in which its value rises.
function understudy.mame.turned(field)
  local input, pressed = manager.machine.input, understudy.mame.pressed
  local turn = (pressed(field, "increment") and 1 or 0) - (pressed(field, "decrement") and 1 or 0)
  for token in input:seq_to_tokens(field:input_seq("standard")):gmatch("%S+") do
    if token:find("AXIS") then turn = turn + input:code_value(input:code_from_token(token)) / 65536 end
  end
  return math.abs(turn) < 0.1 and 0 or understudy.clip(turn, 1)
end

-- ------------------------------------------------------------------------------- a game's loop

-- A person at the controls: a function that gives what the person does now, or nil where nobody is
-- there. `read`: the action of the real controls while somebody touches them, else nil. `still`: the
-- action for when they are left alone; after `give_back_s` seconds of that, nobody is there any more.
function understudy.person(read, still, give_back_s, now)
  local touched = -math.huge
  return function()
    local wish = read()
    if wish then touched = now() end
    if now() - touched < give_back_s then return wish or still end
  end
end

-- A random action for these heads: what play at random, and a weakened expert, do. `legal`: a list of
-- booleans as `mask` takes it, each head with a legal choice; nil says all are legal.
function understudy.random_action(heads, legal)
  local action, behind = {}, 0
  for i, one in ipairs(heads) do
    if one[1] == "discrete" then
      local choices = {}
      for k = 0, one[3] - 1 do
        if not legal or legal[behind + k + 1] then choices[#choices + 1] = k end
      end
      action[i] = choices[math.random(#choices)]
      behind = behind + one[3]
    else
      local numbers = {}
      for k = 1, one[5] or 1 do numbers[k] = one[3] + (one[4] - one[3]) * math.random() end
      action[i] = #numbers == 1 and numbers[1] or numbers
    end
  end
  return action
end

-- For games with a ball and a paddle: `value` within -most and most; `at` between two walls, where
-- what would be beyond one is reflected by it; and what lies at `x` on a line through some points
-- {x, y}, with x rising, for knobs that were measured at some places.
function understudy.clip(value, most) return math.max(-most, math.min(most, value)) end

function understudy.reflected(at, low, high)
  at = (at - low) % (2 * (high - low))
  return low + math.min(at, 2 * (high - low) - at)
end

function understudy.line(points, x)
  for i = 2, #points do
    local a, b = points[i - 1], points[i]
    if x <= b[1] or i == #points then
      local part = math.max(0, math.min(1, (x - a[1]) / (b[1] - a[1])))
      return a[2] + (b[2] - a[2]) * part
    end
  end
end

-- What the environment says: UNDERSTUDY_HOST, _PORT, _TOKEN, _ROLE, _WEAKEN, _SEED, _EPISODES,
-- _GIVE_UP_S, _GIVE_BACK_S, _LOG; see clients/mame/README.md.
function understudy.options()
  local function env(name, otherwise)
    local value = os.getenv("UNDERSTUDY_" .. name)
    return value ~= nil and value ~= "" and value or otherwise
  end
  local function number(name, otherwise)
    local text = env(name)
    if not text then return otherwise end
    return tonumber(text) or error("UNDERSTUDY_" .. name .. ": expected a number, got " .. text, 0)
  end
  local options = {
    host = env("HOST", "127.0.0.1"), port = math.tointeger(number("PORT", 7777)),
    token = env("TOKEN"), role = env("ROLE", "train"), policy = env("POLICY"), weaken = number("WEAKEN", 0),
    give_back_s = number("GIVE_BACK_S", 2),
    seed = math.tointeger(number("SEED", os.time())), episodes = number("EPISODES", math.huge),
    give_up_s = number("GIVE_UP_S", 60), log = env("LOG"),
  }
  if not ({train = true, eval = true, eval_expert = true, play = true})[options.role] then
    error("UNDERSTUDY_ROLE: expected train, eval, eval_expert or play, got " .. options.role, 0)
  end
  return options
end

local function say(text) io.stderr:write("understudy: ", text, "\n") end

-- Play `episode(game)` again and again, in a coroutine that each emulated frame resumes. It gets
--
--   game.act(obs, reward, status, expert, took, legal, metrics)   as session.act; with a status other than 0
--                                                 it was the episode's last frame: return then
--   game.wait(n)                                  let n frames pass
--   game.press(field, n)                          hold a button of MAME's for n frames
--   game.settings                                 what the operator set
--   game.person(read, still)                      somebody may take over by the real controls: see
--                                                 understudy.person. act then answers with what the
--                                                 person does, and tells the server with `took`
--
-- When the connection was lost and is back, act ends the episode by itself. What ended is printed
-- as a line of JSON for each episode (with "cut" where the server's limit ended it), and {"done": true} when UNDERSTUDY_EPISODES are played. Then,
-- and when the server refuses or is gone, MAME exits.
function understudy.play(spec, episode)
  local options = understudy.options()
  options.realtime = understudy.mame.throttled()
  local log = options.log and assert(io.open(options.log, "a"))
  if log then log:setvbuf("line") end
  local frames = 0

  local function run()
    local session = understudy.session(spec, options, understudy.mame)
    if not understudy.mame.survives then
      say("if the server dies, so will this MAME: it has to be started with SIGPIPE ignored (in a shell: trap '' PIPE)")
    end
    say(string.format("%s plays on %s as %s, session %d", spec.game, session.server, options.role, session.session))
    local score, acts, actors, by_person
    local person, instead  -- instead: what the person did on the frame before
    local game = {settings = session.settings}

    function game.person(read, still)
      person = understudy.person(read, still, options.give_back_s, understudy.mame.now)
    end

    function game.wait(n)
      for _ = 1, n do coroutine.yield() end
    end

    function game.press(field, n)
      field:set_value(1)
      game.wait(n)
      field:set_value(0)
    end

    function game.act(obs, reward, status, expert, took, legal, metrics)
      local wish = nil
      if person and options.role == "train" and status == understudy.RUNNING then wish = person() end
      if wish then expert = nil end  -- a script does not recommend beside a person
      if options.role == "eval" or options.role == "play" then
        expert = nil  -- the network alone asks nobody
      elseif expert and math.random() < options.weaken then
        expert = understudy.random_action(spec.actions, legal)
      end
      local answer = session.act(obs, reward, status, expert, took or instead, legal, metrics)
      instead = nil
      if wish then
        answer.action, answer.actor = wish, understudy.EXPERT
        instead = {wish, understudy.EXPERT}
        by_person = by_person + 1
      end
      if acts > 0 then
        for _, part in ipairs(type(reward) == "table" and reward or {reward}) do score = score + part end
      end
      if answer.action then
        acts = acts + 1
        actors[answer.actor] = actors[answer.actor] + 1
      end
      if log then
        local parts = {}
        for i, part in ipairs(answer.action or {}) do
          parts[i] = type(part) == "table" and concat(part, " ") or string.format("%.9g", part)
        end
        log:write(string.format("%d %d %d %s\n", session.session, answer.seq, answer.actor, concat(parts, " ")))
      end
      return answer
    end

    local played = 0
    while played < options.episodes do
      math.randomseed(options.seed + played)
      score, acts, actors, by_person = 0, 0, {0, 0}, 0
      person, instead = nil, nil
      local begin = frames
      local good, problem = xpcall(episode, function(e)
        return type(e) == "table" and e or debug.traceback(e)
      end, game)
      local back = type(problem) == "table" and problem.kind == "reconnected"
      local cut = not good and back and problem.code == "episode_limit" and acts > 0
      if not good and back then say(problem.message) end
      if good or cut then
        played = played + 1
        print(string.format('{"episode": %d, "return": %g, "acts": %d, "dqn": %d, "expert": %d, "person": %d, "frames": %d%s}',
          played - 1, score, acts, actors[1], actors[2], by_person, frames - begin, cut and ', "cut": true' or ""))
        io.stdout:flush()
      elseif not back then
        error(problem, 0)
      end
    end
    session.close()
    print('{"done": true}')
    io.stdout:flush()
  end

  local routine = coroutine.create(run)
  -- Kept in the table: what nobody holds is not called.
  understudy.resume = function()
    frames = frames + 1
    if coroutine.status(routine) ~= "suspended" then return end
    local good, problem = coroutine.resume(routine)
    if not good then say(tostring(problem)) end
    if coroutine.status(routine) == "dead" then manager.machine:exit() end
  end
  emu.register_frame_done(understudy.resume)
end

return understudy
