//! Parses the table of `show stat`: CSV, with the columns' names in the first line.

use crate::render::BACKEND;

/// A relay's state in HAProxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerState {
    /// The server's name in the configuration.
    pub name: String,
    /// Its address and port; empty where DNS has not resolved it yet.
    pub address: String,
    /// Whether it gets clients.
    pub status: Status,
    /// The weight that its agent asks for, 0 to 100.
    pub weight: u32,
    /// The number of its clients.
    pub connections: u64,
    /// The number of clients in its queue.
    pub waiting: u64,
    /// The number of clients that it got since this process started.
    pub total: u64,
    /// HAProxy's code for the last check, such as `L7OK`.
    pub check: String,
}

/// Whether a server gets clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It gets clients.
    Up,
    /// It gets none: it failed its checks.
    Down,
    /// It gets no new clients: it answered 404, an operator drains it, or its weight is 0.
    Draining,
    /// It gets no clients and is not checked.
    Maintenance,
}

impl Status {
    /// Reads HAProxy's word, which numbers or a reason may follow: `UP 1/3`, `DOWN (agent)`.
    fn parse(text: &str) -> Option<Self> {
        Some(match text.split(' ').next()? {
            "UP" | "no" => Self::Up,
            "DOWN" => Self::Down,
            "NOLB" | "DRAIN" => Self::Draining,
            "MAINT" => Self::Maintenance,
            _ => return None,
        })
    }
}

pub(super) fn parse(table: &str) -> Option<Vec<ServerState>> {
    let mut lines = table.lines();
    let names: Vec<_> = lines.next()?.strip_prefix("# ")?.split(',').collect();
    let server = |line: &str| {
        let values: Vec<_> = line.split(',').collect();
        let get = |name: &str| values.get(names.iter().position(|known| *known == name)?).copied();
        let number = |name: &str| get(name)?.parse::<u64>().ok();
        Some(ServerState {
            name: get("svname")?.to_owned(),
            address: get("addr")?.to_owned(),
            status: Status::parse(get("status")?)?,
            weight: u32::try_from(number("weight")?).ok()?,
            connections: number("scur")?,
            waiting: number("qcur")?,
            total: number("stot")?,
            check: get("check_status")?.trim_start_matches("* ").to_owned(),
        })
    };

    let ours = |line: &&str| line.split(',').next() == Some(BACKEND);
    lines.filter(ours).map(server).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "# pxname,svname,qcur,scur,stot,status,weight,check_status,addr,\n\
        relays,relay-1,1,20,300,UP 1/3,75,L7OK,127.0.0.1:1,\n\
        relays,relay-2,0,2,3,NOLB,100,* L7OKC,127.0.0.1:2,\n\n";

    #[test]
    fn columns_are_found_by_name() {
        let states = parse(TABLE).unwrap();
        let first = states.first().unwrap();
        assert_eq!((first.status, first.weight, first.waiting, first.connections), (Status::Up, 75, 1, 20));
        let second = states.get(1).unwrap();
        assert_eq!((second.status, second.total, second.check.as_str()), (Status::Draining, 3, "L7OKC"));
    }

    #[test]
    fn another_shape_is_no_table() {
        assert_eq!(parse(""), None);
        assert_eq!(parse(&TABLE.replace("weight", "heft")), None);
        assert_eq!(parse(&TABLE.replace("NOLB", "PUZZLED")), None);
    }
}
