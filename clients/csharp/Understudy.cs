// understudy: the game side, in one file, for Unity and any other .NET (.NET Standard 2.0, C# 7.3).
//
// Copy this file into your project; it needs no package. README.md beside it shows a game.
// The protocol is protocol/SPEC.md; its sections are named where they are followed.

using System;
using System.Collections.Generic;
using System.IO;
using System.Net.Sockets;
using System.Text;
using System.Threading;

namespace Understudy
{
    /// <summary>The status of a frame.</summary>
    public static class Status
    {
        public const int Running = 0;
        /// <summary>The game is over by its own rules: nothing more can be earned.</summary>
        public const int Terminated = 1;
        /// <summary>It was cut short though it could have gone on: a time limit, a player who quit.</summary>
        public const int Truncated = 2;
    }

    /// <summary>Who chose an action.</summary>
    public static class Actor
    {
        public const int Nobody = 0;
        public const int Dqn = 1;
        public const int Expert = 2;
    }

    /// <summary>One part of an action: a choice, or some numbers.</summary>
    public sealed class Head
    {
        public readonly string Name;
        /// <summary>How many choices there are; 0 for a continuous head.</summary>
        public readonly int Choices;
        public readonly double Low;
        public readonly double High;
        /// <summary>How many numbers it takes in an action: 1 for a choice.</summary>
        public readonly int Size;

        private Head(string name, int choices, double low, double high, int size)
        {
            Name = name;
            Choices = choices;
            Low = low;
            High = high;
            Size = size;
        }

        public bool IsDiscrete { get { return Choices > 0; } }

        /// <summary>A choice of n, 0 to n-1.</summary>
        public static Head Discrete(string name, int n)
        {
            return new Head(name, n, 0, n - 1, 1);
        }

        /// <summary>Numbers from low to high.</summary>
        public static Head Continuous(string name, double low, double high, int size = 1)
        {
            return new Head(name, 0, low, high, size);
        }
    }

    /// <summary>One of several things that a game shows: protocol/SPEC.md, Observations.</summary>
    public sealed class Observation
    {
        public string Name = "observation";
        /// <summary>"float32", "uint8", "float16", "int32", "int64" or "bool".</summary>
        public string Dtype = "float32";
        /// <summary>1 to 4 sides.</summary>
        public int[] Shape = new int[] { 1 };
        /// <summary>"picture", "numbers", "choice", "choices", or null: the server looks itself.</summary>
        public string Kind;
        /// <summary>The range of all its elements, where it is known; both or neither.</summary>
        public double? Low;
        public double? High;
        /// <summary>With "choice" how many choices every element has; with "choices" one number for
        /// each.</summary>
        public int[] N;
        /// <summary>Of a picture: the sides that are no height and no width.</summary>
        public int[] Channels;
    }

    /// <summary>What HELLO says of the game, and of this client.</summary>
    public sealed class Game
    {
        /// <summary>Name and version of your program, for the server's log.</summary>
        public string Client = "csharp/1.0";
        public string Name = "game";
        /// <summary>"float32", or "uint8" for pictures and the like.</summary>
        public string Dtype = "float32";
        /// <summary>The shape of an observation: 1 to 4 sides.</summary>
        public int[] Shape = new int[] { 1 };
        /// <summary>Where a game shows several things: all of them, in place of Dtype and Shape. A
        /// frame has their bytes one behind the other (Tensor.Join).</summary>
        public Observation[] Observations;
        public Head[] Heads = new Head[0];
        /// <summary>Names of the reward components.</summary>
        public string[] Rewards = new string[] { "reward" };
        /// <summary>Games on this connection.</summary>
        public int Slots = 1;
        /// <summary>"train", "eval" (the network alone), "eval_expert" (the expert alone), or "play"
        /// (a policy alone, of which nothing is kept: an opponent).</summary>
        public string Role = "train";
        /// <summary>With "play", who plays: null for the newest network, "best", a checkpoint's number
        /// of updates, or "recent:5" for one of the newest five, drawn in each episode.</summary>
        public string Policy;
        /// <summary>With "play": it explores as in training.</summary>
        public bool Explores = false;
        /// <summary>The game goes on by itself (a person plays it) and never waits for the trainer.</summary>
        public bool Realtime = false;
        /// <summary>With the roles of evaluation: how many episodes are played on this connection, in all
        /// slots; 0 says nothing of it.</summary>
        public int Episodes = 0;
        /// <summary>This program evaluates where Client.Settings asks for it (understudy.evaluate).</summary>
        public bool Evaluates = false;
        /// <summary>Frames say which choices are legal: see Client.Act.</summary>
        public bool Masks = false;
        /// <summary>Names of numbers that frames tell beside the rewards: see Client.Act.</summary>
        public string[] Metrics = new string[0];
        /// <summary>The server's token, where it asks for one.</summary>
        public string Token;

        /// <summary>Elements of an observation with this Shape.</summary>
        public int ObservationSize
        {
            get
            {
                int size = 1;
                foreach (int side in Shape) { size *= side; }
                return size;
            }
        }

        /// <summary>Numbers of an action: one for a choice, Size for a continuous head.</summary>
        public int ActionWidth
        {
            get
            {
                int width = 0;
                foreach (Head head in Heads) { width += head.Size; }
                return width;
            }
        }
    }

