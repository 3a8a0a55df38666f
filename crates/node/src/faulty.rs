//! A real directory that fails on command, for tests of the whole server.
//!
//! What is not synced stays in this process as the operating system would keep it in its own
//! memory, so that a SIGKILL does to the node what a power cut does. Names are durable the same
//! way: files are numbered, and `names` says which number has which name, as of the last sync of
//! the directory. Which faults there are is read from a file before every call.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_transport::Rng;
use quorate_wal::{Disk, DiskFile, RealDisk, RealFile};
use rustix::io::Errno;

const NAMES: &str = "names";
const NAMES_NEW: &str = "names.new";
const FILE: &str = "file-";
/// How often a stalled disk looks whether it may go on.
const STALL_EVERY: Duration = Duration::from_millis(10);

/// What is wrong with the disk, as the words of the control file say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// `lose`: a SIGKILL loses what is not synced. Without this it loses nothing.
    lose: bool,
    /// `torn`: as `lose`, but any part of it may have reached the disk.
    torn: bool,
    /// `phantom`: as `lose`, and a sync reports success and does nothing. No disk may do that; the
    /// node cannot keep its promises on it.
    phantom: bool,
    /// `sync-error`: a sync fails, and what was not synced is lost.
    sync_error: bool,
    /// `write-error`: a write fails.
    write_error: bool,
    /// `full`: a write fails for lack of space, a new file too.
    full: bool,
    /// `stall`: a sync does not return.
    stall: bool,
    /// `slow`: a sync takes this many milliseconds more than it would.
    slow_ms: u64,
}

impl Faults {
    /// The faults of these words; a word that is none is passed over.
    pub(crate) fn parse(text: &str) -> Self {
        let mut faults = Self::default();
        for word in text.split_whitespace() {
            match word {
                "lose" => faults.lose = true,
                "torn" => faults.torn = true,
                "phantom" => faults.phantom = true,
                "sync-error" => faults.sync_error = true,
                "write-error" => faults.write_error = true,
                "full" => faults.full = true,
                "stall" => faults.stall = true,
                _ => {
                    let millis = word.strip_prefix("slow-ms=").and_then(|ms| ms.parse().ok());
                    faults.slow_ms = millis.unwrap_or(faults.slow_ms);
                }
            }
        }
        faults
    }

    fn keeps_back(self) -> bool {
        self.lose || self.torn || self.phantom
    }
}

/// One directory, as the node sees it, over a directory of numbered files.
pub(crate) struct FaultyDisk {
    shared: Arc<Shared>,
}

struct Shared {
    disk: RealDisk,
    control: PathBuf,
    state: Mutex<State>,
}

struct State {
    /// As the node sees them.
    names: BTreeMap<String, u64>,
    files: BTreeMap<u64, Arc<Inode>>,
    next: u64,
    rng: Rng,
}

struct Inode {
    file: RealFile,
    /// Written and not synced, in order.
    unsynced: Mutex<Vec<(u64, Vec<u8>)>>,
}

impl FaultyDisk {
    /// The disk in a directory, and the file that says what is wrong with it; where there is no
    /// such file nothing is. What an earlier process had not synced is gone.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn open(directory: PathBuf, control: PathBuf) -> io::Result<Self> {
        let disk = RealDisk::open(directory)?;
        let there = disk.list()?;
        let mut names = BTreeMap::new();
        if there.iter().any(|name| name == NAMES) {
            let file = disk.open(NAMES)?;
            let mut text = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
            file.read_at(0, &mut text)?;
            for line in String::from_utf8_lossy(&text).lines() {
                if let Some((number, name)) = line.split_once(' ') {
                    names.insert(name.to_owned(), number.parse().map_err(io::Error::other)?);
                }
            }
        }
        let number = |name: &String| name.strip_prefix(FILE)?.parse::<u64>().ok();
        let next = there.iter().filter_map(number).max().map_or(0, |last| last + 1);
        let state = State { names, files: BTreeMap::new(), next, rng: Rng::new(next) };
        let shared = Shared { disk, control, state: Mutex::new(state) };
        shared.remove_unnamed(&lock(&shared.state))?;
        Ok(Self { shared: Arc::new(shared) })
    }
}

impl Shared {
    fn faults(&self) -> Faults {
        std::fs::read_to_string(&self.control)
            .map_or(Faults::default(), |text| Faults::parse(&text))
    }

    fn inode(&self, state: &mut State, number: u64) -> io::Result<Arc<Inode>> {
        if let Some(known) = state.files.get(&number) {
            return Ok(Arc::clone(known));
        }
        let file = self.disk.open(&format!("{FILE}{number}"))?;
        let inode = Arc::new(Inode { file, unsynced: Mutex::default() });
        state.files.insert(number, Arc::clone(&inode));
        Ok(inode)
    }

    /// Makes the names durable at once, as one rename does.
    fn keep_names(&self, state: &State) -> io::Result<()> {
        let line = |(name, number): (&String, &u64)| format!("{number} {name}\n");
        let text: String = state.names.iter().map(line).collect();
        let file = self.disk.create(NAMES_NEW, 0)?;
        file.write_at(0, &[IoSlice::new(text.as_bytes())])?;
        file.sync()?;
        self.disk.rename(NAMES_NEW, NAMES)?;
        self.disk.sync_dir()?;
        self.remove_unnamed(state)
    }

