//! The thirteen schedules that break the bully algorithm, each played on both elections: the bully
//! breaks in the way that is written beside it, the lease holds.

#[path = "support/stage.rs"]
mod stage;

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_election::{
    Bully, Config, Event, LeaseGuard, Lost, Message, QuorumLease, Request, Term, Token, bully,
};
use quorate_sim::script::{Crash, Script};
use quorate_transport::{
    Cell, Halt, Incarnation, Input, Machine, NodeId, Peer, RequestId, RequestRange, Sink, Start,
    StoreOp, Ticket, Time,
};
use stage::{
    Bullies, Leases, MS, N1, N2, N3, N4, N5, N6, announcing, bullies, coordinators, guard, holders,
    leases, led_bullies, led_leases, live,
};

const SECOND: Duration = Duration::from_secs(1);

/// What becomes of the bully.
#[derive(Debug, PartialEq, Eq)]
enum Broken {
    /// Both believe that they lead, and go on so.
    TwoLead(NodeId, NodeId),
    /// Both announced themselves in one term.
    OneTerm(Term, NodeId, NodeId),
    /// A live node follows a dead one, with no wait that would end it.
    FollowsDead(NodeId),
    /// A node leads in a term that is below one it led in before.
    TermFell(Term, Term),
    /// An election took this many messages where this many would do.
    Storm(u64, u64),
    /// So often a leader was deposed that nothing was wrong with.
    Preempted(u64),
}

struct Row {
    schedule: &'static str,
    bully: fn() -> Broken,
    broken: Broken,
    /// Fails by itself unless the lease holds.
    lease: fn(),
}

#[test]
fn the_bully_breaks_in_thirteen_schedules_and_the_lease_in_none() {
    let rows = rows();
    assert_eq!(rows.len(), 13);
    for Row { schedule, bully, broken, lease } in rows {
        assert_eq!(bully(), broken, "the bully, {schedule}");
        println!("{schedule}: the bully ends in {broken:?}");
        lease();
    }
}

#[rustfmt::skip]
fn rows() -> [Row; 13] {
    use Broken::{FollowsDead, OneTerm, Preempted, Storm, TermFell, TwoLead};
    [
        Row { schedule: "1 a leader stands still and wakes", bully: paused_bully,
            broken: TwoLead(N2, N3), lease: paused_lease },
        Row { schedule: "2 an answer is slower than any timeout", bully: slow_bully,
            broken: TwoLead(N1, N3), lease: slow_lease },
        Row { schedule: "3 a partition heals", bully: split_bully,
            broken: TwoLead(N3, N5), lease: split_lease },
        Row { schedule: "4 an announcement is overtaken", bully: overtaken_bully,
            broken: FollowsDead(N5), lease: overtaken_lease },
        Row { schedule: "5 two take the same next term", bully: collision_bully,
            broken: OneTerm(Term(2), N2, N4), lease: collision_lease },
        Row { schedule: "6 a leader forgets its term", bully: amnesia_bully,
            broken: TermFell(Term(8), Term(1)), lease: amnesia_lease },
        Row { schedule: "7 one answers and dies", bully: answered_bully,
            broken: Storm(10, 6), lease: answered_lease },
        Row { schedule: "8 the highest node flaps", bully: flapping_bully,
            broken: Preempted(5), lease: flapping_lease },
        Row { schedule: "9 a leader sends and hears nothing", bully: deaf_bully,
            broken: TwoLead(N4, N5), lease: deaf_lease },
        Row { schedule: "10 nodes know different members", bully: lists_bully,
            broken: TwoLead(N4, N6), lease: lists_lease },
        Row { schedule: "11 two processes have one id", bully: double_bully,
            broken: OneTerm(Term(1), N3, N3), lease: double_lease },
        Row { schedule: "12 all start at once", bully: cold_bully,
            broken: Storm(28, 5), lease: cold_lease },
        Row { schedule: "13 a leader's machine is suspended", bully: suspended_bully,
            broken: TwoLead(N2, N3), lease: suspended_lease },
    ]
}

fn two_lead(stage: &Bullies) -> Broken {
    match coordinators(stage)[..] {
        [one, two] => Broken::TwoLead(one, two),
        ref other => panic!("{other:?} lead"),
    }
}

