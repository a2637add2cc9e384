extends SceneTree
## A dot is to reach a goal; its expert walks straight there. Start `understudy serve`, then
##   godot --headless --script example/reach.gd -- 127.0.0.1 7777 200

const Client := preload("../understudy.gd")


func _init() -> void:
	var args := OS.get_cmdline_user_args()
	var host := args[0] if args.size() > 0 else "127.0.0.1"
	var port := int(args[1]) if args.size() > 1 else 7777
	var episodes := int(args[2]) if args.size() > 2 else 200
	quit(0 if run(host, port, episodes) else 1)


func run(host: String, port: int, episodes: int) -> bool:
	var client := Client.new()
	client.client = "reach-godot/1.0"
	client.game = "reach"
	client.shape = [2]
	client.heads = [Client.discrete("move", 3), Client.continuous("stride", 0.0, 1.0)]
	var news := client.connect_to_server(host, port)
	var episode := 0
	while news.kind in ["connected", "answer", "reconnected"] and episode < episodes:
		news = play(client)
		if news.kind == "answer":
			episode += 1
			print("episode %d: return %.1f" % [episode, news.total])
		elif news.kind == "reconnected":
			print(news.message)  # the episode was cut: begin a new one
	if news.kind != "answer":
		printerr(news.message)
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
	for tick in 31:
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
	return {"kind": "lost", "message": "an episode without an end"}
