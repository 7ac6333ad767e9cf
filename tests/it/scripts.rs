//! Scripts: beside Redis's own, and on three nodes.

use super::harness::{Clock, Cluster, Connection, Server, encode, eventually};

/// One script a line; `\n` and `\\` as in Rust.
const SCRIPTS: &str = include_str!("fixtures/scripts.txt");

fn script(line: &str) -> String {
    let (mut out, mut rest) = (String::new(), line.chars());
    while let Some(letter) = rest.next() {
        match letter {
            '\\' if rest.clone().next() == Some('n') => {
                rest.next();
                out.push('\n');
            }
            '\\' => out.extend(rest.next()),
            other => out.push(other),
        }
    }
    out
}

fn raw(connection: &mut Connection, words: &[&str]) -> Vec<u8> {
    let words: Vec<Vec<u8>> = words.iter().map(|w| w.as_bytes().to_vec()).collect();
    connection.send(&encode(&words)).expect("sent");
    connection.reply().expect("a reply")
}

#[test]
fn what_a_script_may_do_and_is_told_is_what_it_is_in_redis() {
    let (here, there) = (tempfile::tempdir(), tempfile::tempdir());
    let (here, there) = (here.expect("a folder"), there.expect("a folder"));
    let ringwood = Server::ringwood(here.path(), &[]);
    let redis = Server::redis_under(&Clock::new(), there.path());
    let mut failures = Vec::new();
    for protocol in ["2", "3"] {
        let (mut ours, mut theirs) = (ringwood.connect(), redis.connect());
        let mut both = |words: &[&str]| {
            let (a, b) = (raw(&mut ours, words), raw(&mut theirs, words));
            if a != b {
                let (a, b) = (a.escape_ascii(), b.escape_ascii());
                failures.push(format!("{words:?}\n  ringwood {a}\n  redis    {b}"));
            }
        };
        both(&["FLUSHALL"]);
        for line in SCRIPTS.lines() {
            let script = script(line);
            both(&["EVAL", &script, "0"]);
            both(&["EVAL", &script, "2", "k1", "k2", "a1", "a2"]);
            both(&["EVAL_RO", &script, "1", "k"]);
        }
        for words in [
            &["EVAL", "return 1", "x"][..],
            &["EVAL", "return 1", "-1"],
            &["EVAL", "return 1", "3", "a"],
            &["EVAL", "return 1"],
            &["EVALSHA", "abc", "0"],
            &["EVALSHA", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "0"],
            &["EVALSHA", "E0E1F9FABFC9D4800C877A703B823AC0578FF8DB", "0"],
            &["SCRIPT", "LOAD", "return 7"],
            &[
                "SCRIPT",
                "EXISTS",
                "c01e97dda69b4c5b4bf5f2bbb0f6ce5e3ab2d6bb",
                "zz",
            ],
            &["SCRIPT", "LOAD", "if"],
            &["SCRIPT", "FLUSH", "X"],
            &["SCRIPT", "FLUSH", "ASYNC"],
            &["EVALSHA", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "0"],
            &["SCRIPT", "KILL"],
            &["SCRIPT", "NOPE"],
            &["MULTI"],
            &["EVAL", "return redis.call('incr', KEYS[1])", "1", "m"],
            &["EVAL", "bad", "0"],
            &["EXEC"],
        ] {
            both(words);
        }
        // The next round speaks RESP3.
        raw(&mut ours, &["HELLO", protocol]);
        raw(&mut theirs, &["HELLO", protocol]);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_script_that_was_loaded_is_known_to_every_node_and_outlives_those_that_took_it() {
    let mut cluster = Cluster::start(3, &[]);
    let sha = cluster.call(0, &["SCRIPT", "LOAD", "return redis.call('INCR', KEYS[1])"]);
    let sha = sha.lines().nth(1).expect("a bulk").to_owned();
    for n in 0..12 {
        let key = format!("k{n}");
        for member in 0..3 {
            let said = cluster.call(member, &["EVALSHA", &sha, "1", &key]);
            assert_eq!(said, format!(":{}\r\n", member + 1));
        }
    }
    assert_eq!(
        cluster.call(2, &["SCRIPT", "EXISTS", &sha, "x"]),
        "*2\r\n:1\r\n:0\r\n"
    );
    // FLUSHALL leaves scripts, as in Redis, and DBSIZE knows nothing of them.
    assert_eq!(cluster.call(1, &["FLUSHALL"]), "+OK\r\n");
    assert_eq!(cluster.call(1, &["DBSIZE"]), ":0\r\n");
    cluster.members[0].kill();
    cluster.members[1].kill();
    cluster.members[0].start(None);
    cluster.members[1].start(None);
    cluster.wait_until_whole();
    for member in 0..3 {
        let said = cluster.call(member, &["EVALSHA", &sha, "1", "again"]);
        assert_eq!(said, format!(":{}\r\n", member + 1));
    }
    assert_eq!(cluster.call(0, &["SCRIPT", "FLUSH"]), "+OK\r\n");
    for member in 0..3 {
        let said = cluster.call(member, &["EVALSHA", &sha, "1", "k"]);
        assert!(said.starts_with("-NOSCRIPT "), "{said}");
    }
}

#[test]
fn a_script_reaches_keys_of_other_nodes_that_it_has_not_named() {
    let cluster = Cluster::start(3, &[]);
    let script = "redis.call('SET', KEYS[1], ARGV[1]) local sum = 0 \
                  for n = 1, 20 do sum = sum + redis.call('INCR', 'derived:' .. n) end \
                  return {redis.call('GET', KEYS[1]), sum, redis.call('DBSIZE')}";
    for round in 1..=6 {
        let value = format!("v{round}");
        let said = cluster.call(round % 3, &["EVAL", script, "1", "own", &value]);
        assert_eq!(
            said,
            format!("*3\r\n$2\r\n{value}\r\n:{}\r\n:21\r\n", 20 * round)
        );
    }
    // Errors come back as they do on one node, through pcall and coroutines too.
    let script = "local co = coroutine.wrap(function() coroutine.yield(redis.call('GET', 'derived:1')) end) \
                  local first = co() local ok, why = pcall(redis.call, 'LPUSH', 'derived:2', 'x') \
                  return {first, why, redis.pcall('INCR', 'own').err}";
    let said = cluster.call(1, &["EVAL", script, "0"]);
    let wrong = "WRONGTYPE Operation against a key holding the wrong kind of value";
    let number = "ERR value is not an integer or out of range";
    assert_eq!(
        said,
        format!("*3\r\n$1\r\n6\r\n$65\r\n{wrong}\r\n$43\r\n{number}\r\n")
    );
    // What it has written before an error stands.
    let said = cluster.call(
        2,
        &[
            "EVAL",
            "redis.call('SET', KEYS[1], 1) error('no')",
            "1",
            "stays",
        ],
    );
    assert!(
        said.starts_with("-ERR user_script:1: no script: "),
        "{said}"
    );
    assert_eq!(cluster.call(0, &["GET", "stays"]), "$1\r\n1\r\n");
}

#[test]
fn a_script_has_its_keys_to_itself() {
    let cluster = Cluster::start(3, &[]);
    let script = "local n = tonumber(redis.call('GET', KEYS[1]) or '0') \
                  for i = 1, 200 do n = n + 1 end \
                  redis.call('SET', KEYS[1], n) return n";
    let add = |member: usize| {
        let mut connection = cluster.members[member].connect();
        for _ in 0..50 {
            let said = connection.call(&["EVAL", script, "1", "{t}counter"]);
            assert!(said.starts_with(':'), "{said}");
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|n| scope.spawn(move || add(n % 3))).collect();
        for thread in threads {
            thread.join().expect("it ended");
        }
    });
    assert_eq!(cluster.call(0, &["GET", "{t}counter"]), "$5\r\n60000\r\n");
}

#[test]
fn a_script_that_does_not_end_is_killed_unless_it_has_written() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(dir.path(), &["--busy-reply-threshold", "100"]);
    let endless = server.connect();
    let mut other = server.connect();
    let run = |mut connection: Connection, script: &'static str| {
        std::thread::spawn(move || connection.call(&["EVAL", script, "1", "k"]))
    };
    let running = run(endless, "while true do end");
    eventually("whoever waits for its key is told", || {
        let said = other.call(&["GET", "k"]);
        said.starts_with("-BUSY ")
    });
    // It is not known to keep to its key, and keeps everybody out.
    assert!(other.call(&["PING"]).starts_with("-BUSY "));
    assert!(other.call(&["FUNCTION", "KILL"]).starts_with("-BUSY "));
    // A transaction is over with that.
    assert_eq!(other.call(&["MULTI"]), "+OK\r\n");
    assert!(other.call(&["SET", "k", "v"]).starts_with("-BUSY "));
    let said = other.call(&["EXEC"]);
    assert!(
        said.starts_with("-EXECABORT ") && said.contains("BUSY"),
        "{said}"
    );
    assert_eq!(other.call(&["SCRIPT", "KILL"]), "+OK\r\n");
    let said = running.join().expect("it ended");
    assert!(said.contains("killed by user"), "{said}");
    assert!(other.call(&["EXEC"]).contains("without MULTI"));
    assert_eq!(other.call(&["SET", "k", "v"]), "+OK\r\n");
    assert!(other.call(&["SCRIPT", "KILL"]).starts_with("-NOTBUSY "));
    let script =
        "redis.call('SET', KEYS[1], 1) local till = 30000000 for i = 1, till do end return 1";
    let running = run(server.connect(), script);
    eventually("it runs", || {
        !other.call(&["SCRIPT", "KILL"]).starts_with("-NOTBUSY ")
    });
    let said = other.call(&["SCRIPT", "KILL"]);
    let said_later = running.join().expect("it ended");
    assert!(
        said.starts_with("-UNKILLABLE ") || said.starts_with("-NOTBUSY "),
        "{said}"
    );
    assert!(
        said_later == ":1\r\n" || said_later.contains("killed by user"),
        "{said_later}"
    );
}

