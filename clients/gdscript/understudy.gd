# gdlint: disable=max-returns
class_name Understudy
extends RefCounted
## The game side of understudy, in one file, for Godot 4.
##
## Copy this file into your project. README.md beside it shows a game. The protocol is
## protocol/SPEC.md.
##
## [codeblock]
## var client := Understudy.new()
## client.game = "lander"
## client.shape = [3]
## client.heads = [Understudy.discrete("engine", 2), Understudy.continuous("lateral", -1.0, 1.0)]
## var news := client.connect_to_server("127.0.0.1", 7777)
## [/codeblock]
##
## GDScript has no exceptions: [method act] and [method connect_to_server] return a Dictionary whose
## [code]kind[/code] says what it is.

enum { RUNNING = 0, TERMINATED = 1, TRUNCATED = 2 }
enum { NOBODY = 0, DQN = 1, EXPERT = 2 }

const WELCOME := 11
const ACTION := 12
const ACTIONS := 13
const PONG := 14
const ERROR := 15
const SETTINGS := 16

## A server's answers are a few bytes for each slot: what is longer is no message of it.
const LONGEST := 64 * 1024 * 1024
const DEEPEST := 100

## Name and version of your program, for the server's log.
var client := "godot/1.0"
var game := "game"
## "float32", or "uint8" for pictures and the like.
var dtype := "float32"
## The shape of an observation: 1 to 4 sides.
var shape := [1]
## Where a game shows several things: a Dictionary for each, with name, dtype and shape, and perhaps
## kind, low, high, n and channels (protocol/SPEC.md, Observations). [member dtype] and
## [member shape] mean nothing then, and obs is a Dictionary of their names.
var observations := []
## What [method discrete] and [method continuous] make, in the order of an action's parts.
var heads := []
## Names of the reward components.
var rewards := ["reward"]
## Games on this connection.
var slots := 1
## "train", "eval" (the network alone), "eval_expert" (the expert alone), or "play" (a policy alone,
## of which nothing is kept: an opponent).
var role := "train"
## With "play", who plays: null for the newest network, "best", a checkpoint's number of updates, or
## "recent:5" for one of the newest five, drawn in each episode.
var policy = null
## With "play": it explores as in training.
var explores := false
## The game goes on by itself (a person plays it) and never waits for the trainer.
var realtime := false
## With the roles of evaluation: how many episodes are played on this connection, in all slots;
## 0 says nothing of it.
var episodes := 0
## This program evaluates where [member settings] asks for it ("understudy.evaluate").
var evaluates := false
## Frames say which choices are legal: see [method act].
var masks := false
## Names of numbers that frames tell beside the rewards: see [method act].
var metrics := []
## The server's token, where it asks for one.
var token = null

## How long to wait for WELCOME and each answer. Generous: a server may make its games wait.
var timeout_s := 120.0
## Waits between attempts to connect: doubled from the first to the longest, until it gives up.
var first_wait_s := 0.1
var longest_wait_s := 5.0
var give_up_s := 60.0

## What the server said in WELCOME; [member settings] follows what the operator changes.
var session := 0
var server := ""
var settings := {}

## Makes what bytes go through: a StreamPeerTCP, unless a test has something else.
var new_peer := func(): return StreamPeerTCP.new()

var _host := ""
var _port := 0
var _peer = null
var _inbox := PackedByteArray()
var _seqs: Array[int] = []
var _seq_all := 0
var _pings := 0
## Of the announced episodes that have ended, and slots in the middle of one.
var _played := 0
var _under_way := {}
var _bad := ""
var _depth := 0


## A choice of n: 0 to n-1.
static func discrete(name: String, n: int) -> Array:
	return ["discrete", name, n]


## Numbers from low to high.
static func continuous(name: String, low: float, high: float, size := 1) -> Array:
	return ["continuous", name, low, high, size]


## Connect, say HELLO and wait for WELCOME; tries again while the server is away. The kind of what
## it returns is "connected", "refused" (see [method act]) or "lost".
func connect_to_server(host: String, port: int) -> Dictionary:
	_host = host
	_port = port
	return _establish({})


