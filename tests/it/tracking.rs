//! Client-side caching: beside Redis's own, and over three nodes.

use super::harness::{Clock, Cluster, Connection, Member, Server, eventually};

/// What a reader (0) and a writer (1) send, and how many replies and messages they read then; the reader speaks
/// RESP3.
const CONVERSATION: &[(usize, &str, usize, usize)] = &[
    (0, "HELLO 3", 0, 0),
    (0, "CLIENT CACHING YES", 1, 0),
    (0, "CLIENT GETREDIR", 1, 0),
    (0, "CLIENT TRACKINGINFO", 1, 0),
    (0, "CLIENT TRACKING", 1, 0),
    (0, "CLIENT TRACKING perhaps", 1, 0),
    (0, "CLIENT TRACKING ON NOPE", 1, 0),
    (0, "CLIENT TRACKING ON REDIRECT 99999", 1, 0),
    (0, "CLIENT TRACKING ON PREFIX a", 1, 0),
    (0, "CLIENT TRACKING ON OPTIN OPTOUT", 1, 0),
    (0, "CLIENT TRACKING ON BCAST OPTIN", 1, 0),
    (0, "CLIENT TRACKING ON BCAST PREFIX foo PREFIX foobar", 1, 0),
    // What was read is told of once.
    (0, "CLIENT TRACKING ON", 1, 0),
    (0, "CLIENT GETREDIR", 1, 0),
    (0, "CLIENT TRACKINGINFO", 1, 0),
    (0, "CLIENT CACHING YES", 1, 0),
    (0, "GET a", 1, 0),
    (1, "SET a 1", 1, 1),
    (1, "SET a 2", 1, 0),
    (0, "MGET a b", 1, 0),
    (1, "DEL a", 1, 1),
    (1, "SET b 1", 1, 1),
    (0, "LRANGE l 0 -1", 1, 0),
    (1, "RPUSH l x", 1, 1),
    (0, "HGETALL h", 1, 0),
    (1, "HSET h f v", 1, 1),
    (0, "GET mine", 1, 0),
    (0, "SET mine 1", 1, 1),
    (0, "GET flushed", 1, 0),
    (1, "FLUSHALL", 1, 1),
    (0, "CLIENT TRACKING ON BCAST", 1, 0),
    (0, "CLIENT TRACKING OFF", 1, 0),
    (0, "GET a", 1, 0),
    (1, "SET a 3", 1, 0),
    // Not of what it does itself.
    (0, "CLIENT TRACKING ON NOLOOP", 1, 0),
    (0, "CLIENT TRACKINGINFO", 1, 0),
    (0, "GET a", 1, 0),
    (0, "SET a 4", 1, 0),
    (0, "GET a", 1, 0),
    (1, "SET a 5", 1, 1),
    (0, "CLIENT TRACKING OFF", 1, 0),
    // Only where it says so.
    (0, "CLIENT TRACKING ON OPTIN", 1, 0),
    (0, "GET a", 1, 0),
    (1, "SET a 6", 1, 0),
    (0, "CLIENT CACHING NO", 1, 0),
    (0, "CLIENT CACHING YES", 1, 0),
    (0, "CLIENT TRACKINGINFO", 1, 0),
    (0, "CLIENT CACHING YES", 1, 0),
    (0, "GET a", 1, 0),
    (0, "GET b", 1, 0),
    (1, "SET b 6", 1, 0),
    (1, "SET a 7", 1, 1),
    (0, "CLIENT CACHING YES", 1, 0),
    (0, "MULTI", 1, 0),
    (0, "GET a", 1, 0),
    (0, "GET b", 1, 0),
    (0, "EXEC", 1, 0),
    (1, "SET a 8", 1, 1),
    (1, "SET b 8", 1, 1),
    (0, "CLIENT TRACKING ON OPTOUT", 1, 0),
    (0, "CLIENT TRACKING OFF", 1, 0),
    // Unless it says otherwise.
    (0, "CLIENT TRACKING ON OPTOUT", 1, 0),
    (0, "CLIENT CACHING YES", 1, 0),
    (0, "CLIENT CACHING NO", 1, 0),
    (0, "GET a", 1, 0),
    (0, "GET b", 1, 0),
    (1, "SET a 9", 1, 0),
    (1, "SET b 9", 1, 1),
    (0, "CLIENT TRACKING OFF", 1, 0),
    // By prefixes, whether it was read or not.
    (
        0,
        "CLIENT TRACKING ON BCAST PREFIX cart: PREFIX user:",
        1,
        0,
    ),
    (0, "CLIENT TRACKINGINFO", 1, 0),
    (0, "CLIENT TRACKING ON BCAST PREFIX cart:1", 1, 0),
    (1, "SET cart:7 x", 1, 1),
    (1, "SET other x", 1, 0),
    (1, "MSET user:1 a user:2 b other c", 1, 1),
    (1, "MULTI", 1, 0),
    (1, "SET cart:1 x", 1, 0),
    (1, "SET cart:2 x", 1, 0),
    (1, "EXEC", 1, 1),
    (0, "CLIENT TRACKING OFF", 1, 0),
    (1, "SET cart:7 y", 1, 0),
    // A script's reads are its caller's.
    (0, "CLIENT TRACKING ON", 1, 0),
    (0, "EVAL return(redis.call('get',KEYS[1])) 1 a", 1, 0),
    (1, "SET a 10", 1, 1),
    (0, "RESET", 1, 0),
    (0, "CLIENT TRACKINGINFO", 1, 0),
    (0, "GET a", 1, 0),
    (1, "SET a 11", 1, 0),
];

