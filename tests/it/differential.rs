//! The same commands to Redis 7 and to Ringwood, under one clock that the sequence moves; replies are
//! compared byte for byte.
//!
//! What is allowed to differ is in `comparable` and in docs/compat.md. A failure prints the seed;
//! `RINGWOOD_SEED=n cargo nextest run differential` replays it, `RINGWOOD_SEQUENCES=n` runs more.

use std::time::Duration;

use super::grammar;
use super::harness::{Clock, Cluster, Connection, Random, Server, encode};

const SEQUENCES: u64 = 2_000;
const CLUSTER_SEQUENCES: u64 = 2_000;
const COMMANDS: usize = 50;

const KEYS: &[&[u8]] = &[
    b"k1",
    b"k2",
    b"k3",
    b"k4",
    b"{tag}a",
    b"{tag}b",
    b"bin\0\xff\r\n",
    b"",
];
const VALUES: &[&[u8]] = &[
    b"0",
    b"1",
    b"-1",
    b"10",
    b"007",
    b" 1",
    b"abc",
    b"",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"9223372036854775808",
    b"1.5",
    b"3.0e3",
    b"-0.25",
    b"\0\xff\r\n",
    b"a somewhat longer value that is no number and does not fit into forty-four bytes",
];
const NUMBERS: &[&[u8]] = &[
    b"0",
    b"1",
    b"-1",
    b"2",
    b"5",
    b"-3",
    b"100",
    b"-100",
    b"x",
    b"",
    b"1.0",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"9223372036854775808",
];
const FLOATS: &[&[u8]] = &[
    b"1.5", b"-2.75", b"0.1", b"3.0e3", b"100", b"abc", b"", b"0",
];
const TTLS: &[&[u8]] = &[
    b"1000",
    b"5000",
    b"99999",
    b"-1",
    b"0",
    b"abc",
    b"9223372036854775807",
];
/// Milliseconds by which the clock moves on.
const ADVANCES: &[&[u8]] = &[
    b"1",
    b"500",
    b"999",
    b"1000",
    b"4500",
    b"2000000",
    b"100000000",
];
const TIMES: &[&[u8]] = &[b"1", b"4102444800", b"4102444800000", b"-5", b"x"];

/// A command of a sequence that is mostly of one family, if any.
fn command_of(family: Option<&[&str]>, random: &mut Random) -> Vec<Vec<u8>> {
    match family {
        Some(templates) if random.below(6) > 0 => {
            let template = random.pick(templates);
            template.split(' ').map(|word| fill(word, random)).collect()
        }
        _ => command(random),
    }
}

/// The same as a script that runs it: with no key named, the first word, or all.
fn as_script(command: Vec<Vec<u8>>, random: &mut Random) -> Vec<Vec<u8>> {
    if command[0].starts_with(b"@") {
        return command;
    }
    let keys = [0, 1.min(command.len() - 1), command.len() - 1][random.below(3)];
    let script = "local words = {ARGV[1]} for _, key in ipairs(KEYS) do words[#words + 1] = key end \
                  for n = 2, #ARGV do words[#words + 1] = ARGV[n] end return redis.pcall(unpack(words))";
    let mut words = vec![b"EVAL".to_vec(), script.as_bytes().to_vec()];
    words.push(keys.to_string().into_bytes());
    words.extend_from_slice(&command[1..=keys]);
    words.push(command[0].clone());
    words.extend_from_slice(&command[keys + 1..]);
    words
}

/// The command that a script runs, or that was sent.
fn inner(args: &[Vec<u8>]) -> Vec<Vec<u8>> {
    if args[0] != b"EVAL" {
        return args.to_vec();
    }
    let keys = String::from_utf8_lossy(&args[2]).parse().unwrap_or(0);
    let (keys, rest) = args[3..].split_at(keys);
    [&rest[..1], keys, &rest[1..]].concat()
}

