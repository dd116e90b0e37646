//! Certificates from files, which are read at the start, and again when they change. No connection is closed for that.

use super::certificate::{AtFault, Certificate, CertificateError};
use super::certificates::Certificates;
use crate::config::TlsSettings;
use sha2::{Digest, Sha256};
use std::io;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;
use tokio::time::timeout;

/// The interval at which the files are checked for changes.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// A larger file is refused before it is read.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The error of a pair of files: the setting, the file, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{setting}: {}: cannot be read: {error}", path.display())]
    Unreadable {
        /// `tls.certificate` or `tls.key`.
        setting: &'static str,
        /// Which file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// It cannot be served.
    #[error("{setting}: {}: {error}", path.display())]
    Unusable {
        /// `tls.certificate` or `tls.key`.
        setting: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        error: CertificateError,
    },
}

/// A certificate's file and its key's.
#[derive(Debug)]
struct Pair {
    certificate: PathBuf,
    key: PathBuf,
    /// The metadata of the files when they were last read completely.
    stamps: Option<[Stamp; 2]>,
    hash: Option<[u8; 32]>,
}

/// The metadata that changes with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    len: u64,
    /// A file that is replaced by renaming, as certbot and Kubernetes do, has another inode.
    inode: u64,
}

/// The pairs of files that the settings name, in the order of their places in [`Certificates`], from 0 on.
#[derive(Debug)]
pub(super) struct Files(Vec<Pair>);

impl Files {
    /// Reads all pairs. An expired certificate is an error here: the operator who starts the relay should find it
    /// before clients do.
    ///
    /// # Errors
    /// The first pair that cannot be served.
    pub(super) fn load(settings: &TlsSettings, certificates: &Certificates) -> Result<Self, FileError> {
        let pairs = settings.certificate.iter().zip(&settings.key);
        let pair = |(certificate, key): (&PathBuf, &PathBuf)| Pair {
            certificate: certificate.clone(),
            key: key.clone(),
            stamps: None,
            hash: None,
        };
        let mut files = Self(pairs.map(pair).collect());
        for (place, pair) in files.0.iter_mut().enumerate() {
            // Taken before the files are read: files that change meanwhile are read again at the first look.
            pair.stamps = pair.stamps().ok();
            let (certificate, hash) = pair.read()?;
            pair.hash = Some(hash);
            certificates.set(place, certificate);
        }
        Ok(files)
    }

    /// Checks the files every few seconds, and at once when `now` is notified. Never ends; to be spawned as a task.
    pub(super) async fn watch(mut self, certificates: Arc<Certificates>, now: Arc<Notify>) {
        // The last refused pair at each place, so that it is logged once and not at every look.
        let mut refused: Vec<Option<Refused>> = self.0.iter().map(|_| None).collect();
        loop {
            let is_asked = timeout(LOOK_INTERVAL, now.notified()).await.is_ok();
            let certificates = certificates.clone();
            let looked = tokio::task::spawn_blocking(move || {
                for (place, pair) in self.0.iter_mut().enumerate() {
                    if let Some(refused) = refused.get_mut(place) {
                        pair.look(place, &certificates, refused, is_asked);
                    }
                }
                (self, refused)
            });
            match looked.await {
                Ok(back) => (self, refused) = back,
                // It has taken the files with it: only a start reads them again.
                Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
                // The runtime ends.
                Err(_) => return,
            }
        }
    }
}

/// The last error of a pair, and whether it was logged.
#[derive(Debug)]
struct Refused {
    words: String,
    is_said: bool,
}

impl Pair {
    fn stamps(&self) -> io::Result<[Stamp; 2]> {
        Ok([stamp(&self.certificate)?, stamp(&self.key)?])
    }

    /// Reads both files. The hash covers both, whether or not they can be served.
    fn read(&self) -> Result<(Certificate, [u8; 32]), FileError> {
        let (chain, key) = (read("tls.certificate", &self.certificate)?, read("tls.key", &self.key)?);
        let hash = Sha256::new().chain_update(&chain).chain_update([0]).chain_update(&key).finalize().into();
        let certificate = Certificate::from_pem(&chain, &key);
        let certificate = certificate.and_then(|certificate| certificate.check_time().map(|()| certificate));
        let certificate = certificate.map_err(|error| match error.at_fault() {
            AtFault::Chain => FileError::Unusable { setting: "tls.certificate", path: self.certificate.clone(), error },
            AtFault::Key => FileError::Unusable { setting: "tls.key", path: self.key.clone(), error },
        })?;
        Ok((certificate, hash))
    }

    /// Reads the pair again if it has changed, or if the operator asks, and serves it if it can be served. Two files
    /// cannot be replaced at the same moment: a pair that does not fit is refused only when the next look finds the
    /// same.
    fn look(&mut self, place: usize, certificates: &Certificates, refused: &mut Option<Refused>, is_asked: bool) {
        let stamps = self.stamps().ok();
        if stamps.is_some() && stamps == self.stamps && refused.is_none() && !is_asked {
            return;
        }
        match self.read() {
            Ok((certificate, hash)) => {
                self.stamps = stamps;
                *refused = None;
                if self.hash == Some(hash) {
                    return;
                }
                self.hash = Some(hash);
                let (name, expires) = (certificate.name().to_owned(), certificate.expires());
                certificates.set(place, certificate);
                tracing::info!(name, expires, file = %self.certificate.display(), "a new certificate is served");
            }
            Err(error) => {
                let words = error.to_string();
                let is_same = refused.as_ref().is_some_and(|refused| refused.words == words);
                let was_said = is_same && refused.as_ref().is_some_and(|refused| refused.is_said);
                let say = !was_said && (is_same || is_asked);
                if say {
                    let old = certificates.get(place);
                    let expires = old.map_or_else(|| "never".to_owned(), |old| old.expires());
                    tracing::error!(expires, "the new certificate is refused, the old one stays: {words}");
                }
                *refused = Some(Refused { words, is_said: was_said || say });
            }
        }
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path)?;
    Ok(Stamp { modified: metadata.modified().ok(), len: metadata.len(), inode: metadata.ino() })
}

fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, FileError> {
    let unreadable = |error| FileError::Unreadable { setting, path: path.to_owned(), error };
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
        return Err(unreadable(io::Error::other("it is no file of at most 1 MiB")));
    }
    std::fs::read(path).map_err(unreadable)
}
