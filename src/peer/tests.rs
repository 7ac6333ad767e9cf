//! Links and listeners over loopback, and hostile bytes.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use smallvec::smallvec;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::message::{
    Command, Deltas, ExchangeRequest, KeyRequest, KeySpaceRequest, Listening, MembershipRequest,
    NEWEST, News, OLDEST, OneDelta, PLACES, Request, Response, TransferRequest, UNKNOWN_VIEW,
    WhyNot, WireKey, WireListed, Wrote,
};
use super::{Answer, CallError, Handler, Identity, Links, PeerListener, Peers, encode};
use crate::logic::causal::{ActorId, Context, Dot, Element, Kind, Timestamp};
use crate::logic::codec::DecodeError;
use crate::logic::membership::{
    Digest, Losses, Member, Reply, State, decode_member, encode_member, encode_member_as_before,
    encode_member_without_losses,
};
use crate::logic::merkle::{FANOUT, Node};
use crate::logic::place::{Position, row_key};
use crate::logic::placement::{NodeId, Partitions, Place};
use crate::logic::types::element;

const SECOND: Duration = Duration::from_secs(5);

fn identity(node: u64, secret: &[u8]) -> Identity {
    Identity {
        node: NodeId(node),
        cluster: 7,
        partitions: 256,
        n: 3,
        key: Identity::key_of(secret),
        wire: NEWEST,
    }
}

/// Answers a fetch with the key's name; never answers a count.
struct Echo(Identity);

impl Handler for Echo {
    fn identity(&self) -> Identity {
        self.0
    }

    fn start(&self, _: NodeId, request: Request, _: Duration) -> Answer {
        match request {
            Request::Key(KeyRequest::Fetch { key, .. }) => Answer::Now(Response::Object(key.name)),
            Request::KeySpace(KeySpaceRequest::Counts { .. }) => {
                Answer::Later(Box::pin(std::future::pending()))
            }
            _ => Answer::Now(Response::Refused("no".into())),
        }
    }

    fn all_started(&self) {}
}

async fn served(identity: Identity) -> (String, tokio::task::JoinSet<()>) {
    let listener = PeerListener::reserve("127.0.0.1", 0)
        .await
        .and_then(super::Reserved::listen)
        .expect("a port");
    let address = format!("127.0.0.1:{}", listener.port());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(listener.serve(Arc::new(Echo(identity))));
    (address, tasks)
}

fn fetch(name: &str) -> Bytes {
    let key = WireKey {
        db: 0,
        name: Bytes::copy_from_slice(name.as_bytes()),
    };
    encode(KeyRequest::Fetch {
        key,
        digest: 0,
        dots: Vec::new(),
        seen: None,
        view: 0,
    })
}

#[tokio::test]
async fn many_requests_share_a_link_and_each_gets_its_answer() {
    let (address, _tasks) = served(identity(2, b"s")).await;
    let links = Links::new(|| identity(1, b"s"));
    links.set_address(NodeId(2), &address);
    let calls: Vec<_> = (0..1_000)
        .map(|n| links.call(NodeId(2), fetch(&n.to_string()), SECOND))
        .collect();
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await, Ok(Response::Object(n.to_string().into())));
    }
    assert!(links.is_up(NodeId(2)));
}

#[tokio::test]
async fn a_request_without_an_answer_times_out_and_others_go_on() {
    let (address, _tasks) = served(identity(2, b"s")).await;
    let links = Links::new(|| identity(1, b"s"));
    links.set_address(NodeId(2), &address);
    let silent = encode(KeySpaceRequest::Counts { db: 0 });
    let silent = links.call(NodeId(2), silent, Duration::from_millis(20));
    assert_eq!(silent.await, Err(CallError::TimedOut));
    let other = links.call(NodeId(2), fetch("a"), SECOND).await;
    assert_eq!(other, Ok(Response::Object("a".into())));
}

