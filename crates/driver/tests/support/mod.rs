//! A disk whose next call can fail, a machine that does as it is told, and a node of both.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use quorate_driver::{Driver, Handle, Options, Setup, StartError};
use quorate_transport::mem::{Network, NetworkOptions};
use quorate_transport::{
    Decoder, Digest, Encoder, Incarnation, Input, Key, Machine, NodeId, Outbox, Peer, Rename,
    RequestId, SnapshotId, Start, StoreOp, Stored, Ticket, Time, Wire, WireError, Work, crc32c,
};
use quorate_wal::{Disk, DiskFile, SimDisk};

/// A call of a disk that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Write,
    Sync,
    Rename,
}

#[derive(Debug, Default)]
struct Plan {
    next: Mutex<Option<Call>>,
    struck: AtomicBool,
    /// Writes and syncs that came after the one that failed.
    after: AtomicU64,
}

/// A simulated disk that fails as planned, and counts what is tried after that.
#[derive(Clone, Debug)]
pub(crate) struct FaultyDisk {
    inner: SimDisk,
    plan: Arc<Plan>,
}

impl FaultyDisk {
    pub(crate) fn new() -> Self {
        Self { inner: SimDisk::new(1), plan: Arc::default() }
    }

    /// The next such call fails.
    pub(crate) fn fail(&self, call: Call) {
        *self.plan.next.lock().unwrap() = Some(call);
    }

    /// Whether the failure has struck, and how many writes and syncs came after it.
    pub(crate) fn struck(&self) -> (bool, u64) {
        (self.plan.struck.load(Ordering::SeqCst), self.plan.after.load(Ordering::SeqCst))
    }
}

impl Plan {
    fn check(&self, call: Call) -> io::Result<()> {
        if self.struck.load(Ordering::SeqCst) {
            self.after.fetch_add(1, Ordering::SeqCst);
        }
        if self.next.lock().unwrap().take_if(|next| *next == call).is_some() {
            self.struck.store(true, Ordering::SeqCst);
            return Err(io::Error::other("as the test wants it"));
        }
        Ok(())
    }
}

impl Disk for FaultyDisk {
    type File = FaultyFile;
    type Lock = <SimDisk as Disk>::Lock;

    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }
    fn create(&self, name: &str, len: u64) -> io::Result<FaultyFile> {
        Ok(FaultyFile { inner: self.inner.create(name, len)?, plan: Arc::clone(&self.plan) })
    }
    fn open(&self, name: &str) -> io::Result<FaultyFile> {
        Ok(FaultyFile { inner: self.inner.open(name)?, plan: Arc::clone(&self.plan) })
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.plan.check(Call::Rename)?;
        self.inner.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }
    fn sync_dir(&self) -> io::Result<()> {
        self.inner.sync_dir()
    }
    fn lock(&self) -> io::Result<Self::Lock> {
        self.inner.lock()
    }
}

pub(crate) struct FaultyFile {
    inner: <SimDisk as Disk>::File,
    plan: Arc<Plan>,
}

impl DiskFile for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn write_at(&self, offset: u64, bufs: &[io::IoSlice<'_>]) -> io::Result<()> {
        self.plan.check(Call::Write)?;
        self.inner.write_at(offset, bufs)
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.inner.read_at(offset, buf)
    }
    fn sync(&self) -> io::Result<()> {
        self.plan.check(Call::Sync)?;
        // A sync takes long, and much happens meanwhile.
        #[cfg(shuttle)]
        (0..16).for_each(|_| shuttle::thread::yield_now());
        self.inner.sync()
    }
}

/// A number, as message, record and event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word(pub(crate) u64);

impl Wire for Word {
    fn encode(&self, to: &mut Encoder<'_>) {
        to.value(&self.0);
    }
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        from.value("word").map(Self)
    }
}

#[derive(Debug)]
pub(crate) enum Ask {
    /// Persist a number; answered with its ticket once that is durable.
    Write(u64),
    /// Answered at once with all numbers.
    Read,
    /// So many events, then an answer.
    Shout(u64),
    /// Keep a snapshot; answered with whether the store has it.
    Save,
    /// Hand over work that waits for a number, and is answered with it; 0 makes it panic.
    #[cfg_attr(shuttle, expect(dead_code, reason = "tokio's own threads are not modelled"))]
    Work(Gate),
    Halt,
}

/// Where work waits for a number.
pub(crate) type Gate = Arc<Mutex<std::sync::mpsc::Receiver<u64>>>;

fn wait((id, gate): (RequestId, Gate)) -> (RequestId, u64) {
    let number = gate.lock().unwrap().recv().unwrap();
    assert_ne!(number, 0, "as the test wants it");
    (id, number)
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Ticket(u64),
    All(Vec<u64>),
    Saved(bool),
}

/// Writes down what it is told.
#[derive(Clone)]
pub(crate) struct Clerk {
    numbers: Vec<u64>,
    saving: Option<RequestId>,
}

impl Clerk {
    pub(crate) fn count(&self) -> usize {
        self.numbers.len()
    }
}

