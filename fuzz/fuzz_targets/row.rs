//! The row codec on hostile bytes: no panic, and whatever decodes encodes to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringwood::logic::record;

fuzz_target!(|input: &[u8]| {
    let _ = record::ROW.decode(input);
    // With a right version and checksum the rest of the decoder is reached.
    for version in [1, 2] {
        let mut bytes = vec![version];
        bytes.extend_from_slice(input);
        let sum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        if let Ok(object) = record::ROW.decode(&bytes) {
            assert_eq!(record::ROW.encode(&object), bytes);
            let mut twice = object.clone();
            twice.join(object.clone());
            assert_eq!(twice, object);
        }
    }
});
