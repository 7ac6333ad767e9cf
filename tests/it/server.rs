//! What has no counterpart in Redis, and what the differential run cannot compare.

use super::harness::{Connection, Server, bulks, encode};

fn with_server(flags: &[&str], check: impl Fn(&Server, &mut Connection)) {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(dir.path(), flags);
    check(&server, &mut server.connect());
}

#[test]
fn two_writers_with_one_context_make_siblings_and_resolve_settles_them() {
    with_server(&[], |_, c| {
        let empty = bulks(&c.call(&["SIBLINGS", "cart"])).remove(0);
        assert!(
            c.call(&["RESOLVE", "cart", &empty, "milk"])
                .ends_with(":1\r\n")
        );
        assert!(
            c.call(&["RESOLVE", "cart", &empty, "bread"])
                .ends_with(":2\r\n")
        );
        assert_eq!(
            bulks(&c.call(&["SIBLINGS", "cart"]))[1..],
            ["bread", "milk"]
        );
        assert_eq!(c.call(&["GET", "cart"]), "$5\r\nbread\r\n");
        assert_eq!(bulks(&c.call(&["CONFLICTS", "0"])), ["0", "cart"]);
        let context = bulks(&c.call(&["SIBLINGS", "cart"])).remove(0);
        let settled = c.call(&["RESOLVE", "cart", &context, "milk, bread", "EX", "100"]);
        assert!(settled.ends_with(":1\r\n"), "{settled}");
        assert_eq!(c.call(&["TTL", "cart"]), ":100\r\n");
        assert_eq!(bulks(&c.call(&["CONFLICTS", "0"])), ["0"]);
        let context = bulks(&settled).remove(0);
        assert!(c.call(&["RESOLVE", "cart", &context]).ends_with(":0\r\n"));
        assert_eq!(c.call(&["EXISTS", "cart"]), ":0\r\n");
    });
}

#[test]
fn a_context_is_bound_to_its_key_and_cannot_be_made_up() {
    with_server(&[], |_, c| {
        c.call(&["SET", "a", "1"]);
        let context = bulks(&c.call(&["SIBLINGS", "a"])).remove(0);
        let mut forged = context.clone();
        forged.replace_range(0..1, if context.starts_with('A') { "B" } else { "A" });
        for (key, context) in [
            ("b", context.as_str()),
            ("a", &forged),
            ("a", "AAAA"),
            ("a", ""),
        ] {
            assert!(
                c.call(&["RESOLVE", key, context, "x"])
                    .starts_with("-BADCONTEXT")
            );
        }
    });
}

#[test]
fn rename_carries_siblings_and_expiry() {
    with_server(&[], |_, c| {
        let empty = bulks(&c.call(&["SIBLINGS", "old"])).remove(0);
        c.call(&["RESOLVE", "old", &empty, "a", "EX", "500"]);
        c.call(&["RESOLVE", "old", &empty, "b", "EX", "500"]);
        assert_eq!(c.call(&["RENAME", "old", "new"]), "+OK\r\n");
        assert_eq!(bulks(&c.call(&["SIBLINGS", "new"]))[1..], ["b", "a"]);
        assert_eq!(
            (c.call(&["TTL", "new"]), c.call(&["EXISTS", "old"])),
            (":500\r\n".into(), ":0\r\n".into())
        );
    });
}

#[test]
fn dump_restores_here_and_keys_expire_by_themselves() {
    with_server(&[], |_, c| {
        c.call(&["SET", "a", "hello", "PX", "30"]);
        assert_eq!(c.call(&["DBSIZE"]), ":1\r\n");
        while c.call(&["GET", "a"]) != "$-1\r\n" {
            std::thread::yield_now();
        }
        while c.call(&["DBSIZE"]) != ":0\r\n" {
            std::thread::yield_now();
        }
    });
}