#[tokio::test]
async fn a_node_that_is_gone_is_unreachable_at_once_and_found_again() {
    let (address, tasks) = served(identity(2, b"s")).await;
    let links = Links::new(|| identity(1, b"s"));
    links.set_address(NodeId(2), &address);
    links
        .call(NodeId(2), fetch("a"), SECOND)
        .await
        .expect("an answer");
    drop(tasks);
    loop {
        match links.call(NodeId(2), fetch("a"), SECOND).await {
            Err(CallError::Unreachable) => break,
            Err(_) | Ok(_) => tokio::task::yield_now().await,
        }
    }
    let port = address
        .rsplit_once(':')
        .expect("a port")
        .1
        .parse()
        .expect("a number");
    let listener = PeerListener::reserve("127.0.0.1", port)
        .await
        .and_then(super::Reserved::listen)
        .expect("the same port");
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(listener.serve(Arc::new(Echo(identity(2, b"s")))));
    while links.call(NodeId(2), fetch("a"), SECOND).await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_node_with_another_secret_partitioning_or_cluster_is_refused() {
    let (address, _tasks) = served(identity(2, b"s")).await;
    let refused = |me: Identity| {
        let address = address.clone();
        async move {
            let connected = super::link::connect(&address, me).await;
            connected.map(|_| ()).expect_err("refused").to_string()
        }
    };
    let me = identity(1, b"s");
    assert!(refused(identity(1, b"other")).await.contains("secret"));
    assert!(
        refused(Identity { cluster: 8, ..me })
            .await
            .contains("different clusters")
    );
    assert!(
        refused(Identity { n: 2, ..me })
            .await
            .contains("replicas-per-key")
    );
    assert!(
        refused(Identity {
            partitions: 64,
            ..me
        })
        .await
        .contains("partitions")
    );
    assert!(refused(identity(2, b"s")).await.contains("id"));
    let newcomer = Links::new(move || Identity { cluster: 8, ..me });
    let answer = newcomer
        .call_address(
            &address,
            &MembershipRequest::Gossip(Vec::new()).into(),
            SECOND,
        )
        .await
        .expect("an answer");
    assert_eq!(answer, (NodeId(2), Response::Refused("no".into())));
}

#[tokio::test]
async fn strangers_bytes_end_the_connection_and_nothing_else() {
    let (address, _tasks) = served(identity(2, b"s")).await;
    for bytes in [
        &b"PING\r\n*1\r\n$4\r\nPING\r\n"[..],
        &[0xff; 64],
        &[0; 64],
        &[
            16, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
        ],
        &[0xff, 0xff, 0, 0, 1, 2, 3, 4],
    ] {
        let mut stream = TcpStream::connect(&address).await.expect("connect");
        stream.write_all(bytes).await.expect("write");
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(SECOND, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "{bytes:?}");
    }
    let links = Links::new(|| identity(1, b"s"));
    links.set_address(NodeId(2), &address);
    assert!(links.call(NodeId(2), fetch("a"), SECOND).await.is_ok());
}

fn wrote() -> Vec<Wrote> {
    let one = |db, name: &'static str, actor, seq| Wrote {
        db,
        name: name.into(),
        dot: Dot {
            actor: ActorId(actor),
            seq,
        },
        at: Timestamp(seq << 16),
    };
    vec![one(0, "a", 1, 1), one(15, "b", u64::MAX, 1 << 40)]
}

fn deltas() -> Deltas {
    let mut raw = Vec::new();
    for name in [&b"a"[..], b"b"] {
        let one = OneDelta {
            db: 15,
            name,
            object: b"row",
            only_over_seen: true,
            touched: None,
        };
        one.put(&mut raw);
    }
    Deltas::new(raw.into()).expect("deltas")
}

