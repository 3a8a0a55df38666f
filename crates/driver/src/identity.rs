//! Whose directory it is, and which life this is.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use quorate_transport::{ClusterId, Incarnation, NodeId};
use thiserror::Error;

const NAME: &str = "identity";

/// A node's durable identity, kept in its data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// This life: one more than the last that began here, of a directory that is told apart from
    /// any that the node had before.
    pub incarnation: Incarnation,
}

/// Why a data directory cannot be used. It is unchanged.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The directory belongs to another node or cluster: the caller's fault.
    #[error("{path} belongs to {} of {}, not to {node} of {cluster}", .found.node, .found.cluster,
        path = .path.display())]
    Other {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: Identity,
        /// Who asked.
        node: NodeId,
        /// Of which cluster.
        cluster: ClusterId,
    },
    /// The identity file is not one.
    #[error("{path} is not an identity file", path = .0.display())]
    Malformed(PathBuf),
    /// The disk failed.
    #[error("{path}: {source}", path = .path.display())]
    Disk {
        /// Which file or directory.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
}

impl Identity {
    /// Begins a new life of `node` in `directory`, which is made if it is missing. The new
    /// incarnation is durable when this returns.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn begin(
        directory: &Path,
        cluster: ClusterId,
        node: NodeId,
    ) -> Result<Self, IdentityError> {
        let path = directory.join(NAME);
        let disk = |source| IdentityError::Disk { path: path.clone(), source };
        fs::create_dir_all(directory).map_err(disk)?;
        let last = match fs::read_to_string(&path) {
            Ok(text) => {
                let found = parse(&text).ok_or_else(|| IdentityError::Malformed(path.clone()))?;
                if (found.node, found.cluster) != (node, cluster) {
                    let path = directory.to_path_buf();
                    return Err(IdentityError::Other { path, found, node, cluster });
                }
                found.incarnation
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Incarnation::of(birth(directory).map_err(disk)?, 0)
            }
            Err(error) => return Err(disk(error)),
        };
        // A life after the last there can be means that the file is not what was written.
        let next = last.life().checked_add(1);
        let next = next.ok_or_else(|| IdentityError::Malformed(path.clone()))?;
        let incarnation = Incarnation::of(last.birth(), next);
        let identity = Self { cluster, node, incarnation };
        identity.write(directory, &path).map_err(disk)?;
        Ok(identity)
    }

    fn write(&self, directory: &Path, path: &Path) -> io::Result<()> {
        let fresh = directory.join("identity.new");
        let mut file = fs::File::create(&fresh)?;
        let Self { cluster, node, incarnation } = self;
        writeln!(file, "cluster {}\nnode {}\nincarnation {}", cluster.0, node.0, incarnation.0)?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        fs::File::open(directory)?.sync_all()
    }
}

/// When a directory is first used, in seconds, as its file system has it: no two directories that a
/// node of one name ever has are alike, and later ones are greater.
fn birth(directory: &Path) -> io::Result<u32> {
    let probe = directory.join("identity.new");
    let made = fs::File::create(&probe)?.metadata()?.modified()?;
    let since = made.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(u32::try_from(since.as_secs()).unwrap_or(u32::MAX).max(1))
}

/// What an identity file says, if it is one and whole.
pub(crate) fn parse(text: &str) -> Option<Identity> {
    let mut lines = text.split_inclusive('\n');
    let mut number = |name: &str| -> Option<u64> {
        lines.next()?.strip_prefix(name)?.strip_suffix('\n')?.parse().ok()
    };
    let cluster = ClusterId(number("cluster ")?);
    let node = NodeId(number("node ")?);
    let incarnation = Incarnation(number("incarnation ")?);
    lines.next().is_none().then_some(Identity { cluster, node, incarnation })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_life_is_later_than_the_last_and_others_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let begin =
            |cluster, node| Identity::begin(directory.path(), ClusterId(cluster), NodeId(node));
        let (first, second) = (begin(7, 1).unwrap(), begin(7, 1).unwrap());
        assert_eq!((first.incarnation.life(), second.incarnation.life()), (1, 2));
        assert_eq!(first.incarnation.birth(), second.incarnation.birth());
        assert!(first.incarnation.birth() > 1_600_000_000, "when it was made");
        assert!(matches!(begin(8, 1), Err(IdentityError::Other { .. })));
        assert!(matches!(begin(7, 2), Err(IdentityError::Other { .. })));
        let cut = "cluster 7\nnode 1\nincarnation 1";
        let last = format!("cluster 7\nnode 1\nincarnation {}\n", u64::MAX);
        for text in ["hello", cut, &last] {
            fs::write(directory.path().join(NAME), text).unwrap();
            assert!(matches!(begin(7, 1), Err(IdentityError::Malformed(_))), "{text}");
        }
    }
}
