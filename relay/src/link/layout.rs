//! Which server carries which keys.

use super::LinkError;
use super::open::{self, RedisNode};
use crate::config::{RedisAddress, RedisTopology};
use redis::{FromRedisValue, Value, cmd};

/// The number of slots of a Cluster.
const SLOTS: u16 = 16_384;

/// The ranges of slots and their servers, as a server reported them at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout(Vec<SlotRange>);

/// A range of slots and the server that carries them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SlotRange {
    first: u16,
    last: u16,
    node: RedisNode,
}

impl Layout {
    /// Asks the servers at `address` in turn. Of a Cluster with missing slots, takes the layout of the node that knows
    /// most.
    ///
    /// # Errors
    /// The last server's error, where no server answered.
    pub async fn find(address: &RedisAddress) -> Result<Self, LinkError> {
        let mut best: Result<Self, LinkError> = Err(LinkError::NoNode);
        for node in &address.nodes {
            match Self::ask(address, node).await {
                Ok(layout) if layout.slots() == usize::from(SLOTS) => return Ok(layout),
                Ok(layout) if best.as_ref().map_or(0, Self::slots) < layout.slots() => best = Ok(layout),
                Err(error) if best.is_err() => best = Err(error),
                _ => {}
            }
        }
        best
    }

    async fn ask(address: &RedisAddress, node: &RedisNode) -> Result<Self, LinkError> {
        let whole = |node| Self(vec![SlotRange { first: 0, last: SLOTS - 1, node }]);
        match &address.topology {
            RedisTopology::Single => Ok(whole(node.clone())),
            RedisTopology::Sentinel { master } => {
                let mut sentinel = open::sentinel(address, node).await?;
                let query = cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(master).clone();
                let found: Option<RedisNode> = query.query_async(&mut sentinel).await?;
                found.map(whole).ok_or(LinkError::NoMaster)
            }
            RedisTopology::Cluster => {
                let mut seed = open::open(address, node, None).await?;
                let ranges: Vec<Value> = cmd("CLUSTER").arg("SLOTS").query_async(&mut seed).await?;
                let mut shards: Vec<SlotRange> =
                    ranges.iter().filter_map(|range| SlotRange::read(range, node)).collect();
                shards.sort_by_key(|shard| shard.first);
                if shards.is_empty() { Err(LinkError::NoShard) } else { Ok(Self(shards)) }
            }
        }
    }

    /// The server that carries `key`.
    pub fn node_of(&self, key: &[u8]) -> Option<&RedisNode> {
        let slot = slot(key);
        let after = self.0.partition_point(|shard| shard.first <= slot);
        let shard = self.0.get(after.checked_sub(1)?)?;
        (slot <= shard.last).then_some(&shard.node)
    }

    /// The server of each range. A server with several ranges is repeated.
    pub fn nodes(&self) -> impl Iterator<Item = &RedisNode> {
        self.0.iter().map(|shard| &shard.node)
    }

    fn slots(&self) -> usize {
        self.0.iter().map(|shard| usize::from(shard.last - shard.first) + 1).sum()
    }
}

impl SlotRange {
    /// Reads one range of CLUSTER SLOTS: `[first, last, [host, port, …], …]`. A node that
    /// does not know its own host leaves the host out: it is the host of `asked`.
    fn read(range: &Value, asked: &RedisNode) -> Option<Self> {
        let Value::Array(range) = range else { return None };
        let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = range.as_slice() else { return None };
        let [host, Value::Int(port), ..] = master.as_slice() else { return None };
        let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
        let host = String::from_redis_value(host.clone()).ok().filter(|host| !host.is_empty());
        let node = (host.unwrap_or_else(|| asked.0.clone()), u16::try_from(*port).ok()?);
        (first <= last && last < SLOTS).then_some(Self { first, last, node })
    }
}

/// The slot of `key` in a Cluster: CRC16 (XMODEM) of the text in its first braces, or else of the whole key.
pub fn slot(key: &[u8]) -> u16 {
    let tag = || {
        let open = key.iter().position(|byte| *byte == b'{')? + 1;
        let inside = key.get(open..)?;
        let close = inside.iter().position(|byte| *byte == b'}')?;
        inside.get(..close).filter(|tag| !tag.is_empty())
    };
    let crc = tag().unwrap_or(key).iter().fold(0_u16, |crc, byte| {
        let shift = |crc: u16| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| shift(crc))
    });
    crc % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_cluster_specification() {
        // "123456789" has the CRC 0x31c3, as the specification says; the other slots are those of CLUSTER KEYSLOT.
        assert_eq!(slot(b"123456789"), 0x31c3);
        assert_eq!(slot(b"foo"), 12_182);
        assert_eq!(slot(b"{foo}.bar"), 12_182);
        assert_eq!(slot(b"foo{}{bar}"), 8_363);
        assert_eq!(slot(b""), 0);
    }

    #[test]
    fn a_key_belongs_to_the_server_of_its_slot_and_in_a_gap_to_none() {
        let shard = |first, last, port| SlotRange { first, last, node: ("a".to_owned(), port) };
        let layout = Layout(vec![shard(0, 8_362, 1), shard(8_364, 12_181, 2), shard(12_182, SLOTS - 1, 3)]);
        assert_eq!(layout.node_of(b"foo"), Some(&("a".to_owned(), 3)));
        assert_eq!(layout.node_of(b""), Some(&("a".to_owned(), 1)));
        assert_eq!(layout.node_of(b"foo{}{bar}"), None, "slot 8363 is nobody's");
    }

    #[test]
    fn an_impossible_range_is_left_out() {
        let asked = ("here".to_owned(), 1);
        let line = |first, last, host: Value| {
            Value::Array(vec![Value::Int(first), Value::Int(last), Value::Array(vec![host, Value::Int(7)])])
        };
        let read = SlotRange::read(&line(0, 5, Value::Nil), &asked).unwrap();
        assert_eq!(read.node, ("here".to_owned(), 7));
        for (first, last) in [(5, 0), (0, 16_384), (-1, 3), (0, 1 << 40)] {
            assert_eq!(SlotRange::read(&line(first, last, Value::Nil), &asked), None);
        }
    }
}