    /// <summary>The answer to a frame.</summary>
    public sealed class Answer
    {
        public int Slot;
        public long Seq;
        /// <summary>What to do: the numbers of all heads, one after the other, a choice as a whole
        /// number. Null where the frame's status was not 0.</summary>
        public double[] Action;
        /// <summary>Who chose it: 1 dqn, 2 expert, 0 where there is no action.</summary>
        public int Actor;
        public long PolicyVersion;
        public bool Explored;
    }

    /// <summary>The answer to a frame of all slots.</summary>
    public sealed class Answers
    {
        public long Seq;
        /// <summary>Slots x ActionWidth; NaN where the slot's status was not 0.</summary>
        public float[] Actions;
        /// <summary>For each slot 1 dqn, 2 expert, 0 none.</summary>
        public byte[] Actors;
        public long PolicyVersion;
        public byte[] Explored;
    }

    /// <summary>What was really done instead of an answer.</summary>
    public sealed class Took
    {
        public readonly double[] Action;
        /// <summary>2 where an expert or a person chose it, 1 where it was the network's.</summary>
        public readonly int Actor;

        public Took(double[] action, int actor)
        {
            Action = action;
            Actor = actor;
        }
    }

    /// <summary>Anything that goes wrong between a game and its server.</summary>
    public class UnderstudyException : Exception
    {
        public UnderstudyException(string message, Exception cause = null) : base(message, cause) { }
    }

    /// <summary>The server sent ERROR. Show the message to somebody.</summary>
    public sealed class ServerErrorException : UnderstudyException
    {
        public readonly string Code;
        public readonly bool Retry;

        public ServerErrorException(string code, string message, bool retry)
            : base("the server refused (" + code + "): " + message)
        {
            Code = code;
            Retry = retry;
        }
    }

    /// <summary>There is no connection, and trying again was given up.</summary>
    public sealed class ConnectionLostException : UnderstudyException
    {
        public ConnectionLostException(string message, Exception cause = null) : base(message, cause) { }
    }

    /// <summary>The connection was lost and is back: reset the game and begin a new episode.</summary>
    public sealed class ReconnectedException : UnderstudyException
    {
        /// <summary>Of the server's ERROR; null where there was none. "episode_limit": it has cut an
        /// episode of evaluation, which is not to be played again.</summary>
        public readonly string Code;

        public ReconnectedException(string message, Exception cause) : base(message, cause)
        {
            ServerErrorException error = cause as ServerErrorException;
            Code = error == null ? null : error.Code;
        }
    }

    /// <summary>What came back is not the protocol.</summary>
    public sealed class ProtocolViolationException : UnderstudyException
    {
        public ProtocolViolationException(string message, Exception cause = null) : base(message, cause) { }
    }

    /// <summary>A game's connection to its server: one blocking call for each frame.
    /// Not for use from several threads at once.</summary>
    public sealed class Client : IDisposable
    {
        /// <summary>How long to wait for WELCOME and for each answer. Generous: a server may make
        /// its games wait for the trainer.</summary>
        public double TimeoutSeconds = 120;
        /// <summary>Waits between attempts to connect: doubled from the first to the longest.</summary>
        public double FirstWaitSeconds = 0.1;
        public double LongestWaitSeconds = 5;
        /// <summary>Counted from the first failure; 0 never tries again.</summary>
        public double GiveUpSeconds = 60;

        /// <summary>The number of this session, from WELCOME.</summary>
        public ulong Session { get; private set; }
        /// <summary>Name and version of the server.</summary>
        public string Server { get; private set; }
        /// <summary>What the operator wants of the game. Follows changes while the game plays.</summary>
        public readonly Dictionary<string, object> Settings = new Dictionary<string, object>();

        private readonly string _host;
        private readonly int _port;
        private readonly Game _game;
        private readonly Random _random = new Random();
        private readonly byte[] _chunk = new byte[64 * 1024];
        private Socket _socket;
        private Inbox _inbox = new Inbox();
        private long[] _seqs;
        private long _seqAll;
        private long _pings;
        private int _left; // of the announced episodes
        private readonly HashSet<int> _underWay = new HashSet<int>(); // slots in an episode

        public Client(string host, int port, Game game)
        {
            _host = host;
            _port = port;
            _game = game;
            _seqs = new long[game.Slots];
            _left = game.Role == "train" ? 0 : game.Episodes;
        }

        /// <summary>Connect, say HELLO and wait for WELCOME; tries again while the server is away.
        /// Throws ServerErrorException where it refuses for good, ConnectionLostException where it
        /// cannot be reached.</summary>
        public void Connect()
        {
            Establish(null);
        }

        /// <summary>Send one frame of a slot and wait for its answer.</summary>
        /// <param name="observation">float32: as many numbers as the shape has elements.</param>
        /// <param name="reward">What the slot's previous action earned; on the first frame of an
        /// episode it means nothing.</param>
        /// <param name="status">0, or 1 terminated or 2 truncated: then this is the last frame of
        /// the episode, its answer has no action, and the next frame begins a new episode.</param>
        /// <param name="expert">What your own expert recommends now, or null.</param>
        /// <param name="took">What was really done instead of the previous answer, or null.</param>
        /// <param name="legal">In a game with masks, whether each choice of each discrete head is
        /// legal, one head behind the other; null says that all are.</param>
        /// <param name="metrics">A number, or null, for each name of Game.Metrics; or null.</param>
        public Answer Act(
            float[] observation, double reward, int status, double[] expert = null, Took took = null,
            int slot = 0, bool[] legal = null, double?[] metrics = null)
        {
            return Act(
                Tensor.Bytes(observation), new double[] { reward }, status, expert, took, slot, legal,
                metrics);
        }

