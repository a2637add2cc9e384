-- A person at the real controls of MAME, which is made up here: who plays each act, and what the
-- server is told. lua check_person.lua CLIENT

-- The machine: two seconds of its clock for each two acts; keys that are held, by field and kind.
local held, axis, clock = {}, 0, 0
manager = {machine = {
  exit = function() end,
  video = {throttled = true},
  input = {
    seq_pressed = function(_, seq) return held[seq] or false end,
    seq_to_tokens = function(_, seq) return seq == "knob standard" and "MOUSECODE_1_XAXIS OR KEYCODE_A" or "" end,
    code_from_token = function(_, token) return token end,
    code_value = function(_, code) return code == "MOUSECODE_1_XAXIS" and axis or 0 end,
  },
}}
emu = {register_frame_done = function() end}
local function field(name) return {input_seq = function(_, kind) return name .. " " .. kind end} end
local knob, button = field("knob"), field("button")

local understudy = dofile(arg[1])
local function framed(payload) return string.pack(">I4", #payload) .. payload end
local frames = {}
understudy.mame.now = function() return clock end
understudy.mame.sleep = function(s) clock = clock + s end
understudy.mame.open = function()
  local waiting, hello = "", true
  return {
    read = function()
      local data = waiting
      waiting = ""
      return data
    end,
    write = function(data)
      if hello then
        hello = false
        waiting = framed("\x92\x0b\x82\xa7session\x05\xa8settings\x80")
        return true
      end
      local frame = understudy.unpack(data:sub(5), 1)
      if frame[1] ~= 2 then return true end
      frames[#frames + 1] = frame
      local over = frame[6] ~= 0
      waiting = framed("\x97\x0c\0" .. understudy.pack(frame[3]) .. (over and "\xc0\0" or "\x92\0\xcb" .. string.pack(">d", 0.5) .. "\1") .. "\2\xc2")
      return true
    end,
    close = function() end,
  }
end

local function check(name, got, expected)
  if got ~= expected then error(name .. ": expected " .. tostring(expected) .. ", got " .. tostring(got), 0) end
  print(name)
end

-- What is pressed before each act, and who plays it.
local script = {
  {}, {["knob increment"] = true}, {}, {["button standard"] = true}, {}, {}, {},
}
local done = {}

local function controls()
  local turn, fire = understudy.mame.turned(knob), understudy.mame.pressed(button)
  if turn ~= 0 or fire then return {fire and 1 or 0, turn} end
end

local function episode(game)
  game.person(controls, {0, 0})
  for i = 1, #script + 1 do
    local over = i > #script
    held, clock = script[i] or {}, clock + 1
    local answer = game.act({0}, 0, over and understudy.TERMINATED or understudy.RUNNING, not over and {1, -1} or nil)
    if over then return end
    done[i] = string.format("%d %d %g", answer.actor, answer.action[1], answer.action[2])
    game.wait(1)
  end
end

local printed = {}
print_before = print
print = function(...) printed[#printed + 1] = table.concat({...}, " ") end
understudy.play({client = "check/1", game = "check", observation = {"float32", {1}},
  actions = {{"discrete", "fire", 2}, {"continuous", "turn", -1, 1, 1}}}, episode)
for _ = 1, 40 do understudy.resume() end
print = print_before

-- Two seconds of nothing: the network has the controls back on the sixth act.
check("first act is the network's", done[1], "1 0 0.5")
check("a knob that is turned takes over", done[2], "2 0 1")
check("hands that rest keep the controls", done[3], "2 0 0")
check("a button plays", done[4], "2 1 0")
check("hands that rest keep them again", done[5], "2 0 0")
check("two seconds of nothing give back", done[6], "1 0 0.5")
check("and the network plays on", done[7], "1 0 0.5")
local function told(i)
  local took = frames[i][8]
  return took and string.format("%d %g %d", took[1][1], took[1][2], took[2]) or "nil"
end
check("nothing is told on the first frame", told(1), "nil")
check("nor of the network's action", told(2), "nil")
check("the person's actions are told with the next frame", told(3) .. ", " .. told(4) .. ", " .. told(5) .. ", " .. told(6), "0 1 2, 0 0 2, 1 0 2, 0 0 2")
check("and then no more", told(7) .. ", " .. told(8), "nil, nil")
check("the script recommends while nobody is there", tostring(frames[1][7] and frames[6][7] and true), "true")
check("and not beside a person", tostring(frames[2][7] or frames[5][7]), "nil")
check("the episode says how much was a person's", printed[1]:match('"person": %d+'), '"person": 4')

-- A mouse, which a rest of the hand does not move.
axis = 0.05 * 65536
check("a trembling mouse is none", understudy.mame.turned(knob), 0)
axis = -0.5 * 65536
check("a mouse turns the knob", understudy.mame.turned(knob), -0.5)