## Send one frame of a slot and wait for its answer.
##
## obs: a PackedFloat32Array, or a PackedByteArray for uint8, in the size of [member shape]; where
## there are [member observations], a Dictionary that has such an array for each name
## (PackedInt32Array and PackedInt64Array too), or all their bytes one behind the other.
## reward: what the slot's previous action earned (an Array where there are several components); on
## the first frame of an episode it means nothing. status: [constant RUNNING], or
## [constant TERMINATED] or [constant TRUNCATED] for the last frame of an episode; the next frame
## then begins a new one. expert: what your own expert recommends now, one part for each head, or
## null. took: [action, actor], what was really done instead of the previous answer, or null. legal:
## with [member masks], an Array with a bool for each choice of each discrete head, one head behind
## the other; null says that all are legal. numbers: those of [member metrics], a Dictionary by
## name, or null.
##
## The kind of what it returns is [br]
## "answer", with action (one part for each head; null where status was not 0), actor,
## policy_version, explored; [br]
## "reconnected": the connection was lost and is back: reset the game, begin a new episode. With
## code "episode_limit" an episode of evaluation was too long: it is not to be played again; [br]
## "refused", with code, message, retry: show the message to somebody; [br]
## "lost", with message: there is no server, and trying again was given up.
func act(
	obs, reward, status: int, expert = null, took = null, slot := 0, legal = null, numbers = null
) -> Dictionary:
	if slot < 0 or slot >= _seqs.size():
		return _lost("slot: expected 0 to %d, got %d" % [_seqs.size() - 1, slot])
	var seq: int = _seqs[slot]
	var message := encode_frame(slot, seq, obs, reward, status, expert, took, legal, numbers)
	var got := _exchange(message, ACTION)
	if got.kind != "message":
		return got
	var answer := read_action(got.value)
	if answer.kind != "answer" or answer.slot != slot or answer.seq != seq:
		return _violated("ACTION for slot %d, seq %d" % [slot, seq], got.value)
	_seqs[slot] = seq + 1
	_count(slot, status)
	return answer


## Send one frame of every slot: obs (slots x observation), rewards_all (PackedFloat32Array, slots x
## components), statuses (PackedByteArray), experts (PackedFloat32Array of action rows, NaN first
## for none, or null), took ([PackedFloat32Array, PackedByteArray] or null), legal (an Array of
## bools, slots x choices, or null), numbers (PackedFloat32Array, slots x [member metrics], NAN for
## none, or null). The kind is as for [method act]; an answer has actions, actors,
## policy_version, explored. A connection uses act or act_all, never both.
func act_all(
	obs, rewards_all, statuses: PackedByteArray, experts = null, took = null, legal = null,
	numbers = null
) -> Dictionary:
	var seq := _seq_all
	var message := encode_frames(seq, obs, rewards_all, statuses, experts, took, legal, numbers)
	var got := _exchange(message, ACTIONS)
	if got.kind != "message":
		return got
	var answers := read_actions(got.value)
	if answers.kind != "answer" or answers.seq != seq or answers.actors.size() != slots:
		return _violated("ACTIONS for %d slots, seq %d" % [slots, seq], got.value)
	_seq_all = seq + 1
	for slot in slots:
		_count(slot, statuses[slot])
	return answers


## Say that the game is still there, now and then while it is paused. The kind is "pong", or as for
## [method act].
func ping() -> Dictionary:
	_pings += 1
	var got := _exchange(encode_ping(_pings), PONG)
	if got.kind != "message":
		return got
	if got.value.size() < 2 or got.value[1] != _pings:
		return _violated("PONG %d" % _pings, got.value)
	return {"kind": "pong"}


## Say BYE and close.
func close() -> void:
	if _peer != null:
		_write(encode_bye())
	_drop()


# The messages as bytes.


func encode_hello() -> PackedByteArray:
	var fields := {
		"protocol": 1,
		"client": client,
		"game": game,
		"observation": [dtype, shape] if observations.is_empty() else observations.map(_described),
		"actions": heads,
		"rewards": rewards,
		"slots": slots,
		"role": role,
	}
	if token != null:
		fields["token"] = token
	if realtime:
		fields["realtime"] = true
	if role != "train" and episodes > _played:
		fields["episodes"] = episodes - _played
	if evaluates:
		fields["evaluates"] = true
	if masks:
		fields["masks"] = true
	if metrics:
		fields["metrics"] = metrics
	if policy != null:
		fields["policy"] = policy
	if explores:
		fields["explores"] = true
	return _framed([1, fields])


