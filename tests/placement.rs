//! The table of owners: the same everywhere, balanced, apart, and still.

use std::collections::BTreeSet;

use proptest::prelude::*;
use ringwood::logic::placement::{NodeId, Partitions, Place, Placed, Table};

const N: usize = 3;

fn member(id: u64, zone: &str, weight: u32, joined: u64) -> Placed {
    Placed {
        id: NodeId(id.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        machine: format!("machine-{id}"),
        zone: zone.to_owned(),
        weight,
        joined,
        left: None,
        replaces: None,
        changes: Vec::new(),
    }
}

fn alike(count: u64) -> Vec<Placed> {
    (1..=count).map(|id| member(id, "a", 1, id)).collect()
}

fn table(members: &[Placed], partitions: u16) -> Table {
    let partitions = Partitions::new(partitions).expect("a power of two");
    Table::new(members, partitions, N)
}

fn loads(table: &Table) -> Vec<usize> {
    table.members().iter().map(|&id| table.load(id)).collect()
}

fn spread(table: &Table) -> usize {
    let loads = loads(table);
    loads.iter().max().expect("members") - loads.iter().min().expect("members")
}

/// Members with random zones and a random history of leaving.
fn histories() -> impl Strategy<Value = Vec<Placed>> {
    prop::collection::vec((0u8..4, any::<bool>(), 1u64..50), 1..24).prop_map(|rows| {
        let count = rows.len() as u64;
        let with_history = |(nth, (zone, leaves, later)): (usize, (u8, bool, u64))| {
            let joined = nth as u64 + 1;
            let mut member = member(joined, &format!("zone-{zone}"), 1, joined);
            // The first stays, so that there is a table.
            member.left = (leaves && nth > 0).then_some(count + later);
            member
        };
        rows.into_iter().enumerate().map(with_history).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_node_computes_the_same_table_whatever_order_it_heard(
        members in histories(),
        seed in any::<u64>(),
    ) {
        let mut shuffled = members.clone();
        shuffled.sort_by_key(|m| m.id.0.rotate_left((seed % 64) as u32) ^ seed);
        prop_assert_eq!(table(&members, 64), table(&shuffled, 64));
    }

    #[test]
    fn owners_are_in_distinct_zones_after_any_history(members in histories()) {
        let present: Vec<&Placed> = members.iter().filter(|m| m.left.is_none()).collect();
        let zone_of = |id: &NodeId| {
            let found = present.iter().find(|m| m.id == *id).expect("present");
            found.zone.as_str()
        };
        let zones: BTreeSet<&str> = present.iter().map(|m| zone_of(&m.id)).collect();
        let table = table(&members, 64);
        for partition in 0..64 {
            let owners: BTreeSet<&str> = table.owners(partition).iter().map(zone_of).collect();
            prop_assert_eq!(owners.len(), N.min(zones.len()).min(present.len()), "partition {}", partition);
        }
    }

    #[test]
    fn owners_are_distinct_present_and_enough(members in histories()) {
        let table = table(&members, 64);
        let present: Vec<NodeId> =
            members.iter().filter(|m| m.left.is_none()).map(|m| m.id).collect();
        for partition in 0..64 {
            let owners = table.owners(partition);
            prop_assert_eq!(owners.len(), N.min(present.len()));
            prop_assert!(owners.iter().all(|id| present.contains(id)));
            let mut list = table.preference_list(partition);
            prop_assert_eq!(&list[..owners.len()], owners);
            list.sort_unstable();
            list.dedup();
            prop_assert_eq!(list.len(), present.len());
        }
    }
}

#[test]
fn loads_are_within_one_partition_of_the_fair_share() {
    for count in [3, 4, 5, 7, 10, 16, 25, 50] {
        let table = table(&alike(count), 256);
        assert!(spread(&table) <= 1, "{count} members: {:?}", loads(&table));
    }
}

#[test]
fn loads_follow_weights() {
    let mut members = alike(8);
    members[2].weight = 2;
    let table = table(&members, 256);
    let fair = 256.0 * N as f64 / 9.0;
    for member in &members {
        let load = table.load(member.id) as f64;
        let fair = fair * f64::from(member.weight);
        assert!((load - fair).abs() < 1.0, "{load} of {fair}");
    }
}

#[test]
fn a_join_moves_the_newcomers_share_and_nothing_else() {
    for count in 3..40 {
        let (before, after) = (table(&alike(count), 256), table(&alike(count + 1), 256));
        let newcomer = alike(count + 1).pop().expect("the last").id;
        assert_eq!(after.moved_from(&before), after.load(newcomer), "{count}");
        let least = 256 * N / (count as usize + 1);
        assert!(after.moved_from(&before) <= least + 1, "{count}");
    }
}

#[test]
fn a_leave_moves_at_most_a_twentieth_more_than_the_leavers_share() {
    for count in 4..40_usize {
        for leaver in [0, count / 2, count - 1] {
            let mut members = alike(count as u64);
            let before = table(&members, 256);
            members[leaver].left = Some(1_000);
            let after = table(&members, 256);
            let least = before.load(members[leaver].id);
            let moved = after.moved_from(&before);
            assert!(
                moved >= least && moved * 20 <= least * 21,
                "{count}: {moved} of {least}"
            );
            assert!(spread(&after) <= 1, "{count}: {:?}", loads(&after));
        }
    }
}

#[test]
fn a_replacement_takes_exactly_the_others_places() {
    for count in 3..40_usize {
        let mut members = alike(count as u64);
        let before = table(&members, 256);
        members[count / 2].left = Some(1_000);
        let mut newcomer = member(999, "a", 1, 1_000);
        newcomer.replaces = Some(members[count / 2].id);
        members.push(newcomer.clone());
        let after = table(&members, 256);
        let load = before.load(members[count / 2].id);
        assert_eq!(after.load(newcomer.id), load);
        assert_eq!(after.moved_from(&before), load, "{count}");
    }
}

#[test]
fn a_change_of_weight_moves_the_difference_and_a_change_back_too() {
    for count in 4..40_usize {
        let mut members = alike(count as u64);
        let mut before = table(&members, 256);
        for (at, weight) in [(1_000, 2), (1_001, 1)] {
            let id = members[1].id;
            members[1].changes.push(Place {
                at,
                zone: "a".into(),
                weight,
            });
            let after = table(&members, 256);
            let least = after.load(id).abs_diff(before.load(id));
            let moved = after.moved_from(&before);
            assert!(moved >= least && moved <= least + 1, "{count}: {moved}");
            before = after;
        }
        assert!(spread(&before) <= 1, "{count}: {:?}", loads(&before));
    }
}

#[test]
fn members_that_move_at_once_move_no_copies_that_need_not_move() {
    let zones = ["a", "b", "c"];
    let in_zones = |id: u64| member(id, zones[id as usize % 3], 1, id);
    let mut members: Vec<Placed> = (1..=9).map(in_zones).collect();
    let before = table(&members, 256);
    for member in members.iter_mut().filter(|m| m.zone == "a") {
        member.changes.push(Place {
            at: 1_000,
            zone: "a new name".into(),
            weight: 1,
        });
    }
    assert_eq!(table(&members, 256).moved_from(&before), 0);
    // Two that change places.
    for (nth, zone) in [(0, "c"), (1, "b")] {
        members[nth].changes.push(Place {
            at: 1_001,
            zone: zone.into(),
            weight: 1,
        });
    }
    let moved = table(&members, 256).moved_from(&before);
    assert!(moved <= 4 * before.load(members[0].id), "{moved}");
}

#[test]
fn owners_are_apart_again_after_a_member_has_moved_to_another_zone() {
    let mut members: Vec<Placed> = (1..=9)
        .map(|id| member(id, ["a", "b", "c"][id as usize % 3], 1, id))
        .collect();
    for (at, nth) in [(1_000, 0), (1_001, 1)] {
        let zone = if nth == 0 { "c" } else { "b" };
        members[nth].changes.push(Place {
            at,
            zone: zone.into(),
            weight: 1,
        });
    }
    let zone_of = |id: &NodeId| {
        let found = members.iter().find(|m| m.id == *id).expect("a member");
        found
            .changes
            .last()
            .map_or(&found.zone, |place| &place.zone)
    };
    let table = table(&members, 256);
    for partition in 0..256 {
        let owners = table.owners(partition);
        let mut zones: Vec<&String> = owners.iter().map(zone_of).collect();
        zones.sort_unstable();
        zones.dedup();
        assert_eq!(zones.len(), N, "partition {partition}");
    }
}

#[test]
fn growing_and_shrinking_moves_at_most_a_fifth_more_than_the_minimum() {
    // 1, 3, 5, 4, 3 members, then one is replaced.
    let mut members = alike(1);
    let mut before = table(&members, 256);
    let mut next = 100;
    let steps: [(&[u64], Option<usize>, bool); 5] = [
        (&[2, 3], None, false),
        (&[4, 5], None, false),
        (&[], Some(1), false),
        (&[], Some(3), false),
        (&[6], Some(0), true),
    ];
    for (joining, leaving, replaces) in steps {
        for id in joining {
            next += 1;
            let mut newcomer = member(*id, "a", 1, next);
            newcomer.replaces = leaving.filter(|_| replaces).map(|nth| members[nth].id);
            members.push(newcomer);
        }
        if let Some(nth) = leaving {
            next += u64::from(!replaces);
            members[nth].left = Some(next);
        }
        let after = table(&members, 256);
        let gained = |id: &NodeId| after.load(*id).saturating_sub(before.load(*id));
        let least: usize = after.members().iter().map(gained).sum();
        let moved = after.moved_from(&before);
        assert!(moved * 5 <= least * 6, "{moved} of {least}");
        assert!(spread(&after) <= 1, "{:?}", loads(&after));
        before = after;
    }
}

#[test]
fn owners_are_in_distinct_zones_where_there_are_enough() {
    for zones in 3..6_u64 {
        let in_zones = |id: u64| member(id, &format!("zone-{}", id % zones), 1, id);
        let members: Vec<Placed> = (1..=4 * zones).map(in_zones).collect();
        let zone_of = |id: NodeId| {
            let found = members.iter().find(|m| m.id == id);
            &found.expect("a member").zone
        };
        let table = table(&members, 256);
        assert!(spread(&table) <= 1, "{:?}", loads(&table));
        for partition in 0..256 {
            let mut in_zones: Vec<_> = table
                .owners(partition)
                .iter()
                .map(|&id| zone_of(id))
                .collect();
            in_zones.sort_unstable();
            in_zones.dedup();
            assert_eq!(in_zones.len(), N, "partition {partition}");
        }
    }
}

#[test]
fn three_zones_have_a_copy_each_whatever_their_members_number() {
    for count in 3..30_u64 {
        let zones = ["a", "b", "c"];
        let in_zones = |id: u64| member(id, zones[id as usize % 3], 1, id);
        let members: Vec<Placed> = (1..=count).map(in_zones).collect();
        let table = table(&members, 256);
        let zone_of = |id: &NodeId| &members.iter().find(|m| m.id == *id).expect("one").zone;
        for partition in 0..256 {
            let mut zones: Vec<_> = table.owners(partition).iter().map(zone_of).collect();
            zones.sort_unstable();
            zones.dedup();
            assert_eq!(zones.len(), N, "{count} members, partition {partition}");
        }
    }
}

#[test]
fn no_machine_owns_a_partition_twice() {
    let mut members = alike(12);
    for (nth, member) in members.iter_mut().enumerate() {
        member.machine = format!("machine-{}", nth / 2);
    }
    let table = table(&members, 256);
    for partition in 0..256 {
        let mut machines: Vec<_> = table
            .owners(partition)
            .iter()
            .map(|id| {
                &members
                    .iter()
                    .find(|m| m.id == *id)
                    .expect("a member")
                    .machine
            })
            .collect();
        machines.sort_unstable();
        machines.dedup();
        assert_eq!(machines.len(), N, "partition {partition}");
    }
}

#[test]
fn a_thousand_members_and_all_slots_have_a_balanced_table() {
    let table = table(&alike(1_000), 16_384);
    assert!(spread(&table) <= 1, "{}", spread(&table));
}

/// Every order of these zones, each once.
fn orders(zones: &[&'static str]) -> BTreeSet<Vec<&'static str>> {
    if zones.is_empty() {
        return BTreeSet::from([Vec::new()]);
    }
    let mut all = BTreeSet::new();
    for nth in 0..zones.len() {
        let mut rest = zones.to_vec();
        let first = rest.remove(nth);
        for order in orders(&rest) {
            all.insert([&[first], order.as_slice()].concat());
        }
    }
    all
}

#[test]
fn three_zones_have_a_copy_each_in_whatever_order_their_members_join() {
    for zones in [
        ["a", "a", "b", "b", "c", "c"].as_slice(),
        &["a", "a", "a", "b", "b", "c"],
        &["a", "b", "b", "b", "c"],
    ] {
        for order in orders(zones) {
            for first in [1, 100, 1_000] {
                let members: Vec<Placed> = (1..)
                    .zip(&order)
                    .map(|(nth, zone)| member(first + nth, zone, 1, nth))
                    .collect();
                let zone_of = |id: &NodeId| {
                    let found = members.iter().find(|m| m.id == *id).expect("a member");
                    found.zone.as_str()
                };
                let table = table(&members, 64);
                for partition in 0..64 {
                    let owners = table.owners(partition).iter();
                    let zones: BTreeSet<&str> = owners.map(zone_of).collect();
                    assert_eq!(zones.len(), N, "{order:?}: partition {partition}");
                }
            }
        }
    }
}

/// One change of a membership.
#[derive(Clone, Debug)]
enum Event {
    Join { zone: u8, weight: u32 },
    Leave(usize),
    Weigh(usize, u32),
    Move(usize, u8),
}

fn weights() -> impl Strategy<Value = u32> {
    prop_oneof![1u32..5, Just(50)]
}

fn changes() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        (0u8..4, weights()).prop_map(|(zone, weight)| Event::Join { zone, weight }),
        any::<usize>().prop_map(Event::Leave),
        (any::<usize>(), weights()).prop_map(|(nth, weight)| Event::Weigh(nth, weight)),
        (any::<usize>(), 0u8..4).prop_map(|(nth, zone)| Event::Move(nth, zone)),
    ];
    prop::collection::vec(event, 1..16)
}

fn zone_name(zone: u8) -> String {
    format!("zone-{zone}")
}

/// Five members, and what became of them.
fn after(events: &[Event]) -> Vec<Placed> {
    let zones = ["zone-0", "zone-1", "zone-2"];
    let first = (1..=5).map(|id| member(id, zones[id as usize % 3], 1, id));
    let mut members: Vec<Placed> = first.collect();
    for (event, at) in events.iter().zip(100..) {
        let present: Vec<usize> = (0..members.len())
            .filter(|&m| members[m].left.is_none())
            .collect();
        let chosen = |nth: usize| present[nth % present.len()];
        let now = |m: &Placed| {
            let last = m.changes.last();
            last.map_or((m.zone.clone(), m.weight), |p| (p.zone.clone(), p.weight))
        };
        match event {
            Event::Join { zone, weight } => {
                members.push(member(at, &zone_name(*zone), *weight, at));
            }
            Event::Leave(nth) if present.len() > 1 => members[chosen(*nth)].left = Some(at),
            Event::Leave(_) => {}
            Event::Weigh(nth, weight) => {
                let member = &mut members[chosen(*nth)];
                let (zone, weight) = (now(member).0, *weight);
                member.changes.push(Place { at, zone, weight });
            }
            Event::Move(nth, zone) => {
                let member = &mut members[chosen(*nth)];
                let (zone, weight) = (zone_name(*zone), now(member).1);
                member.changes.push(Place { at, zone, weight });
            }
        }
    }
    members
}

/// The present members with their zones and weights.
fn present(members: &[Placed]) -> Vec<(NodeId, String, u32)> {
    let there = members.iter().filter(|m| m.left.is_none());
    there
        .map(|m| {
            let last = m.changes.last();
            let (zone, weight) = last.map_or((&m.zone, m.weight), |p| (&p.zone, p.weight));
            (m.id, zone.clone(), weight)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn shares_are_met_and_owners_apart_after_any_changes(events in changes()) {
        let members = after(&events);
        let there = present(&members);
        let table = table(&members, 64);
        for (id, _, weight) in &there {
            prop_assert_eq!(table.load(*id), table.share(*id), "of {} with weight {}", id, weight);
        }
        let zone_of = |id: &NodeId| {
            let found = there.iter().find(|m| m.0 == *id);
            found.expect("a member").1.as_str()
        };
        let zones: BTreeSet<&str> = there.iter().map(|m| m.1.as_str()).collect();
        let wanted = N.min(zones.len()).min(there.len());
        for partition in 0..64 {
            let owners: BTreeSet<&str> = table.owners(partition).iter().map(zone_of).collect();
            prop_assert_eq!(owners.len(), wanted, "partition {}", partition);
        }
    }
}

#[test]
fn a_member_that_should_own_almost_everything_does() {
    let mut members = alike(5);
    for (member, weight) in members.iter_mut().zip([1, 2, 2, 3, 1]) {
        member.weight = weight;
    }
    for heavy in [2, 3, 4, 7, 100] {
        members[3].changes = vec![Place {
            at: 1_000,
            zone: "a".into(),
            weight: heavy,
        }];
        let table = table(&members, 256);
        for member in &members {
            let (load, share) = (table.load(member.id), table.share(member.id));
            assert_eq!(load, share, "with a weight of {heavy}");
        }
    }
}
