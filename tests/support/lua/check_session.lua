-- The Lua client's session on a connection and a clock that are made up here: what it does when the
-- server is away, silent, or refuses. lua check_session.lua CLIENT

local understudy = dofile(arg[1])
math.randomseed(1)

local SPEC = {client = "check/1", game = "check", observation = {"float32", {1}},
  actions = {{"discrete", "go", 2}}}

local function framed(payload) return string.pack(">I4", #payload) .. payload end
local WELCOME = framed("\x92\x0b\x82\xa7session\x05\xa8settings\x81\xa5level\x03")
local SETTINGS = framed("\x92\x10\x81\xa5speed\x02")
local PONG = framed("\x92\x0e\xc0")
local function ACTION(seq) return framed("\x97\x0c\0" .. understudy.pack(seq) .. "\x91\1\2\0\xc2") end
local function ERROR(retry) return framed("\x94\x0f" .. understudy.pack("some_code") .. understudy.pack("words") .. understudy.pack(retry)) end

-- A transport: each connection is a function that is given what is written, and returns what then
-- arrives, or false for a connection that is gone; false instead of a connection refuses it.
local function transport(...)
  local scripts, made = {...}, 0
  local clock = 1000
  local t = {sleeps = {}, written = {}, survives = true}
  function t.now() return clock end
  function t.sleep(s)
    clock = clock + s
    t.sleeps[#t.sleeps + 1] = s
  end
  function t.open()
    made = made + 1
    t.opened = made
    local script = scripts[math.min(made, #scripts)]
    if not script then return nil, "Connection refused" end
    local waiting, gone, writes = "", false, 0
    return {
      read = function()
        clock = clock + 0.001  -- a look takes time too
        local data = waiting
        waiting = ""
        return data
      end,
      write = function(data)
        if gone then return false end
        writes = writes + 1
        t.written[#t.written + 1] = data
        local answer = script(data, writes)
        if answer == false then gone = true return false end
        waiting = waiting .. answer
        return true
      end,
      close = function() t.closed = (t.closed or 0) + 1 end,
    }
  end
  return t
end

local function check(name, good, got)
  if not good then error(name .. ": got " .. tostring(got), 0) end
  print(name)
end

local function begin(t, more)
  local options = {host = "nowhere", port = 1, give_up_s = 60, timeout_s = 10}
  for key, value in pairs(more or {}) do options[key] = value end
  return understudy.session(SPEC, options, t)
end

local function failing(f, ...)
  local good, problem = pcall(f, ...)
  return not good and type(problem) == "table" and problem or {kind = "none", message = tostring(problem)}
end

local function playing(_, n) return n == 1 and WELCOME or ACTION(n - 2) end

-- Announced episodes: what is left is announced again, without an episode that a limit has cut.
do
  local LIMIT = framed("\x94\x0f" .. understudy.pack("episode_limit") .. understudy.pack("words") .. "\xc3")
  local function cut(_, n) return n == 1 and WELCOME or n < 5 and ACTION(n - 2) or LIMIT end
  local function lost(_, n) return n == 1 and WELCOME or n < 3 and ACTION(n - 2) end
  local t = transport(cut, lost, playing)
  local s = begin(t, {role = "eval", episodes = 5})
  local function announced(text) return text:find("episodes" .. understudy.pack(tonumber(s.wanted)), 1, true) end
  s.wanted = 5
  check("announced", announced(t.written[1]), t.written[1])
  s.act({0.5}, 0, 0)
  s.act({0.5}, 0, 1)
  s.act({0.5}, 0, 0)
  local problem = failing(s.act, {0.5}, 0, 0)
  check("cut kind", problem.kind == "reconnected", problem.message)
  check("cut code", problem.code == "episode_limit", problem.code)
  s.wanted = 3
  check("announced less one played and one cut", announced(t.written[#t.written]), t.written[#t.written])
  s.act({0.5}, 0, 0)
  problem = failing(s.act, {0.5}, 0, 0)
  check("lost kind", problem.kind == "reconnected" and problem.code == nil, problem.code)
  check("announced again", announced(t.written[#t.written]), t.written[#t.written])
end

do
  local t = transport(playing)
  begin(t, {role = "train", episodes = 5})
  check("training announces nothing", not t.written[1]:find("episodes", 1, true), t.written[1])
end

do
  local t = transport(playing)
  local s = begin(t)
  check("session", s.session == 5, s.session)
  check("settings", s.settings.level == 3, s.settings.level)
  for seq = 0, 200 do
    local answer = s.act({0.5}, 0, 0)
    check("answer " .. seq, answer.seq == seq and answer.action[1] == 1 and answer.actor == 2, answer.seq)
  end
  local frame = t.written[3]
  check("frame", frame == understudy.frame(SPEC.actions, 0, 1, string.pack("<f", 0.5), 0, 0), #frame)
  s.close()
  check("bye", t.written[#t.written] == understudy.bye() and t.closed == 1, t.closed)
end

do  -- SETTINGS and PONG in between
  local t = transport(function(_, n)
    return n == 1 and SETTINGS .. WELCOME or PONG .. SETTINGS .. ACTION(0)
  end)
  local s = begin(t)
  s.act({0}, 0, 0)
  check("settings are gathered", s.settings.level == 3 and s.settings.speed == 2, s.settings.speed)
end

do  -- away at first: waits grow to 5 s, each in the upper half
  local t = transport(false, false, false, false, false, false, false, false, false, playing)
  begin(t)
  check("attempts", t.opened == 10, t.opened)
  local limit = 0.1
  for i = 1, 9 do
    check("wait " .. i, t.sleeps[i] >= limit / 2 and t.sleeps[i] <= limit, t.sleeps[i])
    limit = math.min(5, 2 * limit)
  end
  check("they differ", t.sleeps[8] ~= t.sleeps[9] and t.sleeps[1] ~= 0.1, t.sleeps[9])
end

do  -- away for good
  local t = transport(false)
  local problem = failing(begin, t)
  check("gone", problem.kind == "gone" and problem.message:find("Connection refused"), problem.message)
  check("gave up in time", t.now() < 1000 + 60 and t.now() > 1000 + 50, t.now())
end

do  -- lost in the middle: a new session, seq from 0
  local lost = false
  local t = transport(function(_, n)
    if n == 4 then return false end
    return playing(_, n)
  end, playing)
  local s = begin(t)
  s.act({0}, 0, 0)
  s.act({0}, 0, 0)
  local problem = failing(s.act, {0}, 0, 0)
  check("reconnected", problem.kind == "reconnected" and t.opened == 2, problem.message)
  check("from 0", s.act({0}, 0, 0).seq == 0, "another seq")
end

do  -- silent: asked with PING once a second, then given up as lost
  local t = transport(function(_, n) return n == 1 and WELCOME or "" end, playing)
  local s = begin(t)
  local problem = failing(s.act, {0}, 0, 0)
  check("silent", problem.kind == "reconnected" and problem.message:find("no answer within 10 s"), problem.message)
  local pings = 0
  for _, data in ipairs(t.written) do if data == understudy.ping(0) then pings = pings + 1 end end
  check("pings", pings >= 8 and pings <= 10, pings)
end

do  -- the same where a write might be the end: nothing is written
  local t = transport(function(_, n) return n == 1 and WELCOME or "" end, playing)
  t.survives = false
  local s = begin(t)
  check("silent again", failing(s.act, {0}, 0, 0).kind == "reconnected", "nothing")
  check("no pings", #t.written == 3, #t.written)
end

do  -- gone without a word: the PING shows it, long before the time is up
  local t = transport(function(data, n)
    if data == understudy.ping(0) then return false end
    return n == 1 and WELCOME or ""
  end, playing)
  local s = begin(t)
  local start = t.now()
  check("noticed", failing(s.act, {0}, 0, 0).kind == "reconnected", "nothing")
  check("soon", t.now() - start < 2, t.now() - start)
end

do  -- refused for good: said with the code, and not tried again
  for _, script in ipairs{
    function() return ERROR(false) end,
    function(_, n) return n == 1 and WELCOME or ERROR(false) end,
  } do
    local t = transport(script)
    local problem = failing(function() begin(t).act({0}, 0, 0) end)
    check("refused", problem.kind == "refused" and problem.code == "some_code", problem.message)
    check("once", t.opened == 1 and t.closed == 1, t.opened)
  end
end

do  -- refused for now
  local t = transport(function() return ERROR(true) end, playing)
  begin(t)
  check("tried again", t.opened == 2 and #t.sleeps == 1, t.opened)
end

do  -- an answer to another frame, and no understudy server at all
  local t = transport(function(_, n) return n == 1 and WELCOME or ACTION(7) end)
  check("another frame's", failing(begin(t).act, {0}, 0, 0).kind == "refused", "taken")
  check("no server", failing(begin, transport(function() return "HTTP/1.1 400 Bad Request\r\n" end)).kind == "refused", "taken")
end