fn command(random: &mut Random) -> Vec<Vec<u8>> {
    let kinds: &[&str] = &[
        "GET k",
        "SET k v",
        "SET k v o",
        "SET k v o o",
        "SET k v EX t",
        "SET k v PX t o",
        "SET k v EXAT T",
        "SET k v PXAT T o",
        "SET k v KEEPTTL",
        "SET k v GET",
        "SET k v NX GET",
        "SETNX k v",
        "SETEX k t v",
        "PSETEX k t v",
        "GETSET k v",
        "GETDEL k",
        "GETEX k",
        "GETEX k EX t",
        "GETEX k PERSIST",
        "GETEX k PXAT T",
        "GETEX k o",
        "MGET k k k",
        "MSET k v k v",
        "MSET k v k",
        "MSETNX k v k v",
        "APPEND k v",
        "STRLEN k",
        "GETRANGE k n n",
        "SUBSTR k n n",
        "SETRANGE k n v",
        "INCR k",
        "DECR k",
        "INCRBY k n",
        "DECRBY k n",
        "INCRBYFLOAT k f",
        "LCS k k",
        "LCS k k LEN",
        "LCS k k IDX",
        "LCS k k IDX MINMATCHLEN n",
        "LCS k k IDX WITHMATCHLEN",
        "LCS k k IDX LEN",
        "DEL k",
        "DEL k k k",
        "UNLINK k k",
        "EXISTS k",
        "EXISTS k k k",
        "TYPE k",
        "TOUCH k k",
        "RENAME k k",
        "RENAMENX k k",
        "COPY k k",
        "COPY k k REPLACE",
        "COPY k k DB n",
        "COPY k k DB 1 REPLACE",
        "RANDOMKEY",
        "KEYS *",
        "KEYS k*",
        "KEYS [",
        "SCAN 0 COUNT 1000",
        "SCAN 0 MATCH k? COUNT 1000",
        "SCAN 0 COUNT 1000 TYPE string",
        "SCAN 0 COUNT 1000 TYPE hash",
        "SCAN x",
        "SCAN 0 COUNT 0",
        "SCAN 0 MATCH",
        "DBSIZE",
        "EXPIRE k t",
        "EXPIRE k t x",
        "EXPIRE k t x x",
        "PEXPIRE k t",
        "EXPIREAT k T",
        "PEXPIREAT k T x",
        "EXPIRE k t BAD",
        "TTL k",
        "PTTL k",
        "EXPIRETIME k",
        "PEXPIRETIME k",
        "PERSIST k",
        "@ADVANCE a",
        "@ADVANCE a",
        "@ADVANCE a",
        "TIME",
        "OBJECT REFCOUNT k",
        "OBJECT FREQ k",
        "OBJECT IDLETIME k",
        "OBJECT NOPE k",
        "DUMP k",
        "RESTORE k 0 foreign",
        "RESTORE k -1 foreign",
        "SELECT n",
        "SELECT 1",
        "SELECT 0",
        "SELECT 0",
        "SWAPDB 0 1",
        "SWAPDB x 1",
        "SWAPDB 0 99",
        "MOVE k 1",
        "MOVE k n",
        "MULTI",
        "MULTI",
        "EXEC",
        "EXEC",
        "DISCARD",
        "WATCH k",
        "WATCH k",
        "UNWATCH",
        "PING",
        "PING v",
        "PING v v",
        "ECHO v",
        "NOSUCH k v",
        "GET",
        "GET k k",
        "INCR",
        "FLUSHDB",
        "FLUSHDB ASYNC",
        "FLUSHALL BAD",
        "CLIENT GETNAME",
        "CLIENT SETNAME name",
        "CLIENT SETNAME bad\u{20}",
        "CLIENT NOPE",
        "CLIENT REPLY",
        "CLIENT NO-EVICT on",
        "CLIENT TRACKINGINFO",
        "LASTSAVE x",
        "WAIT 0 0",
        "WAIT x 0",
        "ROLE",
        "SLOWLOG RESET",
        "LATENCY LATEST",
        "MEMORY USAGE",
        "CONFIG GET databases",
        "CONFIG GET",
        "CONFIG SET",
        "CONFIG SET nonsense 1",
        "COMMAND GETKEYS get k",
        "COMMAND GETKEYS mset k v k v",
        "COMMAND GETKEYS ping",
        "COMMAND COUNT x",
        "HELLO 9",
        "HELLO x",
        "AUTH x",
        "TIME x",
        "OBJECT",
        "CONFIG",
        "SUBSTR k 0",
        "get k",
        "sEt k v eX t",
    ];
    let template = random.pick(kinds);
    template.split(' ').map(|word| fill(word, random)).collect()
}