        /// <summary>As above, with an observation of uint8, or bytes that you have put together
        /// yourself, and a reward for each component.</summary>
        public Answer Act(
            byte[] observation, double[] rewards, int status, double[] expert = null, Took took = null,
            int slot = 0, bool[] legal = null, double?[] metrics = null)
        {
            if (slot < 0 || slot >= _seqs.Length)
            {
                throw new ArgumentException("slot: expected 0 to " + (_seqs.Length - 1) + ", got " + slot);
            }
            long seq = _seqs[slot];
            byte[] mask = legal == null ? null : Mask.Bytes(_game, legal, 1);
            byte[] message = Wire.Frame(
                _game, slot, seq, observation, rewards, status, expert, took, mask, metrics);
            object[] got = Exchange(message, Wire.ActionType);
            Answer answer = Wire.ReadAction(got);
            if (answer.Slot != slot || answer.Seq != seq)
            {
                throw Violation("ACTION for slot " + slot + ", seq " + seq, got);
            }
            _seqs[slot] = seq + 1;
            Count(slot, status);
            return answer;
        }

        /// <summary>Send one frame of every slot and wait for the answers. A connection uses Act or
        /// ActAll, never both.</summary>
        /// <param name="observations">slots x observation.</param>
        /// <param name="rewards">slots x components.</param>
        /// <param name="experts">slots x ActionWidth, NaN first: none for that slot; or null.</param>
        /// <param name="tookActions">slots x ActionWidth, or null.</param>
        /// <param name="tookActors">For each slot, 0 where the answer was followed.</param>
        /// <param name="legal">slots x choices, as in Act; or null.</param>
        /// <param name="metrics">slots x Game.Metrics, NaN for none; or null.</param>
        public Answers ActAll(
            byte[] observations, float[] rewards, byte[] statuses, float[] experts = null,
            float[] tookActions = null, byte[] tookActors = null, bool[] legal = null,
            float[] metrics = null)
        {
            long seq = _seqAll;
            byte[] masks = legal == null ? null : Mask.Bytes(_game, legal, _game.Slots);
            byte[] message = Wire.Frames(
                seq, observations, rewards, statuses, experts, tookActions, tookActors, masks, metrics);
            object[] got = Exchange(message, Wire.ActionsType);
            Answers answers = Wire.ReadActions(got);
            if (answers.Seq != seq || answers.Actors.Length != _game.Slots
                || answers.Actions.Length != _game.Slots * _game.ActionWidth)
            {
                throw Violation("ACTIONS for " + _game.Slots + " slots, seq " + seq, got);
            }
            _seqAll = seq + 1;
            for (int slot = 0; slot < statuses.Length; slot++) { Count(slot, statuses[slot]); }
            return answers;
        }

        private void Count(int slot, int status)
        {
            if (status == Status.Running) { _underWay.Add(slot); }
            else if (_underWay.Remove(slot) && _left > 0) { _left--; }
        }

        /// <summary>Say that the game is still there, now and then while it is paused.</summary>
        public void Ping()
        {
            long nonce = _pings++;
            object[] got = Exchange(Wire.Ping(nonce), Wire.PongType);
            if (got.Length < 2 || !Equals(got[1], nonce)) { throw Violation("PONG " + nonce, got); }
        }

        /// <summary>Say BYE and close.</summary>
        public void Dispose()
        {
            Socket socket = _socket;
            _socket = null;
            if (socket == null) { return; }
            try { socket.Send(Wire.Bye()); }
            catch (SocketException) { }
            socket.Close();
        }

        // The connection. After anything that went wrong, question and answer may no longer belong
        // together: it is dropped.

        private object[] Exchange(byte[] message, int wanted)
        {
            if (_socket == null) { Back(new ConnectionLostException("not connected")); }
            try
            {
                Send(message);
                object[] got = Receive();
                if (Wire.TypeOf(got) != wanted) { throw Violation("a message of type " + wanted, got); }
                return got;
            }
            catch (ConnectionLostException lost) { Back(lost); }
            catch (ServerErrorException error)
            {
                Drop();
                if (!error.Retry) { throw; }
                Back(error);
            }
            catch (ProtocolViolationException)
            {
                Drop();
                throw;
            }
            return null; // Back has thrown
        }

        private void Back(UnderstudyException cause)
        {
            Drop();
            ServerErrorException error = cause as ServerErrorException;
            bool cut = error != null && error.Code == "episode_limit" && _underWay.Count > 0;
            if (cut && _left > 0) { _left--; }
            _underWay.Clear();
            Establish(cause);
            throw new ReconnectedException(
                "reconnected as session " + Session + " after: " + cause.Message + "; begin a new episode",
                cause);
        }