/// The highest of those that still answer wins once its wait is over.
fn elect(stage: &mut Bullies, starter: NodeId, winner: NodeId) {
    stage.request(starter, bully::Request::Elect);
    stage.run();
    while stage.node(winner).advisory().is_none_or(|a| a.leader != winner) {
        stage.timer(winner);
        stage.run();
    }
}

fn sent(stage: &Bullies) -> u64 {
    let up = stage.nodes().filter(|node| stage.is_up(*node));
    let all = up.map(|node| stage.node(node).stats());
    all.map(|s| s.elections_sent + s.answers_sent + s.coordinators_sent).sum()
}

/// A group under the lease, looked at after every step: at most one holds a lease at one time, a
/// term has one leader, and tokens rise.
struct Watched {
    stage: Leases,
    leaders: BTreeMap<Token, NodeId>,
}

impl Watched {
    fn new(stage: Leases) -> Self {
        let mut watched = Self { stage, leaders: BTreeMap::new() };
        look(&watched.stage, &mut watched.leaders);
        watched
    }

    fn step<T>(&mut self, step: impl FnOnce(&mut Leases) -> T) -> T {
        let done = step(&mut self.stage);
        look(&self.stage, &mut self.leaders);
        done
    }

    fn live(&mut self, nodes: &[NodeId], span: Duration) {
        live(&mut self.stage, nodes, span, |stage| look(stage, &mut self.leaders));
    }

    fn holder(&self) -> Option<(NodeId, Token)> {
        let holder = *holders(&self.stage).first()?;
        Some((holder, guard(&self.stage, holder)?.token()))
    }

    /// Takes the messages of this kind out of the network, to be injected later.
    fn hold(&mut self, from: NodeId, to: NodeId) -> Message {
        let flight = self.stage.wire().iter().find(|f| f.from.node == from && f.to == to);
        let message = flight.expect("it is under way").message;
        self.stage.lose(|f| f.from.node == from && f.to == to);
        message
    }
}

fn look(stage: &Leases, leaders: &mut BTreeMap<Token, NodeId>) {
    let holders = holders(stage);
    assert!(holders.len() <= 1, "E5 {holders:?} hold leases at {:?}", stage.now());
    for node in holders {
        let token = guard(stage, node).expect("it holds one").token();
        let first = *leaders.entry(token).or_insert(node);
        assert_eq!(first, node, "E1 {token:?}");
        let newest = leaders.last_key_value().expect("just inserted").0;
        assert_eq!(*newest, token, "E2 an older token holds again");
    }
}

/// What a protected resource does.
#[derive(Default)]
struct Resource(Option<Token>);

impl Resource {
    fn write(&mut self, token: Token) -> bool {
        let accepted = self.0.is_none_or(|greatest| token >= greatest);
        if accepted {
            self.0 = Some(token);
        }
        accepted
    }
}

fn paused_bully() -> Broken {
    let mut stage = led_bullies(3);
    stage.isolate(N3); // it runs on nothing and hears nothing
    elect(&mut stage, N1, N2);
    stage.advance(20 * SECOND);
    stage.heal();
    live(&mut stage, &[N1, N2, N3], 60 * SECOND, |_| ());
    two_lead(&stage)
}

fn paused_lease() {
    let mut play = Watched::new(led_leases(3, N3));
    let (_, before) = play.holder().expect("led");
    play.stage.isolate(N3);
    play.live(&[N1, N2], 20 * SECOND);
    play.stage.heal();
    let (leader, after) = play.holder().expect("the others elected one");
    assert!(leader != N3 && after > before);
    assert_eq!(guard(&play.stage, N3), None, "its lease ended while it stood still");
    play.live(&[N1, N2, N3], 5 * SECOND);
    assert_eq!(play.holder(), Some((leader, after)), "E7 and it deposes nobody");
}

fn slow_bully() -> Broken {
    let mut stage = led_bullies(3);
    stage.request(N1, bully::Request::Elect);
    stage.deliver(N1, N3); // its ANSWER is under way, and late
    stage.timer(N1);
    stage.sync(N1);
    two_lead(&stage)
}