fn requests() -> Vec<Request> {
    let key = WireKey {
        db: 3,
        name: "k".into(),
    };
    vec![
        KeyRequest::Apply {
            key: key.clone(),
            object: "row".into(),
            hint_for: Some(NodeId(9)),
            only_over_seen: true,
            touched: Some(vec![Element::STRING, element(Kind::Hash, b"field")]),
            view: 12,
        }
        .into(),
        KeyRequest::ApplyAll {
            deltas: deltas(),
            view: 13,
        }
        .into(),
        KeyRequest::Fetch {
            key,
            digest: 77,
            dots: vec![Dot {
                actor: ActorId(5),
                seq: 9,
            }],
            seen: Some(Context::of_dots([Dot {
                actor: ActorId(5),
                seq: 8,
            }])),
            view: 300,
        }
        .into(),
        Request::Forward(Command {
            events: 5,
            hops: 2,
            db: 1,
            protocol: 3,
            r: 0,
            w: 2,
            patience_ms: 2_000,
            steps: smallvec![Bytes::from_static(b"\x02\x03GET\x01k")],
            transaction: Some(vec![("k".into(), "seen".into())]),
            own: wrote(),
            since: Some(Timestamp(77 << 16)),
        }),
        KeySpaceRequest::Everything.into(),
        KeySpaceRequest::Floor {
            db: None,
            context: "c".into(),
        }
        .into(),
        KeySpaceRequest::Counts { db: 15 }.into(),
        KeySpaceRequest::Scan {
            db: 0,
            cursor: 1 << 40,
            count: 10,
            partitions: "\u{1}".into(),
            conflicts: true,
        }
        .into(),
        KeySpaceRequest::Holds {
            writes: wrote(),
            synced: true,
        }
        .into(),
        MembershipRequest::Invite {
            address: "10.0.0.1:7000".into(),
        }
        .into(),
        ExchangeRequest::Written.into(),
        ExchangeRequest::Roots {
            as_of_ms: 1 << 40,
            owners: 3,
            rules: u64::MAX,
            partitions: "\u{3}".into(),
            mends: true,
            view: 1 << 40,
        }
        .into(),
        ExchangeRequest::Sums {
            owners: 3,
            nodes: vec![(255, Node::ROOT), (9, Node::ROOT.child(15))],
        }
        .into(),
        ExchangeRequest::List {
            owners: 2,
            partition: 300,
            leaves: 7..4_096,
            from: "row".into(),
            limit: 1_024,
            as_of_ms: 0,
        }
        .into(),
        ExchangeRequest::Objects(vec![listed().key]).into(),
        ExchangeRequest::Merge(vec![(listed().key, "row".into())]).into(),
        ExchangeRequest::Repair { partition: 16_383 }.into(),
        MembershipRequest::Pace.into(),
        News::ForgetScripts.into(),
        News::StopScripts.into(),
        News::ForgetFunctions.into(),
        News::Changed(vec!["k".into(), "".into()]).into(),
        News::Changed(Vec::new()).into(),
        News::Publish {
            sharded: true,
            channel: "room".into(),
            message: "hello".into(),
        }
        .into(),
        News::Count {
            sharded: false,
            channels: vec!["a".into(), "b".into()],
        }
        .into(),
        News::Listens {
            actor: 7,
            from: 1,
            to: u64::MAX,
            changes: vec![Listening {
                kind: 1,
                name: "r*m".into(),
                begins: true,
            }],
        }
        .into(),
        TransferRequest::Chunk {
            owners: 3,
            partition: 16_383,
            from: "row".into(),
            bytes: 1 << 18,
        }
        .into(),
        TransferRequest::Sizes {
            owners: 1,
            partitions: "\u{3}".into(),
        }
        .into(),
        MembershipRequest::Describe.into(),
        MembershipRequest::Transfers.into(),
        MembershipRequest::Push(vec![member()]).into(),
        MembershipRequest::Join(Box::new(member())).into(),
        MembershipRequest::Gossip(vec![digest(Some(7))]).into(),
    ]
}

fn member() -> Member {
    Member {
        id: NodeId(9),
        name: "node".into(),
        peer_address: "10.0.0.9:16379".into(),
        client_address: "10.0.0.9:6379".into(),
        zone: "a".into(),
        weight: 2,
        actor: ActorId(4),
        incarnation: 3,
        version: 2,
        joined: 5,
        left: Some(9),
        gone: false,
        replaces: Some(NodeId(8)),
        places: vec![Place {
            at: 5,
            zone: "b".into(),
            weight: 1,
        }],
        complete: Some([(3, 7)].into_iter().collect()),
        proven: [(3, 8)].into_iter().collect(),
        proven_as_of: 1 << 40,
        losses: Losses {
            lost: [(3, 9)].into_iter().collect(),
            lost_at: 7,
            accepted: [(3, 10), (1, 4)].into_iter().collect(),
            accepted_at: 1 << 40,
            restored: [(3, 11)].into_iter().collect(),
        },
        state: State::Stops,
    }
}

fn digest(facts: Option<u32>) -> Digest {
    Digest {
        id: NodeId(9),
        incarnation: 1,
        version: 2,
        heartbeat: 300,
        joined: 4,
        left: true,
        facts,
    }
}

/// What an older node hears of a member.
fn as_before(member: &Member) -> Member {
    decode_member(&encode_member_as_before(member)).expect("it was encoded")
}

