//! What other nodes send, on hostile bytes: no panic, and whatever decodes is encoded again to what decodes
//! to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringwood::peer::message::{NEWEST, OLDEST, Request, Response};
use ringwood::routing::args::OwnedArgs;

fuzz_target!(|input: &[u8]| {
    for wire in OLDEST..=NEWEST {
        if let Ok(request) = Request::decode(input, wire) {
            let mut bytes = Vec::new();
            request.encode(wire, &mut bytes);
            assert_eq!(Request::decode(&bytes, wire), Ok(request));
        }
        if let Ok(response) = Response::decode(input, wire) {
            let mut bytes = Vec::new();
            response.encode(wire, &mut bytes);
            let _ = Response::decode(&bytes, wire);
        }
    }
    let _ = OwnedArgs::from_wire(input.to_vec().into());
});
