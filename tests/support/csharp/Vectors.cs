// What the C# client makes of the golden vectors. Reads lines of words from stdin, answers each with
// a line of hex: a message that was encoded, or what was decoded, as plain msgpack.

using System;
using System.Collections.Generic;
using System.Text;
using Understudy;

public static class Vectors
{
    public static void Main()
    {
        string line;
        while ((line = Console.ReadLine()) != null)
        {
            string[] words = line.Split(' ');
            string result;
            try { result = Do(words); }
            catch (ProtocolViolationException error) { result = "violation " + error.Message.Replace('\n', ' '); }
            Console.WriteLine(result);
        }
    }

    private static string Do(string[] words)
    {
        switch (words[0])
        {
            case "hello":
                Game hello = GameOf((Dictionary<object, object>)Value(words[1]));
                return Hex(Wire.Hello(hello, hello.Episodes));
            case "frame":
                Game game = GameOf((Dictionary<object, object>)Value(words[1]));
                object[] f = (object[])Value(words[2]);
                object[] took = (object[])f[6];
                return Hex(Wire.Frame(
                    game, (int)(long)f[0], (long)f[1], (byte[])f[2], Row(f[3]), (int)(long)f[4], Row(f[5]),
                    took == null ? null : new Took(Row(took[0]), (int)(long)took[1]),
                    f.Length > 7 ? (byte[])f[7] : null, f.Length > 8 ? Numbers((object[])f[8]) : null));
            case "mask":
                List<bool> legal = new List<bool>();
                foreach (object one in (object[])Value(words[2])) { legal.Add((bool)one); }
                Game of = GameOf((Dictionary<object, object>)Value(words[1]));
                return Hex(Mask.Bytes(of, legal.ToArray(), int.Parse(words[3])));
            case "frames":
                object[] a = (object[])Value(words[1]);
                object[] instead = (object[])a[5];
                return Hex(Wire.Frames(
                    (long)a[0], (byte[])a[1], Tensor.Floats((byte[])a[2]), (byte[])a[3],
                    a[4] == null ? null : Tensor.Floats((byte[])a[4]),
                    instead == null ? null : Tensor.Floats((byte[])instead[0]),
                    instead == null ? null : (byte[])instead[1],
                    a.Length > 6 ? (byte[])a[6] : null,
                    a.Length > 7 ? Tensor.Floats((byte[])a[7]) : null));
            case "ping":
                return Hex(Wire.Ping((long)Value(words[1])));
            case "bye":
                return Hex(Wire.Bye());
            case "read":
                // In pieces of the given size: what each whole message means.
                int size = int.Parse(words[1]);
                byte[] stream = Bytes(words[2]);
                Inbox inbox = new Inbox();
                List<string> out_ = new List<string>();
                for (int at = 0; at < stream.Length; at += size)
                {
                    byte[] piece = new byte[Math.Min(size, stream.Length - at)];
                    Buffer.BlockCopy(stream, at, piece, 0, piece.Length);
                    inbox.Add(piece, piece.Length);
                    object[] message;
                    while ((message = inbox.Next()) != null) { out_.Add(Hex(Meaning(message))); }
                }
                return string.Join(" ", out_);
        }
        return "unknown command " + words[0];
    }

    private static double?[] Numbers(object[] values)
    {
        double?[] found = new double?[values.Length];
        for (int i = 0; i < values.Length; i++) { found[i] = (double?)values[i]; }
        return found;
    }

    /// <summary>Actions as the client gives them to a game, other messages as they are.</summary>
    private static byte[] Meaning(object[] message)
    {
        Packer p = new Packer();
        switch (Wire.TypeOf(message))
        {
            case Wire.ActionType:
                Answer one = Wire.ReadAction(message);
                p.Array(7).Int(12).Int(one.Slot).Int(one.Seq);
                Pack(p, one.Action);
                p.Int(one.Actor).Int(one.PolicyVersion).Bool(one.Explored);
                break;
            case Wire.ActionsType:
                Answers all = Wire.ReadActions(message);
                p.Array(6).Int(13).Int(all.Seq).Bin(Tensor.Bytes(all.Actions)).Bin(all.Actors);
                p.Int(all.PolicyVersion).Bin(all.Explored);
                break;
            default:
                Pack(p, message);
                break;
        }
        return p.Message();
    }

