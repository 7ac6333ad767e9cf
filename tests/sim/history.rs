//! What clients did and saw, and what follows from it.

use std::collections::{BTreeMap, BTreeSet};

/// One read-modify-write with a context: a value over the values that its client had read.
#[derive(Clone, Debug)]
pub struct Write {
    pub value: String,
    pub observed: Vec<String>,
    pub acknowledged: bool,
}

/// A write or a delete by a client that had not looked, with its beginning and end in the order of
/// everything that was noted.
#[derive(Clone, Debug)]
pub struct Blind {
    /// `None` for a delete.
    pub value: Option<String>,
    pub began: usize,
    /// When it was acknowledged.
    pub ended: Option<usize>,
}

/// An increment, or what ends all that it sees (it adds 0).
#[derive(Clone, Copy, Debug)]
struct Tally {
    adds: i64,
    began: usize,
    ended: Option<usize>,
}

/// A key that one connection alone writes.
#[derive(Clone, Debug, Default)]
struct Mine {
    /// The last value that was acknowledged.
    last: Option<String>,
    /// Values that were not, and may take effect at any time.
    uncertain: Vec<String>,
}

/// The writes of every key.
#[derive(Debug, Default)]
pub struct History {
    pub writes: BTreeMap<String, Vec<Write>>,
    pub blind: BTreeMap<String, Vec<Blind>>,
    /// Keys that were written once, and deleted for good.
    pub deleted: BTreeSet<String>,
    /// Keys that were written once, with strict quorums, and acknowledged.
    pub strict: BTreeSet<String>,
    not_seen: Option<String>,
    /// A script that was loaded and that a node did not know.
    pub no_script: Option<String>,
    /// What a group has got of a stream.
    pub delivered: BTreeSet<String>,
    /// Values of which it was said that they are stored nowhere.
    pub not_stored: BTreeSet<String>,
    /// Increments that were begun, and those that were acknowledged.
    pub counted: (u64, u64),
    /// Increments in each field or score that were begun, and those that were acknowledged.
    counts: BTreeMap<String, (u64, u64)>,
    /// Increments of a counter that is deleted and set to zero, too, and the deletes.
    tally: Vec<Tally>,
    /// Whether no clock is so far ahead of another that it is not believed: then what is newest is
    /// what was written last by one client.
    pub clocks_are_believed: bool,
    /// What a connection may read of a key that it alone writes.
    mine: BTreeMap<String, Mine>,
    too_old: Option<String>,
    noted: usize,
}

impl History {
    pub fn begin(&mut self, key: &str, value: &str, observed: Vec<String>) -> usize {
        let writes = self.writes.entry(key.to_owned()).or_default();
        writes.push(Write {
            value: value.to_owned(),
            observed,
            acknowledged: false,
        });
        writes.len() - 1
    }

    pub fn acknowledge(&mut self, key: &str, nth: usize) {
        self.writes.get_mut(key).expect("it was begun")[nth].acknowledged = true;
    }

    pub fn begin_blind(&mut self, key: &str, value: Option<&str>) -> usize {
        self.noted += 1;
        let writes = self.blind.entry(key.to_owned()).or_default();
        writes.push(Blind {
            value: value.map(str::to_owned),
            began: self.noted,
            ended: None,
        });
        writes.len() - 1
    }

    pub fn acknowledge_blind(&mut self, key: &str, nth: usize) {
        self.noted += 1;
        self.blind.get_mut(key).expect("it was begun")[nth].ended = Some(self.noted);
    }

    pub fn begin_count(&mut self, key: &str) {
        self.counts.entry(key.to_owned()).or_default().0 += 1;
    }

    pub fn acknowledge_count(&mut self, key: &str) {
        self.counts.get_mut(key).expect("it was begun").1 += 1;
    }

    pub fn begin_tally(&mut self, adds: i64) -> usize {
        self.noted += 1;
        self.tally.push(Tally {
            adds,
            began: self.noted,
            ended: None,
        });
        self.tally.len() - 1
    }

    pub fn acknowledge_tally(&mut self, nth: usize) {
        self.noted += 1;
        self.tally[nth].ended = Some(self.noted);
    }

    pub fn wrote_own(&mut self, key: &str, value: &str, acknowledged: bool) {
        let mine = self.mine.entry(key.to_owned()).or_default();
        if acknowledged {
            mine.last = Some(value.to_owned());
        } else {
            mine.uncertain.push(value.to_owned());
        }
    }