fn slow_lease() {
    let mut play = Watched::new(leases(3));
    play.step(|stage| stage.timer(N1));
    play.step(|stage| stage.deliver(N1, N3));
    play.step(|stage| stage.sync(N3));
    let late = play.hold(N3, N1); // longer than every wait of N1
    play.stage.isolate(N1);
    play.live(&[N3, N2], SECOND);
    play.stage.heal();
    let leader = play.holder();
    assert!(leader.is_some());
    play.step(|stage| stage.inject(N3, N1, late)); // it campaigns in a term that is given away
    play.step(Leases::run);
    play.live(&[N1, N2, N3], SECOND);
    assert_eq!(play.holder(), leader, "an old answer elects nobody");
}

fn split(stage: &mut Script<'static, impl Machine>) {
    for one in [N1, N2, N3] {
        for two in [N4, N5] {
            stage.cut(one, two);
            stage.cut(two, one);
        }
    }
}

fn split_bully() -> Broken {
    let mut stage = led_bullies(5);
    split(&mut stage);
    elect(&mut stage, N1, N3);
    stage.heal();
    live(&mut stage, &[N1, N2, N3, N4, N5], 60 * SECOND, |_| ());
    two_lead(&stage)
}

fn split_lease() {
    let mut play = Watched::new(led_leases(5, N5));
    let all = [N1, N2, N3, N4, N5];
    split(&mut play.stage);
    play.live(&all, 5 * SECOND);
    let (leader, token) = play.holder().expect("the majority elects");
    assert!([N1, N2, N3].contains(&leader));
    play.stage.heal();
    play.live(&all, 5 * SECOND);
    assert_eq!(play.holder(), Some((leader, token)));
    for node in all {
        assert_eq!(play.stage.node(node).leader(), Some(leader), "E3 {node}");
    }
}

fn overtaken_bully() -> Broken {
    let mut stage = bullies(5);
    stage.lose(|_| true);
    stage.sync(N5); // leads; the announcement to N1 is late, those to others are lost
    stage.lose(|flight| flight.to != N1);
    stage.crash(N5, Crash::Kill);
    stage.timer(N4);
    stage.sync(N4);
    stage.deliver(N4, N1);
    assert_eq!(stage.node(N1).advisory().map(|a| a.leader), Some(N4));
    stage.deliver(N5, N1);
    assert_eq!(stage.node(N1).deadline(), None, "nothing will change its mind");
    let followed = stage.node(N1).advisory().expect("it follows").leader;
    assert!(!stage.is_up(followed));
    Broken::FollowsDead(followed)
}

fn overtaken_lease() {
    let mut play = Watched::new(led_leases(5, N5));
    play.step(|stage| stage.timer(N5));
    let late = play.hold(N5, N1);
    play.stage.crash(N5, Crash::Kill);
    play.live(&[N1, N2, N3, N4], 5 * SECOND);
    let leader = play.holder();
    play.step(|stage| stage.inject(N5, N1, late));
    assert_eq!(play.stage.node(N1).leader(), leader.map(|(node, _)| node));
    play.live(&[N1, N2, N3, N4], 5 * SECOND);
    assert_eq!(play.holder(), leader);
}

fn collision_bully() -> Broken {
    let mut stage = led_bullies(4);
    stage.crash(N3, Crash::Kill);
    stage.cut(N2, N4);
    stage.cut(N4, N2);
    stage.request(N4, bully::Request::Elect);
    stage.request(N2, bully::Request::Elect);
    stage.timer(N2);
    stage.sync(N2);
    stage.sync(N4);
    let announced = |node| stage.node(node).advisory().filter(|a| a.leader == node).map(|a| a.term);
    let (one, two) = (announced(N2), announced(N4));
    assert_eq!(one, two);
    Broken::OneTerm(one.expect("both lead"), N2, N4)
}

fn collision_lease() {
    let mut play = Watched::new(leases(4));
    play.stage.cut(N2, N4);
    play.stage.cut(N4, N2);
    play.step(|stage| stage.timer(N2));
    play.step(|stage| stage.timer(N4));
    play.step(Leases::run); // both ask for the votes of one term
    play.live(&[N1, N2, N3, N4], 5 * SECOND);
    assert!(play.holder().is_some());
}

