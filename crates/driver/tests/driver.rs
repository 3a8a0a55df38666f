//! What a driver promises to the application around it, on disks that fail when they are told to.

mod support;

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use quorate_driver::{Driver, DriverError, Gone, Handle, Identity, Options, Refused};
use quorate_transport::{ClusterId, Key, NodeId};
use quorate_wal::{Tail, Wal, WalError};
use tokio::sync::broadcast::error::RecvError;

use support::{Ask, Call, Clerk, Disks, Told, Word};

/// Runs a test on one thread, so that nothing of the engine runs while the test does not wait; one
/// that hangs fails.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let patience = Duration::from_secs(60);
    runtime.block_on(async { tokio::time::timeout(patience, test).await.expect("it hangs") });
}

fn small_journal() -> Options {
    let journal = quorate_wal::Options { segment_bytes: 8192, ..Default::default() };
    Options { journal, ..Options::default() }
}

/// With the journal on a thread of its own, and with one that the engine writes.
fn both_journals() -> [Options; 2] {
    [false, true].map(|journal_here| Options { journal_here, ..small_journal() })
}

fn start(disks: &Disks, options: Options) -> (Driver, Handle<Clerk>) {
    disks.start(1, options).unwrap()
}

async fn numbers(handle: &Handle<Clerk>) -> Vec<u64> {
    match handle.request(Ask::Read).await {
        Ok(Told::All(numbers)) => numbers,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_request_has_the_answer_of_its_own() {
    run(async {
        for options in both_journals() {
            let (driver, handle) = start(&Disks::new(), options);
            let ask = |number| {
                let handle = handle.clone();
                tokio::spawn(async move { handle.request(Ask::Write(number)).await })
            };
            let asked: Vec<_> = (0..100).map(ask).collect();
            for (number, asked) in (1..).zip(asked) {
                assert_eq!(asked.await.unwrap(), Ok(Told::Ticket(number)));
            }
            assert_eq!(numbers(&handle).await, (0..100).collect::<Vec<_>>());
            assert_eq!(handle.look(|clerk| clerk.count()).await, Ok(100));
            driver.stop().await.unwrap();
            assert_eq!(handle.request(Ask::Read).await, Err(Gone));
            assert!(matches!(handle.try_request(Ask::Read), Err(Refused::Gone)));
        }
    });
}

#[test]
fn dropping_a_request_cancels_nothing() {
    run(async {
        let (driver, handle) = start(&Disks::new(), small_journal());
        {
            let mut asked = pin!(handle.request(Ask::Write(7)));
            let mut nobody = Context::from_waker(Waker::noop());
            assert_eq!(asked.as_mut().poll(&mut nobody), Poll::Pending);
        }
        assert_eq!(numbers(&handle).await, [7]);
        assert_eq!(handle.request(Ask::Write(8)).await, Ok(Told::Ticket(2)));
        driver.stop().await.unwrap();
    });
}

#[test]
fn a_full_mailbox_refuses_and_what_it_took_is_answered() {
    run(async {
        let options = Options { mailbox_max: 3, ..small_journal() };
        let (driver, handle) = start(&Disks::new(), options);
        let taken: Vec<_> =
            (0..3).map(|number| handle.try_request(Ask::Write(number)).unwrap()).collect();
        assert!(matches!(handle.try_request(Ask::Write(3)), Err(Refused::Full)));
        for (number, taken) in (1..).zip(taken) {
            assert_eq!(taken.await, Ok(Told::Ticket(number)));
        }
        assert_eq!(handle.try_request(Ask::Write(3)).unwrap().await, Ok(Told::Ticket(4)));
        assert_eq!(numbers(&handle).await, [0, 1, 2, 3], "what was refused was not done");
        driver.stop().await.unwrap();
    });
}

#[test]
fn a_stop_syncs_and_answers_whatever_was_taken_in() {
    run(async {
        for (taken, options) in [0, 1, 50].into_iter().flat_map(|n| both_journals().map(|o| (n, o)))
        {
            let disks = Disks::new();
            let (driver, handle) = start(&disks, options);
            let ask = |number| handle.try_request(Ask::Write(number)).unwrap();
            let asked: Vec<_> = (0..taken).map(ask).collect();
            // The engine takes all of them in before it takes this.
            handle.look(|_| ()).await.unwrap();
            let late = handle.try_request(Ask::Write(99)).unwrap();
            driver.stop().await.unwrap();
            for (number, asked) in (1..).zip(asked) {
                assert_eq!(asked.await, Ok(Told::Ticket(number)));
            }
            let late = late.await;
            let (driver, handle) = disks.start(2, small_journal()).unwrap();
            let kept = numbers(&handle).await;
            assert!(kept.starts_with(&(0..taken).collect::<Vec<_>>()), "{kept:?}");
            if let Ok(told) = late {
                assert_eq!(told, Told::Ticket(taken + 1));
                assert!(kept.contains(&99), "it was acknowledged");
            }
            driver.stop().await.unwrap();
        }
    });
}

#[test]
fn a_listener_that_falls_behind_is_told_how_much_it_missed() {
    run(async {
        let options = Options { events_max: 4, ..small_journal() };
        let (driver, handle) = start(&Disks::new(), options);
        let mut events = handle.events();
        handle.request(Ask::Shout(100)).await.unwrap();
        assert_eq!(events.recv().await, Err(RecvError::Lagged(96)));
        for number in 96..100 {
            assert_eq!(events.recv().await, Ok(Word(number)));
        }
        driver.stop().await.unwrap();
    });
}

#[test]
fn a_listener_of_the_machine_hears_every_event_and_is_heard() {
    run(async {
        let options = Options { events_max: 4, ..small_journal() };
        let disks = Disks::new();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        let (driver, handle) = disks
            .start_with(options, move |Word(number), asks| {
                hears.lock().unwrap().push(number);
                if number % 10 == 9 {
                    asks.push(Ask::Write(number));
                }
            })
            .unwrap();
        let mut events = handle.events();
        assert_eq!(handle.request(Ask::Shout(100)).await, Ok(Told::All(Vec::new())));
        assert_eq!(*heard.lock().unwrap(), (0..100).collect::<Vec<_>>());
        assert_eq!(events.recv().await, Err(RecvError::Lagged(96)), "others hear as before");
        while numbers(&handle).await.len() < 10 {}
        assert_eq!(numbers(&handle).await, (0..10).map(|ten| 10 * ten + 9).collect::<Vec<_>>());
        assert_eq!(handle.request(Ask::Write(7)).await, Ok(Told::Ticket(11)), "ids fit");
        driver.stop().await.unwrap();
    });
}

#[test]
fn a_stop_leaves_a_journal_that_says_it_is_whole() {
    run(async {
        for options in both_journals() {
            let disks = Disks::new();
            let (driver, handle) = start(&disks, options);
            assert_eq!(handle.request(Ask::Write(1)).await, Ok(Told::Ticket(1)));
            driver.stop().await.unwrap();
            let (_, recovery) = Wal::open(disks.journal.clone(), options.journal).unwrap();
            assert_eq!((recovery.records.len(), recovery.tail), (1, Tail::Clean));
        }
    });
}

#[test]
fn a_journal_that_fails_stops_the_node_and_nothing_is_tried_again() {
    run(async {
        let calls = [(Call::Write, "write"), (Call::Sync, "sync")];
        for ((call, operation), options) in calls.map(|c| both_journals().map(|o| (c, o))).concat()
        {
            let disks = Disks::new();
            let (mut driver, handle) = start(&disks, options);
            assert_eq!(handle.request(Ask::Write(1)).await, Ok(Told::Ticket(1)));
            disks.journal.fail(call);
            let asked: Vec<_> = [2, 3].map(|n| handle.try_request(Ask::Write(n)).unwrap()).into();
            match driver.stopped().await {
                Err(DriverError::Journal(WalError::Disk(error))) => {
                    assert_eq!(error.operation, operation);
                }
                other => panic!("{call:?}: {other:?}"),
            }
            for asked in asked {
                assert_eq!(asked.await, Err(Gone), "nothing was acknowledged");
            }
            assert_eq!(handle.request(Ask::Write(4)).await, Err(Gone));
            driver.stop().await.unwrap();
            assert_eq!(disks.journal.struck(), (true, 0), "{call:?} was tried again");
        }
    });
}

#[test]
fn a_stop_tells_of_a_failure_that_nobody_has_heard_of() {
    run(async {
        let disks = Disks::new();
        let (driver, handle) = start(&disks, small_journal());
        disks.journal.fail(Call::Sync);
        assert_eq!(handle.request(Ask::Write(1)).await, Err(Gone));
        assert!(matches!(driver.stop().await, Err(DriverError::Journal(_))));
    });
}

#[test]
fn a_snapshot_store_that_fails_does_not_stop_the_node() {
    run(async {
        for call in [Call::Write, Call::Sync] {
            let disks = Disks::new();
            let (driver, handle) = start(&disks, small_journal());
            disks.snapshots.fail(call);
            assert_eq!(handle.request(Ask::Save).await, Ok(Told::Saved(false)), "{call:?}");
            assert_eq!(handle.request(Ask::Save).await, Ok(Told::Saved(true)));
            assert_eq!(handle.request(Ask::Write(1)).await, Ok(Told::Ticket(1)));
            driver.stop().await.unwrap();
        }
    });
}

#[test]
fn a_snapshot_store_that_can_name_nothing_more_stops_the_node() {
    run(async {
        let disks = Disks::new();
        let (mut driver, handle) = start(&disks, small_journal());
        disks.snapshots.fail(Call::Rename);
        let told = handle.request(Ask::Save).await;
        assert!(matches!(told, Ok(Told::Saved(false)) | Err(Gone)), "{told:?}");
        let DriverError::Snapshots(failure) = driver.stopped().await.unwrap_err() else {
            panic!("stopped for another reason")
        };
        assert_eq!(failure.operation, "rename");
        driver.stop().await.unwrap();
        let (driver, handle) = start(&disks, small_journal());
        assert_eq!(handle.request(Ask::Save).await, Ok(Told::Saved(true)), "a new life can");
        driver.stop().await.unwrap();
    });
}

#[test]
fn a_machine_that_halts_answers_nobody_and_is_told_of_and_the_others_run_on() {
    run(async {
        let disks = Disks::new();
        let (driver, handle) = start(&disks, small_journal());
        let other = disks.others.lock().unwrap()[0].clone();
        let probe = driver.probe();
        let mut halts = probe.halts();
        assert_eq!(probe.stats().await.unwrap().halted, []);
        assert_eq!(handle.request(Ask::Halt).await, Err(Gone));
        let (key, halt) = halts.recv().await.unwrap();
        assert_eq!((key, halt.rule), (Key::new(9, 0), "a rule"));
        assert_eq!(handle.request(Ask::Read).await, Err(Gone));
        assert_eq!(other.request(Ask::Write(7)).await, Ok(Told::Ticket(1)));
        let stats = probe.stats().await.unwrap();
        assert_eq!(stats.halted, [(key, halt)]);
        assert_eq!((stats.host.records, stats.journal.records), (1, 1));
        driver.stop().await.unwrap();
        assert_eq!(probe.stats().await, Err(Gone));
    });
}

#[test]
fn while_work_is_done_elsewhere_the_node_serves_others_and_a_stop_waits_for_it() {
    run(async {
        for options in both_journals() {
            let (driver, handle) = start(&Disks::new(), options);
            let (open, gate) = std::sync::mpsc::channel();
            let gate = Arc::new(Mutex::new(gate));
            let work = || {
                let (handle, gate) = (handle.clone(), Arc::clone(&gate));
                tokio::spawn(async move { handle.request(Ask::Work(gate)).await })
            };
            let first = work();
            assert_eq!(handle.request(Ask::Write(7)).await, Ok(Told::Ticket(1)));
            assert_eq!(numbers(&handle).await, [7]);
            assert!(!first.is_finished());
            open.send(20).unwrap();
            assert_eq!(first.await.unwrap(), Ok(Told::All(vec![20])));
            let second = work();
            assert_eq!(numbers(&handle).await, [7], "the work has begun");
            let (stopped, answer, ()) = tokio::join!(driver.stop(), second, async {
                tokio::task::yield_now().await;
                open.send(30).unwrap();
            });
            stopped.unwrap();
            assert_eq!(answer.unwrap(), Ok(Told::All(vec![30])));
        }
    });
}

#[test]
fn work_that_panics_stops_the_node() {
    run(async {
        let (mut driver, handle) = start(&Disks::new(), small_journal());
        let (open, gate) = std::sync::mpsc::channel();
        open.send(0).unwrap();
        let asked = handle.request(Ask::Work(Arc::new(Mutex::new(gate)))).await;
        assert_eq!(asked, Err(Gone));
        let error = driver.stopped().await.unwrap_err();
        assert_eq!(error.to_string(), "the engine has failed: work of p9/g0 has panicked");
    });
}

#[test]
fn a_driver_that_is_dropped_stops_its_node() {
    run(async {
        let (driver, handle) = start(&Disks::new(), small_journal());
        assert_eq!(handle.request(Ask::Write(1)).await, Ok(Told::Ticket(1)));
        let probe = driver.probe();
        drop(driver);
        while probe.stats().await.is_ok() {}
        assert_eq!(handle.request(Ask::Read).await, Err(Gone));
    });
}

#[test]
fn an_answer_comes_with_the_number_of_its_request() {
    run(async {
        let (driver, handle) = start(&Disks::new(), small_journal());
        for number in 0..5 {
            let (id, told) = handle.request_numbered(Ask::Write(number)).await.unwrap();
            assert_eq!((id.0, told), (number, Told::Ticket(number + 1)));
        }
        driver.stop().await.unwrap();
    });
}

#[test]
fn a_restart_goes_on_with_tickets_and_lives() {
    run(async {
        let disks = Disks::new();
        let directory = tempfile::tempdir().unwrap();
        for life in 1..=4 {
            let identity =
                Identity::begin(directory.path(), ClusterId(1), NodeId(1)).expect("a fresh life");
            assert_eq!(u64::from(identity.incarnation.life()), life);
            let (driver, handle) = disks.start(life, small_journal()).unwrap();
            assert_eq!(numbers(&handle).await, (1..life).collect::<Vec<_>>());
            assert_eq!(handle.request(Ask::Write(life)).await, Ok(Told::Ticket(life)));
            driver.stop().await.unwrap();
        }
    });
}
