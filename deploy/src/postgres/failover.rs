use super::{PostgresCluster, PostgresServer, Role};
use crate::{Error, until};
use std::time::Duration;

/// The result of a failover.
#[derive(Clone, Debug)]
pub struct Failover {
    /// The server that was the primary. It is stopped, and becomes a replica when it is rebuilt.
    pub fenced: String,
    /// The new primary.
    pub promoted: String,
    /// The bytes of WAL that each survivor had received, by name.
    pub received: Vec<(String, i64)>,
    /// Replicas that did not run. One that had received more than the promoted one must be rebuilt.
    pub absent: Vec<String>,
}

impl PostgresCluster {
    /// Makes the replica that has received the most the primary, and attaches the others to it.
    ///
    /// 1. Fences the old primary: two primaries would both acknowledge commits.
    /// 2. Waits until no replica receives any more, then compares the positions of all that run. With `synchronous`,
    ///    one of them has every acknowledged commit, and only the comparison tells which.
    /// 3. Promotes the one with the greatest position. It keeps the WAL that the others lack, and with `synchronous` it
    ///    waits for one of them from its first commit on.
    /// 4. Lets the others follow it to the new timeline. Their positions are before its own, so none needs to be
    ///    rewound.
    ///
    /// The old primary may have commits that the new one lacks: it stays stopped until [`rebuild`](Self::rebuild), also
    /// through another failover. Where no replica is left to wait for, the new primary acknowledges alone, with
    /// `synchronous` too, until [`start`](Self::start): an operator who fails over again wants to go on with the
    /// servers that are left. A second call completes a failover that was interrupted.
    ///
    /// # Errors
    /// [`Error::State`] if no replica runs, before anything is stopped; otherwise the error of a step.
    pub async fn failover(&mut self) -> Result<Failover, Error> {
        self.check_survivors()?;
        let survivors: Vec<_> = (0..self.servers.len()).filter(|index| self.servers[*index].survives()).collect();
        let old = self.primary_index()?;
        self.servers[old].fence().await?;

        let mut received = Vec::new();
        for index in survivors.iter().copied() {
            self.servers[index].wait_silent().await?;
            received.push((self.servers[index].position().await?, index));
        }
        // Of equal positions the first server, so that a second call chooses the same.
        let best = received.iter().map(|(position, index)| (*position, std::cmp::Reverse(*index))).max();
        let new = best.map(|(_, index)| index.0).ok_or_else(|| Error::State("no replica runs".to_owned()))?;

        // Before the promotion: its first checkpoint may drop WAL that another replica lacks.
        let follows = |index: &usize| *index != old && *index != new && !self.servers[*index].is_fenced();
        let followers: Vec<_> = (0..self.servers.len()).filter(follows).collect();
        for index in followers.iter().copied() {
            self.create_slot(&self.servers[new], &self.servers[index].slot()).await?;
        }
        // Commits would hang while they wait for a replica that does not run.
        let running: Vec<_> = followers.iter().copied().filter(|index| survivors.contains(index)).collect();
        self.set_synchronous(new, &running).await?;
        self.promote(new).await?;

        let port = self.servers[new].place.port;
        self.servers.iter_mut().for_each(|server| server.receives = true);
        (self.servers[old].place.role, self.servers[old].place.upstream) = (Role::Replica, None);
        (self.servers[new].place.role, self.servers[new].place.upstream) = (Role::Primary, None);
        for index in followers.iter().copied() {
            self.servers[index].place.upstream = Some(port);
            self.servers[index].reload().await?;
        }
        self.servers[new].reload().await?;
        self.wait_streaming().await?;

        let name = |index: usize| self.servers[index].place.name.clone();
        let absent = followers.into_iter().filter(|index| !survivors.contains(index));
        Ok(Failover {
            fenced: name(old),
            promoted: name(new),
            received: received.iter().map(|(position, index)| (name(*index), *position)).collect(),
            absent: absent.map(name).collect(),
        })
    }

    /// Checks that there is a replica that could become the primary.
    ///
    /// # Errors
    /// [`Error::State`] if there is none.
    pub fn check_survivors(&self) -> Result<(), Error> {
        let any = self.servers.iter().any(PostgresServer::survives);
        any.then_some(()).ok_or_else(|| Error::State("no replica runs that could become the primary".to_owned()))
    }

    async fn promote(&self, index: usize) -> Result<(), Error> {
        let server = &self.servers[index];
        if server.ask::<bool>("SELECT pg_is_in_recovery()").await? {
            server.execute("SELECT pg_promote(false)").await?;
        }
        until(&format!("{} to be promoted", server.place.name), Duration::from_secs(120), async || {
            match server.ask::<bool>("SELECT pg_is_in_recovery()").await {
                Ok(false) => Ok(()),
                Ok(true) => Err("it recovers".to_owned()),
                Err(error) => Err(error.to_string()),
            }
        })
        .await
    }
}

impl PostgresServer {
    fn survives(&self) -> bool {
        self.place.role == Role::Replica && !self.is_fenced() && self.is_alive()
    }
}