fn talk(server: &Server) -> Vec<String> {
    let mut both = [server.connect(), server.connect()];
    let mut heard = Vec::new();
    for (nth, (who, line, replies, messages)) in CONVERSATION.iter().enumerate() {
        both[*who].say(line);
        // The reply to HELLO tells versions.
        let is_greeting = *replies == 0;
        if is_greeting {
            both[*who].hear();
        }
        for _ in 0..*replies {
            heard.push(format!("{nth} {line}: {}", both[*who].hear()));
        }
        for _ in 0..*messages {
            heard.push(format!("{nth} {line} told: {}", both[0].hear()));
        }
    }
    // Nothing else was said.
    both[0].say("PING");
    heard.push(both[0].hear());
    heard
}

#[test]
fn readers_are_told_what_redis_tells_them() {
    let (here, there) = (tempfile::tempdir(), tempfile::tempdir());
    let (here, there) = (here.expect("a folder"), there.expect("a folder"));
    let ringwood = Server::ringwood(here.path(), &[]);
    let redis = Server::redis_under(&Clock::new(), there.path());
    for (ours, theirs) in talk(&ringwood).into_iter().zip(talk(&redis)) {
        assert_eq!(ours, theirs);
    }
}

/// The number of a connection.
fn id(connection: &mut Connection) -> String {
    let said = connection.call(&["CLIENT", "ID"]);
    said.trim_start_matches(':').trim().to_owned()
}

#[test]
fn an_old_client_is_told_on_another_connection_and_a_new_one_that_it_is_lost() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::ringwood(dir.path(), &[]);
    let (mut reader, mut told, mut writer) = (server.connect(), server.connect(), server.connect());
    let id = id(&mut told);
    told.call(&["SUBSCRIBE", "__redis__:invalidate"]);
    reader.call(&["HELLO", "3"]);
    let on = ["CLIENT", "TRACKING", "ON", "REDIRECT", &id];
    assert_eq!(reader.call(&on), "+OK\r\n");
    assert_eq!(reader.call(&["CLIENT", "GETREDIR"]), format!(":{id}\r\n"));
    reader.call(&["GET", "k"]);
    writer.call(&["SET", "k", "v"]);
    let expected = "*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*1\r\n$1\r\nk\r\n";
    assert_eq!(told.hear(), expected);
    reader.call(&["GET", "k"]);
    drop(told);
    eventually("the other connection is gone", || {
        !writer.call(&["CLIENT", "LIST"]).contains("sub=1")
    });
    writer.call(&["SET", "k", "w"]);
    assert_eq!(
        reader.hear(),
        format!(">2\r\n$21\r\ntracking-redir-broken\r\n:{id}\r\n")
    );
}

/// Hears what one is told until it is this: of earlier keys one may be told once more.
fn await_told(reader: &mut Connection, expected: &str) {
    while reader.hear() != expected {}
}

/// The reply to a command, behind what one is told meanwhile.
fn ask(reader: &mut Connection, line: &str) -> String {
    reader.say(line);
    loop {
        let said = reader.hear();
        if !said.starts_with('>') {
            return said;
        }
    }
}

#[test]
fn what_changes_at_any_node_is_told_at_every_node_where_it_was_read() {
    let cluster = Cluster::start(3, &[]);
    let members = cluster.members.iter();
    let mut readers: Vec<Connection> = members.map(Member::connect).collect();
    for reader in &mut readers {
        reader.call(&["HELLO", "3"]);
        assert_eq!(ask(reader, "CLIENT TRACKING ON"), "+OK\r\n");
    }
    for n in 0..30 {
        let key = format!("k{n}");
        for reader in &mut readers {
            ask(reader, &format!("GET {key}"));
        }
        let set = cluster.call(n % 3, &["SET", &key, "v", "PX", "60000"]);
        assert_eq!(set, "+OK\r\n");
        let len = key.len();
        for reader in &mut readers {
            let told = format!(">2\r\n$10\r\ninvalidate\r\n*1\r\n${len}\r\n{key}\r\n");
            await_told(reader, &told);
            assert_eq!(ask(reader, &format!("GET {key}")), "$1\r\nv\r\n");
        }
    }
    cluster.call(1, &["FLUSHALL"]);
    for reader in &mut readers {
        await_told(reader, ">2\r\n$10\r\ninvalidate\r\n_\r\n");
        assert_eq!(ask(reader, "GET k0"), "_\r\n");
    }
}

#[test]
fn who_could_not_be_told_is_told_when_it_can_be() {
    let cluster = Cluster::start(3, &[]);
    cluster.call(0, &["SET", "k", "before"]);
    let mut reader = cluster.members[0].connect();
    reader.call(&["HELLO", "3"]);
    ask(&mut reader, "CLIENT TRACKING ON");
    assert_eq!(ask(&mut reader, "GET k"), "$6\r\nbefore\r\n");
    cluster.members[0]
        .server
        .as_ref()
        .expect("it runs")
        .signal("STOP");
    eventually("the others write without it", || {
        cluster.call(1, &["SET", "k", "after"]) == "+OK\r\n"
    });
    cluster.members[0]
        .server
        .as_ref()
        .expect("it runs")
        .signal("CONT");
    assert!(reader.hear().starts_with(">2\r\n$10\r\ninvalidate\r\n"));
    eventually("it reads what was written", || {
        ask(&mut reader, "GET k") == "$5\r\nafter\r\n"
    });
}
