//! Contexts as clients hold them, on hostile bytes: no panic, and none is taken that was not made here.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringwood::command::{ContextSeal, SealedPlace};
use ringwood::logic::causal::Kind;
use ringwood::logic::codec::Reader;
use ringwood::logic::record;
use ringwood::logic::types;

fuzz_target!(|input: &[u8]| {
    let seal = ContextSeal::new(b"secret");
    let place = |db, key| SealedPlace {
        db,
        key,
        element: None,
    };
    let field = types::element(Kind::Hash, input);
    let of_field = SealedPlace {
        element: Some(&field),
        ..place(0, b"key")
    };
    for at in [place(0, b"key"), of_field] {
        assert!(seal.open(at, input).is_err());
    }
    // Whatever is a context has a token, of its key, database and element alone.
    let mut reader = Reader(input);
    if let Ok(context) = record::read_context(&mut reader) {
        let token = seal.token(place(0, b"key"), &context);
        assert_eq!(seal.open(place(0, b"key"), token.as_bytes()), Ok(context.clone()));
        for other in [place(1, b"key"), place(0, b"other"), of_field] {
            assert!(seal.open(other, token.as_bytes()).is_err());
        }
        let token = seal.token(of_field, &context);
        assert_eq!(seal.open(of_field, token.as_bytes()), Ok(context));
        assert!(seal.open(place(0, b"key"), token.as_bytes()).is_err());
    }
});
