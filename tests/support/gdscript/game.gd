extends "res://example/reach.gd"
## The example's game. settings.json says where it plays; where Godot runs without sockets of its
## own (a web build), its bytes go through the object `bridge` of whoever runs it.


func _ready() -> void:
	var text := FileAccess.open("res://settings.json", FileAccess.READ).get_as_text()
	var settings: Dictionary = JSON.parse_string(text)
	host = settings.host
	port = int(settings.port)
	episodes = int(settings.episodes)
	role = settings.role
	token = settings.token
	var client := Client.new()
	if OS.has_feature("web"):
		client.new_peer = func(): return BridgePeer.new()
	var well := run(client)
	print("> session %d with %s" % [client.session, client.server])
	print("> settings %s" % JSON.stringify(client.settings))
	get_tree().quit(0 if well else 1)


class BridgePeer:
	## What the client asks of a StreamPeerTCP.
	extends RefCounted

	var _bridge: JavaScriptObject = JavaScriptBridge.get_interface("bridge")

	func connect_to_host(to_host: String, to_port: int) -> int:
		_bridge.open(to_host, to_port)
		return OK

	func poll() -> int:
		_bridge.poll()
		return OK

	func get_status() -> int:
		return int(_bridge.status())

	func set_no_delay(_enabled: bool) -> void:
		pass  # the bridge has done so

	func get_available_bytes() -> int:
		return int(_bridge.available())

	func get_data(count: int) -> Array:
		return [OK, str(_bridge.take(count)).hex_decode()]

	func put_data(data: PackedByteArray) -> int:
		return int(_bridge.put(data.hex_encode()))

	func disconnect_from_host() -> void:
		_bridge.close()