fn fill(word: &str, random: &mut Random) -> Vec<u8> {
    let options: &[&[u8]] = &[b"NX", b"XX", b"GET", b"KEEPTTL", b"bad", b"xx", b"nx"];
    let conditions: &[&[u8]] = &[b"NX", b"XX", b"GT", b"LT", b"gt"];
    match word {
        "k" => random.pick(KEYS).to_vec(),
        "v" => random.pick(VALUES).to_vec(),
        "a" => random.pick(ADVANCES).to_vec(),
        "n" => random.pick(NUMBERS).to_vec(),
        "f" => random.pick(FLOATS).to_vec(),
        "t" => random.pick(TTLS).to_vec(),
        "T" => random.pick(TIMES).to_vec(),
        "o" => random.pick(options).to_vec(),
        "x" if random.below(2) == 0 => random.pick(conditions).to_vec(),
        other => grammar::fill(other, random).unwrap_or_else(|| other.as_bytes().to_vec()),
    }
}

enum Verdict {
    Same,
    /// Allowed, but from here on the two hold different values.
    Diverged,
    Different,
}

/// Compares two replies, leaving out what may differ, with the reason.
fn compare(args: &[Vec<u8>], want: &[u8], got: &[u8]) -> Verdict {
    let args = inner(args);
    let name = String::from_utf8_lossy(&args[0]).to_ascii_uppercase();
    let same_kind = want.first() == got.first();
    let verdict = |same| {
        if same {
            Verdict::Same
        } else {
            Verdict::Different
        }
    };
    if want == got {
        return Verdict::Same;
    }
    if want[0] == b'-' || got[0] == b'-' {
        return Verdict::Different;
    }
    match name.as_str() {
        // The order of keys is each server's own.
        // So is that of fields and members, and of places at the same distance.
        "KEYS"
        | "SCAN"
        | "GEOSEARCH"
        | "GEORADIUS"
        | "GEORADIUS_RO"
        | "GEORADIUSBYMEMBER"
        | "GEORADIUSBYMEMBER_RO"
        | "HGETALL"
        | "HKEYS"
        | "HVALS"
        | "HSCAN"
        | "SMEMBERS"
        | "SSCAN"
        | "ZSCAN"
        | "SUNION"
        | "SINTER"
        | "SDIFF"
        | "SPOP"
        | "SRANDMEMBER"
        | "HRANDFIELD"
        | "ZRANDMEMBER"
            if args.len() > 2 || !name.contains("RAND") =>
        {
            verdict(sorted(want) == sorted(got))
        }
        // Expired keys count until they are reclaimed, by each server in its own time.
        // Any random key will do. A dump is each server's own.
        "DBSIZE" | "RANDOMKEY" | "DUMP" | "SRANDMEMBER" | "HRANDFIELD" | "ZRANDMEMBER" => {
            verdict(same_kind)
        }
        // Redis shares small integers when they come by SET; nothing is shared here. Access times
        // are not kept.
        "OBJECT" => verdict(same_kind && want[0] == b':'),
        // A part of a set in the order of neither is any part.
        "SORT" if args.iter().any(|word| word == b"nosort") => {
            let is_part = args.iter().any(|word| word == b"LIMIT");
            verdict(is_part && same_kind || sorted(want) == sorted(got))
        }
        // Sums are exact decimals here and rounded to 64 bits in Redis.
        "INCRBYFLOAT" | "HINCRBYFLOAT" => match (float(want), float(got)) {
            (Some(a), Some(b)) if (a - b).abs() <= a.abs() * 1e-15 => Verdict::Diverged,
            _ => Verdict::Different,
        },
        _ => Verdict::Different,
    }
}

fn sorted(reply: &[u8]) -> Vec<Vec<u8>> {
    // Pairs are no longer told apart from what they have.
    let text: String = reply.iter().map(|byte| char::from(*byte)).collect();
    let flat = text.replace("*2\r\n", "");
    let mut parts: Vec<Vec<u8>> = flat.split('$').map(Into::into).collect();
    parts.sort_unstable();
    parts
}