#[test]
fn a_node_ends_when_it_is_told_though_a_script_does_not() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(dir.path(), &["--busy-reply-threshold", "100"]);
    let mut other = server.connect();
    let mut endless = [server.connect(), server.connect()];
    endless[0].say("EVAL while(true)do(redis.call)('get','k')end 1 k");
    eventually("it runs", || other.call(&["PING"]).starts_with("-BUSY "));
    assert!(server.ends_when_told());
    // Nor though it has written, and cannot be stopped.
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(dir.path(), &["--busy-reply-threshold", "100"]);
    let mut other = server.connect();
    endless[1] = server.connect();
    endless[1].say("EVAL redis.call('set','k','v')while(true)do(redis.call)('get','k')end 1 k");
    eventually("it runs", || other.call(&["PING"]).starts_with("-BUSY "));
    assert!(server.ends_when_told());
}

#[test]
fn a_script_leaves_nothing_behind_and_takes_no_more_memory_than_it_may() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(dir.path(), &["--script-memory-limit", "16mb"]);
    let mut connection = server.connect();
    let mut eval = |script: &str| connection.call(&["EVAL", script, "0"]);
    for leaves in [
        "rawset(_G, 'left', 1)",
        "table.insert(redis, 'left')",
        "string.left = 1",
        "getmetatable('').__index.left = 1",
        "math.random = nil",
        "table.sort(redis, function() return true end)",
        "KEYS.left = 1",
        "local t = setmetatable({}, {__index = _G}) t.left = 1 return 'x'",
    ] {
        eval(leaves);
        let said =
            eval("return tostring(rawget(_G, 'left')) .. tostring(redis[1]) .. type(math.random)");
        assert_eq!(said, "$14\r\nnilnilfunction\r\n", "{leaves}");
        assert_eq!(eval("return ('x').left"), "$-1\r\n", "{leaves}");
    }
    for forbidden in [
        "os", "io", "debug", "require", "dofile", "loadfile", "package", "print",
    ] {
        let said = eval(&format!("return {forbidden}"));
        assert!(
            said.contains("nonexistent global variable"),
            "{forbidden}: {said}"
        );
    }
    let bytes = "local code = string.char(27) .. 'Lua' return {loadstring(code)}";
    assert_eq!(eval(bytes), "*0\r\n");
    let said = eval("local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1000) .. i end");
    assert!(said.contains("not enough memory"), "{said}");
    assert_eq!(eval("return 1"), ":1\r\n");
    let nested = "local t = {} for i = 1, 100000 do t = {t} end return t";
    let said = eval(nested);
    assert!(said.contains("reached lua stack limit"), "{}", said.len());
    let said = eval("local function f() return f() + 1 end return f()");
    assert!(said.contains("stack overflow"), "{said}");
    for (breaks, said) in [
        (
            "return unpack({}, -2147483648, 2147483647)",
            "too many results to unpack",
        ),
        (
            "return unpack({}, 0, 2147483647)",
            "too many results to unpack",
        ),
        (
            "return ('x'):rep(100):find(('a?'):rep(1e5))",
            "pattern too complex",
        ),
        (
            "return cjson.encode((function() local t = {} for i = 1, 2000 do t = {t} end return t end)())",
            "excessive depth",
        ),
        (
            "return setmetatable({}, {__index = function() return 1 end})",
            "*0",
        ),
        (
            "local t = {} for i = 1, 60 do t = {t, t} end return cjson.encode(t)",
            "too long",
        ),
        (
            "collectgarbage('stop') return collectgarbage('setpause', 1)",
            ":0",
        ),
        ("coroutine.yield() return 1", "attempt to yield"),
        ("return redis.call('SWAPDB', '0', '99')", "out of range"),
    ] {
        let reply = eval(breaks);
        assert!(
            reply.contains(said),
            "{breaks}: {}",
            &reply[..reply.len().min(300)]
        );
    }
    let said = eval("local t = {} for i = 1, 10000 do t[i] = i .. '' end return t");
    assert!(said.starts_with("*10000\r\n$1\r\n1\r\n"));
    let said =
        eval("return cjson.decode(cjson.encode({v = '\\255\\1'})).v == '\\255\\1' and 1 or 0");
    assert_eq!(said, ":1\r\n");
    let deep = "local t = {} for i = 1, 990 do t = {t} end \
                local function f(n) if n == 0 then return cjson.encode(t) end \
                return (string.gsub('x', 'x', function() return f(n - 1) end)) end return #f(180)";
    eval(deep);
    assert_eq!(eval("return redis.call('PING')"), "+PONG\r\n");
}