    pub fn read_own(&mut self, key: &str, shown: Option<&str>) {
        let mine = &self.mine[key];
        let fits = |value: &String| Some(value.as_str()) == shown;
        if self.clocks_are_believed
            && mine.last.is_some()
            && !mine.last.iter().chain(&mine.uncertain).any(fits)
        {
            self.too_old = Some(format!("{key}: read {shown:?}, wrote {mine:?}"));
        }
    }

    /// Somebody has read a key after its write was acknowledged, and found nothing.
    pub fn not_seen(&mut self, key: &str) {
        self.not_seen = Some(key.to_owned());
    }

    pub fn acknowledged(&self) -> u64 {
        let writes = self.writes.values().flatten();
        let resolved = writes.filter(|write| write.acknowledged).count();
        let blind = self.blind.values().flatten();
        let blind = blind.filter(|write| write.ended.is_some()).count();
        (resolved + blind) as u64 + self.counted.1
    }

    /// What is visible of a key in the end is what its writes have left; `strict`: every two quorums
    /// had a member in common.
    pub fn check(&self, key: &str, visible: &[String], strict: bool) -> Result<(), String> {
        if let Some(value) = visible.iter().find(|v| self.not_stored.contains(*v)) {
            return Err(format!("{key}: {value} was said not to be stored"));
        }
        match key.split('-').next() {
            Some("key") => self.check_resolved(key, visible),
            Some("blind") => self.check_blind(key, visible, strict),
            Some("counter") => self.check_counter(visible),
            Some("tally") => self.check_tally(visible, strict),
            Some("gone") if self.deleted.contains(key) && !visible.is_empty() => {
                Err(format!("{key}: was deleted and is back: {visible:?}"))
            }
            Some("strict") => match &self.not_seen {
                Some(key) => Err(format!(
                    "{key}: was acknowledged, and a read did not see it"
                )),
                None if visible.is_empty() => Err(format!("{key}: an acknowledged write is lost")),
                None => Ok(()),
            },
            Some("mine") => self.too_old.clone().map_or(Ok(()), Err),
            _ => Ok(()),
        }
    }

    /// Whatever was acknowledged is there, or something that did not end before it began has taken
    /// its place. Where quorums meet, nothing is there that had ended before something else began.
    fn check_blind(&self, key: &str, visible: &[String], strict: bool) -> Result<(), String> {
        let writes = self.blind.get(key).map_or(&[][..], Vec::as_slice);
        let fail = |what: &str, write: &Blind| {
            let history: Vec<String> = writes.iter().map(|w| format!("  {w:?}")).collect();
            Err(format!(
                "{key}: {what}: {write:?}\nvisible: {visible:?}\n{}",
                history.join("\n")
            ))
        };
        let is_visible = |write: &Blind| write.value.as_ref().is_some_and(|v| visible.contains(v));
        for write in writes {
            let may_replace = |other: &&Blind| {
                other.began != write.began && other.ended.is_none_or(|end| end > write.began)
            };
            let replaced = writes.iter().any(|other| may_replace(&other));
            if write.value.is_some() && write.ended.is_some() && !is_visible(write) && !replaced {
                return fail("an acknowledged write is lost", write);
            }
            let later = |other: &&Blind| {
                other.ended.is_some() && write.ended.is_some_and(|end| end < other.began)
            };
            if strict && is_visible(write) && writes.iter().any(|other| later(&other)) {
                return fail("what was overwritten is still visible", write);
            }
        }
        Ok(())
    }

    /// What was pushed to a list.
    pub fn in_list(&self, key: &str) -> Vec<String> {
        let prefix = format!("{key}/");
        let places = self.blind.keys();
        let items = places.filter_map(|place| Some(place.strip_prefix(&prefix)?.to_owned()));
        items.collect()
    }

    /// What a collection shows: every item that was added and not taken out again, and, where quorums meet,
    /// none that was; what was counted; each value of a list once.
    pub fn check_elements(&self, key: &str, there: &[String], strict: bool) -> Result<(), String> {
        if let Some((begun, acknowledged)) = self.counts.get(key) {
            let shown: u64 = there
                .get(1)
                .map_or(Ok(0), |n| n.parse())
                .map_err(|_| format!("{key}: {there:?} is no count"))?;
            return if (*acknowledged..=*begun).contains(&shown) {
                Ok(())
            } else {
                Err(format!(
                    "{key}: {acknowledged} of {begun} increments were acknowledged, {shown} is shown"
                ))
            };
        }
        let prefix = format!("{key}/");
        let places = self.blind.keys().filter(|place| place.starts_with(&prefix));
        for place in places {
            let item = &place[prefix.len()..];
            let times = there.iter().filter(|shown| *shown == item).count();
            if times > 1 {
                return Err(format!("{place}: it is there {times} times"));
            }
            self.check_item(place, times > 0, strict)?;
        }
        Ok(())
    }