func encode_frame(
	slot: int, seq: int, obs, reward, status: int, expert, took, legal = null, numbers = null
) -> PackedByteArray:
	var earned = reward
	if typeof(reward) == TYPE_ARRAY:
		earned = reward.map(func(part): return float(part))
	else:
		earned = float(reward)
	var instead = null if took == null else [_action(took[0]), took[1]]
	var message := [2, slot, seq, _shown(obs, 1), earned, status, _action(expert), instead]
	var told = numbers
	if typeof(numbers) == TYPE_DICTIONARY:
		told = metrics.map(func(name): return numbers.get(name))
	if told != null:
		told = told.map(func(value): return null if value == null else float(value))
	return _framed(message + _later(null if legal == null else _mask(legal, 1), told))


func encode_frames(
	seq: int, obs, rewards_all, statuses: PackedByteArray, experts, took, legal = null,
	numbers = null
) -> PackedByteArray:
	var rows = null if experts == null else _bytes(experts)
	var instead = null if took == null else [_bytes(took[0]), took[1]]
	var message := [3, seq, _shown(obs, slots), _bytes(rewards_all), statuses, rows, instead]
	var told = null if numbers == null else _bytes(numbers)
	return _framed(message + _later(null if legal == null else _mask(legal, slots), told))


## Elements that came later: they are sent as far as there are any.
func _later(mask, told) -> Array:
	if told != null:
		return [mask, told]
	return [] if mask == null else [mask]



## One of several observations as HELLO says it.
func _described(one: Dictionary) -> Dictionary:
	var fields := {}
	for key in ["dtype", "shape", "name", "kind", "low", "high", "n", "channels"]:
		if one.has(key):
			fields[key] = float(one[key]) if key in ["low", "high"] else one[key]
	return fields


## What is shown in so many slots: several observations one behind the other, slot by slot.
func _shown(obs, count: int) -> PackedByteArray:
	if typeof(obs) != TYPE_DICTIONARY:
		return _bytes(obs)
	var out := PackedByteArray()
	for slot in count:
		for one in observations:
			var part := _bytes(obs[one.name])
			@warning_ignore("integer_division")
			var size := part.size() / count
			out.append_array(part.slice(slot * size, (slot + 1) * size))
	return out


func encode_ping(nonce: int) -> PackedByteArray:
	return _framed([4, nonce])


func encode_bye() -> PackedByteArray:
	return _framed([5])


## An ACTION that was decoded, as [method act] returns it; its kind is "violation" where it is none.
func read_action(got: Array) -> Dictionary:
	if got.size() < 7 or typeof(got[6]) != TYPE_BOOL:
		return {"kind": "violation"}
	if not _whole([got[1], got[2], got[4], got[5]]):
		return {"kind": "violation"}
	var action = null
	if got[3] != null:
		if typeof(got[3]) != TYPE_ARRAY or got[3].size() != heads.size():
			return {"kind": "violation"}
		action = _action(got[3])
	return {
		"kind": "answer",
		"slot": got[1],
		"seq": got[2],
		"action": action,
		"actor": got[4],
		"policy_version": got[5],
		"explored": got[6],
	}


## An ACTIONS that was decoded, as [method act_all] returns it.
func read_actions(got: Array) -> Dictionary:
	if got.size() < 6 or not _whole([got[1], got[4]]):
		return {"kind": "violation"}
	for place in [2, 3, 5]:
		if typeof(got[place]) != TYPE_PACKED_BYTE_ARRAY:
			return {"kind": "violation"}
	return {
		"kind": "answer",
		"seq": got[1],
		"actions": got[2].to_float32_array(),
		"actors": got[3],
		"policy_version": got[4],
		"explored": got[5],
	}


## Bytes that came, however they are split or glued.
func feed(data: PackedByteArray) -> void:
	_inbox.append_array(data)


## The next whole message as an Array, null while there is none, a String where it is no message.
func next_message():
	if _inbox.size() < 4:
		return null
	var length := _inbox[0] << 24 | _inbox[1] << 16 | _inbox[2] << 8 | _inbox[3]
	if length < 1 or length > LONGEST:
		return "expected a message, got a length of %d; is this an understudy server?" % length
	if _inbox.size() < 4 + length:
		return null
	var body := StreamPeerBuffer.new()
	body.big_endian = true
	body.data_array = _inbox.slice(4, 4 + length)
	_inbox = _inbox.slice(4 + length)
	_bad = ""
	_depth = 0
	var value = _unpack(body)
	if _bad == "" and body.get_position() != length:
		_bad = "expected one value in a message, got more"
	if _bad == "" and (typeof(value) != TYPE_ARRAY or value.is_empty()):
		_bad = "expected an array, got something else"
	return value if _bad == "" else _bad