        private void Establish(UnderstudyException lost)
        {
            double limit = FirstWaitSeconds;
            DateTime firstFailure = DateTime.UtcNow;
            UnderstudyException problem = lost;
            while (true)
            {
                if (problem != null)
                {
                    // A random part, so that many games do not all come back in the same instant.
                    double wait = Math.Min(limit, LongestWaitSeconds) * (0.5 + 0.5 * _random.NextDouble());
                    limit = Math.Min(2 * limit, LongestWaitSeconds);
                    double gone = (DateTime.UtcNow - firstFailure).TotalSeconds;
                    if (gone + wait > GiveUpSeconds)
                    {
                        throw new ConnectionLostException(
                            "no understudy server at " + _host + ":" + _port + ": gave up after "
                            + (int)gone + " s; the last problem: " + problem.Message, problem);
                    }
                    Thread.Sleep((int)(1000 * wait));
                }
                try
                {
                    Open();
                    return;
                }
                catch (ConnectionLostException error) { problem = error; }
                catch (ServerErrorException error)
                {
                    if (!error.Retry) { throw; }
                    problem = error;
                }
            }
        }

        private void Open()
        {
            _inbox = new Inbox();
            Socket socket = new Socket(SocketType.Stream, ProtocolType.Tcp);
            // Each frame waits for its answer: to wait until a packet is full would cost 40 ms.
            socket.NoDelay = true;
            socket.ReceiveTimeout = socket.SendTimeout = (int)(1000 * TimeoutSeconds);
            try { socket.Connect(_host, _port); }
            catch (SocketException error)
            {
                socket.Close();
                throw new ConnectionLostException(
                    "cannot connect to " + _host + ":" + _port + ": " + error.Message, error);
            }
            _socket = socket;
            try
            {
                Send(Wire.Hello(_game, _left));
                object[] got = Receive();
                Dictionary<object, object> fields =
                    Wire.TypeOf(got) == Wire.WelcomeType && got.Length > 1
                    ? got[1] as Dictionary<object, object> : null;
                object session, server, settings;
                if (fields == null || !fields.TryGetValue("session", out session)
                    || !fields.TryGetValue("server", out server)
                    || !fields.TryGetValue("settings", out settings))
                {
                    throw Violation("WELCOME", got);
                }
                Session = Convert.ToUInt64(session);
                Server = server as string;
                Take(settings);
            }
            catch
            {
                Drop();
                throw;
            }
            Array.Clear(_seqs, 0, _seqs.Length);
            _seqAll = 0;
        }

        private void Take(object settings)
        {
            Dictionary<object, object> map = settings as Dictionary<object, object>;
            if (map == null) { return; }
            foreach (KeyValuePair<object, object> item in map)
            {
                string key = item.Key as string;
                if (key != null) { Settings[key] = item.Value; }
            }
        }

        private void Drop()
        {
            if (_socket != null) { _socket.Close(); }
            _socket = null;
        }

        private void Send(byte[] message)
        {
            try
            {
                int sent = 0;
                while (sent < message.Length)
                {
                    sent += _socket.Send(message, sent, message.Length - sent, SocketFlags.None);
                }
            }
            catch (SocketException error)
            {
                // A server that refuses says why before it closes: that is the better message.
                try { while (true) { Receive(); } }
                catch (ConnectionLostException) { }
                throw new ConnectionLostException(error.Message, error);
            }
        }

        /// <summary>The next message that is no SETTINGS; ERROR is thrown.</summary>
        private object[] Receive()
        {
            while (true)
            {
                object[] got;
                while ((got = _inbox.Next()) != null)
                {
                    switch (Wire.TypeOf(got))
                    {
                        case Wire.SettingsType:
                            if (got.Length > 1) { Take(got[1]); }
                            break;
                        case Wire.ErrorType:
                            if (got.Length < 4 || !(got[3] is bool)) { throw Violation("ERROR", got); }
                            throw new ServerErrorException(got[1] as string, got[2] as string, (bool)got[3]);
                        default:
                            return got;
                    }
                }
                int count;
                try { count = _socket.Receive(_chunk); }
                catch (SocketException error)
                {
                    throw new ConnectionLostException("no answer: " + error.Message, error);
                }
                if (count == 0) { throw new ConnectionLostException("the server closed the connection"); }
                _inbox.Add(_chunk, count);
            }
        }

        private ProtocolViolationException Violation(string expected, object[] got)
        {
            Drop();
            return new ProtocolViolationException("expected " + expected + ", got " + Wire.Show(got));
        }
    }

    /// <summary>Arrays of numbers as they travel: little-endian.</summary>
    public static class Tensor
    {
        public static byte[] Bytes(float[] values)
        {
            byte[] data = new byte[4 * values.Length];
            Buffer.BlockCopy(values, 0, data, 0, data.Length);
            Turn(data);
            return data;
        }

        public static byte[] Bytes(int[] values)
        {
            byte[] data = new byte[4 * values.Length];
            Buffer.BlockCopy(values, 0, data, 0, data.Length);
            Turn(data);
            return data;
        }

        public static byte[] Bytes(long[] values)
        {
            byte[] data = new byte[8 * values.Length];
            Buffer.BlockCopy(values, 0, data, 0, data.Length);
            if (!BitConverter.IsLittleEndian)
            {
                for (int i = 0; i < data.Length; i += 8) { Array.Reverse(data, i, 8); }
            }
            return data;
        }

        /// <summary>Several observations of one frame, one behind the other.</summary>
        public static byte[] Join(params byte[][] parts)
        {
            int length = 0;
            foreach (byte[] part in parts) { length += part.Length; }
            byte[] data = new byte[length];
            int at = 0;
            foreach (byte[] part in parts)
            {
                Buffer.BlockCopy(part, 0, data, at, part.Length);
                at += part.Length;
            }
            return data;
        }

