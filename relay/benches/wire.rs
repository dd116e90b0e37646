//! Measures the cost of parsing and of writing a message: `cargo bench -p relay --bench wire`.
#![expect(clippy::unwrap_used, reason = "a bench that fails may panic")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use relay::message::{self, ClientMessage, ParseLimits};
use relay::types::{Event, Filter, Kind, PublicKey, SubscriptionId};
use std::hint::black_box;

/// An event of about 600 bytes: a reply with two `e` tags, a `p` tag and a line of text.
fn event(content: &str) -> Event {
    let tag = |elements: &[&str]| elements.iter().map(ToString::to_string).collect::<Vec<_>>();
    let tags = [tag(&["e", &"a1".repeat(32), "", "root"]), tag(&["p", &"c3".repeat(32)])];
    Event::build(PublicKey::from_bytes([7; 32]), 1_700_000_000, Kind(1), &tags, content, |_| [9; 64])
}

fn events(c: &mut Criterion) {
    let mut group = c.benchmark_group("event");
    let words = "The quick brown fox jumps over the lazy dog, ";
    for (name, content) in
        [("plain", words.into()), ("escaped", words.replace(", ", "\n\"")), ("20kB", words.repeat(440))]
    {
        let event = event(&content);
        let text = event.text();
        let message = format!("[\"EVENT\",{text}]");
        let limits = ParseLimits {
            max_filters: 10,
            and_tags: false,
            max_filter_values: 2000,
            max_req_bytes: 8 << 20,
            max_subscription_id_chars: 64,
        };

        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(format!("parse {name}"), |b| b.iter(|| Event::parse(black_box(text)).unwrap()));
        group
            .bench_function(format!("from_stored {name}"), |b| b.iter(|| Event::from_stored(black_box(text)).unwrap()));
        group.bench_function(format!("client message {name}"), |b| {
            b.iter(|| ClientMessage::parse(black_box(&message), &limits).unwrap());
        });

        let subscription = SubscriptionId("timeline-1".into());
        group.bench_function(format!("splice {name}"), |b| b.iter(|| message::event(&subscription, black_box(text))));
    }
    group.finish();
}

fn filters(c: &mut Criterion) {
    // Authors in random order, as a follow list has them.
    let author = |n: u64| {
        format!("\"{}\"", Event::build(PublicKey::from_bytes([0; 32]), n as i64, Kind(0), &[], "", |_| [0; 64]).id())
    };
    let authors: Vec<String> = (0..1000).map(author).collect();
    let many = format!("{{\"kinds\":[1,6],\"limit\":100,\"authors\":[{}]}}", authors.join(","));
    let mut group = c.benchmark_group("filter");
    group.bench_function("1000 authors", |b| b.iter(|| Filter::parse(black_box(&many)).unwrap()));
    let few = format!("{{\"kinds\":[1],\"#e\":[{}],\"limit\":20}}", authors[0]);
    group.bench_function("one #e", |b| b.iter(|| Filter::parse(black_box(&few)).unwrap()));
    group.finish();
}

criterion_group!(benches, events, filters);
criterion_main!(benches);
