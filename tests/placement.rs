//! The table of owners: the same everywhere, balanced, apart, and still.

use proptest::prelude::*;
use ringwood::logic::placement::{NodeId, Partitions, Placed, Table};

const N: usize = 3;

fn member(id: u64, zone: &str, weight: u32, joined: u64) -> Placed {
    Placed {
        id: NodeId(id.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        machine: format!("machine-{id}"),
        zone: zone.to_owned(),
        weight,
        joined,
        left: None,
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
    #![proptest_config(ProptestConfig::with_cases(200))]

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