    fn remove_unnamed(&self, state: &State) -> io::Result<()> {
        for name in self.disk.list()? {
            let number = name.strip_prefix(FILE).and_then(|number| number.parse::<u64>().ok());
            if number.is_some_and(|number| !state.names.values().any(|named| *named == number)) {
                self.disk.remove(&name)?;
            }
        }
        Ok(())
    }

    /// A name has changed: durable now where nothing is lost, else at the next sync.
    fn renamed(&self, state: &State) -> io::Result<()> {
        if self.faults().keeps_back() { Ok(()) } else { self.keep_names(state) }
    }
}

impl Disk for FaultyDisk {
    type File = FaultyFile;
    type Lock = std::fs::File;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(lock(&self.shared.state).names.keys().cloned().collect())
    }

    fn create(&self, name: &str, len: u64) -> io::Result<FaultyFile> {
        let faults = self.shared.faults();
        if faults.full {
            return Err(Errno::NOSPC.into());
        }
        if faults.write_error {
            return Err(Errno::IO.into());
        }
        let mut state = lock(&self.shared.state);
        let number = state.next;
        state.next += 1;
        let file = self.shared.disk.create(&format!("{FILE}{number}"), len)?;
        let inode = Arc::new(Inode { file, unsynced: Mutex::default() });
        state.files.insert(number, Arc::clone(&inode));
        if let Some(before) = state.names.insert(name.to_owned(), number) {
            state.files.remove(&before);
        }
        self.shared.renamed(&state)?;
        Ok(FaultyFile { inode, shared: Arc::clone(&self.shared) })
    }

    fn open(&self, name: &str) -> io::Result<FaultyFile> {
        let mut state = lock(&self.shared.state);
        let number = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        let inode = self.shared.inode(&mut state, number)?;
        Ok(FaultyFile { inode, shared: Arc::clone(&self.shared) })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = lock(&self.shared.state);
        let number = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        if let Some(before) = state.names.insert(to.to_owned(), number) {
            state.files.remove(&before);
        }
        self.shared.renamed(&state)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = lock(&self.shared.state);
        let number = state.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        state.files.remove(&number);
        self.shared.renamed(&state)
    }

    fn sync_dir(&self) -> io::Result<()> {
        let faults = self.shared.faults();
        match faults {
            Faults { sync_error: true, .. } => Err(Errno::IO.into()),
            Faults { phantom: true, .. } => Ok(()),
            _ => self.shared.keep_names(&lock(&self.shared.state)),
        }
    }

    fn lock(&self) -> io::Result<Self::Lock> {
        self.shared.disk.lock()
    }
}

/// One open file.
pub(crate) struct FaultyFile {
    inode: Arc<Inode>,
    shared: Arc<Shared>,
}