fn float(reply: &[u8]) -> Option<f64> {
    std::str::from_utf8(reply)
        .ok()?
        .split("\r\n")
        .nth(1)?
        .parse()
        .ok()
}

/// Inside EXEC, replies that may differ are left out as a whole.
fn is_vague(args: &[Vec<u8>]) -> bool {
    let name = String::from_utf8_lossy(&inner(args)[0]).to_ascii_uppercase();
    let vague = [
        "KEYS",
        "SCAN",
        "RANDOMKEY",
        "DBSIZE",
        "OBJECT",
        "DUMP",
        "INCRBYFLOAT",
        "HINCRBYFLOAT",
        "HGETALL",
        "HKEYS",
        "HVALS",
        "HSCAN",
        "SMEMBERS",
        "SSCAN",
        "ZSCAN",
        "SUNION",
        "SINTER",
        "SDIFF",
        "SPOP",
        "SRANDMEMBER",
        "HRANDFIELD",
        "ZRANDMEMBER",
    ];
    vague.contains(&name.as_str())
}

struct Pair {
    redis: Connection,
    ringwood: Connection,
    /// A cluster does not notice that a watched key that was not there came and was flushed.
    flushes_blind_watch: bool,
}

/// A step of a sequence that moves the clock of both servers.
fn advance(args: &[Vec<u8>]) -> Option<Duration> {
    let ms = args.get(1).filter(|_| args[0] == b"@ADVANCE")?;
    let ms = std::str::from_utf8(ms).expect("digits").parse();
    Some(Duration::from_millis(ms.expect("a number")))
}

impl Pair {
    fn both(&mut self, args: &[Vec<u8>]) -> (Vec<u8>, Vec<u8>) {
        let bytes = encode(args);
        self.redis.send(&bytes).expect("send");
        self.ringwood.send(&bytes).expect("send");
        (
            self.redis.reply().expect("a reply"),
            self.ringwood.reply().expect("a reply"),
        )
    }

