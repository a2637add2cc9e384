-- Returning balls in Breakout, a point for each: a whole client in 50 lines.
local here = debug.getinfo(1, "S").source:match("^@(.*[/\\])") or ""
local understudy = dofile(here .. "understudy.lua")

local machine = manager.machine
local screen, ports = machine.screens[":screen"], machine.ioport.ports
local buttons, knob = ports[":IN0"].fields, ports[":PADDLE0"].fields["Paddle"]

-- The state, out of the picture: 1440 columns and 228 rows of four bytes a pixel. The ball is the
-- first bright pixel between the bricks (column 500) and the paddle (column 1308).
local function ball()
  local picture = screen:pixels()
  for row = 4, 223, 3 do
    local from = (row * 1440 + 500) * 4 + 1
    local at = picture:find("\xea", from, true)
    if at and at < from + 800 * 4 then return 500 + (at - from) // 4, row end
  end
end

-- One episode: start a game, then send a frame, do what is answered, and so on until it is over.
local function episode(game)
  game.press(buttons["Antenna"], 3)  -- ends the game that is
  game.wait(math.random(40))         -- so that no two begin alike
  game.press(buttons["Coin 1"], 3)
  game.wait(4)
  game.press(buttons["1 Player Start"], 3)
  game.wait(6)
  game.press(buttons["P1 Button 1"], 30)
  local column, row, before, above = 900, 114, 900, 114
  local reward, status = 0, understudy.RUNNING
  for acts = 1, 300 do
    local obs = {(column - 900) / 400, (row - 114) / 110, (column - before) / 50, (row - above) / 20}
    local expert = {understudy.clip((114 - row) / 110, 1)}
    local answer = game.act(obs, reward, status, expert)
    if status ~= understudy.RUNNING then return end
    knob:set_value(math.floor(128 + 115 * answer.action[1]))
    game.wait(6)  -- frames of the emulator for each one of ours
    local fell = column > before
    before, above = column, row
    local there, across = ball()
    reward = there and fell and column > 1100 and there < column and 1 or 0
    if not there and fell and column > 1200 then status = understudy.TERMINATED end  -- it is lost
    if acts == 299 then status = understudy.TRUNCATED end  -- cut short: it could have gone on
    column, row = there or column, across or row
  end
end

understudy.play({client = "example/1", game = "returning-balls", rewards = {"returned"},
  observation = {"float32", {4}}, actions = {{"continuous", "knob", -1, 1, 1}}}, episode)
