//! Measures every shape of filter, alone and with several clients at a time, and a walk of 1,000 pages.

use crate::shapes::shapes;
use crate::world::{NOW, World};
use crate::{Arguments, percentile, processor_seconds};
use relay::store::postgres::ServerInspector;
use relay::store::{Read, Store};
use relay::types::{Access, Filter, Kind, Position};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The pages of the walk, and the rows of each.
const PAGES: usize = 1_000;
const PAGE_ROWS: usize = 100;
/// The number of filters of each shape.
const FILTERS: usize = 200;

fn ask<'a>(filter: &'a Filter, limit: usize, access: &'a Access) -> Read<'a> {
    Read {
        filter,
        limit,
        after: None,
        access: Some(access),
        at_least: Position::default(),
        now: NOW,
        max_text_bytes: 4 << 20,
    }
}

/// Prints one line for each shape. With `inspector` the store is PostgreSQL, and targets apply.
pub(crate) async fn measure(
    store: Arc<dyn Store>,
    world: &mut World,
    arguments: &Arguments,
    mut inspector: Option<ServerInspector>,
) {
    let (clients, seconds) = (arguments.number("--clients", 4), arguments.number("--seconds", 2));
    println!(
        "{:46} {:>7} {:>9} {:>9} {:>8} {:>9} {:>9} {:>9} {:>8}",
        "", "rows", "p50 ms", "p95 ms", "target", "alone/s", "clients/s", "CPU µs", "buffers"
    );
    let access = Access::default();
    let mut missed = 0;
    for shape in shapes() {
        let limit = shape.limit;
        let filters: Vec<_> = (0..FILTERS).map(|_| (shape.make)(world)).collect();
        let (mut times, mut rows) = (Vec::new(), 0);
        for filter in filters.iter().take(20) {
            // The first read also prepares the statement, so it is not measured.
            store.read(&ask(filter, limit, &access)).await.unwrap();
        }
        let (begun, used) = (Instant::now(), processor_seconds());
        while begun.elapsed() < Duration::from_secs(1) {
            for filter in &filters {
                let begun = Instant::now();
                rows += store.read(&ask(filter, limit, &access)).await.unwrap().rows.len();
                times.push(begun.elapsed());
            }
        }
        let alone = times.len() as f64 / begun.elapsed().as_secs_f64();
        let rows = rows as f64 / times.len() as f64;
        let used = (processor_seconds() - used) * 1e6 / times.len() as f64;
        times.sort();
        let together = together(&store, Arc::new(filters.clone()), limit, clients, seconds).await;
        let buffers = match &mut inspector {
            Some(inspector) => buffers(inspector, &filters, limit, &access).await,
            None => String::new(),
        };
        let p95 = percentile(&times, 95);
        let target = shape.target.filter(|_| inspector.is_some());
        let late = target.is_some_and(|target| p95 > target);
        missed += usize::from(late);
        println!(
            "{:46} {rows:7.1} {:9.3} {p95:9.3} {:>8} {alone:9.0} {together:9.0} {used:9.0} {buffers:>8}{}",
            shape.name,
            percentile(&times, 50),
            target.map_or(String::new(), |target| target.to_string()),
            if late { "  over" } else { "" }
        );
    }

    walk(&*store).await;
    if inspector.is_some() {
        println!("{missed} shapes over their targets");
    }
}

async fn together(
    store: &Arc<dyn Store>,
    filters: Arc<Vec<Filter>>,
    limit: usize,
    clients: usize,
    seconds: usize,
) -> f64 {
    let begun = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let (store, filters) = (store.clone(), filters.clone());
            tokio::spawn(async move {
                let access = Access::default();
                let mut done = 0;
                for at in (client * 70).. {
                    store.read(&ask(&filters[at % filters.len()], limit, &access)).await.unwrap();
                    done += 1;
                    if begun.elapsed() > Duration::from_secs(seconds as u64) {
                        break;
                    }
                }
                done
            })
        })
        .collect();
    let mut done = 0;

    for task in tasks {
        done += task.await.unwrap();
    }
    f64::from(done) / begun.elapsed().as_secs_f64()
}

/// The median of the number of buffers that a read touches.
async fn buffers(inspector: &mut ServerInspector, filters: &[Filter], limit: usize, access: &Access) -> String {
    let mut all = Vec::new();
    for filter in filters.iter().take(11) {
        let explanation = inspector.explain(&ask(filter, limit, access)).await.unwrap();
        all.push(explanation.steps.iter().map(|step| step.buffers).sum::<u64>());
    }
    all.sort_unstable();
    all[all.len() / 2].to_string()
}

/// Pages through the store as clients do: `until` is the date of the last event of the page before.
async fn walk(store: &dyn Store) {
    let access = Access::default();
    let mut filter = Filter { kinds: Some([Kind(1)].into()), ..Filter::default() };
    let mut times = Vec::with_capacity(PAGES);
    for _ in 0..PAGES {
        let begun = Instant::now();
        let page = store.read(&ask(&filter, PAGE_ROWS, &access)).await.unwrap();
        times.push(begun.elapsed());
        let Some(last) = page.rows.last().filter(|_| !page.complete) else { break };
        filter.until = Some(last.key.created_at);
    }

    let median = |times: &[Duration]| {
        let mut times = times.to_vec();
        times.sort();
        percentile(&times, 50)
    };

    let ends = times.len().min(20);
    let (first, last) = (median(&times[..ends]), median(&times[times.len() - ends..]));
    println!(
        "deep paging: page 1 {first:.3} ms, page {} {last:.3} ms, ratio {:.2} (at most 1.5)",
        times.len(),
        last / first
    );
}
