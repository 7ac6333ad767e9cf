//! Gossip of many nodes, in rounds: what is known spreads, and who is gone is noticed.

use std::collections::BTreeMap;

use ringwood::logic::causal::ActorId;
use ringwood::logic::membership::{
    Detector, Losses, MEMBER_VERSION, Member, Membership, Part, Parts, State, decode_member,
    encode_member, encode_member_as_before,
};
use ringwood::logic::placement::{NodeId, Place};

/// A round is a second.
const ROUND_MS: u64 = 1_000;
const PHI: f64 = 8.0;
/// Of 9,900 opinions: who is suspected falsely is skipped for a second.
const MAX_FALSE: usize = 5;
/// What docs/peer.md promises.
const ROUNDS_TO_CONVERGE: usize = 15;
/// A node that comes back is suspected by all: for the first rounds it alone spreads the word.
const ROUNDS_TO_RETURN: usize = 20;

fn member(id: u64) -> Member {
    Member {
        id: NodeId(id),
        name: format!("node-{id}"),
        peer_address: format!("10.0.{}.{}:16379", id / 250, id % 250),
        client_address: format!("10.0.{}.{}:6379", id / 250, id % 250),
        zone: "a".into(),
        weight: 1,
        actor: ActorId(id * 7),
        incarnation: 1,
        version: 0,
        joined: id,
        left: None,
        gone: false,
        replaces: None,
        places: Vec::new(),
        complete: None,
        proven_as_of: 0,
        losses: Losses::default(),
        proven: Parts::default(),
        state: State::Runs,
    }
}

struct Node {
    membership: Membership,
    detectors: BTreeMap<NodeId, Detector>,
    up: bool,
}

struct World {
    nodes: Vec<Node>,
    now_ms: u64,
    random: u64,
    bytes: usize,
}

impl World {
    fn of(count: u64) -> Self {
        let all: Vec<Member> = (1..=count).map(member).collect();
        let nodes = all.iter().map(|me| Node {
            membership: Membership::new(me.clone(), all.iter().cloned()),
            detectors: BTreeMap::new(),
            up: true,
        });
        Self {
            nodes: nodes.collect(),
            now_ms: 0,
            random: 7,
            bytes: 0,
        }
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn round(&mut self) {
        self.now_ms += ROUND_MS;
        for from in 0..self.nodes.len() {
            if !self.nodes[from].up {
                continue;
            }
            self.nodes[from].membership.beat();
            let random = [self.random(), self.random(), self.random()];
            let partners = self.nodes[from].partners(random, self.now_ms);
            for partner in partners {
                self.exchange(from, partner);
            }
        }
    }

    fn exchange(&mut self, from: usize, partner: NodeId) {
        let to = self
            .nodes
            .iter()
            .position(|n| n.membership.me().id == partner);
        let to = to.expect("a member is a node");
        let digest = self.nodes[from].membership.digest();
        self.bytes += digest.len() * 33;
        if !self.nodes[to].up {
            return;
        }
        let reply = self.nodes[to].membership.answer(&digest);
        self.nodes[to].hear(&digest, self.now_ms);
        self.bytes += reply.digest.len() * 33;
        let push = self.nodes[from].membership.push(&reply);
        for member in push.iter().chain(&reply.newer) {
            self.bytes += encode_member(member).len();
        }
        self.nodes[from].membership.learn(reply.newer);
        self.nodes[from].hear(&reply.digest, self.now_ms);
        self.nodes[to].membership.learn(push);
    }

    fn rounds_until(&mut self, done: impl Fn(&World) -> bool) -> usize {
        for round in 0..60 {
            if done(self) {
                return round;
            }
            self.round();
        }
        panic!("not converged after 60 rounds");
    }
}

impl Node {
    fn partners(&self, random: [u64; 3], now_ms: u64) -> Vec<NodeId> {
        self.membership
            .partners(|id| !self.suspects(id, now_ms), random)
    }