        public static float[] Floats(byte[] data)
        {
            byte[] copy = (byte[])data.Clone();
            Turn(copy);
            float[] values = new float[copy.Length / 4];
            Buffer.BlockCopy(copy, 0, values, 0, 4 * values.Length);
            return values;
        }

        private static void Turn(byte[] data)
        {
            if (BitConverter.IsLittleEndian) { return; }
            for (int i = 0; i + 3 < data.Length; i += 4) { Array.Reverse(data, i, 4); }
        }
    }

    /// <summary>Which choices are legal, as bits.</summary>
    public static class Mask
    {
        /// <summary>The bits of so many masks, each with a bool for each choice of each discrete
        /// head.</summary>
        public static byte[] Bytes(Game game, bool[] legal, int slots)
        {
            int choices = 0;
            foreach (Head head in game.Heads) { choices += head.Choices; }
            if (legal.Length != slots * choices)
            {
                throw new ArgumentException(
                    "legal: expected " + slots + " x " + choices + " bools, got " + legal.Length);
            }
            int each = (choices + 7) / 8;
            byte[] bits = new byte[slots * each];
            for (int i = 0; i < legal.Length; i++)
            {
                int choice = i % choices;
                if (legal[i]) { bits[i / choices * each + choice / 8] |= (byte)(1 << choice % 8); }
            }
            return bits;
        }
    }

    /// <summary>The messages as bytes: what a client sends, and what of a server's it reads.</summary>
    public static class Wire
    {
        public const int WelcomeType = 11;
        public const int ActionType = 12;
        public const int ActionsType = 13;
        public const int PongType = 14;
        public const int ErrorType = 15;
        public const int SettingsType = 16;

        public static byte[] Hello(Game game, int episodes)
        {
            Packer p = new Packer();
            bool rewards = game.Rewards.Length != 1 || game.Rewards[0] != "reward";
            int keys = 5 + (rewards ? 1 : 0) + (game.Slots != 1 ? 1 : 0) + (game.Token != null ? 1 : 0)
                + (game.Role != "train" ? 1 : 0) + (game.Realtime ? 1 : 0)
                + (episodes > 0 ? 1 : 0) + (game.Evaluates ? 1 : 0) + (game.Masks ? 1 : 0)
                + (game.Metrics.Length > 0 ? 1 : 0) + (game.Policy != null ? 1 : 0)
                + (game.Explores ? 1 : 0);
            p.Array(2).Int(1).Map(keys);
            p.Str("protocol").Int(1).Str("client").Str(game.Client).Str("game").Str(game.Name);
            p.Str("observation");
            if (game.Observations == null) { Sides(p.Array(2).Str(game.Dtype), game.Shape); }
            else
            {
                p.Array(game.Observations.Length);
                foreach (Observation one in game.Observations) { Shown(p, one); }
            }
            p.Str("actions").Array(game.Heads.Length);
            foreach (Head head in game.Heads)
            {
                if (head.IsDiscrete) { p.Array(3).Str("discrete").Str(head.Name).Int(head.Choices); }
                else
                {
                    p.Array(5).Str("continuous").Str(head.Name).Double(head.Low).Double(head.High);
                    p.Int(head.Size);
                }
            }
            if (rewards)
            {
                p.Str("rewards").Array(game.Rewards.Length);
                foreach (string name in game.Rewards) { p.Str(name); }
            }
            if (game.Slots != 1) { p.Str("slots").Int(game.Slots); }
            if (game.Token != null) { p.Str("token").Str(game.Token); }
            if (game.Role != "train") { p.Str("role").Str(game.Role); }
            if (game.Realtime) { p.Str("realtime").Bool(true); }
            if (episodes > 0) { p.Str("episodes").Int(episodes); }
            if (game.Evaluates) { p.Str("evaluates").Bool(true); }
            if (game.Masks) { p.Str("masks").Bool(true); }
            if (game.Metrics.Length > 0)
            {
                p.Str("metrics").Array(game.Metrics.Length);
                foreach (string name in game.Metrics) { p.Str(name); }
            }
            if (game.Policy != null) { p.Str("policy").Str(game.Policy); }
            if (game.Explores) { p.Str("explores").Bool(true); }
            return p.Message();
        }

        private static void Sides(Packer p, int[] sides)
        {
            p.Array(sides.Length);
            foreach (int side in sides) { p.Int(side); }
        }

        private static void Shown(Packer p, Observation one)
        {
            p.Map(3 + (one.Kind != null ? 1 : 0) + (one.Low != null ? 1 : 0) + (one.High != null ? 1 : 0)
                + (one.N != null ? 1 : 0) + (one.Channels != null ? 1 : 0));
            Sides(p.Str("dtype").Str(one.Dtype).Str("shape"), one.Shape);
            p.Str("name").Str(one.Name);
            if (one.Kind != null) { p.Str("kind").Str(one.Kind); }
            if (one.Low != null) { p.Str("low").Double(one.Low.Value); }
            if (one.High != null) { p.Str("high").Double(one.High.Value); }
            if (one.N != null)
            {
                p.Str("n");
                if (one.Kind == "choice") { p.Int(one.N[0]); } else { Sides(p, one.N); }
            }
            if (one.Channels != null) { Sides(p.Str("channels"), one.Channels); }
        }

