//! A fake relay, with the parts that HAProxy sees: the upgrade, `/ready`, the weight.

use haproxy::Instance;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

#[derive(Clone)]
struct Answers {
    name: String,
    /// The status of `/ready`.
    ready: Arc<AtomicU16>,
    /// The status of an upgrade.
    upgrade: Arc<AtomicU16>,
    /// The weight in percent.
    weight: Arc<AtomicU16>,
    proxy_v2: bool,
}

/// A fake relay. Dropping it is like a SIGKILL.
pub struct FakeRelay {
    pub instance: Instance,
    answers: Answers,
    _tasks: JoinSet<()>,
}

impl FakeRelay {
    pub async fn start(name: &str) -> Self {
        Self::start_with(name, false).await
    }

    /// With `proxy_v2` a connection must begin with that header, or gets no answer.
    pub async fn start_with(name: &str, proxy_v2: bool) -> Self {
        Self::start_on(name, proxy_v2, "127.0.0.1", &[0, 0, 0]).await
    }

    /// A relay with `ports` ports for clients.
    pub async fn start_with_ports(name: &str, ports: usize) -> Self {
        Self::start_on(name, false, "127.0.0.1", &vec![0; ports + 2]).await
    }

    /// Another relay with another address and the same ports, as relays that one name in DNS has.
    pub async fn beside(&self, name: &str, host: &str) -> Self {
        let instance = &self.instance;
        let ports = [&instance.ports[..], &[instance.admin_port, instance.agent_port]].concat();
        Self::start_on(name, false, host, &ports).await
    }

    /// The last two ports are those of `/ready` and of the weight.
    async fn start_on(name: &str, proxy_v2: bool, host: &str, ports: &[u16]) -> Self {
        let number = |number| Arc::new(AtomicU16::new(number));
        let answers =
            Answers { name: name.to_owned(), ready: number(200), upgrade: number(101), weight: number(100), proxy_v2 };
        let mut tasks = JoinSet::new();
        let mut bound = Vec::new();
        for (index, port) in ports.iter().enumerate() {
            let door = match ports.len() - index {
                1 => Door::Agent,
                2 => Door::Admin,
                _ => Door::Clients,
            };
            let listener = TcpListener::bind((host, *port)).await.unwrap();
            bound.push(listener.local_addr().unwrap().port());
            tasks.spawn(accept(listener, answers.clone(), door));
        }

        let (agent_port, admin_port) = (bound.pop().unwrap(), bound.pop().unwrap());
        let instance = Instance { name: name.to_owned(), host: host.to_owned(), ports: bound, admin_port, agent_port };
        Self { instance, answers, _tasks: tasks }
    }

    pub fn ready_answers(&self, status: u16) {
        self.answers.ready.store(status, Ordering::Relaxed);
    }

    pub fn upgrades_answer(&self, status: u16) {
        self.answers.upgrade.store(status, Ordering::Relaxed);
    }

    pub fn weighs(&self, percent: u16) {
        self.answers.weight.store(percent, Ordering::Relaxed);
    }
}

#[derive(Clone, Copy)]
enum Door {
    Clients,
    Admin,
    Agent,
}

async fn accept(listener: TcpListener, answers: Answers, door: Door) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let answers = answers.clone();
        connections.spawn(async move {
            // An error means that the client has gone.
            let _ = match door {
                Door::Clients => client(stream, answers).await,
                Door::Admin => admin(stream, answers).await,
                Door::Agent => agent(stream, answers).await,
            };
        });
    }
}

/// Reads the head of an HTTP message.
async fn head(stream: &mut (impl AsyncBufReadExt + Unpin)) -> std::io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head)
}

/// Serves a client: after the upgrade it sends one line with its name and the client's address, then echoes.
async fn client(stream: TcpStream, answers: Answers) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut forwarded = String::new();
    if answers.proxy_v2 {
        let mut header = [0; 28];
        stream.read_exact(&mut header).await?;
        assert!(header.starts_with(b"\r\n\r\n\0\r\nQUIT\n\x21\x11"), "{header:?}");
        forwarded = format!("proxy {:?}", &header[16..20]);
    }

    let head = head(&mut stream).await?;
    for line in head.lines().filter(|line| line.to_lowercase().starts_with("x-") || line.contains("orwarded")) {
        forwarded = format!("{forwarded} {}", line.to_lowercase());
    }
    let status = answers.upgrade.load(Ordering::Relaxed);
    if status != 101 {
        let answer = format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return stream.write_all(answer.as_bytes()).await;
    }

    let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                  Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    stream.write_all(format!("{answer}{}:{forwarded}\n", answers.name).as_bytes()).await?;
    let (mut from, mut to) = stream.into_inner().into_split();
    tokio::io::copy(&mut from, &mut to).await.map(drop)
}

async fn admin(stream: TcpStream, answers: Answers) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let asked = head(&mut stream).await?;
    let status = if asked.starts_with("GET /ready ") { answers.ready.load(Ordering::Relaxed) } else { 400 };
    let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).await
}

async fn agent(mut stream: TcpStream, answers: Answers) -> std::io::Result<()> {
    let weight = answers.weight.load(Ordering::Relaxed);
    stream.write_all(format!("up {weight}%\n").as_bytes()).await
}
