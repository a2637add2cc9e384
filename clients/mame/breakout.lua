-- Breakout (Atari 1976) in MAME, played through an understudy server. No ROM files are needed:
--
--   SDL_VIDEODRIVER=dummy mame breakout -video none -sound none -nothrottle -skip_gameinfo \
--       -autoboot_delay 0 -autoboot_script clients/mame/breakout.lua
--
-- An episode is one ball against a whole wall, at most MOST_ACTS long; its return is the points of
-- the bricks it broke. The heads: `paddle`, how far and which way it goes, and `serve`, the button.
-- Of the picture only the rows and places are read that say something.

local here = debug.getinfo(1, "S").source:match("^@(.*[/\\])") or ""
local understudy = dofile(here .. "understudy.lua")

local SKIP = 6          -- emulated frames for each act
local LOOK = 3          -- of those, the last ones in which the ball's velocity is measured
local MOST_ACTS = 200   -- 19 seconds of play
local STRIDE = 20       -- rows that the paddle moves in one act, at most

-- The picture lies on its side: 1440 columns from the top of the game to its bottom, 228 rows
-- across it. Pixels are bright (0xEA) or black.
local WIDTH = 1440
local WALL_LOW, WALL_HIGH = 4, 223          -- rows between the walls
local FIELD, PADDLE = 500, 1308             -- columns: behind the bricks, of the paddle's face
local LIT = 0xea
local MIDDLE = (WALL_LOW + WALL_HIGH) / 2
local LEFT, RIGHT = 11, 212                 -- rows that the paddle's middle can be on

-- The value of the knob that puts the paddle's middle on a row, measured: {row, value}.
local KNOB = {
  {10.5, 245}, {13.5, 240}, {19.5, 230}, {26.5, 220}, {33.5, 210}, {40.5, 200}, {47.5, 190},
  {54.5, 180}, {62.5, 170}, {69.5, 160}, {77.5, 150}, {85.5, 140}, {94.5, 130}, {103.5, 120},
  {113.5, 110}, {123.5, 100}, {133.5, 90}, {145.5, 80}, {151.5, 75}, {158.5, 70}, {165.5, 65},
  {172.5, 60}, {180.5, 55}, {189.5, 50}, {198.5, 45}, {209.5, 40}, {215.5, 37},
}

local machine = manager.machine
local screen = machine.screens[":screen"]
local ports = machine.ioport.ports
local buttons = ports[":IN0"].fields
local knob_field = ports[":PADDLE0"].fields["Paddle"]
local serve_field = buttons["P1 Button 1"]

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

-- A new game: static from the antenna ends the one that is (the machine's protection against
-- people who spark it for free games), then a coin and the start button.
local function begin_game(game)
  serve_field:set_value(0)
  game.press(buttons["Antenna"], 3)
  game.wait(3)
  game.press(buttons["Coin 1"], 3)
  game.wait(4)
  game.press(buttons["1 Player Start"], 3)
  game.wait(6)
end

-- Row at which the ball will reach the paddle, reflected by the walls on its way.
local function landing(column, row, columns, rows)
  return understudy.reflected(row + rows * (PADDLE - column) / columns, WALL_LOW, WALL_HIGH)
end

local function move_to(row) knob_field:set_value(math.floor(understudy.line(KNOB, row) + 0.5)) end

-- The action of the machine's own controls, while somebody touches them. The knob's value rises
-- against the rows.
local function controls()
  local turn, serve = understudy.mame.turned(knob_field), understudy.mame.pressed(serve_field)
  if turn ~= 0 or serve then return {-turn, serve and 1 or 0} end
end

local function episode(game)
  game.person(controls, {0, 0})
  begin_game(game)
  local place = math.random(LEFT, RIGHT)
  move_to(place)
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
    local falls = columns > 0
    local comes = falls and landing(column, row, columns, rows) or row
    local obs = {
      (column - 900) / 400, (row - MIDDLE) / 110, columns / 10, rows / 4,
      (paddle - MIDDLE) / 110, understudy.clip((comes - paddle) / 40, 2),
      falls and 1 or 0, served and 1 or 0,
    }
    local target = falls and comes or MIDDLE
    local move = understudy.clip((target - place) / STRIDE, 1)
    local answer = game.act(obs, reward, status, {move, served and 0 or 1})
    if status ~= understudy.RUNNING then return end

    place = math.max(LEFT, math.min(RIGHT, place + STRIDE * answer.action[1]))
    move_to(place)
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
    if not seen and served then  -- on a wall, or between the bricks: where it should be
      column_now = math.max(FIELD, math.min(PADDLE, column + SKIP * columns))
      row_now = understudy.reflected(row + SKIP * rows, WALL_LOW, WALL_HIGH)
    end
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