fn amnesia_bully() -> Broken {
    let mut stage = led_bullies(5);
    (0..7).for_each(|_| elect(&mut stage, N5, N5));
    let before = stage.node(N5).term();
    stage.crash(N5, Crash::Disk);
    elect(&mut stage, N4, N4);
    stage.start(N5);
    stage.run();
    assert_eq!(stage.node(N4).advisory().map(|a| a.leader), Some(N4), "the highest is ignored");
    let believed = stage.node(N5).advisory().filter(|a| a.leader == N5).expect("it leads");
    Broken::TermFell(before, believed.term)
}

fn amnesia_lease() {
    let mut play = Watched::new(led_leases(5, N5));
    play.stage.crash(N5, Crash::Disk);
    play.live(&[N1, N2, N3, N4], 5 * SECOND);
    let leader = play.holder();
    play.stage.cut(leader.expect("the others elected one").0, N5); // so that it asks
    play.step(|stage| stage.start(N5));
    let all = [N1, N2, N3, N4, N5];
    play.live(&all, 10 * SECOND);
    assert!(play.stage.node(N5).stats().campaigns > 5);
    assert_eq!(play.holder(), leader, "in a term that is over nobody votes again");
    play.stage.heal();
    play.live(&all, SECOND);
    assert_eq!(play.stage.node(N5).term(), play.stage.node(N1).term());
}

fn answered_bully() -> Broken {
    let mut stage = Script::new(3, |start| {
        let mut config = bully::Config::new([N1, N2, N3]);
        config.announce_interval = None;
        config.coordinator_timeout = config.answer_timeout + MS; // as short as can be
        Bully::new(start, config).expect("a valid configuration")
    });
    stage.run();
    stage.crash(N3, Crash::Kill);
    let before = sent(&stage);
    stage.request(N1, bully::Request::Elect);
    stage.run();
    assert_eq!(stage.node(N1).advisory(), None, "answered, it waits for the other's wait");
    stage.timer(N2); // wins; its announcement is under way
    stage.timer(N1); // asks everybody again
    stage.run();
    Broken::Storm(sent(&stage) - before, 6)
}

fn answered_lease() {
    let mut play = Watched::new(leases(3));
    play.step(|stage| stage.timer(N1));
    for node in [N2, N3] {
        play.step(|stage| stage.deliver(N1, node));
        play.step(|stage| stage.sync(node));
    }
    play.step(|stage| stage.deliver(N2, N1));
    play.step(|stage| stage.sync(N1));
    for node in [N2, N3] {
        play.step(|stage| stage.deliver(N1, node)); // they vote, it dies
        play.step(|stage| stage.sync(node));
    }
    play.stage.crash(N1, Crash::Kill);
    play.live(&[N2, N3], 3 * SECOND);
    assert!(play.holder().is_some(), "a promise to the dead ends by itself");
}

fn flapping_bully() -> Broken {
    let mut stage = led_bullies(3);
    let mut preempted = 0;
    for _ in 0..5 {
        stage.crash(N3, Crash::Kill);
        elect(&mut stage, N1, N2);
        stage.start(N3);
        stage.run();
        preempted += u64::from(coordinators(&stage) == [N3]);
    }
    Broken::Preempted(preempted)
}

fn flapping_lease() {
    let mut play = Watched::new(led_leases(3, N1));
    let leader = play.holder();
    for _ in 0..5 {
        play.stage.crash(N3, Crash::Kill);
        play.live(&[N1, N2, N3], SECOND / 2);
        play.step(|stage| stage.start(N3));
        play.live(&[N1, N2, N3], 3 * SECOND);
    }
    assert_eq!(play.holder(), leader, "E7");
}

fn deaf(stage: &mut Script<'static, impl Machine>) {
    [N1, N2, N3, N4].into_iter().for_each(|node| stage.cut(node, N5));
}

