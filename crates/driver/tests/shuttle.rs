//! The whole driver, engine and disk threads and all, in many of the orders in which its tasks and
//! threads can run: `cargo xtask shuttle driver`.
//!
//! Each model is shown to find a bug that the shim plants. Pauses never end in a model, so that
//! whatever only a timer would repair is a deadlock.
#![cfg(shuttle)]

#[allow(dead_code, reason = "the models use a part")]
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use quorate_driver::sync::{Bug, plant};
use quorate_driver::{Driver, Gone, Handle, Options};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, MaxSteps, Runner};

use support::{Ask, Clerk, Disks, Told};

/// Forced switches of one schedule; nearly every bug needs fewer.
const DEPTH: usize = 3;

/// Runs a model in as many orders as `QUORATE_SCHEDULES` says, or once as the file
/// `QUORATE_SCHEDULE` has it.
fn check(model: impl Fn() + Send + Sync + 'static) {
    if let Ok(schedule) = std::env::var("QUORATE_SCHEDULE") {
        return shuttle::replay_from_file(model, &schedule);
    }
    let schedules = std::env::var("QUORATE_SCHEDULES").ok();
    let schedules: usize = schedules.and_then(|text| text.parse().ok()).unwrap_or(1000);
    let mut config = Config::new();
    config.stack_size = 1 << 20;
    config.max_steps = MaxSteps::FailAfter(100_000);
    let model = Arc::new(model);
    let again = Arc::clone(&model);
    let half = schedules.div_ceil(2);
    Runner::new(PctScheduler::new(DEPTH, half), config.clone()).run(move || model());
    Runner::new(RandomScheduler::new(half), config).run(move || again());
}

/// The model passes, and does not with the bug in it.
fn check_finds(bug: Bug, model: impl Fn() + Send + Sync + Clone + 'static) {
    plant(Some(bug));
    let found = catch_unwind(AssertUnwindSafe(|| check(model.clone())));
    plant(None);
    assert!(found.is_err(), "{bug:?} was not found");
    check(model);
}

fn start(disks: &Disks, incarnation: u64) -> (Driver, Handle<Clerk>) {
    let journal = quorate_wal::Options { segment_bytes: 8192, ..Default::default() };
    disks.start(incarnation, Options { journal, ..Options::default() }).unwrap()
}

/// What the journal holds, in the order of writing.
async fn recovered(disks: &Disks) -> Vec<u64> {
    let (driver, handle) = start(disks, 2);
    let Ok(Told::All(numbers)) = handle.request(Ask::Read).await else { panic!("no answer") };
    driver.stop().await.unwrap();
    numbers
}

async fn write(handle: Handle<Clerk>, number: u64) -> Result<Told, Gone> {
    handle.request(Ask::Write(number)).await
}

fn mailboxes() {
    shuttle::future::block_on(async {
        let (driver, handle) = start(&Disks::new(), 1);
        let other = handle.clone();
        let asked = tokio::spawn(async move { other.request(Ask::Read).await });
        assert_eq!(handle.look(Clerk::count).await, Ok(0));
        assert_eq!(asked.await.unwrap(), Ok(Told::All(Vec::new())));
        driver.stop().await.unwrap();
    });
}

#[test]
fn every_mail_wakes_the_engine() {
    check_finds(Bug::LostWakeUp, mailboxes);
}

fn full_mailbox() {
    shuttle::future::block_on(async {
        let options = Options { mailbox_max: 1, ..Options::default() };
        let (driver, handle) = Disks::new().start(1, options).unwrap();
        let writers: Vec<_> =
            (1..=3).map(|number| tokio::spawn(write(handle.clone(), number))).collect();
        for writer in writers {
            assert!(matches!(writer.await.unwrap(), Ok(Told::Ticket(_))));
        }
        driver.stop().await.unwrap();
    });
}

#[test]
fn whoever_waits_for_room_in_a_mailbox_gets_it() {
    check_finds(Bug::LostRoom, full_mailbox);
}

fn group_commit() {
    shuttle::future::block_on(async {
        let disks = Arc::new(Disks::new());
        let (driver, handle) = start(&disks, 1);
        let one = |writer: u64| {
            let (disks, handle) = (Arc::clone(&disks), handle.clone());
            tokio::spawn(async move {
                let mut moments = Vec::new();
                for number in 10 * writer..10 * writer + 3 {
                    assert!(matches!(write(handle.clone(), number).await, Ok(Told::Ticket(_))));
                    // As the disk is at this very moment, without what it had not synced.
                    moments.push((number, disks.after_power_loss(number)));
                }
                moments
            })
        };
        let writers: Vec<_> = (1..=3).map(one).collect();
        let mut moments = Vec::new();
        for writer in writers {
            moments.extend(writer.await.unwrap());
        }
        driver.stop().await.unwrap();
        for (number, disks) in moments {
            let numbers = recovered(&disks).await;
            assert!(numbers.contains(&number), "{number} was acknowledged; there is {numbers:?}");
        }
    });
}

#[test]
fn what_is_answered_is_on_the_disk_and_everything_is_answered() {
    check_finds(Bug::LostTail, group_commit);
}

fn stop() {
    shuttle::future::block_on(async {
        let disks = Disks::new();
        let (driver, handle) = start(&disks, 1);
        let writers: Vec<_> =
            (1..=2).map(|number| tokio::spawn(write(handle.clone(), number))).collect();
        driver.stop().await.unwrap();
        let mut answered = Vec::new();
        for (number, writer) in (1..).zip(writers) {
            match writer.await.unwrap() {
                Ok(Told::Ticket(_)) => answered.push(number),
                Ok(other) => panic!("{other:?}"),
                Err(Gone) => {}
            }
        }
        assert_eq!(handle.request(Ask::Read).await, Err(Gone));
        let numbers = recovered(&disks).await;
        let lost = answered.iter().find(|number| !numbers.contains(number));
        assert_eq!(lost, None, "of {answered:?} there is {numbers:?}");
    });
}

#[test]
fn a_stop_comes_through_and_leaves_nobody_waiting() {
    check_finds(Bug::MissedStop, stop);
}