#[test]
fn nothing_keeps_a_script_from_being_killed() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(dir.path(), &[]);
    let mut other = server.connect();
    for endless in [
        "while true do pcall(function() while true do end end) end",
        "while true do xpcall(function() while true do end end, function() end) end",
        "local co = coroutine.wrap(function() while true do end end) while true do pcall(co) end",
        "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
        "while true do redis.pcall('GET', 'k') end",
    ] {
        let mut connection = server.connect();
        let running = std::thread::spawn(move || connection.call(&["EVAL", endless, "1", "k"]));
        eventually("it runs and is killed", || {
            other.call(&["SCRIPT", "KILL"]) == "+OK\r\n"
        });
        let said = running.join().expect("it ended");
        assert!(said.contains("killed by user"), "{endless}: {said}");
    }
}

#[test]
fn scripts_in_a_transaction_reply_in_their_places() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(dir.path(), &[]);
    let mut connection = server.connect();
    connection.call(&["MULTI"]);
    connection.call(&["SCRIPT", "LOAD", "return 1"]);
    connection.call(&[
        "SCRIPT",
        "EXISTS",
        "e0e1f9fabfc9d4800c877a703b823ac0578ff8db",
    ]);
    connection.call(&["EVALSHA", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "0"]);
    connection.call(&["SCRIPT", "FLUSH"]);
    let said = connection.call(&["EXEC"]);
    let name = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
    assert_eq!(
        said,
        format!("*4\r\n$40\r\n{name}\r\n*1\r\n:1\r\n:1\r\n+OK\r\n")
    );
    // A script that turns out to look at everything does not wait for its own writes.
    let script = "if ARGV[1] == '1' then redis.call('SET', KEYS[1], 'x') return redis.call('KEYS', '*') end return 0";
    assert_eq!(connection.call(&["EVAL", script, "1", "a", "0"]), ":0\r\n");
    let said = connection.call(&["EVAL", script, "1", "a", "1"]);
    assert!(said.contains("run it again"), "{said}");
    let said = connection.call(&["EVAL", script, "1", "a", "1"]);
    assert_eq!(said, "*1\r\n$1\r\na\r\n");
}