fn deaf_bully() -> Broken {
    let mut stage = announcing(5);
    stage.run();
    deaf(&mut stage);
    let all = [N1, N2, N3, N4, N5];
    live(&mut stage, &all, 5 * SECOND, |_| ());
    let followed = |node| stage.node(node).advisory().map(|a| a.leader);
    assert_eq!(followed(N1), Some(N5), "all follow one to whom no request can get");
    elect(&mut stage, N4, N4);
    live(&mut stage, &all, 60 * SECOND, |_| ());
    two_lead(&stage)
}

fn deaf_lease() {
    let mut play = Watched::new(led_leases(5, N5));
    deaf(&mut play.stage);
    let all = [N1, N2, N3, N4, N5];
    play.live(&all, 5 * SECOND);
    let leader = play.holder();
    assert!(leader.is_some_and(|(node, _)| node != N5), "{leader:?}");
    play.live(&all, 20 * SECOND);
    assert_eq!(play.holder(), leader, "E7 its asking deposes nobody");
}

/// N5 and N6 know of N6, the others do not.
fn known_to(node: NodeId) -> u64 {
    if node >= N5 { 6 } else { 5 }
}

fn lists_bully() -> Broken {
    let mut stage = Script::new(6, |start| {
        let mut config = bully::Config::new((1..=known_to(start.node)).map(NodeId));
        config.announce_interval = None;
        Bully::new(start, config).expect("a valid configuration")
    });
    stage.crash(N5, Crash::Kill);
    elect(&mut stage, N4, N4);
    two_lead(&stage)
}

fn lists_lease() {
    let stage = Script::new(6, |start| {
        let known = known_to(start.node);
        let mut config = Config::new((1..=known).map(NodeId));
        config.config = known - 4;
        QuorumLease::new(start, config).expect("a valid configuration")
    });
    let mut play = Watched::new(stage);
    play.stage.crash(N5, Crash::Kill);
    play.live(&[N1, N2, N3, N4, N6], 5 * SECOND);
    let (leader, token) = play.holder().expect("four of five elect");
    assert!(leader < N5 && token.config == 1);
}

fn double_bully() -> Broken {
    let stage = Script::new(4, |start| {
        let mut config = bully::Config::new([N1, N2, N3]);
        config.announce_interval = None;
        let node = start.node.min(N3); // the fourth process is a copy of the third
        Bully::new(Start { node, ..start }, config).expect("a valid configuration")
    });
    let [one, two] = [N3, N4].map(|process| stage.node(process).advisory().expect("it leads"));
    assert_eq!(one, two, "no term and no id tells them apart");
    Broken::OneTerm(one.term, one.leader, two.leader)
}

/// Processes of nodes, of which two may be of one node; whatever is sent to it reaches both.
struct Processes {
    all: Vec<(Peer, Cell<QuorumLease>)>,
    wire: Vec<(Peer, NodeId, Message)>,
    now: Time,
}

struct Sent(Vec<(NodeId, Message)>);

impl Sink<QuorumLease> for Sent {
    fn persist(&mut self, _: Ticket, _: quorate_election::Record) {}
    fn send(&mut self, to: NodeId, message: Message) {
        self.0.push((to, message));
    }
    fn emit(&mut self, _: Event) {}
    fn answer(&mut self, _: RequestRange, _: quorate_election::Reply) {}
    fn release(&mut self, _: Ticket) {}
    fn store(&mut self, _: StoreOp) {}
    fn halt(&mut self, _: &Halt) {}
}

impl Processes {
    fn new(peers: &[(NodeId, u64)]) -> Self {
        let make = |(node, life): &(NodeId, u64)| {
            let (incarnation, now) = (Incarnation(*life), Time::ZERO);
            let start = Start { node: *node, incarnation, seed: *life, now };
            let machine = QuorumLease::new(start, Config::new([N1, N2, N3]));
            (Peer { node: *node, incarnation }, Cell::new(machine.expect("a valid one")))
        };
        let all = peers.iter().map(make).collect();
        let mut processes = Self { all, wire: Vec::new(), now: Time::ZERO };
        (0..peers.len()).for_each(|at| processes.input(at, Input::Started));
        processes
    }

