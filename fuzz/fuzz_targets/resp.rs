//! The request parser on hostile bytes: no panic, and the same commands however the bytes arrive.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringwood::resp::{Limits, Parser, ProtocolError};

type Commands = Vec<Vec<Vec<u8>>>;

fn parse(input: &[u8], piece: usize) -> (Commands, Option<ProtocolError>) {
    let limits = Limits { max_bulk_len: 1 << 20, authenticated: !input.len().is_multiple_of(2) };
    let (mut parser, mut buffer, mut commands) = (Parser::default(), Vec::new(), Vec::new());
    for chunk in input.chunks(piece.max(1)) {
        buffer.extend_from_slice(chunk);
        loop {
            match parser.advance(&buffer, limits) {
                Ok(true) => {
                    let source = parser.source(&buffer);
                    let words = parser.args().iter().map(|range| source[range.clone()].to_vec());
                    commands.push(words.collect());
                }
                Ok(false) => break,
                Err(error) => return (commands, Some(error)),
            }
        }
        let consumed = parser.take_consumed();
        buffer.drain(..consumed);
    }
    (commands, None)
}

fuzz_target!(|input: &[u8]| {
    let Some((&piece, input)) = input.split_first() else { return };
    assert_eq!(parse(input, usize::MAX), parse(input, usize::from(piece)));
});
