//! What a session leaves behind.

use super::Session;
use crate::config::Config;
use crate::connection::context::ListenerContext;
use crate::connection::listening::shutdown::shutdown;
use crate::connection::origin::ClientOrigin;
use crate::connection::services::Services;
use crate::connection::settings::ConnectionSettings;
use crate::ingest::{Ingest, IngestSettings, WriterSettings};
use crate::log::Log;
use crate::memory::ClientMemory;
use crate::outbox::Outbox;
use crate::query::Queries;
use crate::store::MemoryStore;
use crate::task::Tasks;
use crate::telemetry::Metrics;
use crate::types::Head;
use arc_swap::ArcSwap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

/// How long a test waits for a query.
const DEADLINE: Duration = Duration::from_secs(20);

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn context() -> ListenerContext {
    let (store, metrics) = (Arc::new(MemoryStore::default()), Arc::new(Metrics::detached()));
    let log = Log::new(Head::default(), 1 << 20, metrics.clone());
    let writer = WriterSettings { max_batch: 16, sweep: None };
    let settings = IngestSettings { queue: 16, verify_threads: 1, writer };
    let (ingest, _) = Ingest::start(store.clone(), log.clone(), Arc::default(), metrics.clone(), settings).unwrap();
    let (_, signal) = shutdown();
    ListenerContext::new(Services {
        ingest,
        queries: Queries::new(store, log.clone(), metrics.clone()),
        log,
        rules: Arc::default(),
        settings: Arc::new(ArcSwap::from_pointee(ConnectionSettings::new(&Config::default()))),
        information: Arc::default(),
        memory: ClientMemory::unbounded(),
        shutdown: signal,
        tasks: Tasks::new(metrics.clone()),
        metrics,
    })
}

#[tokio::test]
async fn a_connection_that_panics_leaves_nothing_behind() {
    let context = Arc::new(context());
    let outbox = Outbox::new(context.services.settings.load().outbox, context.services.memory.connect());
    let (log, open) = (context.services.log.clone(), |log: &Log| log.subscriptions().0);
    let task = tokio::spawn({
        let (context, outbox, log) = (context.clone(), outbox.clone(), log.clone());
        async move {
            let slot = context.slots.enter_from(CLIENT, 1).unwrap();
            let origin = ClientOrigin { address: CLIENT, relay_url: None, _slot: slot };
            let mut session = Session::new(origin, outbox, log.clone());
            assert!(session.receive(r#"["REQ","s",{"kinds":[1]}]"#, None, &context).is_none());
            let until_open = async {
                while open(&log) == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::time::timeout(DEADLINE, until_open).await.unwrap();
            panic!("a panic of the test");
        }
    });
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(open(&log), 0, "subscriptions in the matcher");
    assert!(outbox.is_closed());
    assert!(context.slots.enter_from(CLIENT, 1).is_some(), "its address may connect again");
}