impl Machine for Clerk {
    type Config = ();
    type Error = WireError;
    type Message = Word;
    type Record = Word;
    type Request = Ask;
    type Reply = Told;
    type Event = Word;

    fn new(_: Start, (): ()) -> Result<Self, WireError> {
        Ok(Self { numbers: Vec::new(), saving: None })
    }

    fn replay(&mut self, _: Ticket, record: Word) -> Result<(), WireError> {
        self.numbers.push(record.0);
        Ok(())
    }

    fn handle(&mut self, _: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        match input {
            Input::Request { id, request: Ask::Write(number) } => {
                self.numbers.push(number);
                let ticket = out.persist(Word(number));
                out.answer(id, Told::Ticket(ticket.0));
            }
            Input::Request { id, request: Ask::Read } => {
                out.answer_eager(id, Told::All(self.numbers.clone()));
            }
            Input::Request { id, request: Ask::Shout(count) } => {
                (0..count).for_each(|number| out.emit_eager(Word(number)));
                out.answer_eager(id, Told::All(Vec::new()));
            }
            Input::Request { id, request: Ask::Save } => {
                let name = SnapshotId { index: id.0 + 1, term: 1 };
                let bytes = Bytes::from_static(b"all of it");
                let (len, checksum) = (bytes.len() as u64, crc32c(&bytes));
                self.saving = Some(id);
                out.store(StoreOp::Write { id: name, offset: 0, bytes });
                out.store(StoreOp::Finish { id: name, len, checksum });
            }
            Input::Request { id, request: Ask::Work(gate) } => {
                out.work(Work::new((id, gate), wait));
            }
            Input::Worked(worked) => {
                let (id, number): (RequestId, u64) = *worked.take().expect("its own work");
                out.answer_eager(id, Told::All(vec![number]));
            }
            Input::Request { request: Ask::Halt, .. } => out.halt("a rule", "a reason"),
            Input::Stored(stored) => {
                let (Stored::Finished { id: name }
                | Stored::Failed { id: name, .. }
                | Stored::Chunk { id: name, .. }) = stored;
                // What failed when it was written fails again when it is finished.
                if let Some(id) = self.saving.take_if(|id| id.0 + 1 == name.index) {
                    let saved = matches!(stored, Stored::Finished { .. });
                    out.answer_eager(id, Told::Saved(saved));
                }
            }
            _ => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        None
    }

    fn digest(&self, _: Time, _: &Rename, _: &mut Digest) {}
}

/// The disks of a node, which outlive it.
pub(crate) struct Disks {
    pub(crate) journal: FaultyDisk,
    pub(crate) snapshots: FaultyDisk,
    /// The second machine of each life.
    pub(crate) others: Mutex<Vec<Handle<Clerk>>>,
}

impl Disks {
    pub(crate) fn new() -> Self {
        Self { journal: FaultyDisk::new(), snapshots: FaultyDisk::new(), others: Mutex::default() }
    }

    /// As they are now, less what is not synced.
    #[cfg(shuttle)]
    pub(crate) fn after_power_loss(&self, seed: u64) -> Self {
        let lost = |disk: &FaultyDisk| {
            let inner = disk.inner.fork(seed);
            inner.power_loss(seed);
            FaultyDisk { inner, plan: Arc::default() }
        };
        let (journal, snapshots) = (lost(&self.journal), lost(&self.snapshots));
        Self { journal, snapshots, others: Mutex::default() }
    }

    /// Starts a life of a node on them.
    pub(crate) fn start(
        &self,
        incarnation: u64,
        options: Options,
    ) -> Result<(Driver, Handle<Clerk>), StartError> {
        let (me, mut setup) = self.open(incarnation, options)?;
        let handle = setup.add::<Clerk>(Key::new(9, 0), ())?;
        self.run(me, setup, handle)
    }

    /// Starts their first life, whose first machine is listened to.
    #[cfg(not(shuttle))]
    pub(crate) fn start_with(
        &self,
        options: Options,
        listen: impl FnMut(Word, &mut Vec<Ask>) + Send + 'static,
    ) -> Result<(Driver, Handle<Clerk>), StartError> {
        let (me, mut setup) = self.open(1, options)?;
        let handle = setup.add_with::<Clerk>(Key::new(9, 0), (), listen)?;
        self.run(me, setup, handle)
    }

    fn open(
        &self,
        incarnation: u64,
        options: Options,
    ) -> Result<(Peer, Setup<FaultyDisk>), StartError> {
        let me = Peer { node: NodeId(1), incarnation: Incarnation(incarnation) };
        let (journal, snapshots) = (self.journal.clone(), self.snapshots.clone());
        Ok((me, Setup::open(me, 1, journal, snapshots, options)?))
    }

    fn run(
        &self,
        me: Peer,
        mut setup: Setup<FaultyDisk>,
        handle: Handle<Clerk>,
    ) -> Result<(Driver, Handle<Clerk>), StartError> {
        self.others.lock().unwrap().push(setup.add::<Clerk>(Key::new(9, 1), ())?);
        let network = Network::new(NetworkOptions::default());
        Ok((setup.run(Arc::new(network.join(me)))?, handle))
    }
}