# The connection. After anything that went wrong it is dropped: question and answer may no longer
# belong together.


func _exchange(message: PackedByteArray, wanted: int) -> Dictionary:
	if _peer == null:
		return _back(_lost("not connected"))
	if not _write(message):
		# A server that refuses says why before it closes: that is the better message.
		var last := _receive()
		return _back(last if last.kind == "refused" else _lost("the connection was lost"))
	var got := _receive()
	if got.kind != "message":
		return _back(got)
	if got.value[0] != wanted:
		return _violated("a message of type %d" % wanted, got.value)
	return got


## After a loss: connect again, or say what stands in the way.
func _back(cause: Dictionary) -> Dictionary:
	_drop()
	if cause.kind == "violation" or (cause.kind == "refused" and not cause.retry):
		return cause
	var code: String = cause.get("code", "")
	if code == "episode_limit" and not _under_way.is_empty():
		_played += 1
	_under_way.clear()
	var news := _establish(cause)
	if news.kind == "connected":
		var message: String = "reconnected after: " + cause.message
		return {"kind": "reconnected", "message": message, "code": code}
	return news


func _count(slot: int, status: int) -> void:
	if status == RUNNING:
		_under_way[slot] = true
	elif _under_way.erase(slot):
		_played += 1


func _establish(lost: Dictionary) -> Dictionary:
	var problem := lost
	var limit := first_wait_s
	var since := Time.get_ticks_msec()
	while true:
		if not problem.is_empty():
			# A random part, so that many games do not all come back in the same instant.
			var wait := minf(limit, longest_wait_s) * randf_range(0.5, 1.0)
			limit = minf(2.0 * limit, longest_wait_s)
			if (Time.get_ticks_msec() - since) / 1000.0 + wait > give_up_s:
				return _lost(
					"no understudy server at %s:%d: %s" % [_host, _port, problem.message]
				)
			OS.delay_msec(int(1000.0 * wait))
		problem = _open()
		if problem.kind == "connected":
			return problem
		_drop()
		if problem.kind == "violation" or (problem.kind == "refused" and not problem.retry):
			return problem
	return {}


func _open() -> Dictionary:
	_inbox.clear()
	_peer = new_peer.call()
	if _peer.connect_to_host(_host, _port) != OK:
		return _lost("cannot connect to %s:%d" % [_host, _port])
	var deadline := Time.get_ticks_msec() + 10000
	while _peer.get_status() == StreamPeerTCP.STATUS_CONNECTING:
		if Time.get_ticks_msec() > deadline:
			break
		OS.delay_msec(1)
		_peer.poll()
	if _peer.get_status() != StreamPeerTCP.STATUS_CONNECTED:
		return _lost("cannot connect to %s:%d" % [_host, _port])
	_peer.set_no_delay(true)
	_write(encode_hello())
	var got := _receive()
	if got.kind != "message":
		return got
	var value: Array = got.value
	if value[0] != WELCOME or value.size() < 2 or typeof(value[1]) != TYPE_DICTIONARY:
		return _violated("WELCOME", value)
	session = value[1].get("session", 0)
	server = value[1].get("server", "")
	settings.merge(value[1].get("settings", {}), true)
	_seqs.resize(slots)
	_seqs.fill(0)
	_seq_all = 0
	return {"kind": "connected"}


## The next message that is no SETTINGS, or "refused" or "lost".
func _receive() -> Dictionary:
	var deadline := Time.get_ticks_msec() + int(1000.0 * timeout_s)
	while true:
		var value = next_message()
		if typeof(value) == TYPE_STRING:
			return {"kind": "violation", "message": value}
		if value == null:
			_peer.poll()
			var count: int = _peer.get_available_bytes()
			if count > 0:
				feed(_peer.get_data(count)[1])
			elif _peer.get_status() != StreamPeerTCP.STATUS_CONNECTED:
				return _lost("the server closed the connection")
			elif Time.get_ticks_msec() > deadline:
				return _lost("no answer within %d s" % timeout_s)
			else:
				OS.delay_usec(50)
		elif value[0] == SETTINGS:
			if value.size() > 1 and typeof(value[1]) == TYPE_DICTIONARY:
				settings.merge(value[1], true)
		elif value[0] == ERROR:
			if value.size() < 4:
				return _violated("ERROR", value)
			return {
				"kind": "refused", "code": value[1], "message": value[2], "retry": value[3]
			}
		else:
			return {"kind": "message", "value": value}
	return {}