#[test]
fn passwords_are_asked_for_in_every_form() {
    with_server(&["--requirepass", "secret"], |server, c| {
        assert_eq!(
            c.call(&["GET", "a"]),
            "-NOAUTH Authentication required.\r\n"
        );
        assert!(
            c.call(&["HELLO", "3"])
                .starts_with("-NOAUTH HELLO must be called")
        );
        assert!(c.call(&["AUTH", "wrong"]).starts_with("-WRONGPASS"));
        assert_eq!(c.call(&["AUTH", "secret"]), "+OK\r\n");
        assert_eq!(c.call(&["GET", "a"]), "$-1\r\n");
        let mut other = server.connect();
        let hello = other.call(&["HELLO", "3", "AUTH", "default", "secret", "SETNAME", "me"]);
        assert!(hello.starts_with("%7\r\n"), "{hello}");
        assert!(other.call(&["CLIENT", "INFO"]).contains("name=me"));
    });
}

#[test]
fn monitors_see_commands_and_pauses_hold_writes() {
    with_server(&[], |server, c| {
        assert_eq!(c.call(&["MONITOR"]), "+OK\r\n");
        let mut other = server.connect();
        other.call(&["SET", "a", "1"]);
        let line = String::from_utf8(c.reply().expect("a line")).expect("text");
        assert!(line.contains("\"SET\" \"a\" \"1\""), "{line}");
        assert_eq!(
            other.call(&["CLIENT", "PAUSE", "60000", "WRITE"]),
            "+OK\r\n"
        );
        assert_eq!(other.call(&["GET", "a"]), "$1\r\n1\r\n");
        let mut writer = server.connect();
        writer.send(b"SET a 2\r\n").expect("send");
        assert_eq!(other.call(&["GET", "a"]), "$1\r\n1\r\n");
        assert_eq!(other.call(&["CLIENT", "UNPAUSE"]), "+OK\r\n");
        assert_eq!(writer.reply().expect("a reply"), b"+OK\r\n");
    });
}

#[test]
fn waitaof_tells_when_the_write_is_on_the_disk() {
    with_server(&["--appendfsync", "everysec"], |_, c| {
        c.call(&["SET", "a", "1"]);
        assert_eq!(
            c.call(&["WAITAOF", "1", "0", "10000"]),
            "*2\r\n:1\r\n:0\r\n"
        );
    });
}

#[test]
fn in_a_transaction_every_reply_is_in_its_place_and_nothing_waits() {
    with_server(&["--appendfsync", "everysec"], |_, c| {
        for word in [
            "SET a 1",
            "MULTI",
            "WAITAOF 1 0 60000",
            "PING",
            "WAITAOF 1 0 0",
        ] {
            c.call(&word.split(' ').collect::<Vec<_>>());
        }
        for word in [
            "SET a 2",
            "WAITAOF 1 0 0",
            "MONITOR",
            "DEBUG SLEEP 0",
            "PING last",
        ] {
            c.call(&word.split(' ').collect::<Vec<_>>());
        }
        let replies = c.call(&["EXEC"]);
        let parts: Vec<&str> = replies.split("\r\n").collect();
        assert_eq!(parts[0], "*8", "{replies}");
        assert_eq!(
            (parts[1], parts[3], parts[4]),
            ("*2", ":0", "+PONG"),
            "{replies}"
        );
        // What the transaction has written itself is not on the disk yet.
        assert_eq!(parts[8..12], ["+OK", "*2", ":0", ":0"], "{replies}");
        assert!(
            parts[12].starts_with("-ERR MONITOR isn't allowed"),
            "{replies}"
        );
        assert_eq!(parts[13..16], ["+OK", "$4", "last"], "{replies}");
        assert_eq!(c.call(&["PING"]), "+PONG\r\n");
    });
}

