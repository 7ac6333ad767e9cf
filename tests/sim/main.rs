//! Whole clusters in one process: the real coordinator, replica, messages, gossip and handoff, over
//! memory stores and a memory network under virtual time.
//!
//! A world is a number: `RINGWOOD_SEED=n cargo nextest run --test sim` replays one,
//! `RINGWOOD_SIM_SEEDS=n` runs more, `RINGWOOD_SIM_LOG=1` shows what the nodes log. Clients write through random nodes while nodes are cut off,
//! killed and started again. Afterwards, when all is healed and quiet, every history is checked.

mod faulty;
mod history;
mod network;
mod time;
mod world;

use faulty::Fault;
use world::{Kind, run};

const SEEDS: u64 = 5_000;
/// Worlds in which a fault is borne.
const BORNE_SEEDS: u64 = 400;
/// Worlds in which a planted fault has to be found.
const FAULT_SEEDS: u64 = 3_000;

/// A small generator of pseudo-random numbers: the same seed, the same numbers.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 8) as usize % bound
    }
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn worlds(kind: Kind, count: u64) {
    let seeds = match number_from("RINGWOOD_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number_from("RINGWOOD_SIM_SEEDS").unwrap_or(count),
    };
    if std::env::var("RINGWOOD_SIM_LOG").is_ok() {
        let _ = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::INFO)
            .with_writer(std::io::stderr)
            .try_init();
    }
    let mut acknowledged = 0;
    for seed in seeds {
        match run(seed, kind, Fault::None) {
            Ok(lived) => acknowledged += lived.acknowledged,
            Err(violation) => {
                let kind = format!("{kind:?}").to_lowercase();
                panic!(
                    "{violation}\nreplay: RINGWOOD_SEED={seed} cargo nextest run --test sim {kind}_"
                )
            }
        }
    }
    println!("{acknowledged} writes were acknowledged");
    assert!(acknowledged > 0);
}

#[test]
fn the_same_seed_makes_the_same_world() {
    for seed in 1..=20 {
        for kind in [Kind::Cut, Kind::Crash, Kind::Lose, Kind::Full, Kind::Grow] {
            let once = run(seed, kind, Fault::None).expect("no violation");
            let again = run(seed, kind, Fault::None).expect("no violation");
            assert_eq!(once, again, "world {seed}");
        }
    }
}

#[test]
fn cut_loses_nothing_and_converges_by_hints_alone() {
    worlds(Kind::Cut, SEEDS);
}

#[test]
fn crash_loses_nothing_and_converges_when_read() {
    worlds(Kind::Crash, SEEDS);
}

#[test]
fn lose_converges_by_anti_entropy_whatever_happens_to_one_disk() {
    worlds(Kind::Lose, SEEDS);
}

#[test]
fn grow_loses_nothing_and_ends_in_one_complete_placement() {
    worlds(Kind::Grow, SEEDS);
}

#[test]
fn full_disks_lose_nothing_and_every_copy_is_what_is_stored() {
    worlds(Kind::Full, SEEDS);
}

#[test]
fn a_failed_batch_that_lands_later_is_found() {
    is_found(Kind::Full, Fault::LandLate);
}

#[test]
fn reads_that_switch_before_the_proof_are_found() {
    is_found(Kind::Grow, Fault::SwitchBeforeProof);
}

#[test]
fn tombstones_dropped_by_time_alone_are_found() {
    is_found(Kind::Lose, Fault::DropTombstones);
}

#[test]
fn lost_hints_are_made_up_for_by_anti_entropy() {
    for seed in 1..=BORNE_SEEDS {
        if let Err(violation) = run(seed, Kind::Lose, Fault::LoseHints) {
            panic!("{violation}\nworld {seed}");
        }
    }
}

#[test]
fn differences_that_are_hidden_are_found() {
    is_found(Kind::Lose, Fault::HideDifferences);
}

#[test]
fn an_actor_kept_after_a_crash_is_found() {
    is_found(Kind::Lose, Fault::ReuseDots);
}

#[test]
fn after_a_thousand_restarts_contexts_are_as_small_as_the_number_of_nodes() {
    let (actors, nodes) = world::restart(1_000);
    assert!(
        actors <= nodes,
        "{actors} actors in a context of {nodes} nodes"
    );
}

fn is_found(kind: Kind, fault: Fault) {
    let found = (1..=FAULT_SEEDS).find(|seed| run(*seed, kind, fault).is_err());
    println!("{fault:?} is found in world {found:?}");
    assert!(
        found.is_some(),
        "{fault:?} is not found in {FAULT_SEEDS} worlds"
    );
}

#[test]
fn a_skipped_hint_is_found() {
    is_found(Kind::Cut, Fault::SkipHints);
}

#[test]
fn counts_that_drift_from_the_elements_are_found() {
    is_found(Kind::Cut, Fault::DriftCounts);
}

#[test]
fn a_digest_that_misses_a_change_of_an_element_is_found() {
    is_found(Kind::Cut, Fault::DriftDigests);
}

#[test]
fn an_answer_that_is_believed_of_all_writes_of_a_group_is_found() {
    is_found(Kind::Cut, Fault::BelieveInAll);
}

#[test]
fn a_removal_that_covers_what_it_has_not_seen_is_found() {
    is_found(Kind::Cut, Fault::CoverUnseen);
}

#[test]
fn a_reused_dot_is_found() {
    is_found(Kind::Crash, Fault::ReuseDots);
}

#[test]
fn a_blind_write_beside_what_it_has_not_seen_is_found() {
    is_found(Kind::Cut, Fault::StoreUnseen);
}

#[test]
fn an_acknowledgement_before_storing_is_found() {
    is_found(Kind::Crash, Fault::AcknowledgeBeforeStoring);
}