func _write(data: PackedByteArray) -> bool:
	return _peer.put_data(data) == OK


func _drop() -> void:
	if _peer != null:
		_peer.disconnect_from_host()
	_peer = null


func _lost(message: String) -> Dictionary:
	return {"kind": "lost", "message": message}


func _violated(expected: String, got) -> Dictionary:
	_drop()
	return {"kind": "violation", "message": "expected %s, got %s" % [expected, str(got).left(300)]}


# Values.


func _whole(values: Array) -> bool:
	return values.all(func(value): return typeof(value) == TYPE_INT)


func _bytes(values) -> PackedByteArray:
	match typeof(values):
		TYPE_PACKED_BYTE_ARRAY:
			return values
		TYPE_PACKED_FLOAT32_ARRAY, TYPE_PACKED_INT32_ARRAY, TYPE_PACKED_INT64_ARRAY:
			return values.to_byte_array()
		_:
			return PackedFloat32Array(values).to_byte_array()


## The bits of so many masks, each of bools for all choices; bytes are taken as they are.
func _mask(legal, count: int) -> PackedByteArray:
	if typeof(legal) == TYPE_PACKED_BYTE_ARRAY:
		return legal
	var choices: int = legal.size() / count
	var each := (choices + 7) / 8
	var out := PackedByteArray()
	out.resize(count * each)
	for i in legal.size():
		var choice: int = i % choices
		if legal[i]:
			out[i / choices * each + choice / 8] |= 1 << choice % 8
	return out


## An action in the form of its heads: ints for choices, floats for the rest.
func _action(action):
	if action == null:
		return null
	var parts := []
	for i in heads.size():
		var part = action[i]
		if heads[i][0] == "discrete":
			parts.append(int(part))
		elif typeof(part) == TYPE_ARRAY:
			parts.append(part.map(func(number): return float(number)))
		else:
			parts.append(float(part))
	return parts


# msgpack.


func _framed(message: Array) -> PackedByteArray:
	var out := StreamPeerBuffer.new()
	out.big_endian = true
	out.put_u32(0)
	_pack(out, message)
	var length := out.get_position() - 4
	out.seek(0)
	out.put_u32(length)
	return out.data_array


func _pack(out: StreamPeerBuffer, value) -> void:
	match typeof(value):
		TYPE_NIL:
			out.put_u8(0xc0)
		TYPE_BOOL:
			out.put_u8(0xc3 if value else 0xc2)
		TYPE_INT:
			_pack_int(out, value)
		TYPE_FLOAT:
			out.put_u8(0xcb)
			out.put_double(value)
		TYPE_STRING:
			var text: PackedByteArray = value.to_utf8_buffer()
			_pack_size(out, text.size(), 0xa0, 32, 0xd9)
			out.put_data(text)
		TYPE_PACKED_BYTE_ARRAY:
			_pack_size(out, value.size(), 0, 0, 0xc4)
			out.put_data(value)
		TYPE_ARRAY:
			_pack_size(out, value.size(), 0x90, 16, 0)
			for item in value:
				_pack(out, item)
		TYPE_DICTIONARY:
			_pack_size(out, value.size(), 0x80, 16, 0)
			for key in value:
				_pack(out, key)
				_pack(out, value[key])
		_:
			push_error("understudy: cannot send a value of type %d" % typeof(value))
			out.put_u8(0xc0)


func _pack_int(out: StreamPeerBuffer, value: int) -> void:
	if value >= 0:
		if value < 0x80:
			out.put_u8(value)
		elif value <= 0xff:
			out.put_u8(0xcc)
			out.put_u8(value)
		elif value <= 0xffff:
			out.put_u8(0xcd)
			out.put_u16(value)
		elif value <= 0xffffffff:
			out.put_u8(0xce)
			out.put_u32(value)
		else:
			out.put_u8(0xcf)
			out.put_u64(value)
	elif value >= -32:
		out.put_8(value)
	elif value >= -0x80:
		out.put_u8(0xd0)
		out.put_8(value)
	elif value >= -0x8000:
		out.put_u8(0xd1)
		out.put_16(value)
	elif value >= -0x80000000:
		out.put_u8(0xd2)
		out.put_32(value)
	else:
		out.put_u8(0xd3)
		out.put_64(value)


