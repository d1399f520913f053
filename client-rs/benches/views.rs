//! What finding costs: `cargo bench -p hither --bench views -- [URL]`, beside a running `hither dev`.
//!
//! Registers a service of 3 and one of 10,000 instances at a server that may be thrown away, and measures what a finder
//! of them pays. Figures and what is asked for are in docs/registry.md.

use std::hint::black_box;
use std::time::{Duration, Instant};

use hither::{Client, Error, InstanceFilter, Pick, Registration};

const SMALL: usize = 3;
const LARGE: usize = 10_000;
const RUNS: usize = 1_000;
/// Short enough that most runs are not interrupted.
const ROUNDS: u32 = 1_000;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Error> {
    let url = std::env::args().skip(1).find(|argument| argument.contains("://"));
    let connect = || async {
        match &url {
            Some(url) => Client::builder().url(url).connect().await,
            None => hither::connect().await,
        }
    };
    let service = connect().await?;
    let begun = Instant::now();
    let small = register(&service, "bench-small", SMALL).await?;
    let large = register(&service, "bench-large", LARGE).await?;
    println!("{:<44} {:>10.0} /s", "register", (SMALL + LARGE) as f64 / begun.elapsed().as_secs_f64());

    let finder = connect().await?;
    finder.discover("bench-small").await?;
    let mut times = Vec::new();
    for _ in 0..30 {
        let fresh = connect().await?;
        let begun = Instant::now();
        let view = fresh.discover("bench-large").timeout(Duration::from_secs(30)).await?;
        times.push(begun.elapsed());
        assert_eq!(view.len(), LARGE);
    }
    times.sort();
    let [best, middle, worst] = [times[0], times[times.len() / 2], times[times.len() - 1]].map(milliseconds);
    println!("{:<44} {middle:>10.1} ms, best {best:.1}, worst {worst:.1}", "first discover of 10,000");

    finder.discover("bench-large").await?;
    let (turns, random) = (Pick::round_robin(), Pick::random());
    let zone = Pick::random().filter(InstanceFilter::new().zone("a"));
    for name in ["bench-small", "bench-large"] {
        each(&format!("pick, round robin, {name}"), || drop(black_box(finder.pick(name, &turns))));
        each(&format!("pick, random, {name}"), || drop(black_box(finder.pick(name, &random))));
        each(&format!("pick, random, filtered, {name}"), || drop(black_box(finder.pick(name, &zone))));
        each(&format!("view, {name}"), || drop(black_box(finder.view(name))));
        let mut runs = Vec::new();
        for _ in 0..RUNS {
            let begun = Instant::now();
            for _ in 0..ROUNDS {
                black_box(finder.discover(name).await?);
            }
            runs.push(begun.elapsed());
        }
        print(&format!("discover, warm, {name}"), runs);
    }
    let held = finder.service("bench-small")?;
    each("pick of a held service, random", || drop(black_box(held.pick(&random))));

    let mut watch = finder.watch_service("bench-large").await?;
    watch.next().await.expect("it is open")?;
    let begun = Instant::now();
    for (number, registered) in large.iter().take(200).enumerate() {
        registered.update(|instance| instance.weight = 2 + u32::try_from(number).unwrap_or(0)).await?;
        watch.next().await.expect("it is open")?;
    }
    println!("{:<44} {:>10.0} µs", "update to callback, one of 10,000", begun.elapsed().as_secs_f64() * 1e6 / 200.0);
    // Each of these has a weight of its own now.
    each("pick, random, 200 of 10,000 weighted", || drop(black_box(finder.pick("bench-large", &random))));
    drop((small, large));
    service.close().await;
    finder.close().await;
    Ok(())
}

async fn register(client: &Client, service: &str, count: usize) -> Result<Vec<hither::Registered>, Error> {
    let mut registered = Vec::with_capacity(count);
    let mut numbers = (0..count).peekable();
    while numbers.peek().is_some() {
        // As many at once as one transaction declares.
        let batch = numbers.by_ref().take(128).map(|number| {
            let registration = Registration::new(service)
                .id(format!("instance-{number:05}"))
                .endpoint(format!("http://10.0.{}.{}:8080", number / 250, number % 250 + 1))
                .version("1.2.3")
                .tag("blue")
                .metadata("team", "checkout")
                .zone(if number % 2 == 0 { "a" } else { "b" })
                .region("eu");
            client.register(registration)
        });
        for outcome in futures_util::future::join_all(batch).await {
            registered.push(outcome?);
        }
    }
    Ok(registered)
}

/// Prints what one call costs: the middle of many short runs, so that what else the machine does falls out.
fn each(name: &str, mut call: impl FnMut()) {
    let runs = (0..RUNS).map(|_| {
        let begun = Instant::now();
        (0..ROUNDS).for_each(|_| call());
        begun.elapsed()
    });
    print(name, runs.collect());
}

fn print(name: &str, mut runs: Vec<Duration>) {
    runs.sort();
    let nanoseconds = |run: Duration| run.as_secs_f64() * 1e9 / f64::from(ROUNDS);
    let (middle, best) = (nanoseconds(runs[runs.len() / 2]), nanoseconds(runs[0]));
    println!("{name:<44} {middle:>10.1} ns, best {best:.1}");
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
