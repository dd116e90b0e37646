//! Relays that HAProxy finds by DNS, and relays with several ports.

#![allow(missing_docs, clippy::unwrap_used)]

mod kit;

use haproxy::{Discovery, Instance, ServerState, Status, haproxy_cfg};
use kit::{FakeRelay, Front, until};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// A DNS server that knows one name.
struct Dns {
    address: SocketAddr,
    named: Arc<Mutex<Vec<Ipv4Addr>>>,
    answers: Arc<AtomicBool>,
    _task: JoinSet<()>,
}

impl Dns {
    async fn start(named: &[&str]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let named = Arc::new(Mutex::new(named.iter().map(|address| address.parse().unwrap()).collect::<Vec<_>>()));
        let answers = Arc::new(AtomicBool::new(true));
        let (known, answering, mut task) = (named.clone(), answers.clone(), JoinSet::new());
        task.spawn(async move {
            let mut question = [0; 512];
            loop {
                let (length, asker) = socket.recv_from(&mut question).await.unwrap();
                let answer = answer(&question[..length], &known.lock().unwrap().clone());
                if answering.load(Ordering::Relaxed) {
                    socket.send_to(&answer, asker).await.unwrap();
                }
            }
        });
        Self { address, named, answers, _task: task }
    }

    fn name(&self, address: &str) {
        self.named.lock().unwrap().push(address.parse().unwrap());
    }

    fn fall_silent(&self) {
        self.answers.store(false, Ordering::Relaxed);
    }
}

/// The discovery of relays with the ports of `relay`.
fn discovery(relay: &FakeRelay, slots: u16) -> Discovery {
    let Instance { ports, admin_port, agent_port, .. } = &relay.instance;
    let (port, admin_port, agent_port) = (ports[0], *admin_port, *agent_port);
    Discovery { name: "relay.test".to_owned(), slots, port, admin_port, agent_port }
}

/// RFC 1035, section 4: the header, the question again, an A record for each address. Of AAAA there are none.
fn answer(question: &[u8], addresses: &[Ipv4Addr]) -> Vec<u8> {
    let name = question[12..].iter().position(|byte| *byte == 0).unwrap();
    let end = 12 + name + 5;
    let of_type_a = question[12 + name + 1..][..2] == [0, 1];
    let addresses = if of_type_a { addresses } else { &[] };
    let count = u8::try_from(addresses.len()).unwrap();
    let mut answer = [&question[..2], &[0x84, 0, 0, 1, 0, count, 0, 0, 0, 0], &question[12..end]].concat();
    for address in addresses {
        // A pointer to the name in the question; type A; class IN; a TTL of one second; four bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        answer.extend(address.octets());
    }
    answer
}

fn up(states: &[ServerState]) -> usize {
    states.iter().filter(|state| state.status == Status::Up && !state.address.is_empty()).count()
}

#[tokio::test]
async fn relays_that_dns_names_get_clients_as_soon_as_it_does() {
    let one = FakeRelay::start("relay-1").await;
    let (_two, _three) = (one.beside("relay-2", "127.0.0.2").await, one.beside("relay-3", "127.0.0.3").await);
    let dns = Dns::start(&["127.0.0.1", "127.0.0.2"]).await;
    let front = Front::start(&[], |cluster| {
        cluster.front.resolvers = vec![dns.address];
        cluster.discovery = Some(discovery(&one, 4));
    })
    .await;

    let names = ["relay-1", "relay-2", "relay-3"];
    until("two relays are up", async || up(&front.runtime.servers().await.unwrap()) == 2).await;
    let (mut sockets, counts) = front.spread(6, &names).await;
    assert_eq!(counts, [3, 3, 0], "control: nobody has named the third");
    dns.name("127.0.0.3");
    until("three relays are up", async || up(&front.runtime.servers().await.unwrap()) == 3).await;
    let (_new, counts) = front.spread(3, &names).await;
    assert_eq!(counts, [0, 0, 3], "leastconn: until it is level");
    for socket in &mut sockets {
        assert!(socket.lives().await);
    }
}

/// The other front has a timeout of one second where the rendered file has a day, so that the silence exceeds it.
#[tokio::test]
async fn clients_stay_when_dns_falls_silent() {
    let relay = FakeRelay::start("relay-1").await;
    let dns = Dns::start(&["127.0.0.1"]).await;
    let start = || {
        Front::start(&[], |cluster| {
            cluster.front.resolvers = vec![dns.address];
            cluster.discovery = Some(discovery(&relay, 1));
        })
    };

    let (front, hasty) = (start().await, start().await);
    hasty.reload_as(&haproxy_cfg(&hasty.cluster).unwrap().replace(" 24h", " 1s")).await.unwrap();
    for front in [&front, &hasty] {
        until("the relay is up", async || up(&front.runtime.servers().await.unwrap()) == 1).await;
    }
    let (mut socket, mut cut) = (front.open().await, hasty.open().await);
    assert!(cut.lives().await);
    dns.fall_silent();
    let gone = async || hasty.runtime.servers().await.unwrap().iter().all(|state| state.status == Status::Maintenance);
    until("control: the relay is in maintenance", gone).await;
    assert!(!cut.lives().await, "control");
    assert!(socket.lives().await);
    assert_eq!(up(&front.runtime.servers().await.unwrap()), 1);
}

#[tokio::test]
async fn an_instance_is_reached_by_all_its_ports_and_drains_as_one() {
    let (wide, narrow) = (FakeRelay::start_with_ports("relay-1", 3).await, FakeRelay::start("relay-2").await);
    let front = Front::start(&[&wide, &narrow], |_| {}).await;
    until("all four are up", async || up(&front.runtime.servers().await.unwrap()) == 4).await;
    let (_sockets, counts) = front.spread(8, &["relay-1", "relay-2"]).await;
    assert_eq!(counts, [6, 2], "each port is a server of its own");
    let each: Vec<_> = front.runtime.servers().await.unwrap().iter().map(|state| state.connections).collect();
    assert_eq!(each, [2, 2, 2, 2]);
    wide.ready_answers(404);
    for server in ["relay-1", "relay-1.2", "relay-1.3"] {
        front.sees(server, Status::Draining).await;
    }
    let (_sockets, counts) = front.spread(4, &["relay-1", "relay-2"]).await;
    assert_eq!(counts, [0, 4]);
}