#[test]
fn a_member_written_in_a_way_that_came_later_is_refused_on_an_older_wire() {
    // By wire: "push" (2) or "join" (3) of a member that left and is not gone, which version 1 cannot say.
    let member = member();
    let push = |raw: &[u8]| [&[2, 1, raw.len() as u8][..], raw].concat();
    let join = |raw: &[u8]| [&[3, raw.len() as u8][..], raw].concat();
    let before = encode_member_as_before(&member);
    for raw in [
        encode_member(&member),
        encode_member_without_losses(&member),
    ] {
        assert_eq!(
            Request::decode(&push(&raw), OLDEST),
            Err(DecodeError::Version(raw[0]))
        );
        assert_eq!(
            Request::decode(&join(&raw), OLDEST),
            Err(DecodeError::Version(raw[0]))
        );
        assert!(Request::decode(&push(&raw), NEWEST).is_ok());
    }
    assert!(Request::decode(&push(&before), OLDEST).is_ok());
    assert!(Request::decode(&join(&before), OLDEST).is_ok());
}

#[test]
fn the_wire_version_before_is_spoken_and_what_it_does_not_know_is_not_said() {
    for request in requests() {
        let mut expected = request.clone();
        match &mut expected {
            Request::Transfer(_)
            | Request::News(_)
            | Request::Key(KeyRequest::ApplyAll { .. })
            | Request::Membership(MembershipRequest::Describe | MembershipRequest::Transfers)
            // As it is here it may have run before.
            | Request::Forward(_) => {
                assert_eq!(Request::translate(&encode(request), OLDEST), None);
                continue;
            }
            Request::Key(KeyRequest::Apply { view, touched, .. }) => {
                (*view, *touched) = (UNKNOWN_VIEW, None);
            }
            Request::Key(KeyRequest::Fetch { view, seen, .. }) => {
                (*view, *seen) = (UNKNOWN_VIEW, None);
            }
            Request::Exchange(ExchangeRequest::Roots { view, .. }) => *view = UNKNOWN_VIEW,
            Request::Membership(MembershipRequest::Push(members)) => {
                for member in members {
                    *member = as_before(member);
                }
            }
            Request::Membership(MembershipRequest::Join(member)) => **member = as_before(member),
            Request::Membership(MembershipRequest::Gossip(digests)) => {
                for digest in digests {
                    digest.facts = None;
                }
            }
            _ => {}
        }
        let raw = Request::translate(&encode(request), OLDEST).expect("it was known");
        assert_eq!(Request::decode(&raw, OLDEST), Ok(expected));
    }
    // Objects that it cannot read are not sent to it.
    let new_row = ExchangeRequest::Merge(vec![(listed().key, Bytes::from_static(&[2, 0]))]);
    assert_eq!(Request::translate(&encode(new_row), OLDEST), None);
    for response in [Response::NotRun(WhyNot::Full), Response::InDoubt] {
        let mut raw = Vec::new();
        response.encode(OLDEST, &mut raw);
        let said = Response::decode(&raw, OLDEST);
        assert!(matches!(said, Ok(Response::Refused(_))), "{said:?}");
    }
}

/// Answers a forwarded command when the other node has answered a fetch.
struct Crossed {
    me: Identity,
    other: NodeId,
    links: OnceLock<Arc<Links>>,
}

impl Handler for Crossed {
    fn identity(&self) -> Identity {
        self.me
    }

    fn start(&self, _: NodeId, request: Request, _: Duration) -> Answer {
        match request {
            Request::Forward(_) => {
                let links = Arc::clone(self.links.get().expect("set"));
                let other = self.other;
                Answer::Later(Box::pin(async move {
                    let call = links.call(other, fetch("a"), SECOND).await;
                    Response::Reply {
                        reply: if call.is_ok() { "+OK" } else { "-no" }.into(),
                        wrote: Vec::new(),
                    }
                }))
            }
            _ => Answer::Now(Response::Same),
        }
    }

    fn all_started(&self) {}
}

