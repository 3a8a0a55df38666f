//! Counts requests on four threads, and shows them as a table and as Prometheus reads them.

use core::time::Duration;

use quorate_metrics::{RequestMetrics, Text, TextError};

fn main() -> Result<(), TextError> {
    let requests = RequestMetrics::new();
    std::thread::scope(|scope| {
        for thread in 1..=4u64 {
            let requests = &requests;
            scope.spawn(move || {
                for at in 0..25_000u64 {
                    let took = Duration::from_micros(80 + (at * 7919 * thread) % 400);
                    if at % 50 == 0 {
                        requests.failed(took * 10);
                    } else {
                        requests.success(took);
                    }
                }
            });
        }
    });
    let now = requests.snapshot();
    println!("total {}, success {}, failed {}", now.total(), now.success(), now.failed());
    println!("{:.0} a second, had it taken 10 s", now.rate(Duration::from_secs(10)));
    for q in [0.5, 0.9, 0.99, 0.999, 1.0] {
        let nanos = now.latencies().quantile(q).unwrap_or(0);
        println!("{:>6} of them took at most {:?}", q, Duration::from_nanos(nanos));
    }
    let mut text = Text::new();
    let bounds: Vec<u64> = (0..6).map(|power| 100_000 << power).collect();
    for (outcome, latencies) in [("success", now.latencies()), ("failed", now.latencies_failed())] {
        let help = "How long requests took.";
        let labels = [("outcome", outcome)];
        text.histogram("requests_seconds", help, &labels, latencies, &bounds, 1e9)?;
    }
    print!("\n{}", text.finish());
    Ok(())
}
