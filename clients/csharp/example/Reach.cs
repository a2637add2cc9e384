// A dot is to reach a goal; its expert walks straight there. Arguments: host, port, episodes,
// role, token. Start `understudy serve` first.

using System;
using Understudy;

public static class Reach
{
    public static int Main(string[] args)
    {
        string host = args.Length > 0 ? args[0] : "127.0.0.1";
        int port = args.Length > 1 ? int.Parse(args[1]) : 7777;
        int episodes = args.Length > 2 ? int.Parse(args[2]) : 200;
        Game game = new Game
        {
            Client = "reach-csharp/1.0",
            Name = "reach",
            Dtype = "float32",
            Shape = new int[] { 2 },
            Heads = new Head[] { Head.Discrete("move", 3), Head.Continuous("stride", 0.0, 1.0) },
            Role = args.Length > 3 ? args[3] : "train",
            Token = args.Length > 4 ? args[4] : null,
            Episodes = episodes, // announced where the role is another one
        };
        Random random = new Random();
        try
        {
            using (Client client = new Client(host, port, game))
            {
                client.Connect();
                Console.WriteLine("session " + client.Session + " with " + client.Server);
                for (int episode = 0; episode < episodes;)
                {
                    try
                    {
                        Console.WriteLine("episode " + episode + ": return " + Play(client, random));
                        episode++;
                    }
                    catch (ReconnectedException news)
                    {
                        Console.WriteLine(news.Message); // its episode is cut: begin a new one
                        if (news.Code == "episode_limit") { episode++; } // too long: not again
                    }
                }
            }
        }
        catch (ServerErrorException error)
        {
            Console.Error.WriteLine(error.Message);
            return 1;
        }
        catch (ConnectionLostException error)
        {
            Console.Error.WriteLine(error.Message);
            return 1;
        }
        return 0;
    }

    private static double Play(Client client, Random random)
    {
        double at = 0, goal = 2 * random.NextDouble() - 1, reward = 0, total = 0;
        int status = Status.Running;
        Took took = null;
        for (int tick = 0; ; tick++)
        {
            float[] observation = { (float)at, (float)goal };
            double[] expert = { goal < at - 0.05 ? 0 : goal > at + 0.05 ? 2 : 1, 0.75 };
            Answer answer = client.Act(observation, reward, status, expert, took);
            took = null;
            if (status != Status.Running) { return total; } // that was the last frame
            double[] action = answer.Action;
            if (tick == 2 && random.Next(10) == 0)
            {
                // Somebody holds the stick to the left: the server must know what was done.
                action = new double[] { 0, 1.0 };
                took = new Took(action, Actor.Expert);
            }
            at += 0.1 * (action[0] - 1) * action[1];
            reward = -Math.Abs(goal - at);
            total += reward;
            status = reward > -0.05 ? Status.Terminated : tick == 29 ? Status.Truncated : Status.Running;
        }
    }
}
