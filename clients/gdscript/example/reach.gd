extends Node
## A dot is to reach a goal; its expert walks straight there. Put this script on the node of a
## scene, start `understudy serve`, then the scene. It plays as fast as it is answered, and blocks
## while it does: a real game calls [method Understudy.act] once for each of its ticks.

const Client := preload("../understudy.gd")

@export var host := "127.0.0.1"
@export var port := 7777
@export var episodes := 200
@export var role := "train"
@export var token := ""


func _ready() -> void:
	get_tree().quit(0 if run(Client.new()) else 1)


func run(client: Client) -> bool:
	client.client = "reach-godot/1.0"
	client.game = "reach"
	client.shape = [2]
	client.heads = [Client.discrete("move", 3), Client.continuous("stride", 0.0, 1.0)]
	client.role = role
	client.token = token if token != "" else null
	client.episodes = episodes  # announced where the role is another one
	var news := client.connect_to_server(host, port)
	var episode := 0
	while news.kind in ["connected", "answer", "reconnected"] and episode < episodes:
		news = play(client)
		if news.kind == "answer":
			episode += 1
			print("episode %d: return %.1f" % [episode, news.total])
		elif news.kind == "reconnected":
			print(news.message)  # the episode was cut: begin a new one
			if news.code == "episode_limit":
				episode += 1  # too long: not again
	if news.kind != "answer":
		printerr("%s: %s" % [news.get("code", news.kind), news.message])
		return false
	client.close()
	return true


## One episode: its last answer with the return as total, or what came in between.
func play(client: Client) -> Dictionary:
	var at := 0.0
	var goal := randf_range(-1.0, 1.0)
	var reward := 0.0
	var total := 0.0
	var status := Client.RUNNING
	var took = null
	var tick := 0
	while true:
		var move := 0 if goal < at - 0.05 else (2 if goal > at + 0.05 else 1)
		var obs := PackedFloat32Array([at, goal])
		var answer := client.act(obs, reward, status, [move, 0.75], took)
		if answer.kind != "answer" or status != Client.RUNNING:
			answer.total = total
			return answer
		var action: Array = answer.action
		took = null
		if tick == 2 and randi() % 10 == 0:
			# Somebody holds the stick to the left: the server must know what was done.
			action = [0, 1.0]
			took = [action, Client.EXPERT]
		at += 0.1 * (action[0] - 1) * action[1]
		reward = -absf(goal - at)
		total += reward
		if reward > -0.05:
			status = Client.TERMINATED
		elif tick == 29:
			status = Client.TRUNCATED
		tick += 1
	return {}