#[test]
fn who_waits_for_the_disk_is_let_go_and_told_nothing_that_was_not_asked() {
    // Nothing is synced but when the node stops.
    with_server(&["--appendfsync", "no"], |server, c| {
        let id = c.call(&["CLIENT", "ID"]);
        let id = id.trim().trim_start_matches(':').to_owned();
        c.send(b"SET a 1\r\nWAITAOF 1 0 0\r\n").expect("send");
        assert_eq!(c.reply().expect("a reply"), b"+OK\r\n");
        let mut other = server.connect();
        assert_eq!(other.call(&["CLIENT", "KILL", "ID", &id]), ":1\r\n");
        assert_eq!(c.rest(), b"");
        let off = b"CLIENT REPLY OFF\r\nSET a 2\r\nWAITAOF 1 0 1\r\nCLIENT REPLY ON\r\nPING\r\n";
        other.send(off).expect("send");
        assert_eq!(other.reply().expect("a reply"), b"+OK\r\n");
        assert_eq!(other.reply().expect("a reply"), b"+PONG\r\n");
    });
}

#[test]
fn a_client_that_is_killed_while_it_is_held_does_nothing_more_and_reset_ends_a_monitor() {
    with_server(&[], |server, c| {
        let mut held = server.connect();
        let id = held.call(&["CLIENT", "ID"]);
        let id = id.trim().trim_start_matches(':').to_owned();
        c.call(&["CLIENT", "PAUSE", "60000", "WRITE"]);
        held.send(b"SET a held\r\n").expect("send");
        // It arrives meanwhile.
        for _ in 0..100 {
            c.call(&["PING"]);
        }
        assert_eq!(c.call(&["CLIENT", "KILL", "ID", &id]), ":1\r\n");
        assert_eq!(held.rest(), b"");
        c.call(&["CLIENT", "UNPAUSE"]);
        assert_eq!(c.call(&["GET", "a"]), "$-1\r\n");

        let mut monitor = server.connect();
        assert_eq!(monitor.call(&["MONITOR"]), "+OK\r\n");
        assert_eq!(monitor.call(&["RESET"]), "+RESET\r\n");
        c.call(&["SET", "a", "1"]);
        assert_eq!(monitor.call(&["GET", "a"]), "$1\r\n1\r\n");
    });
}

#[test]
fn what_a_command_waits_for_counts_as_its_time() {
    with_server(&["--slowlog-log-slower-than", "100000"], |server, c| {
        assert_eq!(c.call(&["CLIENT", "PAUSE", "200", "WRITE"]), "+OK\r\n");
        assert_eq!(server.connect().call(&["SET", "k", "v"]), "+OK\r\n");
        let stats = c.call(&["INFO", "commandstats"]);
        let start = "cmdstat_set:calls=1,usec=";
        let line = stats.lines().find_map(|line| line.strip_prefix(start));
        let usec = line.and_then(|line| line.split(',').next()?.parse::<u64>().ok());
        assert!(usec.is_some_and(|usec| usec >= 150_000), "{stats}");
        let slow = c.call(&["SLOWLOG", "GET"]);
        assert!(
            slow.contains("$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"),
            "{slow}"
        );
    });
}

#[test]
fn slow_commands_are_latency_events_and_every_command_has_a_distribution() {
    with_server(&["--latency-monitor-threshold", "1"], |_, c| {
        let long = "x".repeat(5_000);
        c.call(&["MSET", "a", &long, "b", &long]);
        c.call(&["LCS", "a", "b", "LEN"]);
        let latest = c.call(&["LATENCY", "LATEST"]);
        assert!(
            latest.starts_with("*1\r\n*4\r\n$7\r\ncommand\r\n"),
            "{latest}"
        );
        // Samples of one second are one.
        let history = c.call(&["LATENCY", "HISTORY", "command"]);
        assert!(
            ["*1\r\n*2\r\n:", "*2\r\n*2\r\n:"]
                .iter()
                .any(|start| history.starts_with(start)),
            "{history}"
        );
        let parts = c.call(&["RINGWOOD", "LATENCY"]);
        for part in ["turn ", "run ", "commit ", "whole "] {
            let line = parts.lines().find(|line| line.starts_with(part));
            let count = line.and_then(|line| line.split_whitespace().nth(1));
            let count: Option<u64> = count.and_then(|count| count.parse().ok());
            assert!(count.is_some_and(|count| count >= 1), "{part}: {parts}");
        }
        assert!(c.call(&["LATENCY", "GRAPH", "command"]).contains("# "));
        let histogram = c.call(&["LATENCY", "HISTOGRAM", "lcs"]);
        assert!(
            histogram.starts_with("*2\r\n$3\r\nlcs\r\n*4\r\n$5\r\ncalls\r\n:1\r\n"),
            "{histogram}"
        );
        assert!(
            c.call(&["INFO", "latencystats"])
                .contains("latency_percentiles_usec_lcs:p50=")
        );
        assert_eq!(c.call(&["LATENCY", "RESET"]), ":1\r\n");
        assert!(
            c.call(&["LATENCY", "GRAPH", "command"])
                .starts_with("-ERR No samples")
        );
    });
}