        public static byte[] Frame(
            Game game, int slot, long seq, byte[] observation, double[] rewards, int status,
            double[] expert, Took took, byte[] mask = null, double?[] metrics = null)
        {
            Packer p = new Packer();
            p.Array(metrics != null ? 10 : mask == null ? 8 : 9).Int(2).Int(slot).Int(seq).Bin(observation);
            if (rewards.Length == 1) { p.Double(rewards[0]); }
            else
            {
                p.Array(rewards.Length);
                foreach (double reward in rewards) { p.Double(reward); }
            }
            p.Int(status);
            Action(p, game, expert);
            if (took == null) { p.Nil(); }
            else
            {
                p.Array(2);
                Action(p, game, took.Action);
                p.Int(took.Actor);
            }
            if (mask != null) { p.Bin(mask); } else if (metrics != null) { p.Nil(); }
            if (metrics != null)
            {
                p.Array(metrics.Length);
                foreach (double? metric in metrics)
                {
                    if (metric == null) { p.Nil(); } else { p.Double(metric.Value); }
                }
            }
            return p.Message();
        }

        public static byte[] Frames(
            long seq, byte[] observations, float[] rewards, byte[] statuses, float[] experts,
            float[] tookActions, byte[] tookActors, byte[] masks = null, float[] metrics = null)
        {
            Packer p = new Packer();
            p.Array(metrics != null ? 9 : masks == null ? 7 : 8).Int(3).Int(seq);
            p.Bin(observations).Bin(Tensor.Bytes(rewards)).Bin(statuses);
            if (experts == null) { p.Nil(); } else { p.Bin(Tensor.Bytes(experts)); }
            if (tookActions == null) { p.Nil(); }
            else { p.Array(2).Bin(Tensor.Bytes(tookActions)).Bin(tookActors); }
            if (masks != null) { p.Bin(masks); } else if (metrics != null) { p.Nil(); }
            if (metrics != null) { p.Bin(Tensor.Bytes(metrics)); }
            return p.Message();
        }

        public static byte[] Ping(long nonce)
        {
            return new Packer().Array(2).Int(4).Int(nonce).Message();
        }

        public static byte[] Bye()
        {
            return new Packer().Array(1).Int(5).Message();
        }

        public static Answer ReadAction(object[] got)
        {
            if (got.Length < 7 || !(got[6] is bool) || !(got[3] == null || got[3] is object[]))
            {
                throw new ProtocolViolationException("expected ACTION with 7 elements, got " + Show(got));
            }
            Answer answer = new Answer();
            answer.Slot = (int)Whole(got[1], got);
            answer.Seq = Whole(got[2], got);
            object[] parts = got[3] as object[];
            if (parts != null)
            {
                List<double> row = new List<double>();
                foreach (object part in parts)
                {
                    object[] numbers = part as object[];
                    if (numbers == null) { row.Add(Number(part, got)); }
                    else { foreach (object number in numbers) { row.Add(Number(number, got)); } }
                }
                answer.Action = row.ToArray();
            }
            answer.Actor = (int)Whole(got[4], got);
            answer.PolicyVersion = Whole(got[5], got);
            answer.Explored = (bool)got[6];
            return answer;
        }

        public static Answers ReadActions(object[] got)
        {
            if (got.Length < 6 || !(got[2] is byte[]) || !(got[3] is byte[]) || !(got[5] is byte[]))
            {
                throw new ProtocolViolationException("expected ACTIONS with 6 elements, got " + Show(got));
            }
            Answers answers = new Answers();
            answers.Seq = Whole(got[1], got);
            answers.Actions = Tensor.Floats((byte[])got[2]);
            answers.Actors = (byte[])got[3];
            answers.PolicyVersion = Whole(got[4], got);
            answers.Explored = (byte[])got[5];
            return answers;
        }

        public static int TypeOf(object[] message)
        {
            return message.Length > 0 && message[0] is long ? (int)(long)message[0] : 0;
        }

        /// <summary>A message for people, cut short.</summary>
        public static string Show(object value)
        {
            StringBuilder text = new StringBuilder();
            Show(value, text);
            return text.Length > 300 ? text.ToString(0, 300) + " …" : text.ToString();
        }

        private static void Show(object value, StringBuilder text)
        {
            object[] items = value as object[];
            byte[] data = value as byte[];
            if (text.Length > 300) { return; }
            if (items != null)
            {
                text.Append('[');
                for (int i = 0; i < items.Length; i++)
                {
                    if (i > 0) { text.Append(", "); }
                    Show(items[i], text);
                }
                text.Append(']');
            }
            else if (data != null) { text.Append(data.Length).Append(" bytes"); }
            else if (value is Dictionary<object, object>) { text.Append("a map"); }
            else { text.Append(value ?? "nil"); }
        }

        private static void Action(Packer p, Game game, double[] row)
        {
            if (row == null)
            {
                p.Nil();
                return;
            }
            if (row.Length != game.ActionWidth)
            {
                throw new ArgumentException(
                    "action: expected " + game.ActionWidth + " numbers, one for each choice and Size "
                    + "for each continuous head, got " + row.Length);
            }
            p.Array(game.Heads.Length);
            int at = 0;
            foreach (Head head in game.Heads)
            {
                if (head.IsDiscrete) { p.Int((long)row[at]); }
                else
                {
                    if (head.Size > 1) { p.Array(head.Size); }
                    for (int i = 0; i < head.Size; i++) { p.Double(row[at + i]); }
                }
                at += head.Size;
            }
        }

