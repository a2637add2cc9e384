-- A game whose connection is its own stdin and stdout, so that the Lua client can talk to a real
-- server without MAME: lua play_stdio.lua CLIENT FRAMES. Logs each answer to stderr.

local understudy = dofile(arg[1])
io.stdin:setvbuf("no")
io.stdout:setvbuf("no")

local transport = {
  now = os.time,
  sleep = function() error("nothing to wait for: reading waits") end,
  open = function()
    return {
      read = function() return io.read(1) or error("the server is gone", 0) end,
      write = function(data) return io.write(data) and true end,
      close = function() end,
    }
  end,
}

local heads = {{"continuous", "aim", -1, 1, 2}, {"discrete", "fire", 3}}
local session = understudy.session({client = "stdio/1", game = "stdio",
  observation = {"float32", {3}}, actions = heads, rewards = {"score", "lives"}},
  {host = "", port = 0, role = "train"}, transport)

math.randomseed(1)
local status, took = 0, nil
for frame = 0, tonumber(arg[2]) - 1 do
  status = frame % 50 == 49 and 1 + frame // 50 % 2 or 0
  local obs = {math.random(), math.random(), math.random()}
  local recommended = understudy.random_action(heads)
  local answer = session.act(obs, {math.random(), -1}, status, recommended, took)
  local action = answer.action
  if answer.actor == 2 then
    -- The expert's answer is what it recommended, to the precision of float32.
    assert(math.abs(action[1][1] - recommended[1][1]) < 1e-6 and action[2] == recommended[2])
  end
  local row = action and string.format("%.9g %.9g %d", action[1][1], action[1][2], action[2]) or ""
  io.stderr:write(string.format("%d %d %d %s\n", session.session, answer.seq, answer.actor, row))
end
session.close()
