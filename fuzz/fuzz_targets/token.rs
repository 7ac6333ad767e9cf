//! Contexts as clients hold them, on hostile bytes: no panic, and none is taken that was not made here.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringwood::command::ContextSeal;
use ringwood::logic::codec::Reader;
use ringwood::logic::record;

fuzz_target!(|input: &[u8]| {
    let seal = ContextSeal::new(b"secret");
    assert!(seal.open((0, b"key"), input).is_err());
    // Whatever is a context has a token, of its key and database alone.
    let mut reader = Reader(input);
    if let Ok(context) = record::read_context(&mut reader) {
        let token = seal.token((0, b"key"), &context);
        assert_eq!(seal.open((0, b"key"), token.as_bytes()), Ok(context));
        assert!(seal.open((1, b"key"), token.as_bytes()).is_err());
        assert!(seal.open((0, b"other"), token.as_bytes()).is_err());
    }
});