        private static long Whole(object value, object[] got)
        {
            if (value is long) { return (long)value; }
            throw new ProtocolViolationException("expected an int, got " + Show(value) + " in " + Show(got));
        }

        private static double Number(object value, object[] got)
        {
            if (value is double) { return (double)value; }
            return Whole(value, got);
        }
    }

    /// <summary>Bytes in, messages out, however they are split or glued.</summary>
    public sealed class Inbox
    {
        /// <summary>A server's answers are a few bytes for each slot: this is no message of it.</summary>
        public const long Longest = 64 * 1024 * 1024;

        private byte[] _buffer = new byte[64 * 1024];
        private int _start;
        private int _end;

        public void Add(byte[] data, int count)
        {
            if (_end + count > _buffer.Length)
            {
                int held = _end - _start;
                byte[] target = held + count > _buffer.Length
                    ? new byte[Math.Max(2 * _buffer.Length, held + count)] : _buffer;
                Buffer.BlockCopy(_buffer, _start, target, 0, held);
                _buffer = target;
                _start = 0;
                _end = held;
            }
            Buffer.BlockCopy(data, 0, _buffer, _end, count);
            _end += count;
        }

        /// <summary>The next whole message, or null.</summary>
        public object[] Next()
        {
            if (_end - _start < 4) { return null; }
            long length = (long)_buffer[_start] << 24 | (long)_buffer[_start + 1] << 16
                | (long)_buffer[_start + 2] << 8 | _buffer[_start + 3];
            if (length < 1 || length > Longest)
            {
                throw new ProtocolViolationException(
                    "expected a message, got a length of " + length
                    + "; is this the port of an understudy server?");
            }
            if (_end - _start < 4 + length) { return null; }
            Unpacker unpacker = new Unpacker(_buffer, _start + 4, (int)length);
            object value = unpacker.Value();
            object[] message = value as object[];
            if (message == null || !unpacker.AtEnd)
            {
                throw new ProtocolViolationException("expected one array, got " + Wire.Show(value));
            }
            _start += 4 + (int)length;
            return message;
        }
    }

    /// <summary>Writes msgpack.</summary>
    public sealed class Packer
    {
        private readonly MemoryStream _out = new MemoryStream();

        public Packer()
        {
            Big(0, 4); // the length comes here
        }

        /// <summary>The message with its length before it.</summary>
        public byte[] Message()
        {
            byte[] data = _out.ToArray();
            int length = data.Length - 4;
            data[0] = (byte)(length >> 24);
            data[1] = (byte)(length >> 16);
            data[2] = (byte)(length >> 8);
            data[3] = (byte)length;
            return data;
        }

        public Packer Nil()
        {
            _out.WriteByte(0xc0);
            return this;
        }

        public Packer Bool(bool value)
        {
            _out.WriteByte((byte)(value ? 0xc3 : 0xc2));
            return this;
        }

        public Packer Int(long value)
        {
            if (value >= 0)
            {
                if (value < 128) { _out.WriteByte((byte)value); }
                else if (value <= byte.MaxValue) { Tagged(0xcc, value, 1); }
                else if (value <= ushort.MaxValue) { Tagged(0xcd, value, 2); }
                else if (value <= uint.MaxValue) { Tagged(0xce, value, 4); }
                else { Tagged(0xcf, value, 8); }
            }
            else if (value >= -32) { _out.WriteByte((byte)value); }
            else if (value >= sbyte.MinValue) { Tagged(0xd0, value, 1); }
            else if (value >= short.MinValue) { Tagged(0xd1, value, 2); }
            else if (value >= int.MinValue) { Tagged(0xd2, value, 4); }
            else { Tagged(0xd3, value, 8); }
            return this;
        }

        public Packer Double(double value)
        {
            Tagged(0xcb, BitConverter.DoubleToInt64Bits(value), 8);
            return this;
        }

        public Packer Str(string value)
        {
            byte[] data = Encoding.UTF8.GetBytes(value);
            if (data.Length < 32) { _out.WriteByte((byte)(0xa0 | data.Length)); }
            else if (data.Length <= byte.MaxValue) { Tagged(0xd9, data.Length, 1); }
            else if (data.Length <= ushort.MaxValue) { Tagged(0xda, data.Length, 2); }
            else { Tagged(0xdb, data.Length, 4); }
            _out.Write(data, 0, data.Length);
            return this;
        }

        public Packer Bin(byte[] data)
        {
            if (data.Length <= byte.MaxValue) { Tagged(0xc4, data.Length, 1); }
            else if (data.Length <= ushort.MaxValue) { Tagged(0xc5, data.Length, 2); }
            else { Tagged(0xc6, data.Length, 4); }
            _out.Write(data, 0, data.Length);
            return this;
        }

        public Packer Array(int count)
        {
            if (count < 16) { _out.WriteByte((byte)(0x90 | count)); }
            else if (count <= ushort.MaxValue) { Tagged(0xdc, count, 2); }
            else { Tagged(0xdd, count, 4); }
            return this;
        }

