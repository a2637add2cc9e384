-- Pong (Atari 1972) in MAME, played through an understudy server: `mame pong`, otherwise as
-- breakout.lua says. The paddle on the left is played; the other one follows the ball by itself,
-- too slowly for steep balls.
--
-- An episode begins in front of the machine: a coin starts it. It lasts POINTS points, its return
-- is those won minus those lost. It ends in a truncation, for the game would go on. The heads:
-- `paddle`, how far and which way it goes, and `coin`. The pauses before each serve are not shown.

local here = debug.getinfo(1, "S").source:match("^@(.*[/\\])") or ""
local understudy = dofile(here .. "understudy.lua")

local SKIP = 6         -- emulated frames for each act
local LOOK = 3         -- of those, the last ones in which the ball's velocity is measured
local POINTS = 3
local MOST_ACTS = 300  -- 30 seconds of play
local STRIDE = 20      -- rows that the paddle moves in one act, at most
local OTHER = 8        -- rows that the other one does

local WIDTH = 1552
local TOP, BOTTOM = 2, 237         -- rows that the ball's middle can be on
local LEFT, RIGHT = 239, 1234      -- columns of the ball's edge when a paddle returns it
local MIDDLE = (TOP + BOTTOM) / 2
local HIGHEST, LOWEST = 17, 224    -- rows that a paddle's middle can be on

-- Where the ball can be: columns beside the paddles and the net, which are as white as it is. (The
-- numbers are grey.)
local FIELDS = {{100, 224}, {239, 736}, {740, 1247}, {1262, 1450}}

-- The value of a knob that puts a paddle's middle on a row, measured: {row, value}.
local KNOB = {
  {16.5, 217}, {23.5, 210}, {39, 195}, {51.5, 180}, {64.5, 165}, {79.5, 150}, {95.5, 135},
  {111.5, 120}, {127.5, 105}, {149.5, 90}, {168, 75}, {193.5, 60}, {224.5, 45},
}

local machine = manager.machine
local screen = machine.screens[":screen"]
local ports = machine.ioport.ports
local buttons = ports[":IN0"].fields
local knobs = {ports[":PADDLE0"].fields["Paddle"], ports[":PADDLE1"].fields["Paddle 2"]}

local function pixel(column, row) return (row * WIDTH + column) * 4 + 1 end

-- Left edge and middle row of the ball; nil while there is none.
local function ball_in(picture)
  for row = 1, 238, 3 do
    for _, field in ipairs(FIELDS) do
      local at = picture:find("\xff\xff", pixel(field[1], row), true)
      if at and at < pixel(field[2], row) then
        local column = (at - 1) // 4 % WIDTH
        local last = row  -- it is four rows high, and this is the first or second of them
        while picture:byte(pixel(column + 4, last + 1)) == 0xff do last = last + 1 end
        return column, last - 1.5
      end
    end
  end
end

local function move_to(which, row)
  knobs[which]:set_value(math.floor(understudy.line(KNOB, row) + 0.5))
end

local function within(row) return math.max(HIGHEST, math.min(LOWEST, row)) end

-- Let the pause before a serve pass; the ball as it then is, or nil where none comes.
local function await_ball(game)
  for _ = 1, 300 do
    local column, row = ball_in(screen:pixels())
    if column then return column, row end
    game.wait(1)
  end
end

-- The action of the machine's own controls, while somebody touches them. The knob's value rises
-- against the rows.
local function controls()
  local turn, coin = understudy.mame.turned(knobs[1]), understudy.mame.pressed(buttons["Coin 1"])
  if turn ~= 0 or coin then return {-turn, coin and 1 or 0} end
end

local function episode(game)
  game.person(controls, {0, 0})
  game.press(buttons["Antenna"], 3)  -- static ends the game that is: nobody has paid
  game.wait(3 + math.random(0, 40))  -- where the ball is served from depends on when
  local place, other = math.random(HIGHEST, LOWEST), MIDDLE
  move_to(1, place)
  move_to(2, other)

  local column, row, columns, rows = (LEFT + RIGHT) / 2, MIDDLE, 0, 0
  local started, aim, points = false, 0, 0
  local reward, status = 0, understudy.RUNNING

  for acts = 0, MOST_ACTS do
    local comes = columns < 0
    local meets = comes and understudy.reflected(row + rows * (LEFT - column) / columns, TOP, BOTTOM) or row
    local obs = {
      (column - 736) / 500, (row - MIDDLE) / 120, columns / 10, rows / 4, (place - MIDDLE) / 105,
      (other - MIDDLE) / 105, understudy.clip((meets - place) / 40, 2), started and 1 or 0,
    }
    -- Off the middle, so that the ball goes back at an angle: another one each time.
    if not comes then aim = math.random(-4, 4) end
    local target = comes and meets + aim or MIDDLE
    local move = understudy.clip((target - place) / STRIDE, 1)
    local answer = game.act(obs, reward, status, {move, started and 0 or 1})
    if status ~= understudy.RUNNING then return end

    place = within(place + STRIDE * answer.action[1])
    move_to(1, place)
    if columns > 0 then other = within(other + understudy.clip(row - other, OTHER)) end
    move_to(2, other)
    reward = 0
    if not started and answer.action[2] == 1 then
      game.press(buttons["Coin 1"], 3)
      game.wait(5)
      column, row = await_ball(game)
      if not column then error("no ball came after the coin") end
      started, columns, rows = true, 0, 0
    elseif not started then
      game.wait(SKIP)
    else
      game.wait(SKIP - LOOK)
      local column_before, row_before = ball_in(screen:pixels())
      game.wait(LOOK)
      local column_now, row_now = ball_in(screen:pixels())
      if column_now and column_before then
        columns, rows = (column_now - column_before) / LOOK, (row_now - row_before) / LOOK
        column, row = column_now, row_now
      elseif not column_now and (column < LEFT or column > RIGHT) then
        reward = column < LEFT and -1 or 1
        points = points + 1
        column, row = (LEFT + RIGHT) / 2, MIDDLE
        if points < POINTS then column, row = await_ball(game) end
        if not column then error("no ball came after a point") end
        columns, rows = 0, 0
      else  -- on a paddle, the net or a wall: where it should be
        column = column_now or column + SKIP * columns
        row = row_now or understudy.reflected(row + SKIP * rows, TOP, BOTTOM)
      end
    end
    if points == POINTS or acts + 1 == MOST_ACTS then status = understudy.TRUNCATED end
  end
end

understudy.play({
  client = "mame-pong/1",
  game = "mame-pong",
  observation = {"float32", {8}},
  actions = {{"continuous", "paddle", -1, 1, 1}, {"discrete", "coin", 2}},
  rewards = {"point"},
}, episode)
