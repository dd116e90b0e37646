//! The largest events that messages of 2 MiB can bring. No index may hold a value as long as that.

use crate::kit::*;
use crate::store_kit::{self, NOW, tag, tag_filter};
use deploy::postgres::PostgresCluster;
use relay::store::Store;
use relay::types::{Filter, Verified};

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_tag_a_huge_content_and_thousands_of_tags_are_stored_and_found() {
    let cluster = PostgresCluster::setup().start().await.unwrap();
    let store = open(options(&cluster.database_urls("postgres"))).await;
    // Not repetitive, so that compression does not make it short.
    let long = |bytes: usize| {
        (0..bytes as u64 / 16).map(|n| format!("{:016x}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect::<String>()
    };
    let value = long(1 << 20);
    let tags: Vec<_> = (0..5_000).map(|n| tag("t", &format!("topic {n}"))).collect();
    let events = [
        store_kit::event(1, 1, NOW - 3, &[tag("r", &value)], ""),
        store_kit::event(1, 1, NOW - 2, &[], &long(200 << 10)),
        store_kit::event(1, 1, NOW - 1, &tags, ""),
    ];

    store.append(events.iter().cloned().map(Verified::vouch).collect(), NOW).await.unwrap();
    let tagged = |letter, value: &str| Filter { tags: [tag_filter(letter, &[value])].into(), ..Filter::default() };
    let filters = [
        (tagged(b'r', &value), Some(&events[0])),
        (Filter { ids: Some([events[1].id()].into()), ..Filter::default() }, Some(&events[1])),
        (tagged(b't', "topic 0"), Some(&events[2])),
        (tagged(b't', "topic 4999"), Some(&events[2])),
        // Control: a value that differs in its last byte is another one.
        (tagged(b'r', &format!("{}!", &value[1..])), None),
    ];

    for (filter, wanted) in filters {
        let page = store.read(&store_kit::ask(&filter, 10)).await.unwrap();
        let texts: Vec<_> = page.rows.iter().map(|row| &*row.text).collect();
        assert!(texts == wanted.map(|event| &**event.text()).as_slice(), "{} rows", texts.len());
    }
    store.close().await;
}