## The size of a str, bin, array or map: in the tag where it is small, else behind it. tag8 is that
## of a size in one byte; those of two and four bytes follow it. Arrays and maps have no tag8.
func _pack_size(out: StreamPeerBuffer, size: int, small: int, limit: int, tag8: int) -> void:
	var tag16 := tag8 + 1 if tag8 != 0 else (0xdc if small == 0x90 else 0xde)
	if size < limit:
		out.put_u8(small | size)
	elif tag8 != 0 and size <= 0xff:
		out.put_u8(tag8)
		out.put_u8(size)
	elif size <= 0xffff:
		out.put_u8(tag16)
		out.put_u16(size)
	else:
		out.put_u8(tag16 + 1)
		out.put_u32(size)


func _unpack(from: StreamPeerBuffer):
	if not _has(from, 1):
		return null
	var tag := from.get_u8()
	if tag < 0x80:
		return tag
	if tag < 0x90:
		return _unpack_map(from, tag & 0x0f)
	if tag < 0xa0:
		return _unpack_array(from, tag & 0x0f)
	if tag < 0xc0:
		return _unpack_str(from, tag & 0x1f)
	if tag >= 0xe0:
		return tag - 0x100
	match tag:
		0xc0:
			return null
		0xc2:
			return false
		0xc3:
			return true
		0xc4, 0xc5, 0xc6:
			return _unpack_bin(from, _unpack_size(from, 1 << (tag - 0xc4)))
		0xc7, 0xc8, 0xc9:
			return _unpack_ext(from, _unpack_size(from, 1 << (tag - 0xc7)))
		0xca:
			return from.get_float() if _has(from, 4) else null
		0xcb:
			return from.get_double() if _has(from, 8) else null
		0xcc, 0xcd, 0xce, 0xcf:
			return _unpack_size(from, 1 << (tag - 0xcc))
		0xd0:
			return from.get_8() if _has(from, 1) else null
		0xd1:
			return from.get_16() if _has(from, 2) else null
		0xd2:
			return from.get_32() if _has(from, 4) else null
		0xd3:
			return from.get_64() if _has(from, 8) else null
		0xd4, 0xd5, 0xd6, 0xd7, 0xd8:
			return _unpack_ext(from, 1 << (tag - 0xd4))
		0xd9, 0xda, 0xdb:
			return _unpack_str(from, _unpack_size(from, 1 << (tag - 0xd9)))
		0xdc, 0xdd:
			return _unpack_array(from, _unpack_size(from, 2 << (tag - 0xdc)))
		0xde, 0xdf:
			return _unpack_map(from, _unpack_size(from, 2 << (tag - 0xde)))
	_bad = "expected a msgpack value, got the byte 0xc1"
	return null


## An unsigned number of 1, 2, 4 or 8 bytes.
func _unpack_size(from: StreamPeerBuffer, bytes: int) -> int:
	if not _has(from, bytes):
		return 0
	match bytes:
		1:
			return from.get_u8()
		2:
			return from.get_u16()
		4:
			return from.get_u32()
	return from.get_u64()


func _unpack_bin(from: StreamPeerBuffer, size: int) -> PackedByteArray:
	if size == 0 or not _has(from, size):
		return PackedByteArray()
	return PackedByteArray(from.get_data(size)[1])


func _unpack_ext(from: StreamPeerBuffer, size: int) -> PackedByteArray:
	# Nothing of this protocol has one; settings and nonces may.
	if _has(from, size + 1):
		from.get_u8()
	return _unpack_bin(from, size)


func _unpack_str(from: StreamPeerBuffer, size: int) -> String:
	return _unpack_bin(from, size).get_string_from_utf8()


func _unpack_array(from: StreamPeerBuffer, size: int) -> Array:
	var items := []
	if not _has(from, size) or not _deeper():
		return items
	for i in size:
		items.append(_unpack(from))
		if _bad != "":
			break
	_depth -= 1
	return items


func _unpack_map(from: StreamPeerBuffer, size: int) -> Dictionary:
	var map := {}
	if not _has(from, 2 * size) or not _deeper():
		return map
	for i in size:
		var key = _unpack(from)
		map[key] = _unpack(from)
		if _bad != "":
			break
	_depth -= 1
	return map


## Whether so many bytes are there. Each element of an array takes one at least, so that a wrong
## size is seen before memory is taken for it.
func _has(from: StreamPeerBuffer, count: int) -> bool:
	if from.get_size() - from.get_position() < count:
		_bad = "expected %d bytes more in a message" % count
	return _bad == ""


func _deeper() -> bool:
	_depth += 1
	if _depth > DEEPEST:
		_bad = "expected at most %d values in each other" % DEEPEST
	return _bad == ""