    fn input(&mut self, at: usize, input: Input<QuorumLease>) {
        let (peer, cell) = &mut self.all[at];
        let mut sent = Sent(Vec::new());
        cell.handle(self.now, input, &mut sent);
        let upto = cell.last();
        cell.durable(self.now, upto, &mut sent);
        self.wire.extend(sent.0.into_iter().map(|(to, message)| (*peer, to, message)));
    }

    /// Messages that are under way, and come later or never.
    fn hold(&mut self) -> Vec<(Peer, NodeId, Message)> {
        std::mem::take(&mut self.wire)
    }

    /// What is under way arrives, and what follows from it is under way.
    fn arrive(&mut self) {
        for (from, to, message) in self.hold() {
            for at in 0..self.all.len() {
                if self.all[at].0.node == to {
                    self.input(at, Input::Message { from, message });
                }
            }
        }
    }

    fn run(&mut self) {
        while !self.wire.is_empty() {
            self.arrive();
        }
    }

    fn timer(&mut self, at: usize) {
        self.now = self.now.max(self.all[at].1.deadline().expect("a voter waits"));
        self.input(at, Input::Timer);
    }

    fn guard(&self, at: usize) -> Option<LeaseGuard> {
        self.all[at].1.machine().guard(self.now)
    }
}

fn double_lease() {
    // The fourth process is a copy of the third, from before it had voted.
    let (third, copy) = (2, 3);
    let mut group = Processes::new(&[(N1, 1), (N2, 1), (N3, 1), (N3, 2)]);
    group.timer(copy); // would it be elected? It would: the answers are late.
    group.arrive();
    let late = group.hold();
    group.timer(third);
    group.run();
    let first = group.guard(third).expect("it leads").token();
    let (id, request) = (RequestId(0), Request::Resign);
    group.input(third, Input::Request { id, request });
    group.run();
    group.wire = late; // it campaigns in the term that the third has had the votes of
    group.run();
    assert_eq!(group.guard(copy), None, "E1 a vote is for one life, not for whoever has the id");
    for _ in 0..20 {
        group.timer(copy);
        group.run();
        assert!(group.guard(third).is_none() || group.guard(copy).is_none());
        let again = group.guard(copy).map(LeaseGuard::token);
        assert!(again.is_none_or(|token| token > first), "E2 {again:?} after {first:?}");
    }
    assert!(group.guard(copy).is_some(), "in a later term it may lead as well as any");
}

fn cold_bully() -> Broken {
    let mut stage = bullies(5);
    stage.run();
    assert_eq!(coordinators(&stage), [N5]);
    Broken::Storm(sent(&stage), 5)
}

fn cold_lease() {
    let mut play = Watched::new(leases(5));
    let all = [N1, N2, N3, N4, N5];
    play.live(&all, 5 * SECOND);
    let campaigns: u64 = all.iter().map(|node| play.stage.node(*node).stats().campaigns).sum();
    assert!(play.holder().is_some());
    assert_eq!(campaigns, 1, "whoever waits longest hears of the leader first");
}

fn suspended_bully() -> Broken {
    let mut stage = announcing(3);
    stage.run();
    stage.isolate(N3);
    live(&mut stage, &[N1, N2], 20 * SECOND, |_| ());
    stage.heal();
    two_lead(&stage)
}

fn suspended_lease() {
    let mut play = Watched::new(led_leases(3, N3));
    let before = play.stage.now();
    let mut resource = Resource::default();
    assert!(resource.write(guard(&play.stage, N3).expect("it leads").token()));
    play.stage.isolate(N3);
    play.live(&[N1, N2], 20 * SECOND);
    play.stage.heal();
    let (_, token) = play.holder().expect("the others elected one");
    assert!(resource.write(token));
    // By a clock that stood still with the machine the lease looks fresh: the token tells.
    let fresh = play.stage.node(N3).guard(before).expect("so it seems");
    assert!(!resource.write(fresh.token()));
    // By one that counts suspension it is over, and the first input says why.
    assert_eq!(guard(&play.stage, N3), None);
    play.step(|stage| stage.timer(N3));
    let lost = Event::Lost { token: fresh.token(), why: Lost::Stalled };
    assert_eq!(play.stage.events(N3).last(), Some(&lost));
}
