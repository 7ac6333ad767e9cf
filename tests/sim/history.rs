//! What clients did and saw, and what follows from it.

use std::collections::{BTreeMap, BTreeSet};

/// One read-modify-write with a context: a value over the values that its client had read.
#[derive(Clone, Debug)]
pub struct Write {
    pub value: String,
    pub observed: Vec<String>,
    pub acknowledged: bool,
}

/// The writes of every key.
#[derive(Debug, Default)]
pub struct History {
    pub writes: BTreeMap<String, Vec<Write>>,
}

impl History {
    pub fn acknowledged(&self) -> u64 {
        let writes = self.writes.values().flatten();
        writes.filter(|write| write.acknowledged).count() as u64
    }

    /// Every acknowledged write is visible or was observed by a write of which the same holds, and
    /// nothing is visible beside what observed it.
    pub fn check(&self, key: &str, visible: &[String]) -> Result<(), String> {
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
            "k".into(),
            vec![write("a", &[]), write("b", &["a"]), write("c", &[])],
        )]),
    };
    let check = |visible: &[&str]| {
        let visible: Vec<String> = visible.iter().map(|v| (*v).to_owned()).collect();
        history.check("k", &visible)
    };
    assert!(check(&["b", "c"]).is_ok());
    assert!(check(&["a", "c"]).expect_err("b").contains("lost"));
    assert!(check(&["a", "b", "c"]).expect_err("a").contains("beside"));
    assert!(check(&["b", "c", "x"]).expect_err("x").contains("nobody"));
}