#[test]
fn keys_with_an_expiry_are_counted_across_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(dir.path(), &[]);
    let mut c = server.connect();
    for command in [
        &["SET", "a", "1", "EX", "1000"][..],
        &["SET", "b", "1", "EX", "1000"],
        &["SET", "c", "1"],
        &["PERSIST", "b"],
    ] {
        c.call(command);
    }
    assert!(c.call(&["INFO", "keyspace"]).contains("keys=3,expires=1,"));
    assert!(server.terminate());
    let server = Server::ringwood(dir.path(), &[]);
    let mut c = server.connect();
    assert!(c.call(&["INFO", "keyspace"]).contains("keys=3,expires=1,"));
    c.call(&["FLUSHALL"]);
    server.kill();
    let server = Server::ringwood(dir.path(), &[]);
    assert!(
        !server
            .connect()
            .call(&["INFO", "keyspace"])
            .contains("keys=")
    );
}

#[test]
fn client_reply_off_and_skip_silence_replies() {
    with_server(&[], |_, c| {
        c.send(b"CLIENT REPLY OFF\r\nSET a 1\r\nCLIENT REPLY ON\r\n")
            .expect("send");
        assert_eq!(c.reply().expect("a reply"), b"+OK\r\n");
        c.send(b"CLIENT REPLY SKIP\r\nSET a 2\r\nGET a\r\n")
            .expect("send");
        assert_eq!(c.reply().expect("a reply"), b"$1\r\n2\r\n");
    });
}

#[test]
fn a_key_with_too_many_siblings_keeps_the_newest_and_says_so() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(dir.path(), &["--sibling-limit", "10"]);
    let mut connection = server.connect();
    let seen = connection.call(&["SIBLINGS", "cart"]);
    let context = seen.split("\r\n").nth(2).expect("a context").to_owned();
    for n in 0..25 {
        let value = format!("v{n:02}");
        let reply = connection.call(&["RESOLVE", "cart", &context, &value]);
        assert!(reply.starts_with("*2"), "{reply}");
    }
    let siblings = connection.call(&["SIBLINGS", "cart"]);
    let kept = |n: u32| siblings.contains(&format!("v{n:02}\r\n"));
    assert!((15..25).all(kept) && !(0..15).any(kept), "{siblings}");
    let info = connection.call(&["INFO", "ringwood"]);
    assert!(info.contains("siblings_merged:15\r\n"), "{info}");
    let conflicts = connection.call(&["CONFLICTS", "0"]);
    assert!(conflicts.contains("cart"), "{conflicts}");
}

#[test]
fn a_program_is_told_in_json_what_info_says() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(dir.path(), &[]);
    let mut connection = server.connect();
    connection.call(&["SET", "k", "v"]);
    connection.call(&["GET", "k"]);
    let status = connection.call(&["RINGWOOD", "STATUS", "JSON"]);
    let json = status.split_once("\r\n").map_or("", |(_, json)| json);
    let status: serde_json::Value = serde_json::from_str(json.trim()).expect("JSON");
    assert_eq!(status["facts"]["ringwood"]["write_events"], 1);
    assert_eq!(status["facts"]["stats"]["keyspace_hits"], 1);
    assert_eq!(
        status["facts"]["commandstats"]["cmdstat_*"]["get"]["calls"],
        1
    );
    assert_eq!(status["state"]["keys"], 1);
    assert_eq!(
        status["state"]["keys"],
        status["facts"]["keyspace"]["db*"]["0"]["keys"]
    );
    assert_eq!(status["state"]["cluster"], serde_json::Value::Null);
    assert!(
        connection
            .call(&["RINGWOOD", "STATUS", "XML"])
            .starts_with("-ERR syntax error")
    );
}

