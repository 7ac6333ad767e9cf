//! Scripts in a world: what a command does by a script is what it does by itself, and a script that was loaded is
//! known to every node that lives.

use std::time::Duration;

use bytes::BytesMut;

use super::World;

/// What runs a command: with its first key named, ...
const WITH_ITS_KEY: &[u8] = b"return redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))";
/// ... or with none, so that it runs wherever its key is.
const WITH_NO_KEY: &[u8] = b"return redis.call(unpack(ARGV))";
/// Reads one key, which is named, and then another, which is not.
const BEYOND: &[u8] = b"redis.call('GET', KEYS[1]) return redis.call(unpack(ARGV))";

impl World {
    /// Now and then a command is run by a script.
    pub(super) fn by_script<'w>(&self, words: &[&'w [u8]]) -> Vec<&'w [u8]> {
        let is_on_key = words.len() > 1 && words[0] != b"RESOLVE" && words[0] != b"SIBLINGS";
        if !is_on_key || self.below(12) > 0 {
            return words.to_vec();
        }
        let (name, key, rest) = (words[0], words[1], &words[2..]);
        match self.below(3) {
            0 => [&[b"EVAL", WITH_ITS_KEY, b"1", key, name][..], rest].concat(),
            1 => [&[b"EVAL", WITH_NO_KEY, b"0", name, key][..], rest].concat(),
            _ => [&[b"EVAL", BEYOND, b"1", b"named", name, key][..], rest].concat(),
        }
    }

    /// Loads a script, and runs it by its name, here and there.
    pub(super) async fn load_and_run(&self, value: &str) {
        let script = format!("return '{value}'");
        let said = self.call(&[b"SCRIPT", b"LOAD", script.as_bytes()]).await;
        let name = said.filter(|said| said.first() == Some(&b'$'));
        let Some(name) = name else {
            return;
        };
        let name = BytesMut::from(&name[5..45]);
        for nth in 0..3 {
            super::sleep(Duration::from_millis(self.below(2_000) as u64)).await;
            let words: [&[u8]; 4] = [b"EVALSHA", &name, b"1", b"named"];
            let words = if nth == 1 {
                &[b"EVALSHA", &name[..], b"0"][..]
            } else {
                &words[..]
            };
            if let Some(said) = self.call(words).await
                && said.starts_with(b"-NOSCRIPT")
            {
                self.history().no_script = Some(script.clone());
            }
        }
    }
}
