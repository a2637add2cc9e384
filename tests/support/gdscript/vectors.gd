# gdlint: disable=max-returns
extends Node
## What the GDScript client makes of the golden vectors: commands.txt has a line of words for each,
## the answer is a line of hex: a message that was encoded, or what was decoded, as plain msgpack.

const Client := preload("res://understudy.gd")


func _ready() -> void:
	var commands := FileAccess.open("res://commands.txt", FileAccess.READ).get_as_text()
	for line in commands.strip_edges().split("\n"):
		print("> " + _do(line.split(" ")))
	print("> done")
	get_tree().quit()


func _do(words: PackedStringArray) -> String:
	var client := Client.new()
	match words[0]:
		"hello":
			_declare(client, _value(words[1]))
			return client.encode_hello().hex_encode()
		"frame":
			_declare(client, _value(words[1]))
			var f: Array = _value(words[2])
			var mask = f[7] if f.size() > 7 else null
			var told = f[8] if f.size() > 8 else null
			return client.encode_frame(f[0], f[1], f[2], f[3], f[4], f[5], f[6], mask, told).hex_encode()
		"frames":
			var a: Array = _value(words[1])
			var masks = a[6] if a.size() > 6 else null
			var told = a[7] if a.size() > 7 else null
			return client.encode_frames(a[0], a[1], a[2], a[3], a[4], a[5], masks, told).hex_encode()
		"ping":
			return client.encode_ping(_value(words[1])).hex_encode()
		"bye":
			return client.encode_bye().hex_encode()
		"read":
			# words[1]: msgpack of the game's HELLO; words[2]: the size of the pieces.
			_declare(client, _value(words[1]))
			return _read(client, int(words[2]), words[3].hex_decode())
	return "unknown command " + words[0]


func _read(client: Client, size: int, stream: PackedByteArray) -> String:
	var out := PackedStringArray()
	for at in range(0, stream.size(), size):
		client.feed(stream.slice(at, at + size))
		var message = client.next_message()
		while message != null:
			if typeof(message) == TYPE_STRING:
				return "violation " + message
			out.append(_meaning(client, message))
			message = client.next_message()
	return " ".join(out)


## Actions as the client gives them to a game, other messages as they are.
func _meaning(client: Client, message: Array) -> String:
	var value := message
	if message[0] == Client.ACTION:
		var one := client.read_action(message)
		if one.kind != "answer":
			return "violation"
		value = [12, one.slot, one.seq, one.action, one.actor, one.policy_version, one.explored]
	elif message[0] == Client.ACTIONS:
		var all := client.read_actions(message)
		if all.kind != "answer":
			return "violation"
		var rows: PackedByteArray = all.actions.to_byte_array()
		value = [13, all.seq, rows, all.actors, all.policy_version, all.explored]
	return client._framed(value).hex_encode()


func _declare(client: Client, fields: Dictionary) -> void:
	client.client = fields.client
	client.game = fields.game
	if typeof(fields.observation[0]) == TYPE_STRING:
		client.dtype = fields.observation[0]
		client.shape = fields.observation[1]
	else:
		client.observations = fields.observation
	client.heads = fields.actions
	client.rewards = fields.rewards
	client.slots = fields.slots
	client.role = fields.role
	client.token = fields.token
	client.realtime = fields.get("realtime", false)
	client.episodes = fields.get("episodes", 0)
	client.evaluates = fields.get("evaluates", false)
	client.policy = fields.get("policy")
	client.explores = fields.get("explores", false)
	client.masks = fields.get("masks", false)
	client.metrics = fields.get("metrics", [])


## A value that is msgpack in hex.
func _value(hex: String):
	var from := StreamPeerBuffer.new()
	from.big_endian = true
	from.data_array = hex.hex_decode()
	return Client.new()._unpack(from)
