//! The disk that forgets tells a right order of writes, syncs and names from a wrong one: what passes on it for being
//! lucky would pass for being right.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

use hither_faults::disk::{FaultyDisk, Left, Place};
use hither_tests::node::Home;
use rand::SeedableRng;
use rand::rngs::SmallRng;

/// Losses of power after each step of each order.
const LOSSES: u64 = 48;
/// Several blocks.
const BYTES: usize = 20_000;

type Step = fn() -> io::Result<()>;

/// What a program does, step by step, in a directory that has the files `record` and `history`.
struct Order {
    name: &'static str,
    steps: &'static [Step],
}

fn content(letter: u8) -> Vec<u8> {
    vec![letter; BYTES]
}

fn write(name: &str, letter: u8) -> io::Result<()> {
    File::create(name)?.write_all(&content(letter))
}

fn sync(name: &str) -> io::Result<()> {
    File::open(name)?.sync_all()
}

const RIGHT: Order = Order {
    name: "replaced by a synced file",
    steps: &[
        || write("record.new", b'n'),
        || sync("record.new"),
        || fs::rename("record.new", "record"),
        || sync("."),
        || fs::remove_file("history"),
    ],
};

const WRONG: [Order; 5] = [
    Order {
        name: "removed before it was written anew",
        steps: &[|| fs::remove_file("record"), || write("record", b'n'), || sync("record"), || sync(".")],
    },
    Order {
        name: "shortened before it was written anew",
        steps: &[|| File::create("record").map(drop), || write("record", b'n'), || sync("record")],
    },
    Order {
        name: "renamed before it was synced",
        steps: &[|| write("record.new", b'n'), || fs::rename("record.new", "record"), || sync("record"), || sync(".")],
    },
    Order {
        name: "replaced, and what it replaces the name of removed before that was synced",
        steps: &[
            || write("record.new", b'n'),
            || sync("record.new"),
            || fs::rename("record.new", "record"),
            || fs::remove_file("history"),
            || sync("."),
        ],
    },
    Order {
        name: "overwritten",
        steps: &[|| File::options().write(true).open("record")?.write_all(&content(b'n')), || sync("record")],
    },
];

/// `record` is there, the old one or the new one and nothing between; with the old one there is its `history`.
fn is_whole(data: &Path) -> bool {
    match fs::read(data.join("record")) {
        Ok(record) if record == content(b'o') => fs::read(data.join("history")).is_ok_and(|h| h == content(b'h')),
        Ok(record) => record == content(b'n'),
        Err(_) => false,
    }
}

/// A directory on the disk, and the program beside it.
struct Scene {
    home: Home,
    disk: FaultyDisk,
}

impl Scene {
    fn new() -> anyhow::Result<Self> {
        let home = Home::new();
        let disk = FaultyDisk::beneath(&home.file(""))?;
        fs::create_dir(disk.data())?;
        fs::write(disk.data().join("record"), content(b'o'))?;
        fs::write(disk.data().join("history"), content(b'h'))?;
        Ok(Self { home, disk })
    }

    /// A process takes some of the steps, and ends.
    fn run(&self, order: &Order, steps: std::ops::Range<usize>) -> anyhow::Result<()> {
        let mut program = Command::new(std::env::current_exe()?);
        program.args(["--exact", "a_program_takes_its_steps", "--nocapture"]).envs(self.disk.environment());
        program.env("ORDER", order.name).env("FROM", steps.start.to_string()).env("TO", steps.end.to_string());
        let done = program.current_dir(self.disk.data()).output()?;
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        anyhow::ensure!(done.status.success(), "{}: {said}", order.name);
        Ok(())
    }

    /// How many of the losses now leave something broken.
    fn broken(&self) -> anyhow::Result<usize> {
        let mut broken = 0;
        for seed in 0..LOSSES {
            let after = self.home.file(&format!("after-{seed}"));
            let mut rng = SmallRng::seed_from_u64(seed);
            self.disk.what_is_left(&after, if seed == 0 { Left::Nothing } else { Left::Some(&mut rng) })?;
            broken += usize::from(!is_whole(&after));
            fs::remove_dir_all(after)?;
        }
        Ok(broken)
    }
}

fn broken_after_any_step(order: &Order) -> anyhow::Result<usize> {
    let mut broken = 0;
    for steps in 0..=order.steps.len() {
        let scene = Scene::new()?;
        scene.run(order, 0..steps)?;
        broken += scene.broken()?;
    }
    Ok(broken)
}

/// Run by the others, in a process of its own on the disk; by itself it does nothing.
#[test]
fn a_program_takes_its_steps() {
    let Ok(name) = std::env::var("ORDER") else { return };
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<usize>().ok());
    let order = WRONG.iter().chain([&RIGHT]).find(|order| order.name == name).expect("an order");
    let steps = number("FROM").expect("a step")..number("TO").expect("a step");
    for step in &order.steps[steps] {
        // A sync may be refused.
        let _ = step();
    }
}

#[test]
fn a_file_that_is_replaced_in_the_right_order_is_the_old_or_the_new_one_after_any_loss() -> anyhow::Result<()> {
    assert_eq!(broken_after_any_step(&RIGHT)?, 0);
    Ok(())
}

#[test]
fn every_wrong_order_shows_as_a_loss() -> anyhow::Result<()> {
    for order in &WRONG {
        let broken = broken_after_any_step(order)?;
        println!("{}: {broken} of {} losses", order.name, LOSSES as usize * (order.steps.len() + 1));
        assert!(broken > 0, "{}: nothing shows it", order.name);
    }
    Ok(())
}

#[test]
fn what_a_process_did_not_sync_the_next_one_has_not_either() -> anyhow::Result<()> {
    let renamed = &WRONG[2];
    let scene = Scene::new()?;
    scene.run(renamed, 0..2)?;
    // The names alone.
    scene.run(renamed, 3..4)?;
    assert!(scene.broken()? > 0, "a new process made durable what the one before it had written");
    // The file too.
    scene.run(renamed, 2..3)?;
    assert_eq!(scene.broken()?, 0);
    Ok(())
}

#[test]
fn what_a_failed_sync_has_not_written_no_other_sync_writes_until_it_is_written_again() -> anyhow::Result<()> {
    let scene = Scene::new()?;
    scene.run(&RIGHT, 0..1)?;
    scene.disk.set(Place::FailSync, 1)?;
    scene.run(&RIGHT, 1..2)?;
    assert_eq!(scene.disk.get(Place::FailSync)?, 0, "no sync failed");
    // Synced again by the next process, which is told that all is well.
    scene.run(&RIGHT, 1..4)?;
    assert!(scene.broken()? > 0, "the second sync wrote what the first had given up");
    let overwritten = &WRONG[4];
    scene.run(overwritten, 0..2)?;
    assert_eq!(scene.broken()?, 0);
    Ok(())
}