    fn hear(&mut self, digest: &[ringwood::logic::membership::Digest], now_ms: u64) {
        for id in self.membership.hear(digest) {
            let detector = self
                .detectors
                .entry(id)
                .or_insert_with(|| Detector::new(now_ms));
            detector.heard(now_ms);
        }
    }

    fn suspects(&self, id: NodeId, now_ms: u64) -> bool {
        self.detectors
            .get(&id)
            .is_some_and(|d| d.is_suspected(now_ms, PHI))
    }
}

#[test]
fn a_join_is_known_to_a_hundred_nodes_within_fifteen_rounds() {
    let mut world = World::of(100);
    let newcomer = member(101);
    world.nodes[3].membership.admit(newcomer.clone());
    let known = world.nodes[3].membership.all().cloned().collect::<Vec<_>>();
    world.nodes.push(Node {
        membership: Membership::new(newcomer, known),
        detectors: BTreeMap::new(),
        up: true,
    });
    let all_know = |w: &World| {
        w.nodes
            .iter()
            .all(|n| n.membership.present().count() == 101)
    };
    let rounds = world.rounds_until(all_know);
    assert!(rounds <= ROUNDS_TO_CONVERGE, "{rounds} rounds");
}

#[test]
fn a_crash_is_noticed_by_a_hundred_nodes_within_fifteen_rounds_and_hardly_anybody_else_is_suspected()
 {
    let mut world = World::of(100);
    (0..30).for_each(|_| world.round());
    let falsely = |w: &World| {
        let up = |n: &&Node| n.up;
        let suspects = |n: &Node| {
            let others = w.nodes.iter().filter(up).map(|o| o.membership.me().id);
            others.filter(|id| n.suspects(*id, w.now_ms)).count()
        };
        w.nodes.iter().filter(up).map(suspects).sum::<usize>()
    };
    assert!(falsely(&world) <= MAX_FALSE);
    world.nodes[41].up = false;
    let gone = NodeId(42);
    let all_know = |w: &World| {
        w.nodes
            .iter()
            .filter(|n| n.up)
            .all(|n| n.suspects(gone, w.now_ms))
    };
    let rounds = world.rounds_until(all_know);
    assert!(rounds <= ROUNDS_TO_CONVERGE, "{rounds} rounds");
    assert!(falsely(&world) <= MAX_FALSE);
    world.nodes[41].up = true;
    let none_left = |w: &World| w.nodes.iter().all(|n| !n.suspects(gone, w.now_ms));
    let rounds = world.rounds_until(none_left);
    assert!(rounds <= ROUNDS_TO_RETURN, "{rounds} rounds");
}

#[test]
fn a_quiet_cluster_of_a_hundred_gossips_less_than_ten_kilobytes_a_node_and_second() {
    let mut world = World::of(100);
    (0..20).for_each(|_| world.round());
    let each = world.bytes / 100 / 20;
    println!("{each} bytes a node and second");
    assert!(each < 10_000, "{each}");
}

#[test]
fn a_node_that_is_described_wrongly_overrules_it() {
    let mut old = member(1);
    old.incarnation = 5;
    old.peer_address = "10.9.9.9:1".into();
    let mut me = Membership::new(member(1), [member(2)]);
    assert_eq!(me.learn([old]), [NodeId(1)]);
    assert_eq!(
        (me.me().incarnation, me.me().peer_address.as_str()),
        (6, "10.0.0.1:16379")
    );
    let mut other = Membership::new(member(2), [member(1)]);
    other.learn([me.me().clone()]);
    assert_eq!(other.member(NodeId(1)), Some(me.me()));
}

#[test]
fn a_restart_that_repeats_an_incarnation_is_noticed_by_its_heartbeats() {
    let mut other = Membership::new(member(2), [member(1)]);
    let mut before = Membership::new(member(1), [member(2)]);
    (0..9).for_each(|_| before.beat());
    other.hear(&before.digest());
    let mut again = Membership::new(member(1), [member(2)]);
    again.beat();
    assert_eq!(other.hear(&again.digest()), []);
    again.hear(&other.digest());
    again.beat();
    let reply = again.answer(&other.digest());
    other.learn(reply.newer);
    assert_eq!(other.hear(&again.digest()), [NodeId(1)]);
}

#[test]
fn a_removal_outlives_whatever_the_removed_node_says() {
    let mut a = Membership::new(member(1), [member(2), member(3)]);
    assert!(a.remove(NodeId(3)) && !a.remove(NodeId(3)) && !a.remove(NodeId(9)));
    let mut again = member(3);
    again.incarnation = 9;
    a.learn([again]);
    assert_eq!(a.present().count(), 2);
    let mut removed = Membership::new(member(3), [member(1)]);
    removed.learn(a.member(NodeId(3)).cloned());
    assert!(!removed.me().is_present());
}

#[test]
fn accounts_join_in_any_order() {
    let mut newer = member(1);
    (newer.incarnation, newer.version, newer.joined) = (2, 3, 9);
    let mut left = member(1);
    left.left = Some(12);
    let join = |order: [&Member; 3]| {
        let mut all = order[0].clone();
        for other in order {
            all.join(other);
        }
        all
    };
    let first = member(1);
    let expected = Member {
        joined: 1,
        left: Some(12),
        ..newer.clone()
    };
    for order in [
        [&first, &newer, &left],
        [&left, &first, &newer],
        [&newer, &left, &first],
    ] {
        assert_eq!(join(order), expected);
    }
}

#[test]
fn records_round_trip_and_every_truncation_is_an_error() {
    let mut member = member(7);
    (member.left, member.gone) = (Some(0), true);
    let before = encode_member_as_before(&member);
    assert_eq!(decode_member(&before), Ok(member.clone()));
    member.gone = false;
    member.replaces = Some(NodeId(3));
    member.places = vec![Place {
        at: 7,
        zone: "b".into(),
        weight: 2,
    }];
    let complete: [Part; 2] = [(3, 1), (3, 200)];
    member.complete = Some(complete.into_iter().collect());
    member.proven = [(2, 9)].into_iter().collect();
    member.state = State::Drained;
    let raw = encode_member(&member);
    assert_eq!(decode_member(&raw), Ok(member));
    (0..raw.len()).for_each(|len| assert!(decode_member(&raw[..len]).is_err()));
}

#[test]
fn a_run_that_the_own_disk_does_not_know_shows_that_it_is_an_older_copy() {
    let run = |incarnation, actor, version| Member {
        incarnation,
        actor: ActorId(actor),
        version,
        ..member(1)
    };
    let started = || Membership::new(run(4, 40, 0), [member(2)]);
    // The run before this one, and this one as it was said a moment ago.
    for known in [run(3, 30, 9), run(4, 40, 0)] {
        let mut membership = started();
        membership.learn([known]);
        assert!(!membership.take_is_old());
    }
    let mut membership = started();
    membership.learn([run(4, 39, 7)]);
    assert!(membership.take_is_old() && !membership.take_is_old());
    // Whoever knows such a run says so when it is asked about what the disk knew.
    let other = Membership::new(member(2), [run(4, 39, 7)]);
    let reply = other.answer(&started().digest_as_noted());
    assert!(reply.newer.iter().any(|member| member.actor == ActorId(39)));
    let other = Membership::new(member(2), [run(3, 30, 9)]);
    let reply = other.answer(&started().digest_as_noted());
    let mut membership = started();
    membership.learn(reply.newer);
    assert!(!membership.take_is_old());
}

fn parts(all: &[Part]) -> Parts {
    all.iter().copied().collect()
}

/// A cluster of three in which every member knows where it stands.
fn three() -> Membership {
    let mut membership = Membership::new(
        Member {
            joined: 0,
            ..member(1)
        },
        [],
    );
    membership.found();
    membership.admit(member(2));
    membership.admit(member(3));
    membership
}

fn of(membership: &Membership, id: u64) -> Member {
    membership.member(NodeId(id)).expect("known").clone()
}

#[test]
fn joins_changes_and_leaves_are_counted_and_ordered() {
    let mut all = three();
    assert_eq!([1, 2, 3].map(|id| of(&all, id).joined), [1, 2, 3]);
    assert_eq!((all.events(), all.next_event()), (3, 4));
    let moved = (NodeId(2), "b".to_owned(), 4);
    assert!(all.replant(std::slice::from_ref(&moved)));
    assert_eq!((all.events(), all.next_event()), (4, 5));
    assert_eq!(of(&all, 2).place(), ("b", 4));
    assert_eq!(of(&all, 1).place(), ("a", 1));
    // One of two cannot: neither is changed.
    assert!(!all.replant(&[(NodeId(3), "c".to_owned(), 1), moved]));
    assert_eq!(of(&all, 3).place(), ("a", 1));
    assert!(!all.replant(&[(NodeId(9), "c".to_owned(), 1)]));
    assert!(all.leave(NodeId(3)));
    assert!(!all.leave(NodeId(3)), "it leaves already");
    assert!(!all.leave(NodeId(9)));
    assert_eq!(of(&all, 3).left, Some(5));
    assert!(!of(&all, 3).is_placed() && of(&all, 3).is_present());
    assert_eq!((all.events(), all.next_event()), (5, 6));
    assert!(all.remove(NodeId(3)));
    assert!(!all.remove(NodeId(3)) && !all.remove(NodeId(9)));
    assert!(!of(&all, 3).is_present());
    assert_eq!((all.events(), all.next_event()), (6, 6));
    assert!(all.remove(NodeId(2)), "also at once");
    assert_eq!((all.events(), of(&all, 2).left), (8, Some(6)));
    assert_eq!(all.present().count(), 1);
    assert!(!all.replant(&[(NodeId(2), "c".to_owned(), 1)]), "it left");
}

#[test]
fn a_newcomer_brings_nothing_of_the_cluster_that_it_was_alone_in() {
    let alone = Member {
        left: Some(7),
        gone: true,
        replaces: Some(NodeId(1)),
        complete: Some(parts(&[(3, 1)])),
        proven: parts(&[(3, 2)]),
        losses: Losses {
            lost: parts(&[(3, 3)]),
            lost_at: 4,
            ..Losses::default()
        },
        zone: "z".into(),
        weight: 2,
        ..member(4)
    };
    let clean = |found: Member, replaces| {
        assert!(found.is_present() && found.is_placed());
        assert_eq!(found.replaces, replaces);
        assert_eq!(found.complete, Some(Parts::default()));
        assert!(found.proven.is_empty() && found.losses.is_empty());
        assert_eq!((found.joined, found.place()), (4, ("z", 2)));
    };
    let mut all = three();
    all.admit(alone.clone());
    clean(of(&all, 4), None);
    let mut all = three();
    all.replace(NodeId(2), alone);
    clean(of(&all, 4), Some(NodeId(2)));
    assert_eq!(of(&all, 2).left, Some(4));
    assert_eq!(of(&all, 3).left, None);
}

#[test]
fn what_a_member_says_of_itself_is_newer_each_time() {
    let mut all = three();
    let before = all.me().version;
    all.describe(|me| me.name = "other".into());
    assert_eq!(
        (all.me().version, all.me().name.as_str()),
        (before + 1, "other")
    );
    assert_eq!(all.next_loss(), 1);
    // It had nothing: there is nothing to be lost.
    all.lose_everything();
    assert!(all.me().losses.is_empty());
    all.describe(|me| {
        me.complete = Some(parts(&[(3, 1)]));
        me.proven = parts(&[(3, 2)]);
    });
    all.lose_everything();
    assert_eq!(all.me().losses.lost, parts(&[(3, 1), (3, 2)]));
    assert_eq!((all.me().losses.lost_at, all.next_loss()), (1, 2));
    assert_eq!(all.me().complete, Some(Parts::default()));
    assert!(all.me().proven.is_empty());
}

#[test]
fn a_push_has_all_that_the_other_lacks() {
    let (mut ours, mut theirs) = (three(), three());
    theirs = Membership::new(
        Member {
            incarnation: 1,
            ..of(&theirs, 2)
        },
        theirs.all().cloned().collect::<Vec<_>>(),
    );
    ours.describe(|me| me.name = "new".into());
    theirs.describe(|me| me.name = "newer".into());
    ours.leave(NodeId(3));
    let reply = theirs.answer(&ours.digest());
    let names = |members: &[Member]| members.iter().map(|m| m.id.0).collect::<Vec<_>>();
    assert_eq!(
        names(&reply.newer),
        [2, 3],
        "of 3 each knows something else"
    );
    assert_eq!(reply.wanted, [NodeId(1), NodeId(3)]);
    ours.learn(reply.newer.clone());
    let push = ours.push(&reply);
    assert_eq!(names(&push), [1, 3]);
    theirs.learn(push);
    assert!(theirs.all().eq(ours.all()));
    assert_eq!(ours.answer(&theirs.digest()).newer, []);
    assert_eq!(ours.answer(&theirs.digest()).wanted, []);
}

#[test]
fn only_a_later_run_of_the_same_node_overtakes_it() {
    let mut all = three();
    all.beat();
    let digest = |incarnation: u64, heartbeat: u64, id: u64| {
        let mut digest = all.digest();
        digest.retain(|of| of.id == NodeId(1));
        digest[0].id = NodeId(id);
        digest[0].incarnation = incarnation;
        digest[0].heartbeat = heartbeat;
        digest
    };
    let incarnation = all.me().incarnation;
    assert!(
        !all.is_overtaken(&digest(incarnation, 1, 1)),
        "its own beat"
    );
    assert!(all.is_overtaken(&digest(incarnation, 2, 1)));
    assert!(all.is_overtaken(&digest(incarnation + 1, 0, 1)));
    assert!(!all.is_overtaken(&digest(incarnation + 1, 0, 2)));
    let noted = all.digest_as_noted();
    let of_me = noted.iter().find(|of| of.id == NodeId(1)).expect("there");
    assert_eq!(of_me.incarnation, incarnation - 1);
    assert_eq!((of_me.version, of_me.heartbeat), (u64::MAX, 0));
    let others = |digest: &[ringwood::logic::membership::Digest]| {
        let others = digest.iter().filter(|of| of.id != NodeId(1));
        others.copied().collect::<Vec<_>>()
    };
    assert_eq!(others(&noted), others(&all.digest()));
}

#[test]
fn a_node_hears_of_itself_what_the_cluster_decided_and_overrules_the_rest() {
    let mut all = three();
    let mine = all.me().clone();
    // Facts of the cluster are taken without a word.
    let left = Member {
        left: Some(9),
        ..mine.clone()
    };
    assert_eq!(all.learn([left.clone()]), [NodeId(1)]);
    assert_eq!(
        (all.me().left, all.me().incarnation),
        (Some(9), mine.incarnation)
    );
    assert_eq!(all.learn([left]), [], "nothing new");
    // Somebody has another description of the same version, or a later one.
    for wrong in [
        Member {
            name: "wrong".into(),
            ..mine.clone()
        },
        Member {
            proven: parts(&[(3, 1)]),
            complete: Some(Parts::default()),
            ..mine.clone()
        },
        Member {
            version: mine.version + 5,
            ..mine.clone()
        },
    ] {
        let mut all = three();
        assert_eq!(all.learn([wrong.clone()]), [NodeId(1)], "{wrong:?}");
        assert_eq!(all.me().incarnation, mine.incarnation + 1);
        assert_eq!(
            (&all.me().name, &all.me().proven),
            (&mine.name, &mine.proven)
        );
    }
    // What is older, or said by a build that knows less, is no contradiction.
    let known = parts(&[(3, 1)]);
    let mut all = three();
    all.describe(|me| {
        me.complete = Some(known.clone());
        me.proven = known.clone();
        me.proven_as_of = 5;
    });
    let mine = all.me().clone();
    let older = Member {
        version: mine.version - 1,
        name: "old".into(),
        ..mine.clone()
    };
    let knows_less = Member {
        complete: None,
        proven: Parts::default(),
        proven_as_of: 0,
        losses: Losses::default(),
        ..mine.clone()
    };
    assert_eq!(all.learn([older, knows_less]), []);
    assert_eq!(*all.me(), mine);
}

#[test]
fn a_round_is_with_somebody_who_answers_and_now_and_then_with_somebody_silent() {
    let all = three();
    let answers = |id: NodeId| id == NodeId(2);
    // One of two answers: the silent one is asked in every second round.
    assert_eq!(all.partners(answers, [0, 0, 0]), [NodeId(2), NodeId(3)]);
    assert_eq!(all.partners(answers, [0, 1, 0]), [NodeId(2)]);
    assert_eq!(all.partners(|_| false, [0, 0, 1]), [NodeId(3)]);
    assert_eq!(all.partners(|_| false, [0, 7, 2]), [NodeId(2)]);
    let both = [0, 1].map(|random| all.partners(|_| true, [random, 0, 0]));
    assert_eq!(both, [[NodeId(2)], [NodeId(3)]]);
    let alone = Membership::new(member(1), []);
    assert_eq!(alone.partners(|_| true, [0, 0, 0]), []);
}

#[test]
fn what_a_member_is_follows_from_its_account() {
    let one = Member {
        peer_address: "[::1]:16379".into(),
        ..member(1)
    };
    assert_eq!(one.machine(), "[::1]");
    let bare = Member {
        peer_address: "host".into(),
        ..member(1)
    };
    assert_eq!(bare.machine(), "host");
    assert_eq!((one.place(), one.placed().zone.as_str()), (("a", 1), "a"));
    let facts = one.facts();
    for other in [
        Member {
            joined: 9,
            ..one.clone()
        },
        Member {
            left: Some(0),
            ..one.clone()
        },
        Member {
            gone: true,
            ..one.clone()
        },
        Member {
            replaces: Some(NodeId(2)),
            ..one.clone()
        },
        Member {
            places: vec![Place {
                at: 1,
                zone: "a".into(),
                weight: 1,
            }],
            ..one.clone()
        },
    ] {
        assert_ne!(other.facts(), facts, "{other:?}");
    }
    let described = Member {
        name: "other".into(),
        version: 9,
        ..one.clone()
    };
    assert_eq!(described.facts(), facts, "that is no fact of the cluster");
    for (stops, is_drained) in [(false, false), (true, false), (false, true), (true, true)] {
        let state = State::new(stops, is_drained);
        assert_eq!((state.stops(), state.is_drained()), (stops, is_drained));
    }
    let some = parts(&[(3, 1)]);
    for losses in [
        Losses {
            lost: some.clone(),
            ..Losses::default()
        },
        Losses {
            accepted: some.clone(),
            ..Losses::default()
        },
        Losses {
            restored: some,
            ..Losses::default()
        },
    ] {
        assert!(!losses.is_empty(), "{losses:?}");
        let lost = Member {
            losses,
            ..one.clone()
        };
        assert_eq!(decode_member(&encode_member(&lost)), Ok(lost));
    }
    // A number without parts, which nobody writes so, is read as what would be passed on of it.
    let mut raw = encode_member(&one);
    raw[0] = MEMBER_VERSION;
    raw.extend_from_slice(&[0, 0, 0, 9, 0]);
    assert_eq!(decode_member(&raw), Ok(one));
}