        public Packer Map(int count)
        {
            if (count < 16) { _out.WriteByte((byte)(0x80 | count)); }
            else if (count <= ushort.MaxValue) { Tagged(0xde, count, 2); }
            else { Tagged(0xdf, count, 4); }
            return this;
        }

        private void Tagged(int tag, long value, int bytes)
        {
            _out.WriteByte((byte)tag);
            Big(value, bytes);
        }

        private void Big(long value, int bytes)
        {
            for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) { _out.WriteByte((byte)(value >> shift)); }
        }
    }

    /// <summary>Reads msgpack: ints as long (ulong beyond it), floats as double, str, bin as byte[],
    /// arrays as object[], maps as Dictionary.</summary>
    public sealed class Unpacker
    {
        private const int Deepest = 100;

        private readonly byte[] _data;
        private readonly int _end;
        private int _at;
        private int _depth;

        public Unpacker(byte[] data, int start, int count)
        {
            _data = data;
            _at = start;
            _end = start + count;
        }

        public bool AtEnd { get { return _at == _end; } }

        public object Value()
        {
            int tag = (int)Big(1);
            if (tag < 0x80) { return (long)tag; }
            if (tag < 0x90) { return Map(tag & 0x0f); }
            if (tag < 0xa0) { return Array(tag & 0x0f); }
            if (tag < 0xc0) { return Str(tag & 0x1f); }
            if (tag >= 0xe0) { return (long)(sbyte)tag; }
            switch (tag)
            {
                case 0xc0: return null;
                case 0xc2: return false;
                case 0xc3: return true;
                case 0xc4: return Bin((long)Big(1));
                case 0xc5: return Bin((long)Big(2));
                case 0xc6: return Bin((long)Big(4));
                case 0xc7: return Ext((long)Big(1));
                case 0xc8: return Ext((long)Big(2));
                case 0xc9: return Ext((long)Big(4));
                case 0xca: return (double)Single();
                case 0xcb: return BitConverter.Int64BitsToDouble((long)Big(8));
                case 0xcc: return (long)Big(1);
                case 0xcd: return (long)Big(2);
                case 0xce: return (long)Big(4);
                case 0xcf:
                    ulong whole = Big(8);
                    if (whole <= long.MaxValue) { return (long)whole; }
                    return whole;
                case 0xd0: return (long)(sbyte)Big(1);
                case 0xd1: return (long)(short)Big(2);
                case 0xd2: return (long)(int)Big(4);
                case 0xd3: return (long)Big(8);
                case 0xd4: return Ext(1);
                case 0xd5: return Ext(2);
                case 0xd6: return Ext(4);
                case 0xd7: return Ext(8);
                case 0xd8: return Ext(16);
                case 0xd9: return Str((long)Big(1));
                case 0xda: return Str((long)Big(2));
                case 0xdb: return Str((long)Big(4));
                case 0xdc: return Array((long)Big(2));
                case 0xdd: return Array((long)Big(4));
                case 0xde: return Map((long)Big(2));
                case 0xdf: return Map((long)Big(4));
            }
            throw new ProtocolViolationException("expected a msgpack value, got the byte 0xc1");
        }

        private ulong Big(int bytes)
        {
            Need(bytes);
            ulong value = 0;
            for (int i = 0; i < bytes; i++) { value = value << 8 | _data[_at++]; }
            return value;
        }

        private float Single()
        {
            Need(4);
            byte[] four = { _data[_at + 3], _data[_at + 2], _data[_at + 1], _data[_at] };
            _at += 4;
            return Tensor.Floats(four)[0];
        }

        private byte[] Bin(long count)
        {
            Need(count);
            byte[] data = new byte[count];
            Buffer.BlockCopy(_data, _at, data, 0, (int)count);
            _at += (int)count;
            return data;
        }

        private string Str(long count)
        {
            Need(count);
            try
            {
                string text = Strict.GetString(_data, _at, (int)count);
                _at += (int)count;
                return text;
            }
            catch (ArgumentException error)
            {
                throw new ProtocolViolationException("expected UTF-8 in a str", error);
            }
        }

        private static readonly UTF8Encoding Strict = new UTF8Encoding(false, true);

        private byte[] Ext(long count)
        {
            Need(count + 1);
            _at++; // its type: nothing of this protocol has one, but settings and nonces may
            return Bin(count);
        }

        private object[] Array(long count)
        {
            Need(count); // each element takes a byte at least
            Deeper();
            object[] items = new object[count];
            for (int i = 0; i < items.Length; i++) { items[i] = Value(); }
            _depth--;
            return items;
        }

        private Dictionary<object, object> Map(long count)
        {
            Need(2 * count);
            Deeper();
            Dictionary<object, object> map = new Dictionary<object, object>();
            for (long i = 0; i < count; i++)
            {
                object key = Value();
                if (key == null) { throw new ProtocolViolationException("expected no nil as a key"); }
                map[key] = Value();
            }
            _depth--;
            return map;
        }

        private void Deeper()
        {
            if (++_depth > Deepest)
            {
                throw new ProtocolViolationException("expected at most " + Deepest + " values in each other");
            }
        }

        private void Need(long count)
        {
            if (_end - _at < count)
            {
                throw new ProtocolViolationException("expected " + count + " bytes more, got " + (_end - _at));
            }
        }
    }
}
