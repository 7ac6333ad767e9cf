//! What has no counterpart in Redis, and what the differential run cannot compare.

use super::harness::{Connection, Server};

fn with_server(flags: &[&str], check: impl Fn(&Server, &mut Connection)) {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(dir.path(), flags);
    check(&server, &mut server.connect());
}

/// The bulk strings of a reply, in order.
fn bulks(reply: &str) -> Vec<String> {
    let mut lines = reply.split("\r\n");
    let mut out = Vec::new();
    while let Some(line) = lines.next() {
        if line.starts_with('$') && line != "$-1" {
            out.extend(lines.next().map(str::to_owned));
        }
    }
    out
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
        assert!(
            c.call(&["LATENCY", "HISTORY", "command"])
                .starts_with("*1\r\n*2\r\n:")
        );
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