    fn check(
        &mut self,
        sequence: &[Vec<Vec<u8>>],
        pipelined: bool,
        clock: &mut Clock,
    ) -> Result<(), String> {
        let words = |text: &str| {
            text.split(' ')
                .map(|w| w.as_bytes().to_vec())
                .collect::<Vec<_>>()
        };
        for setup in ["RESET", "FLUSHALL"] {
            self.both(&words(setup));
        }
        if sequence.len() % 2 == 1 {
            self.redis.call(&["HELLO", "3"]);
            self.ringwood.call(&["HELLO", "3"]);
        }
        if pipelined {
            let commands = sequence.iter().filter(|args| advance(args).is_none());
            let bytes: Vec<u8> = commands.flat_map(|args| encode(args)).collect();
            self.redis.send(&bytes).expect("send");
            self.ringwood.send(&bytes).expect("send");
        }
        let mut queued: Vec<&[Vec<u8>]> = Vec::new();
        let mut diverged = false;
        let flushes = sequence.iter().any(|args| args[0].starts_with(b"FLUSH"));
        let blind = self.flushes_blind_watch && flushes;
        for (nth, args) in sequence.iter().enumerate() {
            if let Some(by) = advance(args) {
                if !pipelined {
                    clock.advance(by);
                }
                continue;
            }
            let (want, got) = if pipelined {
                (
                    self.redis.reply().expect("a reply"),
                    self.ringwood.reply().expect("a reply"),
                )
            } else {
                self.both(args)
            };
            let mut verdict = compare(args, &want, &got);
            if want == b"+QUEUED\r\n" {
                queued.push(args);
            } else if args[0].eq_ignore_ascii_case(b"EXEC") {
                if blind && (want == b"*-1\r\n" || want == b"_\r\n") {
                    verdict = Verdict::Diverged;
                }
                // In a cluster a script of a transaction has to name its keys.
                let is_vague = |args: &&[Vec<u8>]| {
                    is_vague(args) || self.flushes_blind_watch && args[0] == b"EVAL"
                };
                if want[0] == got[0] && queued.iter().any(is_vague) {
                    verdict = Verdict::Diverged;
                }
                queued.clear();
            } else if args[0].eq_ignore_ascii_case(b"DISCARD") {
                queued.clear();
            }
            match verdict {
                Verdict::Same => {}
                Verdict::Diverged => diverged = true,
                Verdict::Different if diverged => {}
                Verdict::Different => {
                    let shown: Vec<String> =
                        args.iter().map(|w| w.escape_ascii().to_string()).collect();
                    let (a, b) = (want.escape_ascii(), got.escape_ascii());
                    return Err(format!(
                        "#{nth} {shown:?}\n  redis:    {a}\n  ringwood: {b}"
                    ));
                }
            }
        }
        Ok(())
    }
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn ringwood_replies_what_redis_replies() {
    let (redis_dir, ringwood_dir) = (tempfile::tempdir(), tempfile::tempdir());
    let mut clock = Clock::new();
    let redis = Server::redis_under(&clock, redis_dir.expect("a folder").path());
    let ringwood_dir = ringwood_dir.expect("a folder");
    // What has more than a few elements has a row for each.
    let flags = ["--appendfsync", "no", "--collection-row-size", "100"];
    let ringwood = Server::ringwood_under(Some(&clock), ringwood_dir.path(), &flags);
    compare_over(&redis, &mut clock, SEQUENCES, false, |_| ringwood.connect());
}

#[test]
fn three_nodes_reply_what_redis_replies() {
    let redis_dir = tempfile::tempdir().expect("a folder");
    let mut clock = Clock::new();
    let redis = Server::redis_under(&clock, redis_dir.path());
    let flags = ["--appendfsync", "no", "--collection-row-size", "100"];
    let cluster = Cluster::start_under(Some(&clock), 3, &flags);
    let any = |seed: u64| cluster.members[(seed % 3) as usize].connect();
    compare_over(&redis, &mut clock, CLUSTER_SEQUENCES, true, any);
}

fn compare_over(
    redis: &Server,
    clock: &mut Clock,
    sequences: u64,
    is_cluster: bool,
    connect: impl Fn(u64) -> Connection,
) {
    let mut pair = Pair {
        redis: redis.connect(),
        ringwood: connect(0),
        flushes_blind_watch: is_cluster,
    };
    // Several nodes do not offer these: docs/compat.md says why.
    let without: &[&str] = if is_cluster {
        &["SWAPDB", "MSETNX", "WAIT"]
    } else {
        &[]
    };
    let only = number_from("RINGWOOD_SEED");
    let sequences = number_from("RINGWOOD_SEQUENCES").unwrap_or(sequences);
    let seeds = only.map_or(1..=sequences, |seed| seed..=seed);
    let mut failures = Vec::new();
    for seed in seeds {
        let mut random = Random::new(seed);
        let len = COMMANDS + seed as usize % 2;
        // One in three is of strings and keys alone.
        let family = grammar::FAMILIES.get(seed as usize % (grammar::FAMILIES.len() + 3));
        let family = family.copied();
        let offered = |args: &Vec<Vec<u8>>| !without.iter().any(|name| args[0] == name.as_bytes());
        let mut sequence: Vec<_> = (0..len)
            .map(|_| command_of(family, &mut random))
            .filter(offered)
            .collect();
        if seed % 3 == 0 {
            // Of these every other command is run by a script.
            let each = |args| match random.below(2) {
                0 => as_script(args, &mut random),
                _ => args,
            };
            sequence = sequence.into_iter().map(each).collect();
        }
        if only.is_some() {
            for args in &sequence {
                let words: Vec<String> =
                    args.iter().map(|w| w.escape_ascii().to_string()).collect();
                println!("{words:?}");
            }
        }
        pair.ringwood = connect(seed);
        if let Err(difference) = pair.check(&sequence, seed % 4 < 2, clock) {
            failures.push(format!("seed {seed}: {difference}"));
            pair.redis = redis.connect();
        }
        if failures.len() >= 20 {
            break;
        }
    }
    assert!(
        failures.is_empty(),
        "{}\nreplay one with RINGWOOD_SEED=n",
        failures.join("\n")
    );
}
