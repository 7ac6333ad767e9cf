//! The row codecs on hostile bytes: no panic, and whatever decodes encodes to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringwood::logic::causal::Kind;
use ringwood::logic::record;
use ringwood::logic::spread::{self, Gathered, Stored};
use ringwood::logic::types::element;

/// With a right version and checksum the rest of a decoder is reached.
fn sealed(version: u8, input: &[u8]) -> Vec<u8> {
    let mut bytes = vec![version];
    bytes.extend_from_slice(input);
    let sum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

fuzz_target!(|input: &[u8]| {
    let _ = record::ROW.decode(input);
    for version in [1, 2, 3, 6] {
        let bytes = sealed(version, input);
        if let Ok(object) = record::ROW.decode(&bytes) {
            assert_eq!(record::ROW.encode(&object), bytes);
            let mut twice = object.clone();
            twice.join(object.clone());
            assert_eq!(twice, object);
        }
    }
    let bytes = sealed(4, input);
    if let Ok(Stored::Head(head)) = spread::read(&bytes) {
        assert_eq!(head.encode(), bytes);
        let _ = head.with(Gathered::default());
    }
    let field = element(Kind::Hash, b"field");
    let _ = Gathered::default().take(field, &sealed(5, input));
    let _ = spread::element_at(input);
});
