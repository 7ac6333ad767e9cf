//! A stream in a world: what was added is there, and comes to the group that reads it, at least once.

use std::time::Duration;

use super::World;

/// The stream.
pub const LOG: &str = "log";
const CONSUMERS: usize = 2;

impl World {
    /// Adds an entry, or reads for the group.
    pub(super) async fn use_stream(&self, value: &str) {
        match self.below(6) {
            0 => self.read_as_group().await,
            1 => {
                // It is made here and there, and set back.
                let words: &[&[u8]] = match self.below(3) {
                    0 => &[b"XGROUP", b"SETID", b"log", b"g", b"0"],
                    _ => &[b"XGROUP", b"CREATE", b"log", b"g", b"0", b"MKSTREAM"],
                };
                self.call(words).await;
            }
            _ => {
                let place = format!("{LOG}/{value}");
                let begun = self.history().begin_blind(&place, Some("there"));
                let words: [&[u8]; 5] = [b"XADD", b"log", b"*", b"v", value.as_bytes()];
                let reply = self.call(&words).await;
                if reply.is_some_and(|reply| reply.first() == Some(&b'$')) {
                    self.history().acknowledge_blind(&place, begun);
                }
            }
        }
    }

    async fn read_as_group(&self) {
        let consumer = format!("c{}", self.below(CONSUMERS));
        let delivered = self.read_group(&consumer, ">", "2").await;
        let Some(delivered) = delivered else { return };
        self.history().delivered.extend(values(&delivered));
        if self.below(2) == 0 {
            for id in ids(&delivered) {
                self.call(&[b"XACK", b"log", b"g", id.as_bytes()]).await;
            }
        }
    }

    async fn read_group(&self, consumer: &str, from: &str, count: &str) -> Option<Vec<String>> {
        let words: [&[u8]; 9] = [
            b"XREADGROUP",
            b"GROUP",
            b"g",
            consumer.as_bytes(),
            b"COUNT",
            count.as_bytes(),
            b"STREAMS",
            b"log",
            from.as_bytes(),
        ];
        let reply = self.call(&words).await?;
        let text = String::from_utf8(reply.to_vec()).expect("text");
        let lines = text.split("\r\n");
        let bulks = lines.filter(|line| !line.starts_with(['*', '$']) && !line.is_empty());
        (!text.starts_with('-')).then(|| bulks.map(str::to_owned).collect())
    }

    /// When all is healed, the group has got, or gets, whatever was added.
    pub(super) async fn the_group_gets_everything(&self) -> Result<(), String> {
        self.call(&[b"XGROUP", b"CREATE", b"log", b"g", b"0", b"MKSTREAM"])
            .await;
        for (consumer, from) in [("c0", ">"), ("c0", "0"), ("c1", "0")] {
            let mut said = None;
            for _ in 0..5 {
                said = self.read_group(consumer, from, "100000").await;
                if said.is_some() {
                    break;
                }
                super::sleep(Duration::from_secs(1)).await;
            }
            let said = said.ok_or("the group cannot be read though all is healed")?;
            self.history().delivered.extend(values(&said));
        }
        let added = self.elements(LOG).await.unwrap_or_default();
        let history = self.history();
        let missing = values(&added).find(|value| !history.delivered.contains(value));
        missing.map_or(Ok(()), |value| {
            Err(format!("{LOG}: the group has never got {value}"))
        })
    }
}

/// The values among what a stream shows: each is behind its field.
fn values(bulks: &[String]) -> impl Iterator<Item = String> + '_ {
    let pairs = bulks.windows(2);
    let pairs = pairs.filter(|pair| pair[0] == "v");
    pairs.map(|pair| pair[1].clone())
}

/// The ids: each is before the field.
fn ids(bulks: &[String]) -> Vec<String> {
    let pairs = bulks.windows(2);
    let pairs = pairs.filter(|pair| pair[1] == "v");
    pairs.map(|pair| pair[0].clone()).collect()
}