    /// An item is there unless a removal that did not end before it was added may have seen it. Where quorums
    /// meet it is not there when all that added it had ended before a removal began.
    fn check_item(&self, place: &str, is_there: bool, strict: bool) -> Result<(), String> {
        let writes = &self.blind[place];
        let fail = |what: &str| {
            let history: Vec<String> = writes.iter().map(|w| format!("  {w:?}")).collect();
            Err(format!("{place}: {what}\n{}", history.join("\n")))
        };
        let adds = || writes.iter().filter(|write| write.value.is_some());
        let removals = || writes.iter().filter(|write| write.value.is_none());
        let may_be_seen =
            |add: &Blind| removals().any(|removal| removal.ended.is_none_or(|end| end > add.began));
        if !is_there && adds().any(|add| add.ended.is_some() && !may_be_seen(add)) {
            return fail("an item that was added is lost");
        }
        let must_be_seen = |add: &Blind| {
            let later = |removal: &Blind| {
                removal.ended.is_some() && add.ended.is_some_and(|end| end < removal.began)
            };
            strict && removals().any(later)
        };
        if is_there && adds().all(must_be_seen) {
            return fail("an item that was taken out is back");
        }
        Ok(())
    }

    /// Every acknowledged increment counts, and none twice.
    fn check_counter(&self, visible: &[String]) -> Result<(), String> {
        let (begun, acknowledged) = self.counted;
        let shown = match visible {
            [] => 0,
            [one] => one.parse().map_err(|_| format!("counter: {one}"))?,
            several => return Err(format!("counter: {several:?}")),
        };
        if (acknowledged..=begun).contains(&shown) {
            Ok(())
        } else {
            Err(format!(
                "counter: {acknowledged} of {begun} increments were acknowledged, {shown} is shown"
            ))
        }
    }

    /// An increment counts unless a delete may have seen it, and a delete takes no more than it saw.
    /// Where quorums meet, it takes all that had ended before it began.
    fn check_tally(&self, visible: &[String], strict: bool) -> Result<(), String> {
        let shown: Vec<Option<i64>> = visible.iter().map(|v| v.parse().ok()).collect();
        let ends = || self.tally.iter().filter(|one| one.adds == 0);
        let increments = || self.tally.iter().filter(|one| one.adds > 0);
        let may_be_gone =
            |one: &&Tally| ends().any(|end| end.ended.is_none_or(|at| at > one.began));
        let counts = increments().filter(|one| one.ended.is_some() && !may_be_gone(one));
        let least: i64 = counts.map(|one| one.adds).sum();
        let is_gone = |one: &&Tally| {
            let seen_by = |end: &Tally| {
                end.ended.is_some() && one.ended.is_some_and(|ended| ended < end.began)
            };
            strict && ends().any(seen_by)
        };
        let most: i64 = increments()
            .filter(|one| !is_gone(one))
            .map(|one| one.adds)
            .sum();
        let fits = |shown: Option<i64>| shown.is_some_and(|sum| (least..=most).contains(&sum));
        let none_fits = visible.is_empty() && least == 0;
        if none_fits || (!visible.is_empty() && shown.iter().all(|one| fits(*one))) {
            return Ok(());
        }
        Err(format!(
            "tally: {visible:?} is shown, {least} to {most} is left\n{:#?}",
            self.tally
        ))
    }

    /// Every acknowledged write is visible or was observed by a write of which the same holds, and
    /// nothing is visible beside what observed it.
    fn check_resolved(&self, key: &str, visible: &[String]) -> Result<(), String> {
        let writes = self.writes.get(key).map_or(&[][..], Vec::as_slice);
        let fail = |what: &str, value: &str| {
            let history: Vec<String> = writes.iter().map(|w| format!("  {w:?}")).collect();
            Err(format!(
                "{key}: {what}: {value}\nvisible: {visible:?}\n{}",
                history.join("\n")
            ))
        };
        let mut accounted: BTreeSet<&str> = visible.iter().map(String::as_str).collect();
        // Writes are in the order in which they began: who observes comes later.
        for write in writes.iter().rev() {
            if accounted.contains(write.value.as_str()) {
                accounted.extend(write.observed.iter().map(String::as_str));
            }
        }
        for write in writes {
            if write.acknowledged && !accounted.contains(write.value.as_str()) {
                return fail("an acknowledged write is lost", &write.value);
            }
            if visible.contains(&write.value)
                && let Some(old) = write.observed.iter().find(|old| visible.contains(old))
            {
                return fail("a write is visible beside one that had observed it", old);
            }
        }
        let known = |value: &&String| !writes.iter().any(|write| write.value == **value);
        match visible.iter().find(known) {
            Some(value) => fail("nobody wrote", value),
            None => Ok(()),
        }
    }
}