impl DiskFile for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        let unsynced = lock(&self.inode.unsynced);
        let ends = unsynced.iter().map(|(at, bytes)| at + bytes.len() as u64);
        Ok(ends.fold(self.inode.file.len()?, u64::max))
    }

    fn write_at(&self, offset: u64, bufs: &[IoSlice<'_>]) -> io::Result<()> {
        let faults = self.shared.faults();
        if faults.full {
            return Err(Errno::NOSPC.into());
        }
        if faults.write_error {
            return Err(Errno::IO.into());
        }
        let mut unsynced = lock(&self.inode.unsynced);
        if !faults.keeps_back() {
            self.inode.write_unsynced(&mut unsynced)?;
            return self.inode.file.write_at(offset, bufs);
        }
        let bytes: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        if faults.torn {
            let mut state = lock(&self.shared.state);
            let from = state.rng.below(bytes.len() as u64 + 1) as usize;
            let until = from + state.rng.below((bytes.len() - from) as u64 + 1) as usize;
            self.inode.file.write_at(offset + from as u64, &[IoSlice::new(&bytes[from..until])])?;
        }
        unsynced.push((offset, bytes));
        Ok(())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if offset + buf.len() as u64 > self.len()? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let unsynced = lock(&self.inode.unsynced);
        let there = self.inode.file.len()?.saturating_sub(offset).min(buf.len() as u64) as usize;
        self.inode.file.read_at(offset, &mut buf[..there])?;
        buf[there..].fill(0);
        let end = offset + buf.len() as u64;
        for (at, bytes) in unsynced.iter() {
            let (from, until) = (offset.max(*at), end.min(at + bytes.len() as u64));
            if from < until {
                let part = &bytes[(from - at) as usize..(until - at) as usize];
                buf[(from - offset) as usize..(until - offset) as usize].copy_from_slice(part);
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        pause(Duration::from_millis(self.shared.faults().slow_ms));
        while self.shared.faults().stall {
            pause(STALL_EVERY);
        }
        let faults = self.shared.faults();
        let mut unsynced = lock(&self.inode.unsynced);
        if faults.sync_error {
            unsynced.clear();
            return Err(Errno::IO.into());
        }
        if faults.phantom {
            return Ok(());
        }
        self.inode.write_unsynced(&mut unsynced)?;
        self.inode.file.sync()
    }
}

impl Inode {
    fn write_unsynced(&self, unsynced: &mut Vec<(u64, Vec<u8>)>) -> io::Result<()> {
        for (at, bytes) in unsynced.drain(..) {
            self.file.write_at(at, &[IoSlice::new(&bytes)])?;
        }
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "a disk that is slow holds its caller's thread up")]
fn pause(time: Duration) {
    if !time.is_zero() {
        std::thread::sleep(time);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new(faults: &str) -> Self {
            let place = Self(tempfile::tempdir().unwrap());
            place.say(faults);
            place
        }

        fn say(&self, faults: &str) {
            std::fs::write(self.0.path().join("faults"), faults).unwrap();
        }

        /// As the next process finds it after a SIGKILL: the former one's memory is gone.
        fn open(&self) -> FaultyDisk {
            FaultyDisk::open(self.0.path().join("disk"), self.0.path().join("faults")).unwrap()
        }
    }

    fn write(file: &FaultyFile, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (one, two) = bytes.split_at(bytes.len() / 2);
        file.write_at(offset, &[IoSlice::new(one), IoSlice::new(two)])
    }

    fn read(file: &FaultyFile) -> Vec<u8> {
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(0, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_is_not_synced_is_read_and_lost_and_what_is_synced_stays() {
        let place = Place::new("lose");
        let disk = place.open();
        let file = disk.create("a", 4).unwrap();
        write(&file, 0, b"1234").unwrap();
        file.sync().unwrap();
        disk.sync_dir().unwrap();
        write(&file, 2, b"xyz").unwrap();
        disk.create("b", 1).unwrap();
        disk.rename("a", "c").unwrap();
        assert_eq!(read(&disk.open("c").unwrap()), b"12xyz");
        assert_eq!(disk.list().unwrap(), ["b", "c"]);

        let disk = place.open();
        assert_eq!(disk.list().unwrap(), ["a"]);
        assert_eq!(read(&disk.open("a").unwrap()), b"1234");
        disk.rename("a", "c").unwrap();
        disk.sync_dir().unwrap();
        assert_eq!(read(&place.open().open("c").unwrap()), b"1234");
    }

    #[test]
    fn without_a_fault_a_kill_loses_nothing() {
        let place = Place::new("");
        let disk = place.open();
        write(&disk.create("a", 0).unwrap(), 0, b"12").unwrap();
        disk.create("b", 0).unwrap();
        disk.remove("b").unwrap();
        let disk = place.open();
        assert_eq!(disk.list().unwrap(), ["a"]);
        assert_eq!(read(&disk.open("a").unwrap()), b"12");
    }

    #[test]
    fn a_phantom_sync_reports_success_and_keeps_nothing() {
        let place = Place::new("");
        let disk = place.open();
        let file = disk.create("a", 4).unwrap();
        place.say("phantom");
        write(&file, 0, b"1234").unwrap();
        file.sync().unwrap();
        assert_eq!(read(&file), b"1234");
        assert_eq!(read(&place.open().open("a").unwrap()), [0; 4]);
    }

    #[test]
    fn errors_are_the_ones_asked_for() {
        let place = Place::new("");
        let disk = place.open();
        let file = disk.create("a", 4).unwrap();
        for (faults, errno) in [("full", Errno::NOSPC), ("write-error", Errno::IO)] {
            place.say(faults);
            assert_eq!(
                write(&file, 0, b"12").unwrap_err().raw_os_error(),
                Some(errno.raw_os_error())
            );
            assert!(disk.create("b", 1).is_err());
        }
        place.say("lose");
        write(&file, 0, b"12").unwrap();
        place.say("sync-error");
        assert!(file.sync().is_err() && disk.sync_dir().is_err());
        place.say("");
        file.sync().unwrap();
        assert_eq!(read(&file), [0; 4], "what a sync could not keep is gone");
    }

    #[test]
    fn a_torn_write_reaches_the_disk_in_part() {
        let place = Place::new("");
        let disk = place.open();
        let file = disk.create("a", 1000).unwrap();
        place.say("torn");
        let parts = (0..20).map(|_| {
            write(&file, 0, &[7; 1000]).unwrap();
            let mut there = vec![0; 1000];
            file.inode.file.read_at(0, &mut there).unwrap();
            file.inode.file.write_at(0, &[IoSlice::new(&[0; 1000])]).unwrap();
            there.iter().filter(|byte| **byte == 7).count()
        });
        let parts: Vec<_> = parts.collect();
        assert!(parts.iter().any(|part| (1..1000).contains(part)), "{parts:?}");
        assert_eq!(read(&file), [7; 1000]);
    }

    #[test]
    fn words_are_faults_and_others_are_passed_over() {
        let faults = Faults::parse("stall slow-ms=20 nonsense\n");
        assert_eq!(faults, Faults { stall: true, slow_ms: 20, ..Faults::default() });
    }
}