    private static void Pack(Packer p, object value)
    {
        object[] items = value as object[];
        double[] row = value as double[];
        Dictionary<object, object> map = value as Dictionary<object, object>;
        if (value == null) { p.Nil(); }
        else if (value is bool) { p.Bool((bool)value); }
        else if (value is long) { p.Int((long)value); }
        else if (value is double) { p.Double((double)value); }
        else if (value is string) { p.Str((string)value); }
        else if (value is byte[]) { p.Bin((byte[])value); }
        else if (row != null)
        {
            p.Array(row.Length);
            foreach (double number in row) { p.Double(number); }
        }
        else if (items != null)
        {
            p.Array(items.Length);
            foreach (object item in items) { Pack(p, item); }
        }
        else
        {
            p.Map(map.Count);
            foreach (KeyValuePair<object, object> item in map)
            {
                Pack(p, item.Key);
                Pack(p, item.Value);
            }
        }
    }

    private static Game GameOf(Dictionary<object, object> fields)
    {
        object[] observation = (object[])fields["observation"];
        List<Head> heads = new List<Head>();
        foreach (object[] head in (object[])fields["actions"])
        {
            heads.Add((string)head[0] == "discrete"
                ? Head.Discrete((string)head[1], (int)(long)head[2])
                : Head.Continuous(
                    (string)head[1], Convert.ToDouble(head[2]), Convert.ToDouble(head[3]), (int)(long)head[4]));
        }
        List<Observation> several = new List<Observation>();
        if (!(observation[0] is string))
        {
            foreach (Dictionary<object, object> one in observation) { several.Add(ObservationOf(one)); }
        }
        List<string> rewards = new List<string>();
        foreach (object name in (object[])fields["rewards"]) { rewards.Add((string)name); }
        return new Game
        {
            Client = (string)fields["client"],
            Name = (string)fields["game"],
            Dtype = several.Count > 0 ? null : (string)observation[0],
            Shape = several.Count > 0 ? null : Whole(observation[1]),
            Observations = several.Count > 0 ? several.ToArray() : null,
            Heads = heads.ToArray(),
            Rewards = rewards.ToArray(),
            Slots = (int)(long)fields["slots"],
            Role = (string)fields["role"],
            Token = (string)fields["token"],
            Realtime = fields.ContainsKey("realtime") && (bool)fields["realtime"],
            Episodes = fields.ContainsKey("episodes") ? (int)(long)fields["episodes"] : 0,
            Evaluates = fields.ContainsKey("evaluates") && (bool)fields["evaluates"],
            Policy = fields.ContainsKey("policy") ? (string)fields["policy"] : null,
            Explores = fields.ContainsKey("explores") && (bool)fields["explores"],
            Masks = fields.ContainsKey("masks") && (bool)fields["masks"],
            Metrics = fields.ContainsKey("metrics")
                ? Array.ConvertAll((object[])fields["metrics"], name => (string)name) : new string[0],
        };
    }

    private static Observation ObservationOf(Dictionary<object, object> fields)
    {
        return new Observation
        {
            Name = (string)fields["name"],
            Dtype = (string)fields["dtype"],
            Shape = Whole(fields["shape"]),
            Kind = fields.ContainsKey("kind") ? (string)fields["kind"] : null,
            Low = fields.ContainsKey("low") ? Convert.ToDouble(fields["low"]) : (double?)null,
            High = fields.ContainsKey("high") ? Convert.ToDouble(fields["high"]) : (double?)null,
            N = fields.ContainsKey("n") ? Whole(fields["n"]) : null,
            Channels = fields.ContainsKey("channels") ? Whole(fields["channels"]) : null,
        };
    }

    private static int[] Whole(object value)
    {
        List<int> found = new List<int>();
        object[] values = value as object[] ?? new object[] { value };
        foreach (object each in values) { found.Add((int)(long)each); }
        return found.ToArray();
    }

    private static double[] Row(object value)
    {
        if (value == null) { return null; }
        List<double> row = new List<double>();
        object[] parts = value as object[] ?? new object[] { value };
        foreach (object part in parts)
        {
            object[] numbers = part as object[] ?? new object[] { part };
            foreach (object number in numbers) { row.Add(Convert.ToDouble(number)); }
        }
        return row.ToArray();
    }

    private static object Value(string hex)
    {
        byte[] data = Bytes(hex);
        return new Unpacker(data, 0, data.Length).Value();
    }

    private static byte[] Bytes(string hex)
    {
        byte[] data = new byte[hex.Length / 2];
        for (int i = 0; i < data.Length; i++) { data[i] = Convert.ToByte(hex.Substring(2 * i, 2), 16); }
        return data;
    }

    private static string Hex(byte[] data)
    {
        StringBuilder text = new StringBuilder();
        foreach (byte one in data) { text.Append(one.ToString("x2")); }
        return text.ToString();
    }
}