#[test]
fn a_prefix_says_what_is_shown_of_siblings() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("ringwood.toml");
    let policies = ["max", "min", "union", "error"];
    let tables =
        policies.map(|p| format!("[[prefix]]\nprefix = \"{p}:\"\non-conflict = \"{p}\"\n"));
    std::fs::write(&file, tables.concat()).expect("written");
    let server = Server::ringwood(dir.path(), &["--config", &file.display().to_string()]);
    let mut connection = server.connect();
    for key in ["max:k", "min:k", "union:k", "error:k", "k"] {
        let seen = connection.call(&["SIBLINGS", key]);
        let context = seen.split("\r\n").nth(2).expect("a context").to_owned();
        let values = if key == "union:k" {
            ["[1,2]", "[2,3]"]
        } else {
            ["12", "9"]
        };
        for value in values {
            connection.call(&["RESOLVE", key, &context, value]);
        }
    }
    assert_eq!(connection.call(&["GET", "max:k"]), "$2\r\n12\r\n");
    assert_eq!(
        connection.call(&["MGET", "min:k", "k"]),
        "*2\r\n$1\r\n9\r\n$1\r\n9\r\n"
    );
    assert_eq!(connection.call(&["GET", "union:k"]), "$7\r\n[1,2,3]\r\n");
    assert_eq!(connection.call(&["APPEND", "max:k", "0"]), ":3\r\n");
    assert_eq!(connection.call(&["GET", "max:k"]), "$3\r\n120\r\n");
    let refused = "-CONFLICT key has 2 siblings; SIBLINGS shows them, RESOLVE settles\r\n";
    for words in [
        &["GET", "error:k"][..],
        &["INCR", "error:k"],
        &["MGET", "k", "error:k"],
    ] {
        assert_eq!(connection.call(words), refused);
    }
    assert!(connection.call(&["SIBLINGS", "error:k"]).contains("12"));
    assert_eq!(connection.call(&["SET", "error:k", "1"]), "+OK\r\n");
    assert_eq!(connection.call(&["INCR", "error:k"]), ":2\r\n");
}

#[test]
fn numbers_at_their_ends_are_those_that_were_said() {
    with_server(&[], |_, c| {
        let most = i64::MAX.to_string();
        c.call(&["SET", "n", &most]);
        assert_eq!(c.call(&["DECRBY", "n", &most]), ":0\r\n");
        assert_eq!(c.call(&["DECRBY", "n", &most]), format!(":-{most}\r\n"));
        assert_eq!(c.call(&["GET", "n"]), format!("$20\r\n-{most}\r\n"));
        let over = "-ERR increment or decrement would overflow\r\n";
        assert_eq!(c.call(&["DECRBY", "n", "2"]), over);
        assert_eq!(c.call(&["INCRBY", "n", &most]), ":0\r\n");
        c.call(&["SET", "n", "5"]);
        c.send(&encode(&[b"DUMP".to_vec(), b"n".to_vec()]))
            .expect("send");
        let dump = c.reply().expect("a reply");
        let start = dump.iter().position(|b| *b == b'\n').expect("a length") + 1;
        let dump = dump[start..dump.len() - 2].to_vec();
        for (ttl, reply) in [(i64::MAX - 5, "-ERR invalid expire"), (1 << 60, "+OK")] {
            let words = ["RESTORE", "m", &ttl.to_string()].map(|word| word.as_bytes().to_vec());
            let words = [&words[..], std::slice::from_ref(&dump)].concat();
            c.send(&encode(&words)).expect("send");
            let said = c.reply().expect("a reply");
            let said = String::from_utf8_lossy(&said);
            assert!(said.starts_with(reply), "{ttl}: {said}");
        }
        assert_eq!(c.call(&["GET", "m"]), "$1\r\n5\r\n");
        assert!(c.call(&["PTTL", "m"]).starts_with(":11529"));
    });
}

