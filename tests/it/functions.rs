//! Functions: on one node, through every node of a cluster, and after a restart.

use super::harness::{Cluster, Server, bulks, encode};

const LIBRARY: &str = "#!lua name=cart
local function add(keys, args) return redis.call('HINCRBY', keys[1], args[1], args[2]) end
redis.register_function('add', add)
redis.register_function{function_name='show', flags={'no-writes'}, description='all of it',
  callback=function(keys) return redis.call('HGETALL', keys[1]) end}
redis.register_function('both', function(keys, args) redis.call('SET', keys[1], 1) return redis.call('SET', keys[2], 1) end)
";

#[test]
fn a_function_is_known_until_its_library_goes() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(dir.path(), &[]);
    let mut c = server.connect();
    assert_eq!(c.call(&["FUNCTION", "FLUSH"]), "+OK\r\n");
    assert_eq!(
        c.call(&["FCALL", "add", "0"]),
        "-ERR Function not found\r\n"
    );
    assert_eq!(bulks(&c.call(&["FUNCTION", "LOAD", LIBRARY])), ["cart"]);
    assert_eq!(c.call(&["FCALL", "add", "1", "k", "tea", "2"]), ":2\r\n");
    assert_eq!(
        bulks(&c.call(&["FCALL_RO", "show", "1", "k"])),
        ["tea", "2"]
    );
    let refused = c.call(&["FCALL_RO", "add", "1", "k", "tea", "2"]);
    assert!(
        refused.starts_with("-ERR Can not execute a script with write flag"),
        "{refused}"
    );
    let again = c.call(&["FUNCTION", "LOAD", LIBRARY]);
    assert_eq!(again, "-ERR Library 'cart' already exists\r\n");
    let other = LIBRARY.replace("name=cart", "name=other");
    let other = c.call(&["FUNCTION", "LOAD", &other]);
    assert_eq!(other, "-ERR Function add already exists\r\n");
    let newer = LIBRARY.replace("'HINCRBY'", "'HSET'");
    assert_eq!(
        bulks(&c.call(&["FUNCTION", "LOAD", "REPLACE", &newer])),
        ["cart"]
    );
    assert_eq!(c.call(&["FCALL", "add", "1", "k", "milk", "2"]), ":1\r\n");
    server.kill();
    let server = Server::ringwood(dir.path(), &[]);
    let mut c = server.connect();
    assert_eq!(c.call(&["FCALL", "add", "1", "k", "egg", "2"]), ":1\r\n");
    let list = bulks(&c.call(&["FUNCTION", "LIST", "LIBRARYNAME", "c*"]));
    assert_eq!(list[..2], ["library_name", "cart"]);
    assert_eq!(c.call(&["FUNCTION", "DELETE", "cart"]), "+OK\r\n");
    assert_eq!(
        c.call(&["FCALL", "add", "1", "k", "egg", "2"]),
        "-ERR Function not found\r\n"
    );
    assert_eq!(
        c.call(&["FUNCTION", "DELETE", "cart"]),
        "-ERR Library not found\r\n"
    );
}

#[test]
fn a_function_is_known_to_all_nodes_that_answer_and_to_the_others_later() {
    let mut cluster = Cluster::start(3, &[]);
    assert_eq!(
        bulks(&cluster.call(0, &["FUNCTION", "LOAD", LIBRARY])),
        ["cart"]
    );
    for nth in 0..3 {
        let sum = cluster.call(nth, &["FCALL", "add", "1", "k", "tea", "1"]);
        assert_eq!(sum, format!(":{}\r\n", nth + 1));
        // Keys of several coordinators, and with none named.
        for key in ["a", "b", "c"] {
            assert_eq!(
                cluster.call(nth, &["FCALL", "both", "2", "x", key]),
                "+OK\r\n"
            );
        }
    }
    cluster.members[2].kill();
    let newer = LIBRARY.replace("'HINCRBY'", "'HSET'");
    assert_eq!(
        bulks(&cluster.call(1, &["FUNCTION", "LOAD", "REPLACE", &newer])),
        ["cart"]
    );
    cluster.members[2].start(None);
    cluster.wait_until_whole();
    for nth in 0..3 {
        let set = cluster.call(nth, &["FCALL", "add", "1", "k", &nth.to_string(), "1"]);
        assert_eq!(set, ":1\r\n", "node {nth}");
    }
    assert_eq!(cluster.call(2, &["FUNCTION", "FLUSH"]), "+OK\r\n");
    for nth in 0..3 {
        let gone = cluster.call(nth, &["FCALL", "add", "1", "k", "x", "1"]);
        assert_eq!(gone, "-ERR Function not found\r\n", "node {nth}");
    }
}

#[test]
fn a_library_does_nothing_but_register_and_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(dir.path(), &[]);
    let mut c = server.connect();
    let load = |c: &mut super::harness::Connection, code: &str| {
        c.call(&[
            "FUNCTION",
            "LOAD",
            "REPLACE",
            &format!("#!lua name=a\n{code}"),
        ])
    };
    let late = load(&mut c, "while true do end");
    assert_eq!(late, "-ERR FUNCTION LOAD timeout\r\n");
    let said = load(
        &mut c,
        "pcall(loadstring(\"redis.call('SET', 'k', 'v')\")) redis.register_function('f', function() end)",
    );
    assert_eq!(bulks(&said), ["a"]);
    assert_eq!(c.call(&["FCALL", "f", "0"]), "$-1\r\n");
    assert_eq!(c.call(&["EXISTS", "k"]), ":0\r\n");
    // What a library puts where all see it is gone with the call.
    load(
        &mut c,
        "redis.register_function('put', function() table.insert(_G, 'x') return 1 end)
         redis.register_function('get', function() return rawget(_G, 1) end)",
    );
    c.call(&["FCALL", "put", "0"]);
    assert_eq!(c.call(&["FCALL", "get", "0"]), "$-1\r\n");
    // Names do not differ by case alone.
    let twice = c.call(&[
        "FUNCTION",
        "LOAD",
        "#!lua name=b\nredis.register_function('PUT', function() end)",
    ]);
    assert_eq!(twice, "-ERR Function PUT already exists\r\n");
    // All of it comes back from a dump, beside nothing or in the place of everything.
    let mut say = |words: &[&[u8]]| {
        let words: Vec<Vec<u8>> = words.iter().map(|word| word.to_vec()).collect();
        c.send(&encode(&words)).expect("sent");
        c.reply().expect("a reply")
    };
    let dump = say(&[b"FUNCTION", b"DUMP"]);
    let start = dump.iter().position(|byte| *byte == b'\n').expect("a bulk") + 1;
    let dump = &dump[start..dump.len() - 2];
    let refused = say(&[b"FUNCTION", b"RESTORE", dump]);
    assert_eq!(refused, b"-ERR Library 'a' already exists\r\n");
    assert_eq!(say(&[b"FUNCTION", b"FLUSH"]), b"+OK\r\n");
    assert_eq!(
        say(&[b"FCALL", b"put", b"0"]),
        b"-ERR Function not found\r\n"
    );
    assert_eq!(say(&[b"FUNCTION", b"RESTORE", dump, b"FLUSH"]), b"+OK\r\n");
    assert_eq!(say(&[b"FCALL", b"put", b"0"]), b":1\r\n");
    let wrong = say(&[b"FUNCTION", b"RESTORE", &dump[1..]]);
    assert_eq!(
        wrong,
        b"-ERR DUMP payload version or checksum are wrong\r\n"
    );
    let stats = c.call(&["FUNCTION", "STATS"]);
    assert!(stats.contains("functions_count\r\n:2\r\n"), "{stats}");
}