fn forward() -> Bytes {
    let command = requests().into_iter();
    let command = command.filter(|request| matches!(request, Request::Forward(_)));
    encode(command.last().expect("one of them"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_commands_both_ways_hold_up_neither_each_other_nor_anything_else() {
    const MANY: usize = 12_000;
    let mut tasks = tokio::task::JoinSet::new();
    let mut nodes = Vec::new();
    for (me, other) in [(1, 2), (2, 1)] {
        let handler = Arc::new(Crossed {
            me: identity(me, b"s"),
            other: NodeId(other),
            links: OnceLock::new(),
        });
        let listener = PeerListener::reserve("127.0.0.1", 0)
            .await
            .and_then(super::Reserved::listen)
            .expect("a port");
        let address = format!("127.0.0.1:{}", listener.port());
        tasks.spawn(listener.serve(Arc::clone(&handler) as Arc<dyn Handler>));
        let links = Arc::new(Links::new(move || identity(me, b"s")));
        assert!(handler.links.set(Arc::clone(&links)).is_ok());
        nodes.push((links, address));
    }
    nodes[0].0.set_address(NodeId(2), &nodes[1].1);
    nodes[1].0.set_address(NodeId(1), &nodes[0].1);
    for (nth, other) in [(0, 2), (1, 1)] {
        let up = nodes[nth].0.call(NodeId(other), fetch("a"), SECOND).await;
        assert_eq!(up, Ok(Response::Same));
    }
    let mut calls = Vec::new();
    for _ in 0..MANY {
        calls.push(nodes[0].0.call(NodeId(2), forward(), SECOND));
        calls.push(nodes[1].0.call(NodeId(1), forward(), SECOND));
    }
    let beside = nodes[0].0.call(NodeId(2), fetch("a"), SECOND);
    assert_eq!(beside.await, Ok(Response::Same));
    let mut run = 0;
    for answer in futures_util::future::join_all(calls).await {
        match answer {
            Ok(Response::Reply { reply, .. }) if reply == "+OK" => run += 1,
            Ok(Response::NotRun(WhyNot::Busy)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(run >= 2 * 8_000, "{run} of {}", 2 * MANY);
}

#[tokio::test]
async fn what_was_never_sent_is_known_not_to_be_done() {
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = closed.local_addr().expect("bound").to_string();
    drop(closed);
    let links = Links::new(|| identity(1, b"s"));
    links.set_address(NodeId(2), &address);
    let queued = links.call(NodeId(2), fetch("a"), SECOND).await;
    assert_eq!(queued, Err(CallError::Unreachable));

    let (address, tasks) = served(identity(3, b"s")).await;
    links.set_address(NodeId(3), &address);
    let up = links.call(NodeId(3), fetch("a"), SECOND).await;
    assert!(up.is_ok());
    let silent = links.call(NodeId(3), encode(KeySpaceRequest::Counts { db: 0 }), SECOND);
    let after = links.call(NodeId(3), fetch("a"), SECOND).await;
    assert!(after.is_ok(), "what came before has been sent");
    drop(tasks);
    assert_eq!(silent.await, Err(CallError::Gone), "nobody listens there");
}

#[tokio::test]
async fn strangers_that_say_nothing_do_not_keep_nodes_out() {
    let (address, _tasks) = served(identity(2, b"s")).await;
    let mut silent = Vec::new();
    for _ in 0..500 {
        silent.push(TcpStream::connect(&address).await.expect("connect"));
    }
    let links = Links::new(|| identity(1, b"s"));
    links.set_address(NodeId(2), &address);
    let begun = crate::base::clock::monotonic();
    let answer = links.call(NodeId(2), fetch("a"), SECOND).await;
    assert_eq!(answer, Ok(Response::Object("a".into())));
    // The oldest of them have given way, long before they would have been given up.
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(SECOND, silent[0].read_to_end(&mut rest)).await;
    assert!(ended.is_ok());
    assert!(crate::base::clock::monotonic().duration_since(begun) < Duration::from_secs(3));
}

#[tokio::test]
async fn an_older_node_and_a_newer_one_understand_each_other() {
    for (asker, answerer) in [(OLDEST, NEWEST), (NEWEST, OLDEST)] {
        let of = |node, wire| Identity {
            wire,
            ..identity(node, b"s")
        };
        let (address, _tasks) = served(of(2, answerer)).await;
        let links = Links::new(move || of(1, asker));
        links.set_address(NodeId(2), &address);
        let answer = links.call(NodeId(2), fetch("a"), SECOND).await;
        assert_eq!(answer, Ok(Response::Object("a".into())));
        let unknown = links.call(NodeId(2), encode(MembershipRequest::Describe), SECOND);
        assert_eq!(unknown.await, Err(CallError::Unknown));
    }
}

fn listed() -> WireListed {
    WireListed {
        key: WireKey {
            db: 0,
            name: "listed".into(),
        },
        digest: 5,
        dots: wrote().into_iter().map(|wrote| wrote.dot).collect(),
    }
}

#[test]
fn messages_round_trip_and_every_truncation_is_an_error() {
    for request in requests() {
        let raw = encode(request.clone());
        assert_eq!(Request::decode(&raw, NEWEST), Ok(request));
        (0..raw.len()).for_each(|len| assert!(Request::decode(&raw[..len], NEWEST).is_err()));
    }
    let keys = vec![(1, "a".into()), (2, "b".into())];
    for response in [
        Response::Done,
        Response::Same,
        Response::NotRun(WhyNot::NotHere),
        Response::NotRun(WhyNot::TooLate),
        Response::InDoubt,
        Response::Counts(vec![1, 0, 300]),
        Response::Keys { next: 3, keys },
        Response::Refused("why".into()),
        Response::Unseen("row".into()),
        Response::Each(vec![
            (0, Response::InDoubt),
            (300, Response::Unseen("row".into())),
        ]),
        Response::Written {
            actor: ActorId(8),
            seq: 300,
            now_ms: 1 << 41,
            view: u64::MAX,
            partitions: vec![(2, "".into()), (3, "\u{1}".into())],
        },
        Response::Roots {
            as_of_ms: 1 << 41,
            roots: vec![0, u64::MAX],
        },
        Response::Sums(vec![[7; FANOUT], [u64::MAX; FANOUT]]),
        Response::Listing {
            keys: vec![listed()],
            next: "row".into(),
            damaged: 1,
        },
        Response::Objects(vec![(listed().key, "".into())]),
        Response::Repaired {
            received: 300,
            sent: 0,
        },
        Response::Empty("row".into()),
        Response::Outdated(vec![member()]),
        Response::Chunk {
            objects: vec![(listed().key, "row".into())],
            next: "row".into(),
        },
        Response::Sizes(vec![(1, 300), (0, 0)]),
        Response::Described {
            member: Box::new(member()),
            reason: "why not".into(),
        },
        Response::Transfers("lines".into()),
        Response::Gossip(Reply {
            newer: vec![member()],
            wanted: vec![NodeId(3)],
            digest: vec![digest(Some(5))],
        }),
        Response::Reply {
            reply: "+OK".into(),
            wrote: wrote(),
        },
    ] {
        let mut raw = Vec::new();
        response.encode(NEWEST, &mut raw);
        assert_eq!(Response::decode(&raw, NEWEST), Ok(response));
        (0..raw.len()).for_each(|len| assert!(Response::decode(&raw[..len], NEWEST).is_err()));
    }
}

#[test]
fn places_are_those_of_the_version_that_is_spoken() {
    let partitions = Partitions::new(256).expect("a power of two");
    let (before, name) = (PLACES - 1, b"a key");
    let place = row_key(Position::of(name, partitions), 3, name);
    let bare = |place: &[u8]| [&place[..13], name].concat();
    let chunk = |from: &[u8]| TransferRequest::Chunk {
        owners: 3,
        partition: 1,
        from: from.to_vec().into(),
        bytes: 100,
    };
    let (mut as_before, mut now) = (Vec::new(), Vec::new());
    Request::from(chunk(&place)).encode(before, &mut as_before);
    Request::from(chunk(&bare(&place))).encode(NEWEST, &mut now);
    assert_eq!(as_before, now, "builds before have no length there");
    let read = Request::decode(&as_before, before);
    assert_eq!(read, Ok(chunk(&place).into()));
    let listing = |next: &[u8]| Response::Listing {
        keys: Vec::new(),
        next: next.to_vec().into(),
        damaged: 0,
    };
    let mut as_before = Vec::new();
    listing(&place).encode(before, &mut as_before);
    assert_eq!(Response::decode(&as_before, before), Ok(listing(&place)));
    let raw = Response::decode(&as_before, NEWEST);
    assert_eq!(raw, Ok(listing(&bare(&place))));
}

proptest! {
    #[test]
    fn hostile_messages_never_panic(raw in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Request::decode(&raw, NEWEST);
        let _ = Response::decode(&raw, NEWEST);
    }
}