#[test]
fn a_context_is_one_of_its_database_whatever_its_number() {
    with_server(&[], |_, c| {
        c.call(&["SELECT", "1"]);
        c.call(&["SET", "k", "b"]);
        c.call(&["SELECT", "0"]);
        c.call(&["SET", "k", "a"]);
        let token = bulks(&c.call(&["SIBLINGS", "k"])).remove(0);
        c.call(&["COPY", "k", "k", "DB", "2"]);
        for db in ["1", "2"] {
            c.call(&["SELECT", db]);
            let foreign = c.call(&["RESOLVE", "k", &token, "x"]);
            assert!(foreign.starts_with("-BADCONTEXT"), "{foreign}");
        }
        assert_eq!(c.call(&["SWAPDB", "0", "1"]), "+OK\r\n");
        c.call(&["SELECT", "0"]);
        assert!(
            c.call(&["RESOLVE", "k", &token, "x"])
                .starts_with("-BADCONTEXT")
        );
        assert_eq!(c.call(&["GET", "k"]), "$1\r\nb\r\n");
        c.call(&["SELECT", "1"]);
        assert!(c.call(&["RESOLVE", "k", &token, "c"]).ends_with(":1\r\n"));
    });
}

#[test]
fn a_log_that_nobody_reads_ends_or_holds_up_nothing() {
    // Its reader is gone.
    let dir = tempfile::tempdir().expect("a folder");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let server = Server::ringwood_logging(dir.path(), writer);
    assert_eq!(server.connect().call(&["PING"]), "+PONG\r\n");
    drop(reader);
    assert_eq!(
        server.connect().call(&["SHUTDOWN", "ABORT"]),
        "-ERR No shutdown in progress.\r\n"
    );
    assert!(server.ends_when_told());
    // Nobody reads, and the pipe is full before the node has said a word.
    let dir = tempfile::tempdir().expect("a folder");
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    std::io::Write::write_all(&mut writer, &vec![b'x'; 65_536]).expect("room");
    let server = Server::ringwood_logging(dir.path(), writer);
    assert_eq!(server.connect().call(&["PING"]), "+PONG\r\n");
    assert!(server.ends_when_told());
    drop(reader);
}

#[test]
fn secrets_are_shown_to_nobody() {
    let flags = ["--cluster-secret", "hush-one"];
    with_server(&flags, |server, c| {
        let mut monitor = server.connect();
        assert_eq!(monitor.call(&["MONITOR"]), "+OK\r\n");
        c.call(&["CONFIG", "SET", "slowlog-log-slower-than", "0"]);
        c.call(&["AUTH", "hush-three"]);
        c.call(&["AUTH", "default", "hush-four"]);
        c.call(&[
            "HELLO",
            "2",
            "SETNAME",
            "AUTH",
            "AUTH",
            "default",
            "hush-five",
        ]);
        c.call(&[
            "HELLO",
            "3",
            "AUTH",
            "u",
            "hush-six",
            "AUTH",
            "u",
            "hush-seven",
        ]);
        c.call(&["CONFIG", "SET", "requirepass", "hush-two"]);
        c.call(&["AUTH", "hush-two"]);
        c.call(&["SET", "end", "1"]);
        let mut seen = String::new();
        while !seen.contains("\"end\"") {
            seen += &String::from_utf8_lossy(&monitor.reply().expect("a line"));
        }
        assert!(!seen.contains("hush") && !seen.contains("CONFIG"), "{seen}");
        assert!(seen.contains("\"AUTH\" \"(redacted)\"\r\n"), "{seen}");
        assert!(
            seen.contains("\"AUTH\" \"(redacted)\" \"(redacted)\"\r\n"),
            "{seen}"
        );
        let slow = c.call(&["SLOWLOG", "GET", "50"]);
        assert!(
            !slow.contains("hush") && slow.contains("(redacted)"),
            "{slow}"
        );
        let config = c.call(&["CONFIG", "GET", "*"]);
        assert!(
            !config.contains("hush-one") && config.contains("hush-two"),
            "{config}"
        );
    });
}