#[test]
fn the_checker_bites() {
    let write = |value: &str, observed: &[&str]| Write {
        value: value.into(),
        observed: observed.iter().map(|v| (*v).to_owned()).collect(),
        acknowledged: true,
    };
    let history = History {
        writes: BTreeMap::from([(
            "key-1".into(),
            vec![write("a", &[]), write("b", &["a"]), write("c", &[])],
        )]),
        ..History::default()
    };
    let check = |visible: &[&str]| {
        let visible: Vec<String> = visible.iter().map(|v| (*v).to_owned()).collect();
        history.check("key-1", &visible, true)
    };
    assert!(check(&["b", "c"]).is_ok());
    assert!(check(&["a", "c"]).expect_err("b").contains("lost"));
    assert!(check(&["a", "b", "c"]).expect_err("a").contains("beside"));
    assert!(check(&["b", "c", "x"]).expect_err("x").contains("nobody"));
}

#[test]
fn the_checker_bites_carts() {
    let mut history = History::default();
    let mut write = |value| {
        let begun = history.begin_blind("cart-set/a", value);
        history.acknowledge_blind("cart-set/a", begun);
        history.blind.clone()
    };
    let check = |blind: BTreeMap<String, Vec<Blind>>, there: &[&str]| {
        let there: Vec<String> = there.iter().map(|item| (*item).to_owned()).collect();
        let history = History {
            blind,
            ..History::default()
        };
        history.check_elements("cart-set", &there, true)
    };
    let added = write(Some("there"));
    assert!(check(added.clone(), &["a"]).is_ok());
    assert!(check(added.clone(), &[]).expect_err("a").contains("lost"));
    assert!(
        check(added, &["a", "a"])
            .expect_err("a")
            .contains("2 times")
    );
    let removed = write(None);
    assert!(check(removed.clone(), &[]).is_ok());
    assert!(check(removed, &["a"]).expect_err("a").contains("back"));
    let again = write(Some("there"));
    assert!(check(again.clone(), &["a"]).is_ok());
    assert!(check(again, &[]).is_err());
}

#[test]
fn the_checker_bites_blind_writes() {
    let mut history = History::default();
    let a = history.begin_blind("blind-1", Some("a"));
    history.acknowledge_blind("blind-1", a);
    let b = history.begin_blind("blind-1", Some("b"));
    history.acknowledge_blind("blind-1", b);
    let c = history.begin_blind("blind-1", None);
    let check = |history: &History, visible: &[&str], strict| {
        let visible: Vec<String> = visible.iter().map(|v| (*v).to_owned()).collect();
        history.check("blind-1", &visible, strict)
    };
    assert!(check(&history, &["b"], true).is_ok());
    assert!(
        check(&history, &[], true).is_ok(),
        "the delete may have run"
    );
    assert!(check(&history, &["a", "b"], false).is_ok());
    let still = check(&history, &["a", "b"], true).expect_err("a");
    assert!(still.contains("still visible"));
    history.acknowledge_blind("blind-1", c);
    let d = history.begin_blind("blind-1", Some("d"));
    history.acknowledge_blind("blind-1", d);
    let lost = check(&history, &[], false).expect_err("d");
    assert!(lost.contains("lost"));
    let first = history.begin_tally(2);
    history.acknowledge_tally(first);
    let tally = |history: &History, shown: &str| history.check("tally", &[shown.into()], true);
    assert!(tally(&history, "2").is_ok());
    assert!(tally(&history, "4").is_err(), "it counts twice");
    let end = history.begin_tally(0);
    assert!(tally(&history, "2").is_ok() && tally(&history, "0").is_ok());
    history.acknowledge_tally(end);
    assert!(tally(&history, "2").is_err(), "it was deleted");
    assert!(tally(&history, "-2").is_err(), "it was deleted twice");
    history.counted = (3, 2);
    assert!(history.check("counter", &["3".into()], true).is_ok());
    assert!(history.check("counter", &["1".into()], true).is_err());
    assert!(history.check("counter", &["4".into()], true).is_err());
}
