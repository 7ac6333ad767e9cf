//! What every request pays: joins, the row codec, RESP. `cargo bench --bench core`.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use ringwood::logic::causal::{ActorId, Element, Object, Payload, Timestamp, Value};
use ringwood::logic::record;
use ringwood::resp::{Limits, Parser, Reply};

/// A string that `writers` actors wrote one after the other, and a delta of the next write.
fn written(writers: u64) -> (Object, Object) {
    let mut object = Object::default();
    let write = |object: &Object, actor: u64| {
        let mut delta = Object::delta(ActorId(actor), 0);
        object.all_versions().for_each(|v| delta.overwrite(v.dot));
        let value = Value {
            payload: Payload::Bytes(Bytes::from(vec![b'x'; 100])),
            expires_at_ms: None,
        };
        delta.put(actor, Timestamp::from_ms(actor), &Element::STRING, value);
        delta.finish()
    };
    for actor in 1..=writers {
        object = object.joined(write(&object, actor));
    }
    let delta = write(&object, writers + 1);
    (object, delta)
}

fn join(c: &mut Criterion) {
    for writers in [1, 5] {
        let (object, delta) = written(writers);
        c.bench_function(&format!("join/overwrite after {writers} writers"), |b| {
            b.iter(|| black_box(&object).joined(black_box(delta.clone())));
        });
    }
}

fn codec(c: &mut Criterion) {
    for writers in [1, 5] {
        let (object, _) = written(writers);
        let encoded = record::ROW.encode(&object);
        c.bench_function(&format!("row/encode, {writers} actors"), |b| {
            b.iter(|| record::ROW.encode(black_box(&object)));
        });
        c.bench_function(&format!("row/decode, {writers} actors"), |b| {
            b.iter(|| record::ROW.decode(black_box(&encoded)));
        });
    }
}

fn resp(c: &mut Criterion) {
    let limits = Limits {
        max_bulk_len: 512 << 20,
        authenticated: true,
    };
    let set = b"*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000001\r\n$8\r\nxxxxxxxx\r\n".repeat(100);
    c.bench_function("resp/parse 100 SET", |b| {
        b.iter(|| {
            let mut parser = Parser::default();
            let mut count = 0;
            while matches!(parser.advance(black_box(&set), limits), Ok(true)) {
                count += parser.args().len();
            }
            count
        });
    });
    c.bench_function("resp/write 100 bulks", |b| {
        let mut reply = Reply::default();
        b.iter(|| {
            reply.buffer().clear();
            (0..100).for_each(|_| reply.bulk(black_box(b"a value of some bytes")));
            reply.len()
        });
    });
}

criterion_group!(benches, join, codec, resp);
criterion_main!(benches);