#[test]
fn with_few_descriptors_fewer_clients_are_taken_in_and_the_others_are_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood_with_files(1_024, dir.path(), &[]);
    let mut first = server.connect();
    let most: usize = bulks(&first.call(&["CONFIG", "GET", "maxclients"]))[1]
        .parse()
        .expect("a number");
    assert!(most < 1_024, "{most}");
    let mut clients: Vec<Connection> = Vec::new();
    for _ in 1..most {
        let mut client = server.connect();
        assert_eq!(client.call(&["PING"]), "+PONG\r\n");
        clients.push(client);
    }
    for _ in 0..20 {
        assert_eq!(
            server.connect().rest(),
            b"-ERR max number of clients reached\r\n"
        );
    }
    assert_eq!(first.call(&["SET", "a", "1"]), "+OK\r\n");
    assert_eq!(first.call(&["SAVE"]), "+OK\r\n");
    let more = first.call(&["CONFIG", "SET", "maxclients", &(most + 1).to_string()]);
    assert!(more.contains(&format!("try with {most}")), "{more}");
}

#[test]
fn what_cannot_be_in_a_transaction_is_refused_and_a_wrong_exec_ends_it() {
    with_server(&[], |_, c| {
        for word in ["SHUTDOWN", "SAVE"] {
            c.call(&["MULTI"]);
            let refused = c.call(&[word]);
            assert_eq!(refused, "-ERR Command not allowed inside a transaction\r\n");
            assert!(c.call(&["EXEC"]).starts_with("-EXECABORT"));
        }
        for begin in ["MULTI", "PING"] {
            c.call(&[begin]);
            let aborted = "-EXECABORT Transaction discarded because of: wrong number of arguments \
                           for 'exec' command\r\n";
            assert_eq!(c.call(&["EXEC", "x"]), aborted);
            assert_eq!(c.call(&["DISCARD"]), "-ERR DISCARD without MULTI\r\n");
        }
        for words in [["NOSAVE", "SAVE"], ["ABORT", "NOSAVE"], ["NOSAVE", "ABORT"]] {
            let [a, b] = words;
            assert_eq!(c.call(&["SHUTDOWN", a, b]), "-ERR syntax error\r\n");
        }
        assert_eq!(c.call(&["PING"]), "+PONG\r\n");
    });
}

#[test]
fn what_a_store_without_a_primary_has_not_is_refused_in_words_that_say_why() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(dir.path(), &[]);
    let mut client = server.connect();
    let no_primary = "every node takes every command, and nothing is a primary or a replica";
    for (line, expected) in [
        ("REPLICAOF NO ONE", "+OK".to_owned()),
        (
            "REPLICAOF 127.0.0.1 6379",
            format!("-ERR REPLICAOF is not offered: {no_primary}"),
        ),
        (
            "PSYNC ? -1",
            format!("-ERR PSYNC is not offered: {no_primary}"),
        ),
        ("MODULE LIST", "*0".to_owned()),
        (
            "MODULE LOAD /tmp/m.so",
            "-ERR MODULE LOAD is not offered: there are no modules".to_owned(),
        ),
        (
            "CLUSTER ADDSLOTS 1",
            "-ERR CLUSTER ADDSLOTS is not offered: owners of slots follow from the members; \
             RINGWOOD PLAN, or ringwood cluster, changes those"
                .to_owned(),
        ),
        (
            "CLUSTER REPLICAS 1",
            "-ERR This instance has cluster support disabled".to_owned(),
        ),
        ("ACL WHOAMI", "$7\r\ndefault".to_owned()),
        (
            "MEMORY PURGE",
            "-ERR MEMORY PURGE is not offered: the allocator gives memory back by itself"
                .to_owned(),
        ),
        (
            "SCRIPT DEBUG YES",
            "-ERR SCRIPT DEBUG is not offered: it is about the inside of Redis's own server"
                .to_owned(),
        ),
    ] {
        client.say(line);
        assert_eq!(client.hear(), format!("{expected}\r\n"), "{line}");
    }
}
