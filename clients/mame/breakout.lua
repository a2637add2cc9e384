-- Breakout (Atari 1976) in MAME, played through an understudy server. No ROM files are needed:
--
--   SDL_VIDEODRIVER=dummy mame breakout -video none -sound none -nothrottle -skip_gameinfo \
--       -autoboot_delay 0 -autoboot_script clients/mame/breakout.lua
--
-- An episode is one ball against a whole wall, at most MOST_ACTS long; its return is the points of
-- the bricks it broke. The heads: `paddle`, how fast and which way the knob is turned, and `serve`,
-- the button. Of the picture only the rows and places are read that say something.

local here = debug.getinfo(1, "S").source:match("^@(.*[/\\])") or ""
local understudy = dofile(here .. "understudy.lua")

local SKIP = 6          -- emulated frames for each act
local LOOK = 3          -- of those, the last ones in which the ball's velocity is measured
local MOST_ACTS = 250   -- 24 seconds of play
local TURN = 24         -- of the knob's 256 steps, at most, in one act
local KNOB_MIN, KNOB_MAX = 8, 240  -- beyond, the paddle is half in the wall

-- The picture lies on its side: 1440 columns from the top of the game to its bottom, 228 rows
-- across it. Pixels are bright (0xEA) or black.
local WIDTH = 1440
local WALL_LOW, WALL_HIGH = 4, 223          -- rows between the walls
local FIELD, PADDLE = 500, 1308             -- columns: behind the bricks, of the paddle's face
local LIT = 0xea
local MIDDLE = (WALL_LOW + WALL_HIGH) / 2
local PADDLE_ROWS_PER_STEP = 0.85           -- how far the knob moves the paddle, about

local machine = manager.machine
local screen = machine.screens[":screen"]
local ports = machine.ioport.ports
local knob_field = ports[":PADDLE0"].fields["Paddle"]
local serve_field = ports[":IN0"].fields["P1 Button 1"]

local function pixel(column, row) return (row * WIDTH + column) * 4 + 1 end

-- Two places of each brick, so far apart that the ball cannot be on both, and its points.
local BRICKS = {}
for layer = 0, 7 do
  local column = math.floor(277 + 27.8 * layer)
  for row = 0, 13 do
    BRICKS[#BRICKS + 1] = {pixel(column, 16 * row + 6), pixel(column, 16 * row + 15),
      7 - 2 * (layer // 2)}
  end
end

-- Middle of the ball, column and row; nil while it is not in the open field.
local function ball_in(picture)
  for row = WALL_LOW, WALL_HIGH, 3 do
    local from, to = pixel(FIELD, row), pixel(PADDLE - 8, row)
    local at = picture:find("\xea", from, true)
    if at and at < to then
      local column = (at - 1) // 4 % WIDTH
      local last = row  -- it is four rows high, and this is the first or second of them
      while picture:byte(pixel(column + 4, last + 1)) == LIT do last = last + 1 end
      return column + 7, last - 1.5
    end
  end
end

-- Middle row of the paddle: of the longest bright run across its column, for the ball may be there.
local function paddle_in(picture)
  local best, middle, begin = 0, MIDDLE, nil
  for row = WALL_LOW, WALL_HIGH + 1 do
    if row <= WALL_HIGH and picture:byte(pixel(1320, row)) == LIT then
      begin = begin or row
    elseif begin then
      if row - begin > best then best, middle = row - begin, (begin + row - 1) / 2 end
      begin = nil
    end
  end
  return middle
end

-- Which ball is being played, as the picture tells it: pixels of the number at the top.
local function ball_number(picture)
  local rows = {}
  for row = 84, 95, 2 do rows[#rows + 1] = picture:sub(pixel(44, row), pixel(100, row)) end
  return table.concat(rows)
end

local function press(game, name, frames)
  local field = ports[":IN0"].fields[name]
  field:set_value(1)
  game.wait(frames)
  field:set_value(0)
end

-- A new game: static from the antenna ends the one that is (the machine's protection against
-- people who spark it for free games), then a coin and the start button.
local function begin_game(game)
  serve_field:set_value(0)
  press(game, "Antenna", 3)
  game.wait(3)
  press(game, "Coin 1", 3)
  game.wait(4)
  press(game, "1 Player Start", 3)
  game.wait(6)
end

-- Row at which the ball will reach the paddle, reflected by the walls on its way.
local function landing(column, row, columns, rows)
  local reach = row + rows * (PADDLE - column) / columns - WALL_LOW
  local height = WALL_HIGH - WALL_LOW
  reach = reach % (2 * height)
  return WALL_LOW + (reach > height and 2 * height - reach or reach)
end

local function clip(value, most) return math.max(-most, math.min(most, value)) end

local function episode(game)
  begin_game(game)
  local knob = math.random(KNOB_MIN, KNOB_MAX)
  knob_field:set_value(knob)
  game.wait(math.random(2, 40))  -- where the ball is served from depends on when

  local picture = screen:pixels()
  local number = ball_number(picture)
  local wall = {}
  for i = 1, #BRICKS do wall[i] = true end
  local column, row, columns, rows = FIELD, MIDDLE, 0, 0
  local served, seen = false, false
  local reward, status = 0, understudy.RUNNING

  for acts = 0, MOST_ACTS do
    local paddle = paddle_in(picture)
    local obs = {
      (column - 900) / 400, (row - MIDDLE) / 110, columns / 10, rows / 4,
      (paddle - MIDDLE) / 110, clip((row - paddle) / 40, 2), seen and 1 or 0, served and 1 or 0,
    }
    local target = MIDDLE
    if seen and columns > 0 then target = landing(column, row, columns, rows) end
    local turn = clip((target - paddle) / (TURN * PADDLE_ROWS_PER_STEP), 1)
    local answer = game.act(obs, reward, status, {turn, served and 0 or 1})
    if status ~= understudy.RUNNING then return end

    -- A larger value of the knob is a smaller row.
    knob = math.max(KNOB_MIN, math.min(KNOB_MAX, knob - TURN * answer.action[1]))
    knob_field:set_value(math.floor(knob + 0.5))
    serve_field:set_value(answer.action[2])
    game.wait(SKIP - LOOK)
    local column_before, row_before = ball_in(screen:pixels())
    game.wait(LOOK)
    picture = screen:pixels()
    local column_now, row_now = ball_in(picture)
    if column_now and column_before then
      columns, rows = (column_now - column_before) / LOOK, (row_now - row_before) / LOOK
    end
    seen = column_now ~= nil
    served = served or seen
    column, row = column_now or column, row_now or row

    reward = 0
    for i, brick in ipairs(BRICKS) do
      if wall[i] and picture:byte(brick[1]) ~= LIT and picture:byte(brick[2]) ~= LIT then
        wall[i] = false
        reward = reward + brick[3]
      end
    end
    if ball_number(picture) ~= number then
      status = understudy.TERMINATED
    elseif acts + 1 == MOST_ACTS then
      status = understudy.TRUNCATED
    end
  end
end

understudy.play({
  client = "mame-breakout/1",
  game = "mame-breakout",
  observation = {"float32", {8}},
  actions = {{"continuous", "paddle", -1, 1, 1}, {"discrete", "serve", 2}},
  rewards = {"score"},
}, episode)
