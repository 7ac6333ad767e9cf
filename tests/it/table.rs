//! What COMMAND INFO says, beside what Redis says of the same commands.

use std::collections::BTreeSet;

use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::types::OwnedFrame;

use super::harness::{Clock, Connection, Server, encode};

/// Of these Redis says another arity: here every word is optional that may be missing.
const OTHER_ARITY: &[&str] = &[];

/// Of these Redis says other keys: PFCOUNT and PFMERGE keep a count there that is not kept here, SINTERSTORE
/// differs from its like, the keys of SORT's patterns cannot be told.
const OTHER_KEYS: &[&str] = &["pfcount", "pfmerge", "sinterstore", "sort", "sort_ro"];

fn ask(connection: &mut Connection, words: &[&str]) -> OwnedFrame {
    let words: Vec<Vec<u8>> = words.iter().map(|w| w.as_bytes().to_vec()).collect();
    connection.send(&encode(&words)).expect("sent");
    let reply = connection.reply().expect("a reply");
    let (frame, _) = decode(&reply).expect("RESP").expect("all of it");
    frame
}

fn items(frame: &OwnedFrame) -> &[OwnedFrame] {
    match frame {
        OwnedFrame::Array(items) => items,
        _ => &[],
    }
}

fn word(frame: &OwnedFrame) -> String {
    match frame {
        OwnedFrame::SimpleString(text) | OwnedFrame::BulkString(text) => {
            String::from_utf8_lossy(text).to_lowercase()
        }
        OwnedFrame::Integer(number) => number.to_string(),
        other => format!("{other:?}"),
    }
}

/// A map's value, flattened into words.
fn of<'f>(map: &'f OwnedFrame, name: &str) -> Option<&'f OwnedFrame> {
    let mut pairs = items(map).chunks(2);
    pairs
        .find(|pair| word(&pair[0]) == name)
        .map(|pair| &pair[1])
}

fn flat(frame: &OwnedFrame, out: &mut Vec<String>) {
    match frame {
        OwnedFrame::Array(items) => items.iter().for_each(|item| flat(item, out)),
        item => out.push(word(item)),
    }
}

/// How keys are found, and what becomes of them; not the notes.
fn key_spec(spec: &OwnedFrame) -> (BTreeSet<String>, Vec<String>) {
    let flags = of(spec, "flags").map_or(&[][..], items);
    let mut steps = Vec::new();
    for step in ["begin_search", "find_keys"] {
        flat(of(spec, step).expect("a step"), &mut steps);
    }
    (flags.iter().map(word).collect(), steps)
}

#[test]
fn every_command_of_redis_has_its_arity_its_keys_and_no_tip_that_it_has_not() {
    let (here, there) = (tempfile::tempdir(), tempfile::tempdir());
    let (here, there) = (here.expect("a folder"), there.expect("a folder"));
    let ringwood = Server::ringwood(here.path(), &[]);
    let redis = Server::redis_under(&Clock::new(), there.path());
    let (mut ours, mut theirs) = (ringwood.connect(), redis.connect());
    let names = ask(&mut ours, &["COMMAND", "LIST"]);
    let mut compared = 0;
    for name in items(&names).iter().map(word) {
        let asked = ["COMMAND", "INFO", &name];
        let (a, b) = (ask(&mut ours, &asked), ask(&mut theirs, &asked));
        let (Some(a), Some(b)) = (items(&a).first(), items(&b).first()) else {
            panic!("{name}: no reply");
        };
        let (a, b) = (items(a), items(b));
        if b.is_empty() {
            // Redis has no such command.
            continue;
        }
        compared += 1;
        let range = |info: &[OwnedFrame]| info[3..6].iter().map(word).collect::<Vec<_>>();
        assert_eq!(range(a), range(b), "{name}: first, last, step");
        if !OTHER_ARITY.contains(&name.as_str()) {
            assert_eq!(word(&a[1]), word(&b[1]), "{name}: arity");
        }
        let specs = |info: &[OwnedFrame]| items(&info[8]).iter().map(key_spec).collect::<Vec<_>>();
        if !OTHER_KEYS.contains(&name.as_str()) {
            assert_eq!(specs(a), specs(b), "{name}: keys");
        }
        let tips = |info: &[OwnedFrame]| items(&info[7]).iter().map(word).collect::<BTreeSet<_>>();
        assert!(tips(a).is_subset(&tips(b)), "{name}: {:?}", tips(a));
    }
    assert!(compared > 100, "{compared} commands compared");
}
